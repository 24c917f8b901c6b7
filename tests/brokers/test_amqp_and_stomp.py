"""amqp:// and stomp:// on one RabbitMQ: each reads what the other sent, all of it equal, and takes its queues."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import anyqueue
from anyqueue import Retry
from anyqueue.testing.stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from launching import Launch

    from anyqueue import Client, Message

pytestmark = [pytest.mark.fault, pytest.mark.timeout(900), pytest.mark.xdist_group("rabbitmq-launched")]

FIELDS: Final = ("id", "body", "payload", "headers", "content_type", "correlation_id", "reply_to", "attempt")
NAMES: Final = ("plain", "a/b", "100%", "b l a n k s", "очередь-キュー-🦉", "amq.reserved", "x" * 190, "ü" * 90)
"""Not those that STOMP cannot say and AMQP can: see docs/backends/stomp.md."""
MESSAGES: Final[dict[str, dict[str, Any]]] = {
    "bytes": {"payload": bytes(range(256))},
    "empty": {"payload": b""},
    "text": {"payload": "naïve 🦉\n\0"},
    "json": {"payload": {"to": "ada", "list": [1, 2.5, None, True]}},
    "headers": {
        "payload": b"x",
        "headers": {"tenant": "eu", "Ünïcode": "значение", "empty": "", "colon:name": "a:b\\c", "line": "a\r\nb\nc"},
    },
    "headers that mean something to a broker": {
        "payload": b"x",
        "headers": {
            "content-type": "mine",
            "receipt": "1",
            "persistent": "false",
            "x-message-ttl": "1",
            "message-id": "theirs",
            "priority": "high",
            "NUL": "a\0b",
            "long": "x" * 20_000,
        },
    },
    "properties": {"payload": b"x", "id": "order-7 é", "correlation_id": "c:1", "reply_to": "answers"},
    "long properties": {"payload": b"x", "id": "é" * 200, "correlation_id": "é" * 200, "reply_to": "/queue/a:b"},
}
WAYS: Final = (("amqp", "stomp"), ("stomp", "amqp"))
HIDDEN: Final = """
    Default = {resource, <<"/">>, exchange, <<>>},
    [Exchange] = mnesia:dirty_read(rabbit_exchange, Default),
    ok = mnesia:dirty_delete(rabbit_exchange, Default),
    timer:sleep(10000),
    ok = mnesia:dirty_write(rabbit_exchange, Exchange).
"""
"""Erlang: the default exchange is not there for ten seconds."""


@pytest.fixture
async def clients(rabbitmq: Launch) -> AsyncIterator[dict[str, Client]]:
    urls = rabbitmq.describe("rabbitmq")["urls"]
    async with anyqueue.connect(urls["amqp"]) as amqp, anyqueue.connect(f"{urls['stomp']}/?delay_policy=1") as stomp:
        yield {"amqp": amqp, "stomp": stomp}


async def take(client: Client, queue: str) -> Message:
    async with client.consumer(queue) as messages:
        (message,) = await messages.receive(timeout=10)
        await message.ack()
        return message


@pytest.mark.parametrize(("sender", "receiver"), WAYS)
async def test_each_reads_what_the_other_sent(clients: dict[str, Client], sender: str, receiver: str) -> None:
    """And reads it as it reads its own."""
    for name, given in MESSAGES.items():
        queue, own = f"{sender}-{name}", f"{sender}-{name}-own"
        fields = {**given, "id": given.get("id", f"{sender}-{name}")}
        await clients[sender].send(queue, **fields)
        await clients[sender].send(own, **fields)
        theirs, ours = await take(clients[receiver], queue), await take(clients[sender], own)
        for field in FIELDS:
            assert getattr(theirs, field) == getattr(ours, field), f"{name}: {field}"
        assert theirs.headers == given.get("headers", {})


@pytest.mark.parametrize(("first", "second"), WAYS)
async def test_each_takes_the_queues_of_the_other(clients: dict[str, Client], first: str, second: str) -> None:
    """Under the same name on the broker, whatever the name, and whoever made it."""
    for name in NAMES:
        queue = f"{name[:-1]}{first}{name[-1]}"
        await clients[first].send(queue, b"1")
        await clients[second].send(queue, b"2")
        async with clients[first].consumer(queue) as messages:
            taken = [message for _ in range(2) for message in await messages.receive(1, timeout=10)]
            for message in taken:
                await message.ack()
        assert [message.body for message in taken] == [b"1", b"2"], f"{queue!r} is another queue to {second}"


@pytest.mark.parametrize(("failing", "finishing"), WAYS)
async def test_a_retry_of_one_is_the_second_attempt_of_the_other(
    clients: dict[str, Client], failing: str, finishing: str
) -> None:
    queue = f"retried-{failing}"
    await clients[finishing].send(queue, b"x", headers={"tenant": "eu"}, id="once")

    consumer = clients[failing].consumer(queue, retry=Retry(attempts=3, initial=1, jitter=0))

    async def fail(message: Message) -> None:
        consumer.stop()
        raise ValueError(message.id)

    await consumer.run(fail)
    message = await take(clients[finishing], queue)
    assert (message.id, message.attempt, message.headers) == ("once", 2, {"tenant": "eu"})


@pytest.mark.parametrize(("burying", "digging"), WAYS)
async def test_the_dead_letters_of_one_are_read_by_the_other(
    clients: dict[str, Client], burying: str, digging: str
) -> None:
    queue = f"buried-{burying}"
    await clients[digging].send(queue, b"x", id="dead")
    async with clients[burying].consumer(queue) as messages:
        (message,) = await messages.receive(timeout=10)
        await message.reject("of no use")
    message = await take(clients[digging], f"{queue}.dead")
    assert message.id == "dead"
    assert message.death is not None
    assert (message.death.reason, message.death.origin) == ("of no use", queue)


@pytest.mark.parametrize(("sender", "receiver"), WAYS)
async def test_a_delay_of_one_is_kept_for_the_other(clients: dict[str, Client], sender: str, receiver: str) -> None:
    queue = f"delayed-{sender}"
    watch = Stopwatch()
    await clients[sender].send(queue, b"later", delay=0.5)
    message = await take(clients[receiver], queue)
    assert message.death is None
    assert message.attempt == 1
    watch.within(3, "a delay of 0.5 s")
    assert watch.took >= 0.5


def failures(log: Path) -> int:
    """Count the queues of which the broker says that it can dead-letter nothing."""
    return log.read_bytes().count(b"Cannot forward any dead-letter messages")


@pytest.mark.parametrize("sender", ["amqp", "stomp"])
async def test_what_came_due_at_a_start_comes_soon_after(
    rabbitmq: Launch, clients: dict[str, Client], sender: str
) -> None:
    """A broker that starts has its queues before its exchanges: what is due then finds no way, and is tried again."""
    told = rabbitmq.describe("rabbitmq")
    log, queue = Path(told["log"]), f"due-{sender}"
    before = failures(log)
    await clients[sender].send(queue, b"later", delay=8)
    command = [*told["ctl"], "eval", HIDDEN]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    assert failures(log) > before
    message = await take(clients[sender], queue)
    assert message.body == b"later"
