"""Shutdown: what was begun is finished or comes again, whoever ends what, and how."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from anyqueue import Closed, Feature, SendError
from anyqueue.testing.acts import holds, sendings
from anyqueue.testing.case import case
from anyqueue.testing.children import ProcessChild, Script
from anyqueue.testing.play import ABORTED
from anyqueue.testing.stopwatch import Stopwatch

if TYPE_CHECKING:
    from anyqueue import Client, Message
    from anyqueue.testing.children import Child
    from anyqueue.testing.trial import Trial

GROUP = "Shutdown"


class Work:
    """What handlers have begun, and when they may end."""

    def __init__(self, t: Trial) -> None:
        self.begun: list[str] = []
        self.go = asyncio.Event()
        self._t = t

    async def handle(self, message: Message) -> None:
        """Begin; end when `go` is set."""
        self.begun.append(self._t.history.took(message, "worker").id)
        await self.go.wait()
        await self._t.history.ack(message)

    def has_begun(self) -> bool:
        """Say whether all three workers of the consumer are at it."""
        return len(self.begun) == 3


@case("G1", "a consumer that is stopped finishes what it has begun, and gives back the rest", group=GROUP)
async def g1(t: Trial) -> None:
    """G1: a consumer that is stopped finishes what it has begun, and gives back the rest; also when it is cancelled.

    At once, where that is possible. Where a broker can only take all back that a consumer holds (REDELIVER without
    RELEASE), when the last handler has ended.
    """
    at_once = bool(t.expected.features & Feature.RELEASE) or not t.has(Feature.REDELIVER)
    async with t.connect() as client:
        for how in ("stopped", "cancelled"):
            queue = t.queue()
            sent = await sendings(t, client, queue, 20)
            work = Work(t)
            consumer = client.consumer(queue, concurrency=3)
            task = asyncio.create_task(consumer.run(work.handle))
            await t.eventually(work.has_begun)
            if how == "stopped":
                consumer.stop()
            else:
                task.cancel()
            if at_once:
                await t.eventually(holds(t, queue, 3))
            assert not task.done()
            work.go.set()
            (ended,) = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(ended, asyncio.CancelledError) if how == "cancelled" else ended is None
            assert len(work.begun) == 3
            left = [message.id for message in await t.drain(client, queue)]
            assert sorted(work.begun + left) == sorted(sent)
            t.history.ended("worker")
    t.history.prove()


@case("G2", "a handler that does not end in time is cancelled, and its message comes again", group=GROUP)
async def g2(t: Trial) -> None:
    """G2: a handler that does not end within drain_timeout is cancelled, unsettled, and its message comes again."""
    queue = t.queue()
    seen, cancelled = list[str](), list[str]()

    async def hang(message: Message) -> None:
        seen.append(t.history.took(message, "worker").id)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(message.id)
            t.history.ended("worker")
            raise

    async with t.connect() as client:
        sent = await sendings(t, client, queue, 5)
        consumer = client.consumer(queue, concurrency=2, drain_timeout=0.3)
        task = asyncio.create_task(consumer.run(hang))
        await t.eventually(lambda: len(seen) == 2)
        watch = Stopwatch()
        consumer.stop()
        await task
        watch.within(5.0, "a drain of at most 0.3 s")
        assert watch.took >= 0.29
        assert sorted(cancelled) == sorted(seen)
        await t.counts(queue, unacked=0)
        back = await t.drain(client, queue)
    assert sorted(message.id for message in back) == sorted(sent)
    assert all(message.redelivered for message in back if message.id in seen)
    await t.counts(f"{queue}.dead", total=0)
    t.history.prove()


@case("G4", "closing sends what was given to it, and says so of the rest", group=GROUP)
async def g4(t: Trial) -> None:
    """G4: closing sends what was given to it, and says so of the rest: the moment of the close is drawn.

    Every send that had begun is confirmed; one that had not raises Closed; none is left without a verdict.
    """
    queue, most = t.queue(), min(300, t.harness.backlog // 8)
    for number in range(8):
        client, count = t.connect(), t.random.randint(1, most)
        await client.open()
        sends = [send(t, client, queue, f"producer {number} {index}") for index in range(count)]
        turns = t.random.choice([0, 0, 1, 2, 5])
        for _ in range(turns):
            await asyncio.sleep(0)
        await client.close()
        assert all(task.done() for task in sends) or not turns
        found = await asyncio.gather(*sends, return_exceptions=True)
        errors = [error for error in found if not isinstance(error, str)]
        assert all(isinstance(error, Closed | SendError) for error in errors), errors
        assert not (turns and errors), errors[:3]
    async with t.connect() as client:
        other = t.queue()
        async with client.producer(other) as producer:
            sending = asyncio.gather(*(producer.send(b"begun") for _ in range(100)))
            await asyncio.sleep(0)
        assert sending.done()
        await t.counts(other, total=100)
        await t.drain(client, queue)
    t.history.prove()


def send(t: Trial, client: Client, queue: str, who: str) -> asyncio.Task[str]:
    """Begin a send."""
    return asyncio.create_task(t.history.send(client, queue, who.encode(), who=who))


@case(
    "G5",
    "SIGTERM drains, a second one ends at once, and so does an exit without close: nothing is lost",
    group=GROUP,
    tier="fault",
)
async def g5(t: Trial) -> None:
    """G5: SIGTERM drains, a second one ends at once, and so does an exit without close: nothing is lost.

    The child does as an application would: its handler of SIGTERM calls Consumer.stop(), and at the second one
    os._exit(). In a thread the second is a kill. What a broker without redelivery had handed over to the one that
    ended at once is gone, as declared.
    """
    await asked_once(t)
    await asked_twice(t)
    await left(t)
    t.history.prove(drained=t.has(Feature.REDELIVER))


async def asked_once(t: Trial) -> None:
    """Prove that SIGTERM lets the handler finish, settles, and gives back the rest."""
    queue = t.queue()
    async with t.connect() as client:
        await sendings(t, client, queue, 40)
        worker = t.child("asked once", Script(role="consumer", queue=queue, pace=0.03, concurrency=2))
        await t.eventually(lambda: worker.count("settle") >= 3)
        await worker.terminate()
        t.history.merge(worker.journal())
        taken, done = worker.count("receive"), worker.count("settle")
        assert 3 <= done == taken < 40
        await t.counts(queue, waiting=40 - done, unacked=0)
        assert not isinstance(worker, ProcessChild) or worker.status == 0
        await t.drain(client, queue)


async def asked_twice(t: Trial) -> None:
    """Prove that the first SIGTERM waits for a handler, and that the second ends it; its message comes again."""
    queue = t.queue()
    async with t.connect() as client:
        await sendings(t, client, queue, 3)
        worker = t.child("asked twice", Script(role="consumer", queue=queue, prefetch=1, handler="hold"))
        await t.eventually(lambda: worker.count("receive") == 1)
        worker.ask()
        await sendings(t, client, queue, 10)
        assert worker.alive()
        t.history.ended(worker.name)
        await t.eventually(lambda: ask(worker))
        t.history.ended(worker.name)
        t.history.merge(worker.journal())
        assert not isinstance(worker, ProcessChild) or worker.status == ABORTED
        await t.drain(client, queue)


def ask(child: Child) -> bool:
    """Ask once more (two signals may arrive as one); say whether it has ended."""
    child.ask()
    return not child.alive()


async def left(t: Trial) -> None:
    """Prove that an exit without close loses nothing confirmed, accepted stays accepted, and what was held comes."""
    for hold in (False, True) if t.has(Feature.REDELIVER) else (False,):
        queue = t.queue()
        script = Script(role="leaver", queue=queue, count=20, handler="hold" if hold else "ack")
        leaver = t.child(f"leaver {hold}", script)
        await leaver.wait()
        t.history.merge(leaver.journal())
        assert not isinstance(leaver, ProcessChild) or leaver.status == 0, leaver.log()
        assert leaver.count("send") == 20
        async with t.connect() as client:
            drained = await t.drain(client, queue)
        assert len(drained) == (19 if hold else 20)
