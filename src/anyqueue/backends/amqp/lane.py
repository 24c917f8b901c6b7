"""A channel that publishes with confirms: messages in batches out, a verdict for each back.

* Confirms come in any order, one by one or all up to one. A message without a way is returned first, and confirmed
  after; it is known by its id and its way, for the broker does not say which one it was.
* What is not confirmed is bounded: a batch waits while WINDOW bytes are under way. So a broker that takes nothing, or
  reads nothing, costs no more memory than that.
"""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import TYPE_CHECKING, Final

import msgspec

from anyqueue.backends.amqp import codec
from anyqueue.backends.amqp.channel import Channel, Refused
from anyqueue.backends.amqp.frames import returned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyqueue.backends.amqp.connection import Connection
    from anyqueue.backends.amqp.frames import Arrived, Confirmed
    from anyqueue.errors import ConnectionLost

WINDOW: Final = 16 * 1024 * 1024
"""Bytes under way."""
CHUNK: Final = 512 * 1024
"""Bytes written at once."""
MAX_STARTED: Final = 10_000
NACKED: Final = "nacked"
"""Why: the broker refused it."""


class Parcel(msgspec.Struct):
    """A message, ready to be written."""

    method: bytes
    """The frame of its basic.publish."""
    routing_key: str
    id: str
    content: bytes
    """The frames of its content."""


class Batch:
    """What was given to one call of publish(). `refused`: position -> why."""

    __slots__ = ("done", "left", "parcels", "refused")

    def __init__(self, parcels: Sequence[Parcel]) -> None:
        self.parcels = parcels
        self.left = len(parcels)
        self.refused: dict[int, str] = {}
        self.done: asyncio.Future[dict[int, str]] = asyncio.get_running_loop().create_future()


class Lane:
    """Publish over one channel. Used up once `broken` says why."""

    def __init__(self, connection: Connection) -> None:
        self.broken: Refused | ConnectionLost | None = None
        self.started: set[str] = set()
        """Queues that have taken a message from this channel."""
        self._channel = Channel(connection)
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()
        self._open: dict[int, tuple[Batch, int]] = {}
        """Tag -> its batch and its position there."""
        self._next = 1
        self._lowest = 1
        """No tag below is open."""
        self._returned = 0
        """The tag of the latest return: they come in the order of publishing."""
        self._bytes = 0

    @property
    def channel(self) -> Channel:
        """Return its channel."""
        return self._channel

    @property
    def busy(self) -> bool:
        """Say whether anything is under way."""
        return bool(self._open)

    async def open(self) -> Lane:
        """Open the channel, in confirm mode."""
        await self._channel.open(self)
        self._channel.on_closed = self._on_closed
        await self._channel.call("confirm_delivery", ack_nack_callback=_unused)
        return self

    def start(self, queue: str) -> None:
        """Note that a queue has taken a message from this channel."""
        if len(self.started) >= MAX_STARTED:
            self.started.clear()
        self.started.add(queue)

    async def publish(self, parcels: Sequence[Parcel]) -> dict[int, str]:
        """Publish in order, and return once all are confirmed: why those that were not taken were not, by position.

        Raises Refused or ConnectionLost, when the outcome of what is unconfirmed is unknown.
        """
        batch = Batch(parcels)
        async with self._turn:
            await self._write(batch)
        return await batch.done

    async def _write(self, batch: Batch) -> None:
        pieces: list[bytes] = []
        size = 0
        for position, parcel in enumerate(batch.parcels):
            if size >= CHUNK or self._bytes >= WINDOW:
                self._emit(pieces)
                pieces, size = [], 0
                while self._bytes >= WINDOW:
                    self._room.clear()
                    await self._room.wait()
            self._open[self._next] = (batch, position)
            self._next += 1
            self._bytes += len(parcel.content)
            size += len(parcel.content)
            pieces += (parcel.method, parcel.content)
        self._emit(pieces)

    def _emit(self, pieces: list[bytes]) -> None:
        if self.broken is not None:
            raise self.broken
        if pieces:
            self._channel.emit(b"".join(pieces))

    def confirmed(self, event: Confirmed) -> None:
        """Take a confirm."""
        if not event.multiple:
            self._settle(event.tag, taken=event.taken)
        else:
            for tag in range(self._lowest, min(event.tag + 1, self._next) if event.tag else self._next):
                self._settle(tag, taken=event.taken)
        while self._lowest < self._next and self._lowest not in self._open:
            self._lowest += 1
        if self._bytes < WINDOW:
            self._room.set()

    def _settle(self, tag: int, *, taken: bool) -> None:
        found = self._open.pop(tag, None)
        if found is None:
            return
        batch, position = found
        self._bytes -= len(batch.parcels[position].content)
        if not taken:
            batch.refused[position] = NACKED
        batch.left -= 1
        if not batch.left and not batch.done.done():
            batch.done.set_result(batch.refused)

    def arrived(self, event: Arrived) -> None:
        """Take a message that was returned: find out which one it is."""
        told = returned(event.method)
        identity = codec.decode(event.header, b"", "").envelope.id
        key = told.routing_key.decode(errors="replace")
        for tag in chain(range(self._returned + 1, self._next), range(self._lowest, self._returned + 1)):
            found = self._open.get(tag)
            if found is None:
                continue
            batch, position = found
            parcel = batch.parcels[position]
            if parcel.id == identity and parcel.routing_key == key and position not in batch.refused:
                batch.refused[position] = told.text or str(told.code)
                self._returned = tag
                return

    def _on_closed(self, reason: Refused | ConnectionLost) -> None:
        self.broken = reason
        batches = {batch for batch, _ in self._open.values()}
        self._open.clear()
        self._room.set()
        self._bytes = 0
        for batch in batches:
            if not batch.done.done():
                batch.done.set_exception(reason)
                batch.done.exception()  # seen, if nobody waits any more


def _unused(_frame: object) -> None:
    """Take pika's own confirms, of which there are none: they are read in bulk."""
