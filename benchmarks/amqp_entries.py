"""amqp:// against raw pika and against what others offer on RabbitMQ."""

from __future__ import annotations

import asyncio
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyqueue
import anyqueue.sync
import ours
from measure import BODY, Aim, Benchmark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyqueue import Client, Message
    from measure import Side, Stage

AWAY: Final = 1.0
"""Seconds that the broker is away before it is started again."""


def late(module: str, name: str) -> Callable[[Stage], Any]:
    """Load another's side when it is run: the others work without it installed."""

    def run(stage: Stage) -> Any:  # noqa: ANN401 -- a figure, or several
        return getattr(__import__(module), name)(stage)

    return run


def raw(name: str) -> Side:
    """Return a side of raw pika's."""
    return late("amqp_raw", name)


def peer(name: str) -> Side:
    """Return a peer's side."""
    return late("amqp_peers", name)


def url(stage: Stage) -> str:
    """Return the URL of this run's broker."""
    found: str = late("amqp_server", "server")(stage).url
    return found


def clear(stage: Stage) -> None:
    """Empty the queue that ours have used. Deleted, RabbitMQ takes its time to make one of that name again."""
    late("amqp_server", "server")(stage).empty(ours.QUEUE)


def side(work: Callable[[Client, int], Awaitable[float]]) -> Side:
    """Make a side of an async function that returns the seconds it took. The queue has been used once before."""

    async def run(stage: Stage) -> float:
        async with anyqueue.connect(url(stage)) as client:
            await client.send(ours.QUEUE, BODY)
            await ours.handle(client, 1)
            return stage.size / await work(client, stage.size)

    return cleared(lambda stage: asyncio.run(run(stage)))


def blocking(work: Callable[[anyqueue.sync.Client, int], float]) -> Side:
    """Make a side of a function that uses the blocking API."""

    def run(stage: Stage) -> float:
        with anyqueue.sync.connect(url(stage)) as client:
            client.send(ours.QUEUE, BODY)
            return stage.size / work(client, stage.size)

    return cleared(run)


def cleared(side: Side) -> Side:
    """Leave nothing on the broker after a side."""

    def run(stage: Stage) -> float:
        try:
            return side(stage)
        finally:
            clear(stage)

    return run


def quantile(share: int, taken: list[float]) -> float:
    """Return a percentile in milliseconds."""
    return statistics.quantiles(taken, n=100)[share - 1] * 1000


def latency(share: int) -> Side:
    """Make a side that returns a percentile of the milliseconds from send() to the handler."""

    async def run(stage: Stage) -> float:
        taken: list[float] = []
        start, done = 0.0, asyncio.Event()

        async def handle(message: Message) -> None:  # noqa: ARG001 -- a handler that costs nothing
            taken.append(time.perf_counter() - start)
            done.set()

        async with anyqueue.connect(url(stage)) as client, client.producer(ours.QUEUE) as producer:
            consumer = client.consumer(ours.QUEUE)
            running = asyncio.create_task(consumer.run(handle))
            for _ in range(stage.size):
                done.clear()
                start = time.perf_counter()
                await producer.send(BODY)
                await done.wait()
            consumer.stop()
            await running
        return quantile(share, taken)

    return cleared(lambda stage: asyncio.run(run(stage)))


def raw_latency(share: int) -> Side:
    """Make raw pika's side of it."""
    return lambda stage: quantile(share, list(late("amqp_raw", "latencies")(stage)))


def reconnect(stage: Stage) -> float:
    """Return the seconds from the broker's first answer after a SIGKILL to a handler that has its message again."""
    broker = late("amqp_server", "server")(stage)

    async def run() -> float:
        handled, times, hold = asyncio.Event(), list[float](), asyncio.Event()

        async def handle(message: Message) -> None:  # noqa: ARG001 -- it comes again
            times.append(time.perf_counter())
            handled.set()
            if len(times) == 1:
                await hold.wait()

        async with anyqueue.connect(broker.url) as client:
            await client.send(ours.QUEUE, BODY)
            consumer = client.consumer(ours.QUEUE, concurrency=2)
            running = asyncio.create_task(consumer.run(handle))
            await handled.wait()
            handled.clear()
            await asyncio.to_thread(broker, "kill")
            answer = broker.answered()
            await asyncio.sleep(AWAY)
            await asyncio.to_thread(broker, "up")
            await handled.wait()
            hold.set()
            consumer.stop()
            await running
        return max(0.0, times[-1] - answer.at)

    return asyncio.run(run())


