"""How a comparison is made: two sides in turns, a ratio a pair, the median of the ratios with their spread.

A machine that is busy for a while is busy for both sides of a pair, so ratios hold where absolute figures do not.
The order inside a pair changes every round.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

BODY: bytes = bytes(range(256)) * 4
"""1 KiB."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What one side of one pair gets: a folder of its own, one that the whole run shares, and how many messages."""

    folder: Path
    shared: Path
    size: int


Side = Callable[[Stage], float]
"""Do the work once and return the figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What is wanted of the median ratio, or of the median of our own figure."""

    bound: Literal["at least", "at most"]
    value: float
    of: Literal["ratio", "figure"] = "ratio"

    def met(self, value: float) -> bool:
        """Say whether a median meets it."""
        return value >= self.value if self.bound == "at least" else value <= self.value

    def __str__(self) -> str:
        return f"{'≥' if self.bound == 'at least' else '≤'} {number(self.value)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One comparison. Without `theirs` only our own figure counts."""

    name: str
    what: str
    against: str
    ours: Side
    theirs: Side | None
    size: int
    quick: int
    """`size` for a run that only proves that it works."""
    aim: Aim | None = None
    unit: str = "messages/s"
    group: str = "memory and SQLite"
    """The table that it stands in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The figures of every round."""

    benchmark: Benchmark
    ours: list[float]
    theirs: list[float]

    @property
    def ratios(self) -> list[float]:
        """Ours by theirs, pair by pair; none without a second side."""
        return [mine / other for mine, other in zip(self.ours, self.theirs, strict=False)]

    @property
    def met(self) -> bool | None:
        """Say whether the aim was met; None where there is none."""
        aim = self.benchmark.aim
        if aim is None:
            return None
        return aim.met(statistics.median(self.ratios if aim.of == "ratio" else self.ours))


def compare(benchmark: Benchmark, rounds: int, size: int, shared: Path) -> Result:
    """Run the sides in turns."""
    result = Result(benchmark=benchmark, ours=[], theirs=[])
    sides = [(benchmark.ours, result.ours)]
    if benchmark.theirs is not None:
        sides.append((benchmark.theirs, result.theirs))
    for _ in range(rounds):
        for side, figures in sides:
            with tempfile.TemporaryDirectory(dir=shared) as folder:
                gc.collect()
                figures.append(side(Stage(Path(folder), shared, size)))
        sides.reverse()
    return result


def number(value: float) -> str:
    """Write a figure with three digits that count, and thousands apart."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 -- three digits


def spread(values: list[float]) -> str:
    """Write the median, and the least and the greatest."""
    return f"{number(statistics.median(values))} ({number(min(values))} to {number(max(values))})"
