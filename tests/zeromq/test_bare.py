"""The bare patterns: what is sent to who is there comes, once; and nothing more is promised."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import zmq

import anyqueue
from anyqueue import Feature, QueueNotFound, SendError, Topic, Unsupported
from anyqueue.testing.stopwatch import Stopwatch
from anyqueue.testing.targets.hub_process import free_port

if TYPE_CHECKING:
    from anyqueue import Client, Message

MANY = 2000


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture(params=["receiver", "sender"])
def push(port: int, request: pytest.FixtureRequest) -> str:
    return f"zmq+push://127.0.0.1:{port}/q?bind={request.param}"


async def take(client: Client, count: int, address: str | Topic = "q") -> list[Message]:
    found: list[Message] = []
    async with client.consumer(address, dead_letter=None, prefetch=5000) as messages:
        while len(found) < count:
            for message in await messages.receive(1000):
                found.append(message)
                await message.ack()
    return found


async def test_what_is_pushed_comes_once_and_in_order_whole(push: str) -> None:
    async with anyqueue.connect(push) as sender, anyqueue.connect(push) as receiver:
        taking = asyncio.create_task(take(receiver, MANY))
        async with sender.producer("q") as producer:
            ids = await producer.send_many([b"%d" % number for number in range(MANY)], headers={"tenant": "eu"})
        messages = await taking
    assert [message.body for message in messages] == [b"%d" % number for number in range(MANY)]
    assert [message.id for message in messages] == ids
    assert {message.headers["tenant"] for message in messages} == {"eu"}


@pytest.mark.parametrize(
    "url", ["zmq+push://127.0.0.1:1/q", "zmq+push://127.0.0.1:1/q?bind=sender", "zmq+pub://127.0.0.1:1"]
)
async def test_what_was_promised_to_nobody_is_refused_at_open(url: str) -> None:
    for feature in (Feature.REDELIVER, Feature.CONFIRM, Feature.DURABLE):
        with pytest.raises(Unsupported, match=str(feature.name)):
            async with anyqueue.connect(url, require=feature):
                pass


async def test_a_send_waits_for_somebody_and_its_deadline_says_that_nothing_left(push: str) -> None:
    async with anyqueue.connect(push, send_timeout=0.3) as sender:
        with pytest.raises(SendError):
            await sender.send("q", b"to nobody")
    async with anyqueue.connect(push) as sender, anyqueue.connect(push) as receiver:
        taking = asyncio.create_task(take(receiver, 1))
        await sender.send("q", b"to somebody")
        assert [message.body for message in await taking] == [b"to somebody"]


async def test_closing_waits_for_what_was_handed_over_and_not_for_ever(push: str) -> None:
    watch = Stopwatch()
    async with (
        anyqueue.connect(f"{push}&linger=0.2") as sender,
        anyqueue.connect(push) as receiver,
        receiver.consumer("q", dead_letter=None) as messages,
    ):
        await sender.send("q", bytes(1_000_000))
        await messages.receive()
    watch.within(3)


async def test_a_retry_runs_in_the_same_process(push: str) -> None:
    attempts = []

    async def handle(message: Message) -> None:
        attempts.append(message.attempt)
        if len(attempts) < 3:
            raise ValueError
        consumer.stop()

    async with anyqueue.connect(push) as sender, anyqueue.connect(push) as receiver:
        retry = anyqueue.Retry(attempts=3, initial=0.01)
        consumer = receiver.consumer("q", dead_letter=None, retry=retry)
        running = asyncio.create_task(consumer.run(handle))
        await sender.send("q", b"x")
        await asyncio.wait_for(running, 10)
    assert attempts == [1, 2, 3]


async def test_receivers_share_a_sender_that_listens(port: int) -> None:
    url = f"zmq+push://127.0.0.1:{port}/q?bind=sender"
    got: dict[str, int] = {"one": 0, "other": 0}
    all_here = asyncio.Event()

    async def run(client: Client, name: str) -> None:
        async with client.consumer("q", dead_letter=None) as messages:
            while True:
                for message in await messages.receive():
                    got[name] += 1
                    await message.ack()
                if sum(got.values()) == 200:
                    all_here.set()

    async with anyqueue.connect(url) as sender, anyqueue.connect(url) as one, anyqueue.connect(url) as other:
        tasks = [asyncio.create_task(run(one, "one")), asyncio.create_task(run(other, "other"))]
        async with sender.producer("q") as producer:
            for number in range(200):
                await producer.send(b"%d" % number)
        await asyncio.wait_for(all_here.wait(), 10)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert min(got.values()) > 0


async def test_a_second_receiver_where_the_receiver_listens_is_refused(port: int) -> None:
    async with anyqueue.connect(f"zmq+push://127.0.0.1:{port}/q") as client, client.consumer("q", dead_letter=None):
        with pytest.raises(Unsupported, match="COMPETING"):
            async with client.consumer("q", dead_letter=None):
                pass


async def test_a_url_is_one_queue(push: str) -> None:
    async with anyqueue.connect(push) as client:
        with pytest.raises(SendError) as caught:
            await client.send("another", b"x")
        assert isinstance(caught.value.__cause__, QueueNotFound)


@pytest.mark.parametrize("round_", range(20))
async def test_whoever_has_subscribed_gets_what_is_sent_from_then_on(port: int, round_: int) -> None:
    """No slow joiner: the first message after subscribing comes, time and again."""
    url, topic = f"zmq+pub://127.0.0.1:{port}", Topic("news")
    async with anyqueue.connect(url) as sender, anyqueue.connect(url) as receiver:
        await sender.send(topic, b"to nobody")

        async def listen(messages: anyqueue.Messages) -> bytes:
            (message,) = await messages.receive()
            await message.ack()
            return message.body

        async with receiver.consumer(topic, dead_letter=None) as one, receiver.consumer(topic, dead_letter=None) as two:
            body = b"%d" % round_
            await sender.send(topic, body)
            assert await asyncio.gather(listen(one), listen(two)) == [body, body]


async def test_other_topics_do_not_come(port: int) -> None:
    url = f"zmq+pub://127.0.0.1:{port}"
    async with anyqueue.connect(url) as sender, anyqueue.connect(url) as receiver:
        await sender.send(Topic("x"), b"the sender listens")
        async with receiver.consumer(Topic("news"), dead_letter=None) as messages:
            for name in ("newspaper", "new", "other", "news"):
                await sender.send(Topic(name), name.encode())
            (message,) = await messages.receive()
            assert message.body == b"news"
            assert await messages.receive(timeout=0.1) == []


async def test_a_durable_group_is_refused(port: int) -> None:
    async with anyqueue.connect(f"zmq+pub://127.0.0.1:{port}") as client:
        with pytest.raises(Unsupported, match="DURABLE"):
            async with client.consumer(Topic("news"), group="billing", dead_letter=None):
                pass


async def test_another_programs_frames_are_bodies(port: int) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        url = f"zmq+push://127.0.0.1:{port}/q"
        async with anyqueue.connect(url) as client, client.consumer("q", dead_letter=None) as messages:
            raw = context.socket(zmq.PUSH)
            raw.connect(f"tcp://127.0.0.1:{port}")
            for frames in ([b"alone"], [b"two", b"frames"], [b"q", b"AQM\x01", b"no envelopes"], [b""]):
                raw.send_multipart(frames)
            bodies: list[bytes] = []
            while len(bodies) < 4:
                bodies += [message.body for message in await messages.receive(10)]
        assert bodies == [b"alone", b"frames", b"no envelopes", b""]
    finally:
        context.destroy(linger=0)


async def test_another_program_reads_what_is_pushed(port: int) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        raw = context.socket(zmq.PULL)
        raw.bind(f"tcp://127.0.0.1:{port}")
        async with anyqueue.connect(f"zmq+push://127.0.0.1:{port}/q") as client:
            await client.send("q", b"hello")
            name, greeting, envelopes = await asyncio.to_thread(raw.recv_multipart)
        assert (name, greeting) == (b"q", b"AQM\x01")
        assert b"hello" in envelopes
    finally:
        context.destroy(linger=0)
