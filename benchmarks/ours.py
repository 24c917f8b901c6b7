"""anyqueue's side: the public API, as a user writes it. Every function returns messages a second."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import anyqueue
import anyqueue.sync
from measure import BODY, Side, Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyqueue import Client, Message

QUEUE = "bench"
CONCURRENT = 1000


def url(stage: Stage, scheme: str) -> str:
    """Return the URL of a fresh broker."""
    return f"sqlite:///{stage.folder / 'queue.db'}" if scheme == "sqlite" else f"memory://{stage.folder.name}"


def side(scheme: str, work: Callable[[Client, int], Awaitable[float]]) -> Side:
    """Make a side of an async function that returns the seconds it took."""

    async def run(stage: Stage) -> float:
        async with anyqueue.connect(url(stage, scheme)) as client:
            return stage.size / await work(client, stage.size)

    return lambda stage: asyncio.run(run(stage))


async def send_many(client: Client, size: int) -> float:
    """Send in one call."""
    bodies = [BODY] * size
    async with client.producer(QUEUE) as producer:
        start = time.perf_counter()
        await producer.send_many(bodies)
        return time.perf_counter() - start


async def send_concurrently(client: Client, size: int) -> float:
    """Send from CONCURRENT tasks, each one message after the other."""
    async with client.producer(QUEUE) as producer:

        async def sender() -> None:
            for _ in range(size // CONCURRENT):
                await producer.send(BODY)

        start = time.perf_counter()
        await asyncio.gather(*(sender() for _ in range(CONCURRENT)))
        return time.perf_counter() - start


async def consume(client: Client, size: int) -> float:
    """Handle and acknowledge what was sent before."""
    await client.producer(QUEUE).send_many([BODY] * size)
    start = time.perf_counter()
    await handle(client, size)
    return time.perf_counter() - start


async def through(client: Client, size: int) -> float:
    """Send, handle and acknowledge, both at once."""
    start = time.perf_counter()
    await asyncio.gather(send_many(client, size), handle(client, size))
    return time.perf_counter() - start


async def through_concurrently(client: Client, size: int) -> float:
    """Send from CONCURRENT tasks, handle and acknowledge, all at once."""
    start = time.perf_counter()
    await asyncio.gather(send_concurrently(client, size), handle(client, size))
    return time.perf_counter() - start


async def handle(client: Client, size: int) -> None:
    """Handle and acknowledge with a bare consumer."""
    consumer = client.consumer(QUEUE, concurrency=100, prefetch=CONCURRENT)
    left = size

    async def count(message: Message) -> None:  # noqa: ARG001 -- a handler that costs nothing
        nonlocal left
        left -= 1
        if not left:
            consumer.stop()

    await consumer.run(count)


def blocking(scheme: str, work: Callable[[anyqueue.sync.Client, int], float]) -> Side:
    """Make a side of a function that uses the blocking API and returns the seconds it took."""

    def run(stage: Stage) -> float:
        with anyqueue.sync.connect(url(stage, scheme)) as client:
            return stage.size / work(client, stage.size)

    return run


def blocking_send_many(client: anyqueue.sync.Client, size: int) -> float:
    """Send in one call."""
    bodies = [BODY] * size
    with client.producer(QUEUE) as producer:
        start = time.perf_counter()
        producer.send_many(bodies)
        return time.perf_counter() - start


def blocking_send(client: anyqueue.sync.Client, size: int) -> float:
    """Send one by one, each waiting for its confirmation."""
    with client.producer(QUEUE) as producer:
        start = time.perf_counter()
        for _ in range(size):
            producer.send(BODY)
        return time.perf_counter() - start
