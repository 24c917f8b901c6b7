"""A consumer of one queue: a worker for the queue's own function, and one for that of its delayed messages.

gearmand wakes no worker when a delayed job is due (1.1.20), so those are asked for every `poll` seconds; apart from the
others, because a function that holds both wakes its workers in vain. Nothing runs beside receive(): it asks, waits for
what changes, and asks again, so that no more is ever in hand than it may return.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import TYPE_CHECKING, cast

from anyqueue.backends.gearman.counting import Looks
from anyqueue.backends.gearman.hand import Hand, Job
from anyqueue.backends.gearman.jobs import asks, envelope_of, lined
from anyqueue.backends.gearman.names import delayed_of, function_of
from anyqueue.backends.gearman.protocol import WORK_EXCEPTION, WORK_STATUS, WORK_WARNING, completion, pack
from anyqueue.driver import Answer, BatchSettleFailed, Delivery, Queue, Subscription
from anyqueue.errors import Closed, ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyqueue.backends.gearman.connection import Connection
    from anyqueue.driver import Progress, Settlement


class GearmanSubscription(Subscription):
    """A hold on one queue."""

    home: Queue

    def __init__(self, queue: Queue, now: Connection, later: Connection, *, poll: float) -> None:
        self.home = queue
        self.dead_letters = False
        self.ended: Callable[[GearmanSubscription], None] = lambda _: None
        looks = Looks()
        self._now = Hand(now, function_of(queue.name), looks, self._change)
        self._later = Hand(later, delayed_of(queue.name), looks, self._change)
        self._hands = (self._now, self._later)
        self._poll = poll
        self._next_poll = 0.0
        self._early: list[tuple[float, int, Job]] = []
        self._count = itertools.count()
        self._ready: list[Job] = []
        self._limit = 0
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def begin(self) -> None:
        """Announce both functions."""
        for hand in self._hands:
            await hand.begin()

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """Take what is here, or ask and wait for it."""
        self._check_open()
        self._limit = limit
        try:
            while not self._go_on():
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
        finally:
            self._waiter = None
            if self._timer is not None:
                self._timer.cancel()
        if self._closed:
            raise ConnectionLost("the subscription was closed while it waited", queue=self.home.name)
        for hand in self._hands:
            hand.check()
        taken, self._ready = self._ready[:limit], self._ready[limit:]
        return [_delivery(job) for job in taken]

    async def settle(self, batch: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Report jobs as done: nothing is bound to Reject, and Release is not ours. An answer goes along."""
        self._check_open()
        failures: dict[int, str] = {}
        jobs = [cast("Job", delivery.receipt) for delivery, _ in batch]
        for hand in self._hands:
            mine = [index for index, job in enumerate(jobs) if job.hand is hand]
            if mine and await hand.done([_outcome(jobs[index], batch[index][1]) for index in mine]):
                failures.update(dict.fromkeys(mine, "the server did not know the job as this consumer's any more"))
        if failures:
            raise BatchSettleFailed(failures)

    async def report(self, delivery: Delivery, progress: Progress) -> None:
        """Tell the requester: a note as a warning, which is all the protocol has for one, then the numbers."""
        job = cast("Job", delivery.receipt)
        note = pack(WORK_WARNING, job.handle, progress.note.encode()) if progress.note else b""
        numbers = (_number(progress.done), _number(progress.total or 0.0))
        await job.hand.tell(note + pack(WORK_STATUS, job.handle, *numbers))

    async def close(self) -> None:
        """Give back what is unsettled, and hang up."""
        if self._closed:
            return
        self._closed = True
        self._change()
        try:
            await asyncio.gather(*(hand.end() for hand in self._hands))
        finally:
            self.hang_up()

    def hang_up(self) -> None:
        """Close the connections; the server gives back what they held."""
        self._closed = True
        for hand in self._hands:
            hand.hang_up()
        self._change()
        self.ended(self)

    def _change(self) -> None:
        """Go on at once, where receive() waits: it is woken when it has something to return or to raise."""
        if self._waiter is not None and not self._waiter.done() and self._go_on():
            self._waiter.set_result(None)

    def _go_on(self) -> bool:
        """Take what is here and ask for more; say whether receive() ends."""
        if self._closed or self._now.lost or self._later.lost:
            return True
        self._take_arrived()
        if self._ready and self._all_there():
            return True
        seconds = self._ask(self._limit)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._change)
        return False

    def _all_there(self) -> bool:
        """Say whether the queue has no more than is here, or there is no room for more; both are soon known."""
        return not self._now.asked and (self._now.empty or len(self._ready) + len(self._early) >= self._limit)

    def _ask(self, limit: int) -> float | None:
        """Ask for what may be taken; return the seconds after which to look again, None: when something changes."""
        clock, now, later = time.monotonic(), self._now, self._later
        room = limit - len(self._ready) - len(self._early) - now.asked - later.asked
        if room > 0 and not later.asked and (clock >= self._next_poll or not later.empty):
            self._next_poll = clock + self._poll
            count = min(room, later.appetite)
            later.grab(count, look=False)
            room -= count
        rest = now.resting(clock)
        if room > 0 and not now.asked and not now.asleep and not rest:
            if now.empty:
                now.sleep()
            else:
                now.grab(min(room, now.appetite), look=True)
        waits = [self._next_poll - clock] if room > 0 else []
        if rest:
            waits.append(rest)
        if self._early:
            waits.append(self._early[0][0] - time.time())
        return max(0.0, min(waits)) if waits else None

    def _take_arrived(self) -> None:
        """Take what the workers have; a delayed message that is not due yet waits."""
        clock = time.time()
        now, later = self._hands
        self._ready += now.arrived
        now.arrived.clear()
        for job in later.arrived:
            due = envelope_of(job.handle, job.unique, job.data).not_before
            heapq.heappush(self._early, (due or 0.0, next(self._count), job))
        later.arrived.clear()
        while self._early and self._early[0][0] <= clock:
            self._ready.append(heapq.heappop(self._early)[2])

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("this subscription is closed", queue=self.home.name)


def _delivery(job: Job) -> Delivery:
    known = job.known
    envelope = envelope_of(job.handle, job.unique, job.data)
    job.data = b""  # the receipt need not keep it
    return Delivery(
        envelope=envelope,
        receipt=job,
        attempt=1 if known is None else known.lost + 1,
        redelivered=known is None or known.lost > 0,
        native=job.handle,
        asks=job.asks,
    )


def _outcome(job: Job, settlement: Settlement) -> bytes:
    """Return the report that a job is done, or of a request that it failed. A stranger gets the body alone."""
    if not isinstance(settlement, Answer):
        return completion(job.handle)
    ours, reply, error = asks(job.unique), settlement.reply, settlement.error
    if error is None:
        return completion(job.handle, lined(reply) if ours else reply.body)
    return pack(WORK_EXCEPTION, job.handle, lined(reply) if ours else error.encode())


def _number(value: float) -> bytes:
    """Return a number as every worker's language reads it."""
    return (str(int(value)) if value.is_integer() else repr(value)).encode()
