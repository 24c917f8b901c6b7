"""Move deliveries of ActiveMQ in one transaction: what is sent elsewhere is gone from here, or nothing happened.

* COMMIT is sent when all that is in the transaction has its receipt: the broker commits the rest of a transaction of
  which it refused a part. One transaction at a time on a connection.
* The deliveries are acknowledged in the order in which they came. At a commit the broker's adapter acknowledges once
  more, up to the last; in another order that would reach messages that are still held.
* Nothing is delayed in it: the broker hands delayed messages to its scheduler only after the commit, so a crash between
  the two would lose them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyqueue.backends.stomp import frames
from anyqueue.backends.stomp.dialect import accept
from anyqueue.backends.stomp.receipts import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyqueue.backends.stomp.connection import Connection
    from anyqueue.backends.stomp.dialect import Dialect, Place
    from anyqueue.driver import Envelope

TRANSACTION: str = "move"
_LINE = f"transaction:{TRANSACTION}\n"

Move = tuple[str, "Place", "Envelope"]
"""What settles the delivery, where its message goes, and as what."""


async def move(connection: Connection, dialect: Dialect, moves: Sequence[Move], now: float) -> None:
    """Send all, accept all, commit. Raises Refused, where nothing happened, and ConnectionLost, where nobody knows."""
    told = {"transaction": TRANSACTION}
    pending = connection.expect(2 * len(moves))
    number = pending.first
    pieces = [frames.control("BEGIN", told)]
    for ack, place, envelope in moves:
        pieces.append(dialect.frame(place, envelope, number, now, _LINE))
        pieces.append(b"%b%breceipt:%d\n\n\0" % (accept(ack), _LINE.encode(), number + 1))
        number += 2
    for piece in pieces:
        await connection.room()
        connection.write(piece)
    refused = await pending.done
    if refused:
        await connection.ask("ABORT", told)
        raise Refused(next(iter(refused.values())))
    await connection.ask("COMMIT", told)
