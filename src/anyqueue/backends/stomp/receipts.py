"""What was asked of the broker and is not answered yet: receipts by their number, errors by theirs. No I/O.

A broker answers in any order, and may refuse one and confirm the next. RabbitMQ's errors do not say what they are
about: then all that is open is refused, and the connection is given up.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from anyqueue.backends.stomp import headers
from anyqueue.errors import ConnectionLost, Error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anyqueue.backends.stomp.refusals import Refusal


class Refused(Exception):
    """The broker refused something, and the connection with it. Never leaves this folder."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.said)
        self.refusal = refusal


class Pending:
    """Some frames that want receipts. `done`: what was refused, by position; or why there will be no answers."""

    __slots__ = ("_left", "done", "first", "refused")

    def __init__(self, first: int, count: int) -> None:
        self.first = first
        self.refused: dict[int, Refusal] = {}
        self._left = count
        self.done: asyncio.Future[dict[int, Refusal]] = asyncio.get_running_loop().create_future()

    def answer(self, number: int, refusal: Refusal | None = None) -> None:
        """Take the answer to one of them."""
        if refusal is not None:
            self.refused[number - self.first] = refusal
        self._left -= 1
        if not self._left and not self.done.done():
            self.done.set_result(self.refused)

    def fail(self, error: Exception) -> None:
        """Take it that no more answers come."""
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # seen, if nobody waits any more


class Receipts:
    """The numbers of one connection."""

    def __init__(self) -> None:
        self._next = 1
        self._open: dict[int, Pending] = {}

    def expect(self, count: int) -> Pending:
        """Give out so many numbers, from `first`."""
        pending = Pending(self._next, count)
        self._open.update(dict.fromkeys(range(self._next, self._next + count), pending))
        self._next += count
        return pending

    def confirm(self, number: int) -> None:
        """Take a receipt."""
        pending = self._open.pop(number, None)
        if pending is not None:
            pending.answer(number)

    def refuse(self, receipt: str | None, refusal: Refusal) -> bool:
        """Take an error; False where it is about nothing that is known."""
        number = headers.receipt(receipt or "")
        pending = self._open.pop(number, None)
        if pending is not None:
            pending.answer(number, refusal)
        return pending is not None

    def fail(self, error: Error | Refused) -> None:
        """Take it that nothing more is answered."""
        for pending in self._pendings():
            pending.fail(error)
        self._open.clear()

    def _pendings(self) -> Iterator[Pending]:
        return iter({id(pending): pending for pending in self._open.values()}.values())


def lost_of(error: Exception, url: object) -> ConnectionLost:
    """Return the error of a connection that ended so."""
    if isinstance(error, ConnectionLost):
        return error
    lost = ConnectionLost(f"the connection was lost: {error}", url=url)
    lost.__cause__ = error
    return lost
