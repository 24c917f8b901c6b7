"""zmq:// as a user writes it, and the sender of zmq+push:// as a process: zeromq_ours.py URL SIZE."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from typing import TYPE_CHECKING, Final

import anyqueue
import ours
import zeromq_server
from measure import BODY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyqueue import Batches, Client, Message
    from measure import Side, Stage

FILL: Final = 10_000
BURST: Final = 5000
PAUSE: Final = 0.002
CHUNK: Final = 1000
SMALL: Final = BODY[:64]
TAKEN: Final = 50_000
"""Messages that are consumed of those that wait."""


def side(work: Callable[[Client, int], Awaitable[float]], *, durable: bool = False) -> Side:
    """Make a side of an async function of a client and a size that returns the figure, on a hub of its own."""

    async def run(port: int, size: int) -> float:
        async with anyqueue.connect(f"zmq://127.0.0.1:{port}") as client:
            return await work(client, size)

    def measure(stage: Stage) -> float:
        with zeromq_server.hub(f"sqlite:///{stage.folder}/hub.db" if durable else "memory:") as port:
            return asyncio.run(run(port, stage.size))

    return measure


async def send(client: Client, size: int) -> float:
    """Return messages confirmed a second, in one call."""
    return size / await ours.send_many(client, size)


async def send_concurrently(client: Client, size: int) -> float:
    """Return messages confirmed a second by many tasks."""
    return size / await ours.send_concurrently(client, size)


async def consume(client: Client, size: int) -> float:
    """Return messages handled and acknowledged a second."""
    return size / await ours.consume(client, size)


async def consume_batches(client: Client, size: int) -> float:
    """Return messages received and acknowledged a second, in batches."""
    await client.producer(ours.QUEUE).send_many([BODY] * size)
    start = time.perf_counter()
    async with client.consumer(ours.QUEUE, prefetch=2 * CHUNK).batches(CHUNK, 0.01) as batches:
        await take(batches, size)
    return size / (time.perf_counter() - start)


async def take(batches: Batches, size: int) -> None:
    """Receive and acknowledge so many."""
    left = size
    while left > 0:
        async with await batches.receive() as batch:
            left -= len(batch)


async def latencies(client: Client, size: int, pause: float) -> list[float]:
    """Return the milliseconds from each send() to a handler that waits for it."""
    taken: list[float] = []
    start, done = 0.0, asyncio.Event()

    async def handle(message: Message) -> None:  # noqa: ARG001 -- a handler that costs nothing
        taken.append((time.perf_counter() - start) * 1000)
        done.set()

    consumer = client.consumer(ours.QUEUE)
    running = asyncio.create_task(consumer.run(handle))
    async with client.producer(ours.QUEUE) as producer:
        await producer.send(BODY)
        await done.wait()
        taken.clear()
        for _ in range(size):
            await asyncio.sleep(pause)  # everybody is asleep again
            done.clear()
            start = time.perf_counter()
            await asyncio.gather(producer.send(BODY), done.wait())
    consumer.stop()
    await running
    return taken


async def latency(client: Client, size: int) -> float:
    """Return the median."""
    return statistics.median(await latencies(client, size, 0.001))


async def trickle(client: Client, size: int) -> float:
    """Return the worst of a trickle after a burst."""
    await client.producer("burst").send_many([BODY] * BURST)
    consumer, left = client.consumer("burst", concurrency=10), BURST

    async def handle(message: Message) -> None:  # noqa: ARG001 -- a handler that costs nothing
        nonlocal left
        left -= 1
        if not left:
            consumer.stop()

    _, taken = await asyncio.gather(consumer.run(handle), latencies(client, size, PAUSE))
    return max(taken)


def crowd(consumers: int, waiting: int) -> Side:
    """Make a side: so many consumers take TAKEN messages in all, so many waiting behind them."""

    async def run(port: int, size: int) -> float:
        async with anyqueue.connect(f"zmq://127.0.0.1:{port}") as client:
            return await crowded(client, consumers, min(waiting, size), min(TAKEN, size))

    def measure(stage: Stage) -> float:
        with zeromq_server.hub() as port:
            return asyncio.run(run(port, stage.size))

    return measure


async def crowded(client: Client, consumers: int, waiting: int, taken: int) -> float:
    """Return messages handled a second, while as many are sent, so that about as many wait all the time."""
    handled, due, done = 0, asyncio.Semaphore(0), asyncio.Event()

    async def handle(message: Message) -> None:  # noqa: ARG001 -- a handler that costs nothing
        nonlocal handled
        handled += 1
        if handled % CHUNK == 0:
            due.release()
        if handled == taken:
            done.set()

    async def refill() -> None:
        while True:
            await due.acquire()
            await producer.send_many([SMALL] * CHUNK)

    async with client.producer(ours.QUEUE) as producer:
        for first in range(0, waiting, FILL):
            await producer.send_many([SMALL] * min(FILL, waiting - first))
        each = [client.consumer(ours.QUEUE, concurrency=10, prefetch=100) for _ in range(consumers)]
        start = time.perf_counter()
        running = [asyncio.create_task(one.run(handle)) for one in each]
        refilling = asyncio.create_task(refill())
        await done.wait()
        seconds = time.perf_counter() - start
        refilling.cancel()
        for one in each:
            one.stop()
        await asyncio.gather(*running, refilling, return_exceptions=True)
    return taken / seconds


def push(stage: Stage) -> float:
    """Return messages handled a second from a process that sends to this one."""

    async def run(port: int) -> float:
        async with anyqueue.connect(f"zmq+push://127.0.0.1:{port}/{ours.QUEUE}") as client:
            return await pulled(client, stage.size)

    port = zeromq_server.free_port()
    with zeromq_server.started(__file__, f"zmq+push://127.0.0.1:{port}/{ours.QUEUE}", stage.size + 1):
        return asyncio.run(run(port))


async def pulled(client: Client, size: int) -> float:
    """Return messages received and acknowledged a second, from the first on."""
    consumer = client.consumer(ours.QUEUE, prefetch=2 * CHUNK, retry=None, dead_letter=None)
    async with consumer.batches(CHUNK, 0.01) as batches:
        async with await batches.receive() as first:
            left = size + 1 - len(first)
        start = time.perf_counter()
        await take(batches, left)
        return left / (time.perf_counter() - start)


async def push_all(url: str, size: int) -> None:
    """Send so many."""
    async with anyqueue.connect(url) as client, client.producer(ours.QUEUE) as producer:
        for first in range(0, size, FILL):
            await producer.send_many([BODY] * min(FILL, size - first))


if __name__ == "__main__":
    asyncio.run(push_all(sys.argv[1], int(sys.argv[2])))
