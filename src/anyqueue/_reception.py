"""Receive for one consumer: never more than prefetch unsettled, over as many connections as it takes.

A lost subscription takes what it held with it: those messages come again on the next one. Errors that a new
connection cannot mend end the reception, and whoever asks for a message gets them.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from anyqueue import hooks
from anyqueue._held import Held
from anyqueue._keeper import Keeper, Terms
from anyqueue._link import backoff
from anyqueue._message import Message
from anyqueue._replies import waits
from anyqueue.driver import Delivery, Feature, Spec
from anyqueue.errors import Closed, ConnectFailed, ConnectionLost, Error, QueueError
from anyqueue.policy import SUSPECT_SLACK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyqueue._link import Link

_log = logging.getLogger(__name__)
SUSPECT_PAUSE: Final = 1.0
"""Seconds that a second suspect is put back for while a first one is handled alone."""


class Reception:
    """The messages of one consumer, ready to be handled. For one event loop."""

    def __init__(
        self,
        link: Link,
        spec: Spec,
        terms: Terms,
        *,
        kind: Any,  # noqa: ANN401 -- any type msgspec knows
        connect_timeout: float,
        settle_timeout: float,
    ) -> None:
        self.ready: deque[Message] = deque()
        self.keeper: Keeper | None = None
        self._link = link
        self._spec = spec
        self._terms = terms
        self._kind = kind
        self._connect_timeout = connect_timeout
        self._settle_timeout = settle_timeout
        self._limit = terms.retry.attempts if terms.retry else 1
        self._suspect: Message | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._room = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._stopped = False

    async def start(self) -> None:
        """Subscribe, over several connections until the connect timeout, and begin to receive."""
        until = (loop := asyncio.get_running_loop()).time() + self._connect_timeout
        while self.keeper is None:
            try:
                await self._subscribe(until)
            except ConnectionLost:
                if loop.time() >= until:
                    raise
        if self._stopped:  # its client was closed meanwhile, and found nothing to close here
            await self._close_keeper(self.keeper)
        self.check()
        self._pump = asyncio.create_task(self._receive())
        self._pump.add_done_callback(self._ended)

    async def next(self) -> Message | None:
        """Wait for a message to handle; None once the reception was stopped. Cancelling loses nothing."""
        while not self.ready:
            if self._failure is not None:
                raise self._failure
            if self._stopped:
                return None
            self._room.set()
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if not waiter.cancelled():
                    self._wake(1)
                raise
        return self.ready.popleft()

    def ready_ones(self, limit: int) -> list[Message]:
        """Take what is here to be handled, up to the first suspect."""
        ready, taken = self.ready, list[Message]()
        while ready and len(taken) < limit and not self.is_suspect(ready[0]):
            taken.append(ready.popleft())
        return taken

    def is_suspect(self, message: Message) -> bool:
        """Say whether the broker handed it over more often than it may fail: it may kill its consumers.

        Nobody is suspected where no dead letters are wanted: there it could only be lost, unhandled.
        """
        counted = message.delivery.attempt is not None and self._spec.dead_letter is not None
        return counted and message.attempt > self._limit

    def put(self, message: Message) -> None:
        """Make a message ready to be handled (again)."""
        self.ready.append(message)
        self._wake(1)

    def put_back(self, message: Message) -> None:
        """Make a message that next() returned the next one again."""
        self.ready.appendleft(message)
        self._wake(1)

    def check(self) -> None:
        """Raise what ended the reception, if it has ended."""
        if self._failure is not None:
            raise self._failure
        if self._stopped:
            raise Closed("the consumer is closed", queue=self._terms.queue, url=self._terms.url)

    async def stop(self, *, draining: bool = False) -> None:
        """Receive no more, and give back what nobody has begun to handle; at once where handlers still run."""
        self._stopped = True
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait([self._pump])
        while self.ready:
            message = self.ready.popleft()
            if self.keeper is not None and not message.settled:
                self.keeper.give_back(message, waits=not draining)
        self._wake(len(self._waiters))

    async def close(self) -> None:
        """Give back what is unsettled, settle what was begun, end the subscription. Never raises; twice is a no-op."""
        await self.stop()
        if self._closing is not None:
            await self._closing
        if (keeper := self.keeper) is None:
            return
        try:
            await keeper.finish()
            await self._give_back_rest(keeper)
        finally:
            await self._close_keeper(keeper)

    async def _close_keeper(self, keeper: Keeper) -> None:
        self._link.unwatch(keeper.held.lose)
        await keeper.close()

    async def _give_back_rest(self, keeper: Keeper) -> None:
        """Where the broker does not bring back what is unsettled, send it again before the subscription ends."""
        if Feature.REDELIVER not in keeper.held.driver.features:
            for delivery in list(keeper.held.unsettled):
                keeper.give_back(Message(delivery, self._terms.queue, keeper))
            await keeper.finish()

    async def _subscribe(self, until: float | None = None) -> None:
        """Subscribe over the live driver, or the one that is live by `until`. One that fails here is lost."""
        seconds = self._connect_timeout
        try:
            async with asyncio.timeout_at(until):
                driver = await self._link.driver()
        except TimeoutError as error:
            raise ConnectFailed(f"no connection within {seconds:g} s", url=self._terms.url) from error
        try:
            async with asyncio.timeout(seconds):
                subscription = await driver.subscribe(self._spec)
        except (TimeoutError, ConnectionLost) as error:
            what = f"no subscription within {seconds:g} s" if isinstance(error, TimeoutError) else error.what
            lost = ConnectionLost(what, queue=self._terms.queue, url=self._terms.url)
            self._link.lost(driver, lost)
            raise lost from error
        held = Held(
            driver,
            subscription,
            queue=self._terms.queue,
            url=self._terms.url,
            settle_timeout=self._settle_timeout,
            changed=self._room.set,
            lost=lambda error: self._link.lost(driver, error),  # closes the driver, which ends receive()
            tell=self._terms.tell,
        )
        self._link.watch(driver, held.lose)
        self.keeper = Keeper(held, self._terms, self.put)
        self._terms.tell(hooks.Subscribed(url=self._terms.url, queue=self._terms.queue, group=self._spec.group))

    async def _receive(self) -> None:
        tries = 0
        while True:
            keeper = self.keeper
            try:
                if keeper is None:
                    await self._subscribe()
                    tries = 0
                else:
                    await self._pull(keeper)
            except Error as error:
                if not _passes(error, keeper):
                    raise
                tries += 1
                await self._lose(keeper, error)
                await asyncio.sleep(backoff(tries, random.random()) if tries > 1 else 0)  # noqa: S311 -- jitter

    async def _pull(self, keeper: Keeper) -> None:
        """Receive as much as there is room for, once."""
        held, prefetch = keeper.held, self._spec.prefetch
        while held.lost is None and not self._wants_more(prefetch - len(held.unsettled)):
            self._room.clear()
            await self._room.wait()
        if held.lost is not None:
            raise ConnectionLost(str(held.lost))
        room = min(prefetch - len(held.unsettled), held.driver.limits.max_batch)
        deliveries = await held.subscription.receive(room)
        held.take(deliveries)
        if suspects := self._take(keeper, deliveries):
            await self._take_suspects(keeper, suspects)
        await asyncio.sleep(0)  # handlers begin before more is asked for

    def _wants_more(self, room: int) -> bool:
        """Say whether to receive now: when somebody waits for a message, or a quarter of the prefetch is free."""
        return room >= 1 and (not self.ready or room >= self._spec.prefetch // 4)

    def _take(self, keeper: Keeper, deliveries: Sequence[Delivery]) -> list[Message]:
        """Make messages of deliveries, ready to be handled but for the suspects, which are returned."""
        queue, kind, ready = self._terms.queue, self._kind, self.ready
        now, suspects = time.time(), list[Message]()
        for delivery in deliveries:
            message = Message(delivery, queue, keeper, kind)
            if (expires_at := delivery.envelope.expires_at) is not None and now >= expires_at:
                keeper.give_up(message, "expired")
            elif delivery.envelope.reply_to is not None and not waits(delivery.envelope, now):
                keeper.drop(message, "its requester no longer waits")
            elif (delivery.attempt or 0) > 1 and self.is_suspect(message):
                suspects.append(message)
            else:
                ready.append(message)
        self._wake(len(ready))
        if self._terms.tell:
            ids = (each.envelope.id for each in deliveries)
            self._terms.tell(hooks.Received(url=self._terms.url, queue=queue, ids=tuple(ids)))
        return suspects

    async def _take_suspects(self, keeper: Keeper, suspects: list[Message]) -> None:
        """Let one suspect in at a time, so that the crash of one is not counted against the others.

        It is not ready before the others are back with the broker: it may kill as soon as its handler begins.
        """
        left = [each for each in suspects if each.attempt <= self._limit + SUSPECT_SLACK and not each.is_request]
        for message in suspects:
            if message not in left:
                reason = f"delivered {message.attempt - 1} times and never finished: it may kill its consumer"
                keeper.give_up(message, reason)
        if keeper.puts_aside:
            alone = self._suspect is None or self._suspect.delivery not in keeper.held.unsettled
            first, others = (left[:1], left[1:]) if alone else ([], left)
            await keeper.put_aside(others, SUSPECT_PAUSE)
            left = first
        if left:
            self._suspect = left[0]
            self.ready.extend(left)
            self._wake(len(left))

    async def _lose(self, keeper: Keeper | None, error: Error) -> None:
        if keeper is not None:
            self.keeper = None
            if isinstance(error, ConnectionLost):
                self._link.lost(keeper.held.driver, error)
            self.ready.clear()
            keeper.held.lose(error)
            closing = self._closing = asyncio.create_task(self._close_keeper(keeper))
            await asyncio.shield(closing)
        _log.warning("queue %r: %s; subscribing again", self._terms.queue, error)

    def _ended(self, pump: asyncio.Task[None]) -> None:
        if not pump.cancelled():
            self._failure = pump.exception()
            self._wake(len(self._waiters))

    def _wake(self, count: int) -> None:
        while count > 0 and self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                count -= 1


def _passes(error: Error, keeper: Keeper | None) -> bool:
    """Say whether a new subscription may mend it: the connection, or the queue, is not what it was."""
    return isinstance(error, ConnectionLost | QueueError) or (keeper is not None and keeper.held.lost is not None)
