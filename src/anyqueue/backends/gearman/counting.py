"""How often a job was handed over: the server says it of all its jobs at once, or not at all. Pure.

`show jobs` of the admin protocol lists a line for each job of the server: its handle, how many workers have lost it,
whether it was cancelled, and whether it is a background job. Nothing else says that a job was delivered before. It
costs about half a microsecond a job, so it is asked for with every batch while the server holds few, and for a tenth of
the time while it holds many; a job that was not looked up may have been delivered before, and is said to. Whether
somebody waits for the reply must be known of every job: of a stranger's that was not looked up, it is asked one by one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

QUESTION: Final = b"show jobs\n"
FEW: Final = 2000
"""Jobs on the server up to which every batch is looked up."""
SHARE: Final = 10
"""Above it, one part in so many of the time is spent on looking."""
_UNUSUAL: Final = re.compile(rb"^(\S+)\t(?!0\t[01]\t1$)(\d+)\t[01]\t([01])$", re.MULTILINE)
"""A job that a worker has lost, or a foreground job."""


class Known(NamedTuple):
    """What the server says of a job."""

    lost: int
    """How many workers had it and let it go."""
    background: bool


USUAL: Final = Known(lost=0, background=True)


def read(reply: bytes) -> Mapping[bytes, Known]:
    """Return what a reply says of the jobs that are not USUAL, by handle."""
    return {match[1]: Known(lost=int(match[2]), background=match[3] == b"1") for match in _UNUSUAL.finditer(reply)}


def waited(replies: Iterable[bytes]) -> set[bytes]:
    """Return the unique ids of those jobs, by their STATUS_RES_UNIQUE, for which somebody waits."""
    parts = [reply.split(b"\0") for reply in replies]
    return {each[0] for each in parts if each[-1].isdigit() and int(each[-1])}


class Looks:
    """When to ask. Times are of any one clock, seconds."""

    def __init__(self) -> None:
        self._jobs = 0
        self._next = 0.0

    def wanted(self, now: float) -> bool:
        """Say whether the next batch is looked up."""
        return self._jobs <= FEW or now >= self._next

    def took(self, reply: bytes, seconds: float, now: float) -> None:
        """Note how large a reply was and how long it took."""
        self._jobs = reply.count(b"\n")
        self._next = now + seconds * (SHARE - 1)
