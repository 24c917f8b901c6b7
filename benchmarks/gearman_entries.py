"""gearman:// against raw sockets and pygearman."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Final

import anyqueue
import gearman_raw as raw
import ours
from measure import BODY, Aim, Benchmark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyqueue import Client, Message
    from measure import Side, Stage


def side(work: Callable[[Client, int], Awaitable[float]], *, durable: bool = False) -> Side:
    """Make a side of an async function of a client and a size that returns the figure."""

    async def run(port: int, size: int) -> float:
        async with anyqueue.connect(f"gearman://127.0.0.1:{port}") as client:
            return await work(client, size)

    return raw.side(run, durable=durable)


async def send(client: Client, size: int) -> float:
    """Return messages sent a second, in one call."""
    return size / await ours.send_many(client, size)


async def send_concurrently(client: Client, size: int) -> float:
    """Return messages sent a second by many tasks."""
    return size / await ours.send_concurrently(client, size)


async def consume(client: Client, size: int) -> float:
    """Return messages handled and acknowledged a second."""
    return size / await ours.consume(client, size)


async def latency(client: Client, size: int) -> float:
    """Return the median of the milliseconds from send() to a handler that waits for it."""
    taken: list[float] = []
    start, done = 0.0, asyncio.Event()

    async def handle(message: Message) -> None:  # noqa: ARG001 -- a handler that costs nothing
        taken.append(time.perf_counter() - start)
        done.set()

    consumer = client.consumer(ours.QUEUE)
    running = asyncio.create_task(consumer.run(handle))
    for _ in range(size):
        await asyncio.sleep(0.001)  # the worker is asleep again
        done.clear()
        start = time.perf_counter()
        await client.send(ours.QUEUE, BODY)
        await done.wait()
    consumer.stop()
    await running
    return statistics.median(taken) * 1000


async def request(client: Client, size: int) -> float:
    """Return the median of the milliseconds that a reply takes, from a handler that waits for requests."""
    taken: list[float] = []

    async def handle(message: Message) -> bytes:
        return message.body

    consumer = client.consumer(ours.QUEUE)
    running = asyncio.create_task(consumer.run(handle))
    for _ in range(size):
        await asyncio.sleep(0.001)  # the worker is asleep again
        start = time.perf_counter()
        await client.request(ours.QUEUE, BODY)
        taken.append(time.perf_counter() - start)
    consumer.stop()
    await running
    return statistics.median(taken) * 1000


async def confirm(client: Client, size: int) -> float:
    """Return the median of the milliseconds that a send() takes."""
    taken: list[float] = []
    async with client.producer(ours.QUEUE) as producer:
        for _ in range(size):
            start = time.perf_counter()
            await producer.send(BODY)
            taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1000


def pygearman(name: str) -> Side:
    """Load pygearman's side when it is run."""

    def run(stage: Stage) -> float:
        import gearman_pygearman  # noqa: PLC0415 -- the others work without it installed

        peer: Side = getattr(gearman_pygearman, name)
        return peer(stage)

    return run


AT_LEAST_04: Final = Aim(bound="at least", value=0.4)
AT_MOST_15: Final = Aim(bound="at most", value=1.5)
AT_LEAST_8: Final = Aim(bound="at least", value=8)
RAW: Final = "raw asyncio sockets, 500 replies pipelined"

BENCHMARKS: Final = (
    Benchmark(
        name="gearman-send-many",
        what="gearman://: send_many",
        against=RAW,
        ours=side(send),
        theirs=raw.side(raw.send),
        size=50_000,
        quick=1000,
        aim=AT_LEAST_04,
    ),
    Benchmark(
        name="gearman-send",
        what="gearman://: send() from 1,000 tasks",
        against=RAW,
        ours=side(send_concurrently),
        theirs=raw.side(raw.send),
        size=50_000,
        quick=1000,
    ),
    Benchmark(
        name="gearman-consume",
        what="gearman://: handle and ack",
        against=RAW,
        ours=side(consume),
        theirs=raw.side(raw.consume),
        size=50_000,
        quick=1000,
        aim=Aim(bound="at least", value=0.3),
    ),
    Benchmark(
        name="gearman-confirm",
        what="gearman://, stored on disk: send(), median",
        against="raw asyncio sockets, one after the other",
        ours=side(confirm, durable=True),
        theirs=raw.side(raw.confirm, durable=True),
        size=2000,
        quick=50,
        aim=AT_MOST_15,
        unit="ms",
    ),
    Benchmark(
        name="gearman-latency",
        what="gearman://, stored on disk: from send() to a waiting handler, median",
        against="raw asyncio sockets, a sleeping worker",
        ours=side(latency, durable=True),
        theirs=raw.side(raw.latency, durable=True),
        size=2000,
        quick=50,
        aim=AT_MOST_15,
        unit="ms",
    ),
    Benchmark(
        name="gearman-latency-memory",
        what="gearman://: from send() to a waiting handler, median",
        against="raw asyncio sockets, a sleeping worker",
        ours=side(latency),
        theirs=raw.side(raw.latency),
        size=2000,
        quick=50,
        unit="ms",
    ),
    Benchmark(
        name="gearman-request",
        what="gearman://: request() to a waiting handler and its reply, median",
        against="raw asyncio sockets, a sleeping worker",
        ours=side(request),
        theirs=raw.side(raw.request),
        size=2000,
        quick=50,
        unit="ms",
    ),
    Benchmark(
        name="pygearman-send",
        what="gearman://: send_many",
        against="pygearman GearmanClient.submit_job, one after the other",
        ours=side(send),
        theirs=pygearman("send"),
        size=5000,
        quick=500,
        aim=AT_LEAST_8,
    ),
    Benchmark(
        name="pygearman-send-many",
        what="gearman://: send_many",
        against="pygearman GearmanClient.submit_multiple_jobs, 100 at once",
        ours=side(send),
        theirs=pygearman("send_many"),
        size=20_000,
        quick=500,
    ),
    Benchmark(
        name="pygearman-consume",
        what="gearman://: handle and ack",
        against="pygearman GearmanWorker.work",
        ours=side(consume),
        theirs=pygearman("consume"),
        size=5000,
        quick=500,
        aim=AT_LEAST_8,
    ),
)
