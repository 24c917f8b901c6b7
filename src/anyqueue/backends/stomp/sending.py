"""The messages of a batch on their way: written as the peer takes them, in a transaction where that is faster.

ActiveMQ syncs to the disk for each message by itself before it reads the connection's next, and its receipts cost more
than its messages. So several messages are sent in a transaction, and the receipt of its COMMIT confirms them all. Of a
transaction in which it refuses a message it commits nothing, and says so: then each is sent by itself, to be told which
it refuses. (That is so for messages without receipts of their own: with one, it reports an error and commits the rest.)
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from anyqueue.backends.stomp import frames
from anyqueue.backends.stomp.receipts import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from anyqueue.backends.stomp.connection import Connection
    from anyqueue.backends.stomp.dialect import Dialect, Place
    from anyqueue.backends.stomp.receipts import Pending
    from anyqueue.backends.stomp.refusals import Refusal
    from anyqueue.driver import Envelope

CHUNK: Final = 256 * 1024
"""Bytes written at once."""
MOST: Final = 4 * 1024 * 1024
"""Bytes of bodies in a transaction, which the broker holds in memory."""
_numbers: Final = itertools.count(1)

Parcel = tuple["Place", "Envelope"]


class Shipment:
    """A batch that is being sent."""

    def __init__(self, connection: Connection, dialect: Dialect, parcels: Sequence[Parcel], now: float) -> None:
        self._connection = connection
        self._dialect = dialect
        self._parcels = parcels
        self._now = now
        self._together = dialect.transacts and not any(envelope.not_before for _, envelope in parcels)
        self._written: list[tuple[range, Pending]] = []

    async def write(self) -> None:
        """Write all. Raises ConnectionLost."""
        everything = range(len(self._parcels))
        for part in _parts(self._parcels) if self._together else [everything]:
            write = self._write_together if self._together and len(part) > 1 else self._write_each
            self._written.append((part, await write(part)))

    async def outcome(self) -> dict[int, Refusal]:
        """Wait for the receipts; return what was refused, by position. Raises Refused and ConnectionLost."""
        refused: dict[int, Refusal] = {}
        for part, pending in self._written:
            found = await pending.done
            if found and self._together and len(part) > 1:
                if not found[0].is_undone:
                    raise Refused(found[0])
                found = await (await self._write_each(part)).done
            refused |= {part[index]: refusal for index, refusal in found.items()}
        return refused

    async def _write_each(self, part: range) -> Pending:
        """Write messages that have receipts of their own."""
        pending = self._connection.expect(len(part))
        numbers = itertools.count(pending.first)
        await self._write_all(self._frame(position, next(numbers), "") for position in part)
        return pending

    async def _write_together(self, part: range) -> Pending:
        """Write messages in a transaction."""
        told = {"transaction": f"send-{next(_numbers)}"}
        line = f"transaction:{told['transaction']}\n"
        pending = self._connection.expect(1)
        messages = (self._frame(position, None, line) for position in part)
        begin, end = frames.control("BEGIN", told), frames.control("COMMIT", {**told, "receipt": str(pending.first)})
        await self._write_all(itertools.chain([begin], messages, [end]))
        return pending

    def _frame(self, position: int, receipt: int | None, extra: str) -> bytes:
        place, envelope = self._parcels[position]
        return self._dialect.frame(place, envelope, receipt, self._now, extra)

    async def _write_all(self, pieces: Iterable[bytes]) -> None:
        written = bytearray()
        for piece in pieces:
            written += piece
            if len(written) >= CHUNK:
                await self._connection.room()
                self._connection.write(bytes(written))
                written.clear()
        await self._connection.room()
        self._connection.write(bytes(written))


def _parts(parcels: Sequence[Parcel]) -> Iterator[range]:
    """Cut a batch into parts of not too many bytes."""
    start = size = 0
    for position, (_, envelope) in enumerate(parcels, 1):
        size += len(envelope.body)
        if size >= MOST or position == len(parcels):
            yield range(start, position)
            start, size = position, 0
