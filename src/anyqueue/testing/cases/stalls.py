"""Concurrency: the event loop is always free: no step does much work, and none waits."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from typing import TYPE_CHECKING, Final

from anyqueue import Error
from anyqueue.testing.case import case

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anyqueue import Client, Message
    from anyqueue.testing.trial import Trial

GROUP: Final = "Concurrency"
FEW: Final = 2_000
MANY: Final = 10_000
"""Messages: few enough for a broker that takes some hundreds a second, and many enough that 10 µs each are a stall."""
STALL: Final = 0.1
"""Seconds of work that one step of the event loop may take."""


@case("P5", "the event loop never stalls for more than 100 ms", group=GROUP, timeout=400.0)
async def p5(t: Trial) -> None:
    """P5: the event loop never stalls for more than 100 ms: no step does so much work, and none waits for anything.

    Work is measured as processor time of the loop's thread, one step at a time, the garbage collector put off: that
    is the library's own on a busy machine too. Waiting is proved by a heartbeat: it beats while a plain handler
    sleeps, and while the broker is blocked.
    """
    queue, few = t.queue(), min(FEW, t.harness.backlog)
    bodies = [b"x" * 100] * min(MANY, t.harness.backlog)
    async with t.connect(send_timeout=180.0) as client:  # no matter how long a busy disk takes
        with busiest() as found:
            async with client.producer(queue) as producer:
                await producer.send_many(bodies[:few])
                await asyncio.gather(*map(producer.send, bodies[:few]))
            await consume(client, queue, 2 * few)
        seconds, step = max(found, default=(0.0, "nothing"))
        assert len(found) > 10, "the steps were not measured"
        assert seconds < STALL, f"one step took {seconds:.3f} s of processor time: {step}"
        async with client.producer(queue) as producer:
            with busiest() as found:
                await producer.send_many(bodies)
        seconds, step = max(found)
        assert seconds < STALL, f"one step of send_many({len(bodies):,}) took {seconds:.3f} s of processor time: {step}"
        await t.foreign.delete(queue)
    await never_waits(t)


async def consume(client: Client, queue: str, count: int) -> None:
    """Handle so many messages, each at once."""
    consumer = client.consumer(queue, concurrency=10, prefetch=1000)
    left = count

    async def handle(message: Message) -> None:
        nonlocal left
        assert message.body
        left -= 1
        if not left:
            consumer.stop()

    await consumer.run(handle)


@contextlib.contextmanager
def busiest() -> Iterator[list[tuple[float, str]]]:
    """Measure each step of this thread's event loop: its processor time, and what it was."""
    found: list[tuple[float, str]] = []
    mine, run, handle = threading.get_ident(), asyncio.Handle._run, asyncio.Handle  # noqa: SLF001 -- no public hook sees a step's end

    def measured(self: asyncio.Handle) -> None:
        if threading.get_ident() != mine:
            run(self)
            return
        begun = time.thread_time()
        run(self)
        found.append((time.thread_time() - begun, repr(self)[:300]))

    gc.collect()
    gc.disable()
    handle._run = measured  # type: ignore[method-assign]  # noqa: SLF001 -- as above
    try:
        yield found
    finally:
        handle._run = run  # type: ignore[method-assign]  # noqa: SLF001 -- as above
        gc.enable()


async def never_waits(t: Trial) -> None:
    """Prove that the heart beats while a handler sleeps and while the broker is blocked."""
    queue, beats = t.queue(), list[int]()
    ran: list[tuple[int, int]] = []

    def sleep(message: Message) -> None:
        del message
        begun = len(beats)
        time.sleep(0.3)
        ran.append((threading.get_ident(), len(beats) - begun))

    heart = asyncio.create_task(beat(beats))
    async with t.connect() as patient, t.connect(send_timeout=0.5) as client:
        await patient.send(queue, b"x")
        consumer = client.consumer(queue)
        running = asyncio.create_task(consumer.run(sleep))
        await t.eventually(lambda: ran)
        consumer.stop()
        await running
        ((thread, during),) = ran
        assert thread != threading.get_ident()
        assert during >= 3, f"the heart beat {during} times in 0.3 s of a handler's sleep"
        begun = len(beats)
        with t.harness.blocked():
            (outcome,) = await asyncio.gather(client.send(queue, b"x"), return_exceptions=True)
            assert isinstance(outcome, Error)
            during = len(beats) - begun
        assert during >= 5, f"the heart beat {during} times in 0.5 s of a blocked send"
    heart.cancel()


async def beat(beats: list[int]) -> None:
    """Beat every 10 ms."""
    while True:
        await asyncio.sleep(0.01)
        beats.append(len(beats))
