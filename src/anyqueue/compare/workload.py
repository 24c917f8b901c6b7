"""Measure one broker over one client, as a user would write it. The figures are of this process and that broker."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from anyqueue.compare.plan import MANY, Step, main_size, sizes_of, steps
from anyqueue.compare.results import Cell
from anyqueue.compare.tally import Tally, latency_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from anyqueue import Client, Message, Producer
    from anyqueue.compare.plan import Settings
    from anyqueue.compare.results import Row

MOST: Final = 5000
"""Messages that a cell sends without anybody taking them."""
MOST_BYTES: Final = 16 * 1024 * 1024
LEAST_WINDOW: Final = 8
MOST_WINDOW: Final = 1000
"""Messages on their way at once: more where more are handled, so that nobody is idle and the end comes soon."""
SILENCE: Final = 5.0
"""Seconds without another message after which those that are missing are lost."""
SAMPLES: Final = 500


class Workload:
    """What is measured on one client. `name` gives a queue of this run's; the same word, the same queue."""

    def __init__(self, client: Client, settings: Settings, name: Callable[[str], str]) -> None:
        self._client = client
        self._settings = settings
        self._name = name

    async def run(self, row: Row, tell: Callable[[str], None]) -> None:
        """Measure everything, into `row` as it is found. Cancelled, nothing of it runs on."""
        client, settings = self._client, self._settings
        for step in steps(settings, client.features, client.limits):
            tell(f"{step.operation}, {step.size:,} bytes, {step.concurrency} at once")
            row.cells.append(await self._cell(step))
        if sizes := sizes_of(settings, client.limits):
            tell("latency")
            row.latency = latency_of(await self._latencies(main_size(sizes)), main_size(sizes))

    async def _cell(self, step: Step) -> Cell:
        match step.operation:
            case "send":
                return await self._send(step, self._one_by_one)
            case "send_many":
                return await self._send(step, self._in_batches)
            case "through":
                return await self._through(step, 0.0)
            case "slow":
                return await self._through(step, self._settings.pause)

    async def _send(self, step: Step, send: Callable[[Producer, Tally, float, int], Awaitable[None]]) -> Cell:
        queue = self._name(f"sent-{step.size}")
        tally, most = Tally(step.size), min(MOST, max(MANY, MOST_BYTES // step.size))
        async with self._client.producer(queue) as producer:
            await producer.send(tally.bodies(1)[0])  # the queue is there
            begun = time.perf_counter()
            end = begun + self._settings.seconds
            sending = [send(producer, tally, end, most) for _ in range(step.concurrency)]
            await _together(*sending)
            seconds = time.perf_counter() - begun
        return _told(step, tally.sent - 1, seconds)

    @staticmethod
    async def _one_by_one(producer: Producer, tally: Tally, end: float, most: int) -> None:
        while time.perf_counter() < end and tally.sent < most:
            await producer.send(tally.bodies(1)[0])

    @staticmethod
    async def _in_batches(producer: Producer, tally: Tally, end: float, most: int) -> None:
        while time.perf_counter() < end and tally.sent < most:
            await producer.send_many(tally.bodies(MANY))

    async def _through(self, step: Step, pause: float) -> Cell:
        """Keep so many messages on their way that no handler is idle; in the end wait for all of them."""
        tally, queue = Tally(step.size), self._name("through")
        least = LEAST_WINDOW + 2 * step.concurrency
        last = time.perf_counter()
        came = asyncio.Event()

        async def handle(message: Message) -> None:
            nonlocal last
            if pause:
                await asyncio.sleep(pause)
            if tally.took(message.body):
                last = time.perf_counter()
            came.set()

        async with self._consuming(queue, handle, step.concurrency), self._client.producer(queue) as producer:
            begun = time.perf_counter()
            await _feed(
                producer,
                tally,
                lambda: max(least, min(MOST_WINDOW, tally.handled // 2)),
                begun + self._settings.seconds,
                came,
            )
            while tally.waiting and await _set(came, SILENCE):
                pass
            handled, lost = tally.handled, tally.waiting
        return _told(step, handled, last - begun, lost=lost, duplicated=tally.duplicated)

    async def _latencies(self, size: int) -> list[float]:
        """Send one, wait until it is handled, and again. The first is not counted: it finds the connection cold."""
        queue, tally, times = self._name("through"), Tally(size), list[float]()
        came = asyncio.Event()
        arrived = 0.0

        async def handle(message: Message) -> None:
            nonlocal arrived
            arrived = time.perf_counter()
            if tally.took(message.body):
                came.set()

        async with self._consuming(queue, handle, 1), self._client.producer(queue) as producer:
            end = time.perf_counter() + 4 * self._settings.seconds
            while time.perf_counter() < end and len(times) <= SAMPLES:
                begun = time.perf_counter()
                await producer.send(tally.bodies(1)[0])
                if not await _set(came, SILENCE):
                    break
                times.append(arrived - begun)
        return times[1:]

    @contextlib.asynccontextmanager
    async def _consuming(
        self, queue: str, handle: Callable[[Message], Awaitable[None]], concurrency: int
    ) -> AsyncIterator[None]:
        """Run a consumer meanwhile; what ends it before its time is raised by the block."""
        consumer = self._client.consumer(
            queue, concurrency=concurrency, retry=None, dead_letter=None, drain_timeout=SILENCE
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(consumer.run(handle))
            yield
            consumer.stop()


async def _feed(producer: Producer, tally: Tally, window: Callable[[], int], end: float, came: asyncio.Event) -> None:
    """Send in batches for as long as there is time, never more on their way than `window()`."""
    while time.perf_counter() < end:
        room = min(MANY, window() - tally.waiting)
        if room > 0:
            await producer.send_many(tally.bodies(room))
        elif not await _set(came, SILENCE):
            return


async def _set(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event and clear it; False if it does not come."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    event.clear()
    return True


async def _together(*works: Awaitable[None]) -> None:
    """Wait for all; the first that fails ends the others."""

    async def one(work: Awaitable[None]) -> None:
        await work

    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(one(work))


def _told(step: Step, messages: int, seconds: float, *, lost: int = 0, duplicated: int = 0) -> Cell:
    return Cell(
        operation=step.operation,
        size=step.size,
        concurrency=step.concurrency,
        messages=messages,
        seconds=seconds,
        lost=lost,
        duplicated=duplicated,
    )
