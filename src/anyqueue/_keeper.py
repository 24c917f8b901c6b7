"""Carry out what becomes of the messages of one subscription: accept, and the plans of the policy.

The decisions are `plan_failure()`'s; here is the order in which they are made safe. A copy is confirmed before the
original is accepted. If the copy cannot be sent, the original stays unsettled and the copy is tried again with
backoff, for as long as the subscription lives; after that the broker brings the original back.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anyqueue import hooks
from anyqueue._answers import Answers
from anyqueue._death import as_dead_letter, as_retry, death_headers
from anyqueue._link import backoff
from anyqueue._replies import asks
from anyqueue.driver import ACCEPT, Feature, Queue, Reject, Release
from anyqueue.errors import Error
from anyqueue.policy import Plan, Rerun, Resend, Retry, Settle, Situation, Tell, counts_returns, give_up, plan_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from anyqueue._held import Held
    from anyqueue._message import Message
    from anyqueue._progress import Trackers
    from anyqueue._sending import Outbox
    from anyqueue.driver import Delivery, Envelope, Progress

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a consumer wants done with failures, and where its errors and events say they come from."""

    queue: str
    url: str
    retry: Retry | None
    dead_letter: Queue | None
    outbox: Callable[[Queue], Outbox]
    trackers: Trackers
    tell: hooks.Hooks


