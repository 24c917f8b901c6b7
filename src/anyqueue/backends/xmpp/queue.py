"""A subscription to a queue or to a named group.

Notifications say that there is something and wake whoever waits; what there is, is asked for. At least every POLL
(or QUIET) seconds a waiting consumer looks at both nodes, whatever it was told: notifications may be lost, and the dead
say nothing. A look costs the server much on a long queue, and on a busy server it takes long: then there are fewer.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from anyqueue.backends.xmpp import names, plan
from anyqueue.backends.xmpp.claims import Desk
from anyqueue.driver import BatchSettleFailed, Delivery, Queue, Subscription
from anyqueue.errors import Closed, ConnectionLost, Error

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

    from anyqueue.backends.xmpp.claims import Claim
    from anyqueue.backends.xmpp.nodes import Nodes
    from anyqueue.backends.xmpp.proof import Proof
    from anyqueue.backends.xmpp.replies import Tenure
    from anyqueue.backends.xmpp.session import Session
    from anyqueue.driver import Settlement

POLL: Final = 1.0
QUIET: Final = 2.0
"""Seconds between looks while nothing is there and nobody else holds anything: who dies then was not there yet."""
EACH: Final = 0.01
"""Seconds until the next look for each item that the last one listed: a server takes about a fiftieth of that."""
REST: Final = 5
"""How many times as long as a look took there is none: whom it takes long has others to serve."""


class QueueSubscription(Subscription):
    """A consumer."""

    def __init__(self, session: Session, nodes: Nodes, queue: str, proof: Proof, tenure: Tenure | None = None) -> None:
        self.home = Queue(queue)
        self._tenure = tenure
        self._session = session
        self._node = names.ready_node(queue)
        self._desk = Desk(session, nodes, queue, secrets.token_hex(8), proof)
        self._proof = proof
        self._view = plan.View()
        self._fresh: list[plan.Entry] = []
        self._mine: dict[str, Claim] = {}
        self._taken: deque[Delivery] = deque()
        self._work: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._look_at = 0.0
        self._lost: Exception | None = None
        self._closed = False

    async def begin(self) -> bool:
        """Listen. False where the queue cannot be shared, and another consumer has it."""
        self._session.watch(self._on_lost)
        self._session.listen(self._node, self._on_news)
        return self._proof.atomic or await self._desk.is_alone()

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """Claim what is due, or wait for it. A claim goes on if this is cancelled, for the next call."""
        while True:
            self._check_open()
            if self._taken:
                return [self._taken.popleft() for _ in range(min(limit, len(self._taken)))]
            if self._work is None:
                self._woken.clear()
                if time.monotonic() >= self._look_at:
                    self._work = asyncio.create_task(self._look())
                elif self._view.wait(time.time()) == 0.0:
                    self._work = asyncio.create_task(self._claim(limit))
            if self._work is None:
                await self._wait()
                continue
            await asyncio.wait([self._work])
            work, self._work = self._work, None
            work.result()

    async def _wait(self) -> None:
        """Wait until something is due, or it is time to look."""
        soon = self._view.wait(time.time())
        pause = self._look_at - time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, pause if soon is None else min(pause, soon))):
                await self._woken.wait()

    async def _look(self) -> None:
        begun = time.monotonic()
        if self._tenure is not None:
            await self._tenure.renew()
        self._fresh = []
        found = await self._desk.look()
        self._view.replace(found)
        for entry in self._fresh:
            self._view.add(entry)
        ended = time.monotonic()
        pause = max(POLL if found or self._desk.others else QUIET, EACH * self._desk.listed, REST * (ended - begun))
        self._look_at = ended + (pause if self._tenure is None else min(pause, self._tenure.pause))

    async def _claim(self, limit: int) -> None:
        part = plan.part_of(self._desk.owner, self._desk.others)
        entries = self._view.take(self._desk.most_at_once(limit, part[1]), time.time(), part)
        try:
            claims = await self._desk.claim(entries)
        except BaseException:
            self._look_at = 0.0
            raise
        if len(claims) * 2 < len(entries):
            self._look_at = 0.0
        for claim in claims:
            receipt = names.held_id(claim.ticket)
            self._mine[receipt] = claim
            self._taken.append(
                Delivery(
                    envelope=claim.stored.envelope,
                    receipt=receipt,
                    attempt=claim.stored.attempts,
                    redelivered=claim.stored.redelivered,
                    first_failure=claim.stored.first_failure,
                )
            )

    async def settle(self, batch: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Settle by receipt."""
        self._check_open()
        claims = [self._mine.pop(str(delivery.receipt), None) for delivery, _ in batch]
        failures = {index: "this subscription does not hold it" for index, claim in enumerate(claims) if claim is None}
        known = [(index, claim) for index, claim in enumerate(claims) if claim is not None]
        late = await self._desk.settle([(claim, batch[index][1]) for index, claim in known])
        failures |= {known[position][0]: why for position, why in late.items()}
        if failures:
            raise BatchSettleFailed(failures)

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Renew the lease of all that is held; what the held node no longer has was taken from us."""
        self._check_open()
        there = await self._desk.extend()
        lost = [each for each in deliveries if each.receipt in self._mine and each.receipt not in there]
        for delivery in lost:
            self._mine.pop(str(delivery.receipt), None)
        return lost

    async def close(self) -> None:
        """Give back what is unsettled."""
        if self._closed:
            return
        self._closed = True
        self._session.ignore(self._node, self._on_news)
        self._session.unwatch(self._on_lost)
        self._woken.set()
        if self._work is not None:
            await asyncio.wait([self._work])
            self._work.exception()
        claims, self._mine = list(self._mine.values()), {}
        with contextlib.suppress(Error):
            if self._lost is None:
                await self._desk.give_back(claims)
                await self._desk.leave()

    def _on_news(self, identity: str, _: Element | None) -> None:
        ticket = names.read_ready(identity, names.order_of(time.time_ns() // 1000))
        entry = plan.Entry(identity, ticket)
        self._view.add(entry)
        self._fresh.append(entry)
        self._woken.set()

    def _on_lost(self, error: ConnectionLost) -> None:
        self._lost = error
        self._woken.set()

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("this subscription is closed", queue=self.home.name if self.home else None)
        if self._lost is not None:
            raise self._lost
