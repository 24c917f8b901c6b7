"""Stopwatch: how long something took, and how much of that the machine had taken away.

A case bounds a time closely, and a machine that others use still passes it: what is added to a bound is only what the
kernel says that tasks waited meanwhile, for a processor, the disk or memory ("some" of
https://docs.kernel.org/accounting/psi.html), and what the hypervisor gave to other machines ("steal" of proc(5)).
Whoever waited for a processor is in that figure; whoever slept, hung or was not woken is not.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

LATE: Final = 6.0
"""Seconds that a machine may add to a bound at most, and does add where the kernel does not say what it took away."""
PRESSURE: Final = tuple(Path("/proc/pressure") / name for name in ("cpu", "io", "memory"))
STAT: Final = Path("/proc/stat")


def taken_away() -> float | None:
    """Return the seconds that the machine has kept tasks waiting since it began; None where the kernel does not say."""
    try:
        lines = [path.read_text(encoding="ascii").splitlines()[0] for path in PRESSURE]
        processors = STAT.read_text(encoding="ascii").splitlines()[0].split()
    except OSError:
        return None
    stalled = sum(int(line.rpartition("total=")[2]) for line in lines) / 1e6
    return stalled + int(processors[8]) / os.sysconf("SC_CLK_TCK")


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self._before = taken_away()

    @property
    def took(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self.begun

    @property
    def lost(self) -> float:
        """Seconds of those that the machine took away, at most LATE; LATE where the kernel does not say."""
        now = taken_away()
        return LATE if now is None or self._before is None else min(LATE, now - self._before)

    def within(self, seconds: float, what: str = "it") -> None:
        """Prove that no more than so many seconds have passed, but for those that were lost."""
        took, lost = self.took, self.lost
        assert took <= seconds + lost, f"{what} took {took:.2f} s, not {seconds:g} s and {lost:.2f} s that were lost"
