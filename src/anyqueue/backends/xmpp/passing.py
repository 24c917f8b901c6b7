"""A subscription to a topic without a group: what is published while it is there, and nothing else.

The server keeps nothing for it. It is handed over with the notification, by the service alone, and waits here. A
consumer that falls so far behind that it would need more than ROOM or BYTES is ended, and says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import time
from typing import TYPE_CHECKING, Final

import msgspec

from anyqueue.backends.xmpp import codec, names
from anyqueue.driver import BatchSettleFailed, Delivery, Release, Subscription
from anyqueue.errors import Closed, ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

    from anyqueue.backends.xmpp.codec import Stored
    from anyqueue.backends.xmpp.session import Session
    from anyqueue.driver import Settlement

ROOM: Final = 20_000
BYTES: Final = 64 * 1024 * 1024


class PassingSubscription(Subscription):
    """A consumer."""

    def __init__(self, session: Session, topic: str) -> None:
        self._session = session
        self._topic = topic
        self._node = names.topic_node(topic)
        self._numbers = itertools.count()
        self._due: list[tuple[int, Stored]] = []
        self._later: list[tuple[float, int, Stored]] = []
        self._size = 0
        self._held: dict[object, tuple[int, Stored]] = {}
        self._woken = asyncio.Event()
        self._lost: Exception | None = None
        self._closed = False

    def begin(self) -> None:
        """Listen."""
        self._session.watch(self._on_lost)
        self._session.listen(self._node, self._on_news)

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """Take what is due, or wait for it."""
        while True:
            self._check_open()
            now = time.time()
            while self._later and self._later[0][0] <= now:
                _, number, stored = heapq.heappop(self._later)
                heapq.heappush(self._due, (number, stored))
            if self._due:
                return [self._hand_over(*heapq.heappop(self._due)) for _ in range(min(limit, len(self._due)))]
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._later[0][0] - now if self._later else None):
                    await self._woken.wait()

    def _hand_over(self, number: int, stored: Stored) -> Delivery:
        self._size -= len(stored.envelope.body)
        delivery = Delivery(
            envelope=stored.envelope,
            receipt=object(),
            attempt=stored.attempts + 1,
            redelivered=stored.redelivered,
            first_failure=stored.first_failure,
        )
        self._held[delivery.receipt] = (number, stored)
        return delivery

    async def settle(self, batch: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Settle by receipt, here."""
        self._check_open()
        failures: dict[int, str] = {}
        for index, (delivery, settlement) in enumerate(batch):
            found = self._held.pop(delivery.receipt, None)
            if found is None:
                failures[index] = "this subscription does not hold it"
            elif isinstance(settlement, Release):
                number, stored = found
                first = stored.first_failure if stored.first_failure is not None else settlement.failed_at
                count = stored.attempts + (settlement.failed_at is not None)
                again = msgspec.structs.replace(stored, attempts=count, redelivered=True, first_failure=first)
                self._put(number, again, time.time() + settlement.delay if settlement.delay > 0 else None)
        if failures:
            raise BatchSettleFailed(failures)

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Nothing to renew: nobody else can have them."""
        return [delivery for delivery in deliveries if delivery.receipt not in self._held]

    async def close(self) -> None:
        """End, and with it the group."""
        self._closed = True
        self._session.ignore(self._node, self._on_news)
        self._session.unwatch(self._on_lost)
        self._woken.set()

    def _put(self, number: int, stored: Stored, due: float | None) -> None:
        self._size += len(stored.envelope.body)
        if due is None:
            heapq.heappush(self._due, (number, stored))
        else:
            heapq.heappush(self._later, (due, number, stored))
        self._woken.set()

    def _on_news(self, identity: str, payload: Element | None) -> None:
        if len(self._due) + len(self._later) >= ROOM or self._size > BYTES:
            what = "this consumer fell behind the topic by more than can be kept for it"
            self._on_lost(ConnectionLost(what, queue=self._topic, url=self._session.url))
            return
        stored = codec.decode(payload, identity)
        self._put(next(self._numbers), stored, names.read_ready(identity, "").due)

    def _on_lost(self, error: ConnectionLost) -> None:
        self._lost = self._lost or error
        self._woken.set()

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("this subscription is closed", queue=self._topic)
        if self._lost is not None:
            raise self._lost
