"""Axes: values -> places on the page, and where its lines are. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Scale:
    """From `low` at `left` to `high` at `right`; by its logarithm, or evenly."""

    low: float
    high: float
    left: float
    right: float
    logarithmic: bool = True

    def at(self, value: float) -> float:
        """Return where a value is; one beyond the ends is at the end."""
        bounded = min(max(value, self.low), self.high)
        share = (self._turned(bounded) - self._turned(self.low)) / (self._turned(self.high) - self._turned(self.low))
        return self.left + share * (self.right - self.left)

    def ticks(self) -> list[float]:
        """Return where lines are drawn: at each power of ten, or at some four even steps."""
        if self.logarithmic:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            return [10.0**power for power in range(first, last + 1)]
        step = even_step(self.high / 4)
        return [step * number for number in range(int(self.high / step + 1e-9) + 1)]

    def _turned(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value


def around(values: Iterable[float], otherwise: tuple[float, float]) -> tuple[float, float]:
    """Return ends around positive values, each 1, 2 or 5 times a power of ten, and at least ten times apart."""
    found = [value for value in values if value > 0]
    if not found:
        return otherwise
    high = even_step(max(found))
    low = max(part * 10.0**power for part, power in _marks(min(found)) if part * 10.0**power <= min(found))
    return low, max(high, 10 * low)


def _marks(value: float) -> list[tuple[int, int]]:
    power = math.floor(math.log10(value))
    return [(part, each) for each in (power - 1, power) for part in (1, 2, 5)]


def even_step(about: float) -> float:
    """Return a step of 1, 2 or 5 times a power of ten, at least `about`."""
    unit = 10.0 ** math.floor(math.log10(about))
    return next(part * unit for part in (1, 2, 5, 10) if part * unit >= about * 0.999)


def smoothed(counts: Sequence[int]) -> list[float]:
    """Spread each count a little over its neighbours, so that few samples draw a hill and no comb."""
    kernel = (0.06, 0.24, 0.4, 0.24, 0.06)
    padded = [0, 0, *counts, 0, 0]
    return [sum(weight * padded[place + step] for step, weight in enumerate(kernel)) for place in range(len(counts))]