class Keeper:
    """The Holder of every Message that one subscription brings. `ready` takes back one to be handled again."""

    def __init__(self, held: Held, terms: Terms, ready: Callable[[Message], None]) -> None:
        self.held = held
        self._terms = terms
        self._ready = ready
        self._tasks: set[asyncio.Task[None]] = set()
        self._hurry = asyncio.Event()
        self._answers = Answers(held, terms.outbox, self._park, self._hurry)
        self._limit = terms.retry.attempts if terms.retry else 1

    async def accept(self, message: Message, result: object = None) -> None:
        """Settle it as done, and wait until the broker knows; of a request, `result` is the reply."""
        if asks(message.delivery):
            await asyncio.shield(self._start(self._answers.value(message, result)))
        else:
            await self.held.settled(message.delivery, ACCEPT)

    async def fail(self, message: Message, error: BaseException) -> None:
        """Carry out the plan for a failure, and wait until it is done; a parked message is not waited for."""
        plan = self._plan(message, error)
        task = self._begin(message, plan, error)
        if isinstance(plan, Settle | Tell) or (isinstance(plan, Resend) and not plan.park):
            await asyncio.shield(task)

    async def report(self, message: Message, progress: Progress) -> None:
        """Report how far its handling is: to who asks, and to the broker if it takes reports, else to the tracker."""
        if asks(message.delivery):
            await self._answers.report(message, progress)
        if Feature.PROGRESS in self.held.driver.features:
            await self.held.subscription.report(message.delivery, progress)
        else:
            await self._terms.trackers.report(message.id, progress)

    def accept_soon(self, message: Message, result: object = None) -> None:
        """Settle it as done, without waiting; of a request, `result` is the reply."""
        if asks(message.delivery):
            self._start(self._answers.value(message, result))
        else:
            self.held.settle(message.delivery, ACCEPT)

    def accept_all_soon(self, deliveries: Sequence[Delivery]) -> None:
        """Settle those of messages that are no requests as done, without waiting."""
        self.held.accept_all(deliveries)

    def fail_soon(self, message: Message, error: BaseException) -> None:
        """Carry out the plan for a failure without waiting."""
        self._begin(message, self._plan(message, error), error)

    def give_up(self, message: Message, reason: str) -> None:
        """Dead-letter it without a handler's error, or reject it where no dead letter is wanted; do not wait."""
        situation = self._situation(message)
        self._begin(message, give_up(reason, situation, self._death(message, None, situation.now)), None)

    def drop(self, message: Message, reason: str) -> None:
        """Forget a request that nobody waits for any more; do not wait."""
        self.held.settle(message.delivery, ACCEPT)
        url, queue, tell = self._terms.url, self._terms.queue, self._terms.tell
        _log.info("request %s of queue %r is dropped: %s", message.id, queue, reason)
        if tell:
            tell(hooks.Dropped(url=url, queue=queue, id=message.id, reason=reason))

    def give_back(self, message: Message, *, waits: bool = True) -> None:
        """Return a message whose handling never ended, uncounted where the broker can; at close() where it cannot.

        Where the broker counts whatever it brings back, a message that would be suspected for that alone goes back as a
        copy, which keeps its count: nobody is given up who was never handled. A copy is also sent where a message that
        must not wait for close() cannot be released; but not of a request that only the broker can bring back.
        """
        features, home = self.held.driver.features, self._home(message)
        copies = counts_returns(features) and self._terms.dead_letter is not None and message.attempt >= self._limit
        stays = Feature.RELEASE in features or (Feature.REDELIVER in features and waits)
        if home is not None and (copies or not stays):
            plan = Resend(address=home, reason="the consumer ended before it was handled")
            self._begin(message, plan, None)
        elif Feature.RELEASE in features:
            self.held.settle(message.delivery, Release())

    @property
    def puts_aside(self) -> bool:
        """Say whether put_aside() works here."""
        features = self.held.driver.features
        return Feature.RELEASE_DELAY in features or (
            Feature.DELAY in features and self.held.subscription.home is not None
        )

    async def put_aside(self, messages: Sequence[Message], delay: float) -> None:
        """Bring messages that nobody handled back after `delay` seconds, uncounted; return when they are gone.

        One that cannot be brought back stays held. Cancelling stops only the waiting.
        """
        home = self.held.subscription.home
        if Feature.RELEASE_DELAY in self.held.driver.features or home is None:
            for message in messages:
                self.held.settle(message.delivery, Release(delay))
            await self.held.flush()
        elif messages:
            plan = Resend(address=home, delay=delay, reason="it waits while another one is handled alone")
            await asyncio.wait([self._begin(message, plan, None) for message in messages])

    async def finish(self) -> None:
        """End the waiting of parked messages, and wait until what was begun is done and settled."""
        self._hurry.set()
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self.held.flush()

    async def close(self) -> None:
        """End the subscription; what is unsettled goes back. Never raises."""
        for task in self._tasks:
            task.cancel()
        await self.held.close()

    def _plan(self, message: Message, error: BaseException) -> Plan:
        situation = self._situation(message)
        return plan_failure(error, situation, self._death(message, error, situation.now))

    def _situation(self, message: Message) -> Situation:
        return Situation(
            features=self.held.driver.features,
            attempt=message.attempt,
            retry=self._terms.retry,
            home=self._home(message),
            dead_letter=self._terms.dead_letter,
            asks=asks(message.delivery),
            bound=self.held.subscription.dead_letters,
            max_delay=self.held.driver.limits.max_delay,
            now=time.time(),
            chance=random.random(),  # noqa: S311 -- jitter, no secret
        )

    def _death(self, message: Message, error: BaseException | None, now: float) -> dict[str, str]:
        home = self.held.subscription.home
        return death_headers(
            error,
            origin=self._terms.queue if home is None else home.name,
            attempt=message.attempt,
            first_failure=message.first_failure,
            now=now,
        )

    def _home(self, message: Message) -> Queue | None:
        """Return where a copy can be sent; of what the broker itself has a requester for, none can."""
        return None if message.delivery.asks else self.held.subscription.home

    def _begin(self, message: Message, plan: Plan, error: BaseException | None) -> asyncio.Task[None]:
        return self._start(self._carry_out(message, plan, error))

    def _start(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("on queue %r: %s", self._terms.queue, error)

    async def _carry_out(self, message: Message, plan: Plan, error: BaseException | None) -> None:
        match plan:
            case Settle():
                await self.held.settled(message.delivery, plan.settlement)
                self._tell(message, plan)
            case Resend():
                if await self._resend(message, plan, error):
                    self._tell(message, plan)
                    await self.held.settled(message.delivery, ACCEPT)
            case Rerun():
                self._tell(message, plan)
                await self._rerun(message, plan)
            case Tell():
                _log.warning("request %s of queue %r failed: %s", message.id, self._terms.queue, plan.reason)
                await self._answers.error(message, plan.error)

    async def _resend(self, message: Message, plan: Resend, error: BaseException | None) -> bool:
        """Send the copy, over as many tries as it takes; False where the original must stay for another consumer."""
        await self._park(plan.park)
        tries = 0
        while self.held.lost is None:
            try:
                await self._terms.outbox(plan.address).send([self._copy(message, plan, error)])
            except Error as failure:
                _log.warning("message %s stays on queue %r: %s", message.id, self._terms.queue, failure)
                if self._hurry.is_set():
                    return False
                tries += 1
                await self._park(backoff(tries, random.random()))  # noqa: S311 -- jitter, no secret
            else:
                return True
        return False

    def _copy(self, message: Message, plan: Resend, error: BaseException | None) -> Envelope:
        now = time.time()
        if plan.dead:
            return as_dead_letter(message.envelope, self._death(message, error, now), plan.reason)
        first = message.first_failure or now
        not_before = now + plan.delay if plan.delay > 0 else None
        attempt = message.attempt if error is not None else message.attempt - 1
        return as_retry(message.envelope, attempt=attempt, first=first, not_before=not_before)

    async def _rerun(self, message: Message, plan: Rerun) -> None:
        await self._park(plan.delay)
        if self._hurry.is_set():
            self.give_back(message)
        elif self.held.lost is None:
            self._ready(message.again())

    async def _park(self, seconds: float) -> None:
        if seconds > 0 and not self._hurry.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._hurry.wait()
            except TimeoutError:
                return

    def _tell(self, message: Message, plan: Plan) -> None:
        """Log what was done, and tell the hooks."""
        terms = self._terms
        match plan:
            case Settle(settlement=Release(delay=delay)) | Rerun(delay=delay):
                event: hooks.Event = self._retried(message, delay, plan.reason)
            case Settle(settlement=Reject()) if terms.dead_letter is None:
                _log.error("message %s of queue %r is dropped: %s", message.id, terms.queue, plan.reason)
                event = hooks.Dropped(url=terms.url, queue=terms.queue, id=message.id, reason=plan.reason)
            case Resend(dead=False, delay=delay, park=park):
                event = self._retried(message, delay + park, plan.reason)
            case _:
                name = terms.dead_letter.name if terms.dead_letter else ""
                _log.warning("message %s of queue %r goes to %r: %s", message.id, terms.queue, name, plan.reason)
                event = hooks.DeadLettered(
                    url=terms.url,
                    queue=terms.queue,
                    id=message.id,
                    attempt=message.attempt,
                    dead_letter=name,
                    reason=plan.reason,
                )
        if terms.tell:
            terms.tell(event)

    def _retried(self, message: Message, delay: float, reason: str) -> hooks.Retried:
        terms = self._terms
        _log.info("message %s of queue %r comes again in %.3g s: %s", message.id, terms.queue, delay, reason)
        return hooks.Retried(
            url=terms.url, queue=terms.queue, id=message.id, attempt=message.attempt, delay=delay, reason=reason
        )
