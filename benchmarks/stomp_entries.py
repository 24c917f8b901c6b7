"""stomp:// against stomp.py alone, on both brokers."""

from __future__ import annotations

import asyncio
import functools
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyqueue
from measure import BODY, Aim, Benchmark, Stage
from stomp_brokers import broker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyqueue import Client, Message
    from measure import Side

WARM: Final = 10_000
"""Messages of a turn before anything is measured: Java compiles what it has done often, some 100,000 times."""


@functools.cache
def warm(name: str) -> None:
    """Have a broker do what it will be measured by; mostly by our hand, for stomp.py takes long to send."""
    if name == "activemq":
        stage = Stage(Path(), Path(), WARM)
        for work in (*[ours(name, consume)] * 8, raw("consume")(name)):
            work(stage)


def ours(name: str, work: Callable[[Client, str, int], Awaitable[float]]) -> Side:
    """Make a side of an async function of a client, a queue and a size that returns the figure."""

    async def run(stage: Stage) -> float:
        queue = raw("fresh")()
        async with anyqueue.connect(broker(name).urls["stomp"]) as client:
            return await work(client, queue, stage.size)

    return lambda stage: asyncio.run(run(stage))


def warmed(name: str, side: Side) -> Side:
    """Make a side whose broker is warm."""

    def run(stage: Stage) -> float:
        warm(name)
        return side(stage)

    return run


def raw(name: str) -> Any:  # noqa: ANN401 -- what is loaded is a function of several kinds
    """Load stomp.py's side when it is run: the others work without it installed."""
    import stomp_raw  # noqa: PLC0415 -- see above

    return getattr(stomp_raw, name)


def theirs(name: str, work: str) -> Side:
    """Make a side of stomp.py's."""

    def run(stage: Stage) -> float:
        side: Side = raw(work)(name)
        return side(stage)

    return run


async def send(client: Client, queue: str, size: int) -> float:
    """Return messages sent a second, in one call. They do not stay: ActiveMQ keeps some of them in its memory."""
    async with client.producer(queue) as producer:
        await producer.send(BODY)
        start = time.perf_counter()
        await producer.send_many([BODY] * size)
        took = time.perf_counter() - start
    await client.delete(queue)
    return size / took


async def consume(client: Client, queue: str, size: int) -> float:
    """Return messages handled and acknowledged a second."""
    await client.producer(queue).send_many([BODY] * size)
    consumer = client.consumer(queue, concurrency=100, prefetch=1000)
    left = size

    async def count(message: Message) -> None:  # noqa: ARG001 -- a handler that costs nothing
        nonlocal left
        left -= 1
        if not left:
            consumer.stop()

    start = time.perf_counter()
    await consumer.run(count)
    return size / (time.perf_counter() - start)


async def latency(client: Client, queue: str, size: int) -> float:
    """Return the median of the milliseconds from send() to a handler."""
    taken: list[float] = []
    start, arrived = 0.0, asyncio.Event()

    async def handle(message: Message) -> None:  # noqa: ARG001 -- as above
        taken.append(time.perf_counter() - start)
        arrived.set()

    consumer = client.consumer(queue)
    running = asyncio.create_task(consumer.run(handle))
    async with client.producer(queue) as producer:
        for _ in range(size):
            await asyncio.sleep(0.001)
            arrived.clear()
            start = time.perf_counter()
            await producer.send(BODY)
            await arrived.wait()
    consumer.stop()
    await running
    return statistics.median(taken) * 1000


RATE: Final = Aim(bound="at least", value=0.9)
LATENCY: Final = Aim(bound="at most", value=1.3)
NAMES: Final = {"rabbitmq": "RabbitMQ", "activemq": "ActiveMQ"}


def entries(name: str, size: int) -> tuple[Benchmark, ...]:
    """Return the comparisons on a broker."""
    on = f"stomp:// on {NAMES[name]}"
    return (
        Benchmark(
            name=f"stomp-{name}-send",
            what=f"{on}: send_many, 1 KiB",
            against="stomp.py, 1,000 receipts pipelined",
            ours=warmed(name, ours(name, send)),
            theirs=warmed(name, theirs(name, "send")),
            size=size,
            quick=300,
            aim=RATE,
        ),
        Benchmark(
            name=f"stomp-{name}-consume",
            what=f"{on}: handle and ack, 1 KiB",
            against="stomp.py, ack in its listener",
            ours=warmed(name, ours(name, consume)),
            theirs=warmed(name, theirs(name, "consume")),
            size=size,
            quick=300,
            aim=RATE,
        ),
        Benchmark(
            name=f"stomp-{name}-latency",
            what=f"{on}: from send() to a waiting handler, median",
            against="stomp.py, from send() to its listener",
            ours=warmed(name, ours(name, latency)),
            theirs=warmed(name, theirs(name, "latency")),
            size=1000,
            quick=20,
            aim=LATENCY,
            unit="ms",
        ),
    )


BENCHMARKS: Final = (*entries("rabbitmq", 20_000), *entries("activemq", 10_000))
