"""How messages are told apart and counted, and how times become figures. Pure."""

from __future__ import annotations

import math
import secrets
import struct
from typing import TYPE_CHECKING, Final

from anyqueue.compare.plan import LEAST_SIZE
from anyqueue.compare.results import Latency

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEAD: Final = struct.Struct(">16sQ")
_TAG: Final = 16
DECADES: Final = (-5, 2)
"""Ten to the power of: from 10 microseconds to 100 seconds."""
PARTS: Final = 10
"""Bins in a decade."""
EDGES: Final = [10 ** (DECADES[0] + step / PARTS) for step in range((DECADES[1] - DECADES[0]) * PARTS + 1)]
"""Of the bins of a latency, in seconds."""


class Tally:
    """The messages of one cell: made here, and counted when they come."""

    def __init__(self, size: int) -> None:
        self.sent = 0
        self.duplicated = 0
        self._tag = secrets.token_bytes(_TAG)
        self._rest = bytes(size - LEAST_SIZE)
        self._seen: set[int] = set()

    def bodies(self, count: int) -> list[bytes]:
        """Make so many messages."""
        first, self.sent = self.sent, self.sent + count
        return [_HEAD.pack(self._tag, number) + self._rest for number in range(first, self.sent)]

    def took(self, body: bytes) -> bool:
        """Count one; False for what is no message of this cell, or came before."""
        if len(body) < _HEAD.size or body[:_TAG] != self._tag:
            return False
        number = _HEAD.unpack_from(body)[1]
        if number in self._seen:
            self.duplicated += 1
            return False
        self._seen.add(number)
        return True

    @property
    def handled(self) -> int:
        """Different ones that came."""
        return len(self._seen)

    @property
    def waiting(self) -> int:
        """Sent, and not come yet."""
        return self.sent - len(self._seen)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value under which `share` (0 to 1) of the sorted values are, the nearest there is."""
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


def latency_of(times: Sequence[float], size: int) -> Latency | None:
    """Return the figures of some latencies; None of none."""
    if not times:
        return None
    ordered = sorted(times)
    return Latency(
        size=size,
        samples=len(ordered),
        median=quantile(ordered, 0.5),
        p90=quantile(ordered, 0.9),
        p99=quantile(ordered, 0.99),
        most=ordered[-1],
        counts=histogram(ordered),
    )


def histogram(times: Sequence[float]) -> list[int]:
    """Count times by the bins of EDGES; what is beyond them is in the first or last bin."""
    counts = [0] * (len(EDGES) - 1)
    for time in times:
        place = math.floor((math.log10(time) - DECADES[0]) * PARTS) if time > 0 else 0
        counts[min(max(place, 0), len(counts) - 1)] += 1
    return counts
