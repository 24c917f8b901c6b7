"""xmpp:// against raw slixmpp, on Prosody and on ejabberd, both on SQLite: each publish waits for the disk."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from typing import TYPE_CHECKING, Final

import anyqueue
import xmpp_raw as raw
from anyqueue import Topic
from measure import BODY, Aim, Benchmark
from xmpp_server import described, seconds_of, url_of

if TYPE_CHECKING:
    from anyqueue import Message, Messages
    from measure import Stage

IDLE: Final = 5.0
CONSUMERS: Final = 10


async def send(url: str, size: int) -> float:
    """Send in one call."""
    async with anyqueue.connect(url) as client, client.producer(f"bench-{uuid.uuid4().hex}") as producer:
        await producer.send(BODY)  # the node is there, as it is on the other side
        start = time.perf_counter()
        await producer.send_many([BODY] * size)
        return time.perf_counter() - start


async def through(url: str, size: int) -> float:
    """Send, handle and acknowledge, both at once."""
    queue = f"bench-{uuid.uuid4().hex}"
    async with anyqueue.connect(url) as client:
        consumer = client.consumer(queue, concurrency=100, prefetch=200, dead_letter=None)
        left = size

        async def count(message: Message) -> None:  # noqa: ARG001 -- a handler that costs nothing
            nonlocal left
            left -= 1
            if not left:
                consumer.stop()

        start = time.perf_counter()
        async with client.producer(queue) as producer:
            await asyncio.gather(producer.send_many([BODY] * size), consumer.run(count))
        return time.perf_counter() - start


async def fan_out(url: str, size: int) -> float:
    """Send to a topic until each of as many consumers has had every message."""
    topic = Topic(f"bench-{uuid.uuid4().hex}")

    async def hear(messages: Messages) -> None:
        left = size
        while left:
            batch = await messages.receive(200)
            left -= len(batch)
            await asyncio.gather(*(message.ack() for message in batch))

    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(anyqueue.connect(url)) for _ in range(raw.LISTENERS)]
        consumers = [client.consumer(topic, prefetch=200, dead_letter=None) for client in clients]
        heard = [await stack.enter_async_context(consumer) for consumer in consumers]
        producer = await stack.enter_async_context(clients[0].producer(topic))
        start = time.perf_counter()
        await asyncio.gather(producer.send_many([BODY] * size), *map(hear, heard))
        return time.perf_counter() - start


async def idle(url: str, pid: int) -> float:
    """Return which part of a core, in percent, consumers cost that have nothing to do: theirs, and the server's."""
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(anyqueue.connect(url))
        for _ in range(CONSUMERS):
            consumer = client.consumer(f"bench-{uuid.uuid4().hex}", dead_letter=None)
            await stack.enter_async_context(consumer)
        await asyncio.sleep(1)
        before = time.process_time() + seconds_of(pid)
        await asyncio.sleep(IDLE)
        return (time.process_time() + seconds_of(pid) - before) / IDLE * 100


def idle_on(stage: Stage, name: str) -> float:
    """Measure it on a server."""
    return asyncio.run(idle(url_of(stage, name), described(stage, name)["pid"]))


def entries(name: str) -> tuple[Benchmark, ...]:
    """Return a server's."""
    flying = "raw slixmpp: publish, 100 in flight"
    return (
        Benchmark(
            name=f"xmpp-{name}-send",
            what=f"xmpp:// on {name}: send_many",
            against=flying,
            ours=raw.side(name, send),
            theirs=raw.side(name, raw.send),
            size=2000,
            quick=200,
            aim=Aim(bound="at least", value=0.9),
        ),
        Benchmark(
            name=f"xmpp-{name}-through",
            what=f"xmpp:// on {name}: send_many, handle, ack",
            against=flying,
            ours=raw.side(name, through),
            theirs=raw.side(name, raw.send),
            size=1000,
            quick=200,
            aim=Aim(bound="at least", value=0.2),
        ),
        Benchmark(
            name=f"xmpp-{name}-fan-out",
            what=f"xmpp:// on {name}: a topic to 10 consumers",
            against="raw slixmpp: a node to 10 sessions, 100 in flight",
            ours=raw.side(name, fan_out),
            theirs=raw.side(name, raw.fan_out),
            size=1000,
            quick=100,
            aim=Aim(bound="at least", value=0.8),
        ),
        Benchmark(
            name=f"xmpp-{name}-idle",
            what=f"xmpp:// on {name}: 10 idle consumers, with what they cost the server",
            against="",
            ours=lambda stage: idle_on(stage, name),
            theirs=None,
            size=1,
            quick=1,
            aim=Aim(bound="at most", value=5, of="figure"),
            unit="% of a core",
        ),
    )


BENCHMARKS: Final = (*entries("prosody"), *entries("ejabberd"))
