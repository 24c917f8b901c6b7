"""A consumer: a connection of its own, whose end brings back what is unsettled.

Settlements of one call are written together. The last asks for a receipt: the broker takes frames in order, so by then
it has taken all. What a connection brought is settled on it or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import msgspec

from anyqueue.backends.stomp import headers
from anyqueue.backends.stomp.connection import CLOSE_TIMEOUT
from anyqueue.backends.stomp.dialect import accept
from anyqueue.backends.stomp.library import Frame
from anyqueue.backends.stomp.moves import move
from anyqueue.backends.stomp.receipts import Refused
from anyqueue.driver import (
    HEADER_RESERVED,
    BatchSettleFailed,
    Delivery,
    Envelope,
    Feature,
    Inbox,
    Reject,
    Subscription,
)
from anyqueue.errors import Closed, ConnectionLost, Error, QueueNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyqueue.backends.stomp.connection import Connection
    from anyqueue.backends.stomp.dialect import Dialect, Source
    from anyqueue.backends.stomp.frames import Raw
    from anyqueue.backends.stomp.refusals import Refusal
    from anyqueue.driver import Settlement, Spec


class Receipt(msgspec.Struct, frozen=True):
    """What settles a delivery, and its place in the order of arrival."""

    ack: str
    number: int


class Native:
    """A MESSAGE as it came: `Message.native`."""

    __slots__ = ("_raw",)

    def __init__(self, raw: Raw) -> None:
        self._raw = raw

    @property
    def frame(self) -> Frame:
        """The frame as one of stomp.py's, its body in bytes."""
        return Frame("MESSAGE", dict(reversed(headers.pairs(self._raw[0]))), self._raw[1])


