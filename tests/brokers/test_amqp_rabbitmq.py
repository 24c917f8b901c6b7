"""amqp:// and what is RabbitMQ's own: client certificates, its own dead letters, the counts of strangers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pika
import pytest

import anyqueue
from anyqueue import AuthFailed, Client, ConnectFailed, Message, Topic

if TYPE_CHECKING:
    from collections.abc import Callable

    from launching import Launch

pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(900),  # the first of them may have to install packages
    pytest.mark.xdist_group("rabbitmq-launched"),
]
LIMIT = 3


def url(launch: Launch, *, user: str = "anyqueue:anyqueue@", tls: bool = False, **options: object) -> str:
    told = launch.describe("rabbitmq")
    written = "&".join(f"{name}={quote(str(value))}" for name, value in options.items())
    scheme, port = ("amqps", told["ports"]["amqps"]) if tls else ("amqp", told["ports"]["amqp"])
    return f"{scheme}://{user}127.0.0.1:{port}/?{written}"


async def act(launch: Launch, work: Callable[[Any], Any]) -> None:
    """Do something as another client."""

    def run() -> None:
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(f"{url(launch)[:-1]}%2F"))) as connection:
            work(connection.channel())

    await asyncio.to_thread(run)


def taken_and_put_back(queue: str) -> Callable[[Any], None]:
    """Take the first message and give it back, once more often than the limit."""

    def work(channel: Any) -> None:
        for _ in range(LIMIT + 1):
            method = channel.basic_get(queue)[0]
            channel.basic_nack(method.delivery_tag)

    return work


async def test_a_client_certificate_is_the_user(rabbitmq: Launch) -> None:
    told = rabbitmq.describe("rabbitmq")
    shown = told["certificates"]["client"]
    trusting = {"ca": told["ca"], "tls": True}
    with_it = url(rabbitmq, user="", certificate=shown["certificate"], key=shown["key"], **trusting)
    async with anyqueue.connect(with_it) as client:
        await client.send("signed-by-certificate", b"signed")
        async with client.consumer("signed-by-certificate") as messages:
            (message,) = await messages.receive()
            assert message.body == b"signed"
            await message.ack()


async def test_a_certificate_of_a_stranger_is_refused(rabbitmq: Launch) -> None:
    told = rabbitmq.describe("rabbitmq")
    shown = told["certificates"]["untrusted"]
    strange = url(rabbitmq, user="", tls=True, ca=told["ca"], certificate=shown["certificate"], key=shown["key"])
    with pytest.raises((AuthFailed, ConnectFailed)):
        async with anyqueue.connect(strange):
            pass


@pytest.mark.parametrize("own", [None, "graves"])
async def test_what_the_broker_gives_up_is_where_the_dead_letters_are(rabbitmq: Launch, own: str | None) -> None:
    """Brought back more often than the limit: of a queue, whatever its dead letters are called."""
    queue, given = f"limited-{own}", {} if own is None else {"dead_letter": own}
    async with anyqueue.connect(url(rabbitmq, delivery_limit=LIMIT)) as client:
        async with client.consumer(queue, **given):
            pass
        await client.send(queue, b"unlucky")
        await act(rabbitmq, taken_and_put_back(queue))
        await given_up(client, own or f"{queue}.dead", queue)


async def test_what_the_broker_gives_up_of_a_group(rabbitmq: Launch) -> None:
    topic = Topic("news")
    async with anyqueue.connect(url(rabbitmq, delivery_limit=LIMIT)) as client:
        async with client.consumer(topic, group="west coast"):
            pass
        await client.send(topic, b"unlucky")
        await act(rabbitmq, taken_and_put_back("aq.group.news:west%20coast"))
        await given_up(client, "news.west coast.dead", "aq.group.news:west%20coast")


async def given_up(client: Client, dead: str, origin: str) -> None:
    async with client.consumer(dead, dead_letter=None) as messages:
        (message,) = await messages.receive(timeout=10)
        assert message.body == b"unlucky"
        assert message.death is not None
        assert message.death.origin == origin
        assert "delivery limit" in message.death.reason
        await message.ack()


@pytest.mark.parametrize("kind", ["quorum", "classic"])
@pytest.mark.parametrize("count", [-7, 1000, 2**40])
async def test_the_count_of_a_stranger_is_not_believed(rabbitmq: Launch, kind: str, count: int) -> None:
    queue = f"counted-{kind}-{count}"
    seen: list[tuple[bytes, int]] = []
    async with anyqueue.connect(url(rabbitmq, queue_type=kind)) as client:
        await client.send(queue, b"ours")
        properties = pika.BasicProperties(headers={"x-delivery-count": count})
        await act(rabbitmq, lambda channel: channel.basic_publish("", queue, b"strange", properties))
        consumer = client.consumer(queue, concurrency=1, retry=anyqueue.Retry(initial=0, jitter=0))

        async def handle(message: Message) -> None:
            seen.append((message.body, message.attempt))
            if message.attempt == 1:
                raise OSError
            if len(seen) == 4:
                consumer.stop()

        async with asyncio.timeout(10):
            await consumer.run(handle)
    assert sorted(seen) == [(b"ours", 1), (b"ours", 2), (b"strange", 1), (b"strange", 2)]
