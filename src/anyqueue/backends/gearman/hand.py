"""A worker's connection for one function: it grabs jobs, holds them, and reports them done.

It belongs to one subscription, which is told of everything that arrives by `changed`. Grabbing is begun here and not
waited for: what a cancelled receive() had asked for is here for the next one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec

from anyqueue.backends.gearman import counting
from anyqueue.backends.gearman.connection import GRABBED, STATUS
from anyqueue.backends.gearman.counting import USUAL, Known, Looks
from anyqueue.backends.gearman.jobs import asks, is_strange
from anyqueue.backends.gearman.protocol import (
    CAN_DO,
    CANT_DO,
    GET_STATUS_UNIQUE,
    GRAB,
    JOB_ASSIGN_UNIQ,
    NOOP,
    SET_CLIENT_ID,
    SLEEP,
    Malformed,
    pack,
)
from anyqueue.errors import ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from anyqueue.backends.gearman.connection import Connection
    from anyqueue.backends.gearman.protocol import Packet

CLIENT: Final = b"anyqueue"
LEAST: Final = 2
MOST: Final = 500
"""Jobs asked for at once. Two are the fewest, so that one that is alone is known to be: the second is refused."""
SOON: Final = 0.01
"""Seconds: a wake-up that comes so soon after falling asleep and brings nothing was for nothing."""
FUTILE: Final = 3
"""So many of those in a row are chance: another worker was faster. More are a server that wakes in vain, again and
again: gearmand does for a job of low priority beside one that is not due yet (1.1.20)."""
FIRST_REST: Final = 0.05
LONGEST_REST: Final = 1.0


class Job(msgspec.Struct):
    """A job in hand. A Struct, as envelopes are: it takes a third of the time to make."""

    hand: Hand
    handle: bytes
    unique: bytes
    data: bytes
    known: Known | None
    """What the server says of its deliveries; None where it was not asked."""
    asks: bool = False
    """Somebody waits for the reply."""


class Hand:
    """One function's worker."""

    def __init__(self, connection: Connection, function: bytes, looks: Looks, changed: Callable[[], None]) -> None:
        self.arrived: list[Job] = []
        self.asked = 0
        """Jobs asked for, and neither here nor refused yet."""
        self.empty = False
        """The server had no more for the last question."""
        self.asleep = False
        self.appetite = LEAST
        """How many to ask for: more while the server has as many, fewer once it has not."""
        self._connection = connection
        self._function = function
        self._looks = looks
        self._changed = changed
        self._slept = 0.0
        self._futile = 0
        self._rest = 0.0
        connection.unasked = self._unasked
        connection.on_lost = changed

    async def begin(self) -> None:
        """Announce the function; return once the server knows."""
        await self._connection.barrier(pack(SET_CLIENT_ID, CLIENT) + pack(CAN_DO, self._function))

    @property
    def lost(self) -> bool:
        """Say whether the connection is lost."""
        return self._connection.lost is not None

    def check(self) -> None:
        """Raise ConnectionLost if the connection is lost."""
        if self._connection.lost is not None:
            raise self._connection.lost.with_traceback(None)

    def resting(self, now: float) -> float:
        """Return the seconds that the server is left alone for, after it woke this worker in vain."""
        return max(0.0, self._rest - now)

    def grab(self, count: int, *, look: bool) -> None:
        """Ask for so many jobs; `look`: and at once how often they were delivered. Raises ConnectionLost."""
        begun = time.monotonic()
        self.asked += count
        jobs: list[Packet] = []
        look = look and self._looks.wanted(begun)

        def grabbed(replies: list[Packet] | None) -> None:
            jobs.extend(reply for reply in replies or () if reply[0] == JOB_ASSIGN_UNIQ)
            self.empty = len(jobs) < count
            self.appetite = max(LEAST, len(jobs)) if self.empty else min(MOST, 2 * count)
            if look:
                return
            uniques = [unique for _, _, unique, _ in map(_parts, jobs) if is_strange(unique)]
            if not jobs or self._connection.lost is not None:
                self._arrive(count, jobs, None)
            elif self._looks.wanted(time.monotonic()):
                self._connection.ask_text(counting.QUESTION, looked)
            elif uniques:
                question = b"".join(pack(GET_STATUS_UNIQUE, unique) for unique in uniques)
                self._connection.ask(question, len(uniques), STATUS, told)
            else:
                self._arrive(count, jobs, None)

        def told(replies: list[Packet] | None) -> None:
            self._arrive(count, jobs, None, waited=counting.waited(body for _, body in replies or ()))

        def looked(replies: list[Packet] | None) -> None:
            reply = replies[0][1] if replies else b""
            now = time.monotonic()
            self._looks.took(reply, now - begun, now)
            self._arrive(count, jobs, reply)

        self._connection.ask(GRAB * count + (counting.QUESTION if look else b""), count, GRABBED, grabbed)
        if look:
            self._connection.ask_text(b"", looked)

    def sleep(self) -> None:
        """Have the server send word when there is a job. Raises ConnectionLost."""
        self.check()
        self.asleep, self._slept = True, time.monotonic()
        self._connection.write(SLEEP)

    async def tell(self, data: bytes) -> None:
        """Send what is not answered. Raises ConnectionLost."""
        self.check()
        self._connection.write(data)
        await self._connection.drain()

    async def done(self, reports: Iterable[bytes]) -> int:
        """Send reports on jobs; return how many the server did not know as this worker's, once it has them all."""
        return await self._connection.barrier(b"".join(reports))

    async def end(self) -> None:
        """Give everything back, and hang up. Never raises."""
        try:
            await self._connection.barrier(pack(CANT_DO, self._function))
        except ConnectionLost:  # the server gives back what it held
            return
        finally:
            self.hang_up()

    def hang_up(self) -> None:
        """Close the connection; the server gives back what it held."""
        self._connection.on_lost = lambda: None
        self._connection.close()

    def _arrive(
        self, count: int, jobs: list[Packet], reply: bytes | None, waited: Container[bytes] = frozenset()
    ) -> None:
        self.asked -= count
        if jobs:
            self._futile = 0
            unusual = counting.read(reply) if reply is not None else {}
            for packet in jobs:
                handle, _, unique, data = _parts(packet)
                known = None if reply is None else unusual.get(handle, USUAL)
                waits = unique in waited if known is None else not known.background
                self.arrived.append(Job(self, handle, unique, data, known, waits or asks(unique)))
        elif self._futile > FUTILE:
            rest = FIRST_REST * 2.0 ** (self._futile - FUTILE - 1)
            self._rest = time.monotonic() + min(rest, LONGEST_REST)
        self._changed()

    def _unasked(self, command: int, body: bytes) -> None:
        del body
        if command == NOOP and self.asleep:
            self.asleep = self.empty = False
            self._futile = self._futile + 1 if time.monotonic() - self._slept < SOON else 0
            self._changed()


def _parts(packet: Packet) -> tuple[bytes, bytes, bytes, bytes]:
    """Return handle, function, unique id and data of a job."""
    parts = packet[1].split(b"\0", 3)
    if len(parts) != len(("handle", "function", "unique", "data")):
        raise Malformed("a job came without all that belongs to it")
    handle, function, unique, data = parts
    return handle, function, unique, data
