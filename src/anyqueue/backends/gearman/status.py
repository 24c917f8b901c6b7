"""How many jobs and workers each function has, as `status` of the admin protocol says. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from anyqueue.backends.gearman.names import DELAYED
from anyqueue.driver import Depth

if TYPE_CHECKING:
    from collections.abc import Mapping

QUESTION: Final = b"status\n"
NOTHING: Final = Depth(ready=0, delayed=0, held=0, consumers=0)
_FIELDS: Final = 4
Counts = tuple[int, int, int]
"""Jobs, those of them in workers' hands, and workers."""
_NONE: Final[Counts] = (0, 0, 0)


def read(reply: bytes) -> list[tuple[str, Depth]]:
    """Return the queues with their depths, by name; a queue and the function of its delayed messages are one."""
    counts = _counts(reply)
    names = {name.removeprefix(DELAYED) for name, found in counts.items() if any(found)}
    return [(name, _depth(name, counts)) for name in sorted(names)]


def _depth(name: str, counts: Mapping[str, Counts]) -> Depth:
    jobs, running, workers = counts.get(name, _NONE)
    late, handled, _ = counts.get(f"{DELAYED}{name}", _NONE)
    return Depth(ready=jobs - running, delayed=late - handled, held=running + handled, consumers=workers)


def _counts(reply: bytes) -> dict[str, Counts]:
    """Read the lines: a function, its jobs, those in workers' hands, its workers. A name may hold a tab."""
    counts: dict[str, Counts] = {}
    for line in reply.split(b"\n"):
        name, *numbers = line.rsplit(b"\t", _FIELDS - 1)
        if len(numbers) == _FIELDS - 1 and all(number.isdigit() for number in numbers):
            jobs, running, workers = map(int, numbers)
            counts[name.decode(errors="replace")] = jobs, running, workers
    return counts
