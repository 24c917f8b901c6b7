"""Competing: consumers share a queue, and each message goes to one of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from anyqueue import Feature
from anyqueue.testing.case import case

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anyqueue import Client, Message
    from anyqueue.testing.trial import Trial

GROUP: Final = "Competing"


async def consume(t: Trial, client: Client, queue: str, who: str) -> None:
    """Take and accept one at a time, until cancelled."""
    async with client.consumer(queue, prefetch=2) as messages:
        async for message in messages:
            t.history.took(message, who)
            await t.history.ack(message)


def accepted(t: Trial) -> int:
    """Count the messages whose acceptance has returned."""
    return sum(record.kind == "settle" and record.state == "ok" for record in t.history.records)


@case("W1", "every message goes to exactly one consumer", group=GROUP, needs=Feature.COMPETING)
async def w1(t: Trial) -> None:
    """W1: every message goes to exactly one consumer."""
    queue = t.queue()
    async with t.connect() as sender, t.connect() as one, t.connect() as two, asyncio.TaskGroup() as group:
        clients = (one, two, two)
        tasks = [group.create_task(consume(t, each, queue, f"worker {n}")) for n, each in enumerate(clients)]
        for number in range(150):
            await t.history.send(sender, queue, f"message {number}".encode())
        await t.eventually(lambda: accepted(t) >= 150)
        for task in tasks:
            task.cancel()
    await t.counts(queue, total=0)
    t.history.prove()


@case("W2", "a slow consumer with prefetch 1 starves nobody", group=GROUP, needs=Feature.COMPETING)
async def w2(t: Trial) -> None:
    """W2: a slow consumer with prefetch 1 starves nobody."""
    queue = t.queue()
    async with t.connect() as one, t.connect() as two, one.consumer(queue, prefetch=1) as slow:
        await t.history.send(one, queue, b"slow work")
        (stuck,) = await slow.receive()
        t.history.took(stuck, "slow")
        async with two.consumer(queue, prefetch=1) as fast:
            for number in range(30):
                await t.history.send(two, queue, f"message {number}".encode())
            for _ in range(30):
                (message,) = await fast.receive(timeout=5)
                t.history.took(message, "fast")
                await t.history.ack(message)
        await t.history.ack(stuck)
    await t.counts(queue, total=0)
    t.history.prove()


@case(
    "W3",
    "consumers join and leave in mid-stream: nothing is lost, nothing comes twice",
    group=GROUP,
    needs=Feature.COMPETING | Feature.REDELIVER,
)
async def w3(t: Trial) -> None:
    """W3: consumers join and leave in mid-stream: nothing is lost, nothing comes twice."""
    queue = t.queue()
    async with t.connect() as sender, t.connect() as one, t.connect() as two:
        for round_number in range(3):
            names = [f"round {round_number} worker {number}" for number in range(4)]
            sending = asyncio.create_task(stream(t, sender, queue, 100))
            visits = [visit(t, t.random.choice((one, two)), queue, name) for name in names]
            await asyncio.gather(*visits)
            await sending
        await t.drain(sender, queue)
    t.history.prove()


async def stream(t: Trial, client: Client, queue: str, count: int) -> None:
    """Send messages one by one."""
    for number in range(count):
        await t.history.send(client, queue, f"message {number}".encode())


async def visit(t: Trial, client: Client, queue: str, who: str) -> None:
    """Join at a drawn moment, take some messages, leave some of them unsettled, and leave."""
    await asyncio.sleep(t.random.uniform(0, 0.05))
    async with client.consumer(queue, prefetch=t.random.randint(1, 10)) as messages:
        for _ in range(t.random.randint(0, 25)):
            for message in await messages.receive(t.random.randint(1, 3), timeout=0.05):
                t.history.took(message, who)
                if t.random.random() < 0.8:
                    await t.history.ack(message)
        t.history.ended(who)


class Gauge:
    """How many handlers run at once, and the most that did."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self.done = 0

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count one handler."""
        self.now += 1
        self.most = max(self.most, self.now)
        yield
        self.now -= 1
        self.done += 1


@case("W4", "at most n handlers run at once, and n do; one is strictly serial", group=GROUP)
async def w4(t: Trial) -> None:
    """W4: at most n handlers run at once, and n do; one is strictly serial."""
    queue = t.queue()
    async with t.connect() as client:

        async def check(example: tuple[int, bool]) -> None:
            concurrency, plain = example
            gauge, release = Gauge(), asyncio.Event()

            async def handler(message: Message) -> None:
                del message
                with gauge.counted():
                    await release.wait()
                    await asyncio.sleep(0)

            def in_thread(message: Message) -> None:
                del message
                with gauge.counted():
                    deadline = time.monotonic() + 10
                    while not release.is_set() and time.monotonic() < deadline:
                        time.sleep(0.001)

            for number in range(3 * concurrency):
                await client.send(queue, number)
            consumer = client.consumer(queue, concurrency=concurrency)
            running = asyncio.create_task(consumer.run(in_thread if plain else handler))
            await t.eventually(lambda: gauge.now >= concurrency)
            release.set()
            await t.eventually(lambda: gauge.done == 3 * concurrency)
            consumer.stop()
            await running
            assert gauge.most == concurrency
            await t.counts(queue, total=0)

        await t.for_all(st.tuples(st.integers(1, 6), st.booleans()), check, examples=10)