class StompSubscription(Subscription):
    """A hold on one queue, or on one group of a topic."""

    def __init__(self, connection: Connection, dialect: Dialect, spec: Spec, source: Source, url: object) -> None:
        self.home = source.home
        self.dead_letters = spec.dead_letter is not None and Feature.DEAD_LETTER in dialect.features
        self.connection = connection
        self._dialect = dialect
        self._spec = spec
        self._source = source
        self._url = url
        self._inbox: Inbox[Raw] = Inbox()
        self._failure: Error | None = None
        self._closed = False
        self._identity = ""
        self._count = 0
        self._unsettled: dict[int, None] = {}
        """The numbers of all that was handed over on this connection."""
        self.on_gone: Callable[[], None] = _nothing
        """Called when the broker ends the subscription because there is no such queue."""

    async def begin(self, identity: str) -> None:
        """Subscribe. Raises QueueNotFound, QueueMismatch, QueueError and ConnectionLost."""
        self.connection.consumer = self
        self._identity = identity
        try:
            await self.connection.ask("SUBSCRIBE", {**self._source.headers, "id": identity})
        except Refused as refused:
            raise self._explain(refused.refusal) from refused

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """Take what has come, or wait for it."""
        self._check()
        arrived = await self._inbox.get(limit)
        self._check()
        return [self._delivery(raw) for raw in arrived]

    async def settle(self, batch: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Write the settlements, and wait until the broker has taken them."""
        self._check()
        acks: list[bytes] = []
        moved: list[tuple[int, Delivery, Reject]] = []
        late: dict[int, str] = {}
        for index, (delivery, settlement) in enumerate(batch):
            receipt: Receipt = delivery.receipt  # type: ignore[assignment]  # ours
            if receipt.number not in self._unsettled:
                late[index] = "it was settled before"
            elif isinstance(settlement, Reject) and self.dead_letters:
                moved.append((index, delivery, settlement))
            else:
                del self._unsettled[receipt.number]
                acks.append(self._dialect.drop(receipt.ack) if isinstance(settlement, Reject) else accept(receipt.ack))
        try:
            await self._write(acks)
            late |= await self._move(moved)
        except Refused as refused:
            raise refused.refusal.of_connection(self._url) from refused
        self._check()
        if late:
            raise BatchSettleFailed(late)

    async def close(self) -> None:
        """End the consumer's connection: what is unsettled goes back."""
        if self._closed:
            await self.connection.ended()
            return
        self._closed = True
        self._failure = self._failure or Closed("this subscription is closed", queue=self._spec.address.name)
        what = "the subscription was closed while it waited"
        self._inbox.fail(ConnectionLost(what, queue=self._spec.address.name))
        try:
            await self._unsubscribe()
        finally:
            await self.connection.close()

    def arrived(self, raw: Raw) -> None:
        """Take a message."""
        self._inbox.put(raw)

    def refused(self, refusal: Refusal) -> None:
        """Take the broker's word that the subscription is over."""
        self.failed(self._explain(refusal))

    def failed(self, error: Error) -> None:
        """Take it that no more come. What has come is on a connection that is gone."""
        if self._failure is None:
            self._failure = error
            self._inbox.fail(error)

    async def _unsubscribe(self) -> None:
        """Have the broker's answer to something that comes after all settlements.

        A channel of RabbitMQ sends a quorum queue some 32 acknowledgements at once and keeps the others back until it
        has heard of these. Ended before, it drops them, and what was acknowledged comes again. Its answer to this waits
        for the queue's.
        """
        with contextlib.suppress(Refused, ConnectionLost, TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self.connection.ask("UNSUBSCRIBE", {"id": self._identity})

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure.with_traceback(None)

    def _explain(self, refusal: Refusal) -> Error:
        error = refusal.of_queue("the broker does not let us consume", self._spec.address.name, self._url)
        if isinstance(error, QueueNotFound):
            self.on_gone()
        return error

    def _delivery(self, raw: Raw) -> Delivery:
        read = self._dialect.read(raw, self._spec.address.name)
        self._count += 1
        self._unsettled[self._count] = None
        return Delivery(
            envelope=read.envelope,
            receipt=Receipt(read.ack, self._count),
            attempt=read.attempt,
            redelivered=read.redelivered,
            native=Native(raw),
        )

    async def _write(self, acks: Sequence[bytes]) -> None:
        if not acks:
            return
        pending = self.connection.expect(1)
        *others, last = acks
        pieces = [b"%b\n\0" % ack for ack in others]
        pieces.append(b"%breceipt:%d\n\n\0" % (last, pending.first))
        self.connection.write(b"".join(pieces))
        refused = await pending.done
        if refused:
            raise Refused(refused[0])

    async def _move(self, moved: list[tuple[int, Delivery, Reject]]) -> dict[int, str]:
        """Move deliveries to the dead letters, oldest first; return why not, by position."""
        to, now = self._spec.dead_letter, time.time()
        if not moved or to is None:
            return {}
        place = self._dialect.place(to, None, now)
        moved.sort(key=lambda one: one[1].receipt.number)  # type: ignore[attr-defined]  # ours
        try:
            plans = [(_ack(delivery), place, _dead(delivery.envelope, reject)) for _, delivery, reject in moved]
            await move(self.connection, self._dialect, plans, now)
        except Refused as refused:
            if self.connection.lost is not None:
                raise
            return dict.fromkeys((index for index, _, _ in moved), refused.refusal.said)
        for _, delivery, _ in moved:
            del self._unsettled[delivery.receipt.number]  # type: ignore[attr-defined]  # ours
        return {}


def _ack(delivery: Delivery) -> str:
    receipt: Receipt = delivery.receipt  # type: ignore[assignment]  # ours
    return receipt.ack


def _dead(envelope: Envelope, reject: Reject) -> Envelope:
    """Return what becomes of an envelope that is given up."""
    kept = {name: text for name, text in envelope.headers.items() if not name.startswith(HEADER_RESERVED)}
    return msgspec.structs.replace(envelope, headers={**kept, **reject.headers}, not_before=None, expires_at=None)


def _nothing() -> None:
    """Do nothing."""