def at_least(value: float) -> Aim:
    """Aim at a ratio."""
    return Aim(bound="at least", value=value)


CONFIRMED: Final = "raw pika AsyncioConnection, 1,000 confirms in flight"
CONSUMED: Final = "raw pika AsyncioConnection: basic_consume, basic_ack"
SEND: Final = "amqp://: send() from 1,000 tasks"
CONSUME: Final = "amqp://: handle and ack"

benchmark: Final = partial(Benchmark, group="RabbitMQ")

BENCHMARKS: Final = (
    benchmark(
        name="amqp-send",
        what=SEND,
        against=CONFIRMED,
        ours=side(ours.send_concurrently),
        theirs=raw("send"),
        size=30_000,
        quick=1000,
        aim=at_least(0.9),
    ),
    benchmark(
        name="amqp-send-many",
        what="amqp://: send_many",
        against=CONFIRMED,
        ours=side(ours.send_many),
        theirs=raw("send"),
        size=30_000,
        quick=1000,
        aim=at_least(0.9),
    ),
    benchmark(
        name="kombu-send",
        what=SEND,
        against="kombu with confirm_publish",
        ours=side(ours.send_concurrently),
        theirs=peer("kombu_send"),
        size=5000,
        quick=1000,
        aim=at_least(8),
    ),
    benchmark(
        name="aio-pika-send",
        what=SEND,
        against="aio-pika, the same",
        ours=side(ours.send_concurrently),
        theirs=peer("aiopika_send"),
        size=10_000,
        quick=1000,
        aim=at_least(2),
    ),
    benchmark(
        name="amqp-consume",
        what=CONSUME,
        against=CONSUMED,
        ours=side(ours.consume),
        theirs=raw("consume"),
        size=30_000,
        quick=1000,
        aim=at_least(0.85),
    ),
    benchmark(
        name="kombu-consume",
        what=CONSUME,
        against="kombu, drain_events and ack",
        ours=side(ours.consume),
        theirs=peer("kombu_consume"),
        size=20_000,
        quick=1000,
        aim=at_least(1.5),
    ),
    benchmark(
        name="aio-pika-consume",
        what=CONSUME,
        against="aio-pika, queue.consume",
        ours=side(ours.consume),
        theirs=peer("aiopika_consume"),
        size=10_000,
        quick=1000,
        aim=at_least(2.5),
    ),
    benchmark(
        name="faststream-consume",
        what=CONSUME,
        against="FastStream, a subscriber",
        ours=side(ours.consume),
        theirs=peer("faststream_consume"),
        size=10_000,
        quick=1000,
        aim=at_least(4),
    ),
    benchmark(
        name="dramatiq-consume",
        what=CONSUME,
        against="dramatiq, an actor",
        ours=side(ours.consume),
        theirs=peer("dramatiq_consume"),
        size=10_000,
        quick=1000,
        aim=at_least(4),
    ),
    benchmark(
        name="amqp-blocking-send-many",
        what="amqp://: send_many, blocking API",
        against="the async one",
        ours=blocking(ours.blocking_send_many),
        theirs=side(ours.send_many),
        size=30_000,
        quick=1000,
        aim=at_least(0.8),
    ),
    benchmark(
        name="kombu-blocking-send",
        what="amqp://: send() one by one, blocking API",
        against="kombu with confirm_publish",
        ours=blocking(ours.blocking_send),
        theirs=peer("kombu_send"),
        size=3000,
        quick=200,
        aim=at_least(0.9),
    ),
    benchmark(
        name="amqp-blocking-floor",
        what="raw pika AsyncioConnection in a thread: publish one by one from another",
        against="kombu with confirm_publish",
        ours=late("amqp_raw", "threaded_send"),
        theirs=peer("kombu_send"),
        size=3000,
        quick=200,
    ),
    *(
        benchmark(
            name=f"amqp-latency-p{share}",
            what=f"amqp://: send to handler, one message at a time, p{share}",
            against="raw pika AsyncioConnection: publish to callback",
            ours=latency(share),
            theirs=raw_latency(share),
            size=2000,
            quick=100,
            aim=aim,
            unit="ms",
        )
        for share, aim in ((50, Aim(bound="at most", value=1.3)), (99, None))
    ),
    benchmark(
        name="amqp-reconnect",
        what="amqp://: from the broker's first answer after a SIGKILL to a handler",
        against="",
        ours=cleared(reconnect),
        theirs=None,
        size=1,
        quick=1,
        aim=Aim(bound="at most", value=2, of="figure"),
        unit="s",
    ),
)
