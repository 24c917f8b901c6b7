"""Figures as people read them: two or three digits that count. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from anyqueue.compare.results import Recovery

_HUNDRED: Final = 100
_KIB: Final = 1024


def rate(value: float) -> str:
    """Write messages a second: `45,300`, `217`, `9.4`."""
    if value < 10:  # noqa: PLR2004 -- one digit before the point
        return f"{value:.1f}"
    if value < 1000:  # noqa: PLR2004 -- three digits
        return f"{value:.0f}"
    grain = 10 ** (len(str(int(value))) - 3)
    return f"{round(value / grain) * grain:,}"


def short(value: float) -> str:
    """Write a rate where there is little room: `45k`, `1.2k`, `217`."""
    if value < 1000:  # noqa: PLR2004 -- three digits
        return rate(value)
    thousands = value / 1000
    return f"{thousands:.1f}k" if thousands < 10 else f"{thousands:.0f}k"  # noqa: PLR2004 -- two digits


def duration(seconds: float) -> str:
    """Write a time: `84 µs`, `1.2 ms`, `3.1 s`."""
    for unit, scale in (("µs", 1e6), ("ms", 1e3)):
        value = seconds * scale
        if value < 999.5:  # noqa: PLR2004 -- it is not rounded up to the next unit
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"  # noqa: PLR2004 -- two digits
    return f"{seconds:.1f} s" if seconds < _HUNDRED else f"{seconds:.0f} s"


def size(value: int) -> str:
    """Write a size: `100 B`, `16 KiB`, `1.5 MiB`."""
    number, unit = float(value), "B"
    for larger in ("KiB", "MiB"):
        if number >= _KIB:
            number, unit = number / _KIB, larger
    return f"{number:g} {unit}" if number == round(number, 1) else f"{number:.1f} {unit}"


def count(value: int) -> str:
    """Write a number of messages."""
    return f"{value:,}"


def verdict(recovery: Recovery) -> str:
    """Write how a recovery went, in the table's room."""
    if recovery.note:
        return "-"
    return f"{recovery.lost} lost" if recovery.last is None else duration(recovery.last)
