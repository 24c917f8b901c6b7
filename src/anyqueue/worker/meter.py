"""Count what the handlers of one process do, and say when it has done enough."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Ended(enum.Enum):
    """Why a worker has ended."""

    ASKED = "it was asked to"
    EMPTY = "its queues are empty"
    FULL = "it has handled as many messages as it was to"
    RELOAD = "it is to begin anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a worker ends by itself."""

    until_empty: bool = False
    """Once nothing is ready or held, by whomever, in its queues. What is delayed is left for the next one."""
    max_messages: int | None = None
    """Once so many messages (or more, in the last batch) have begun: no more begins, what has begun is finished."""


class Meter:
    """The counts of one process. `full` is called when as many messages have begun as may."""

    __slots__ = ("begun", "cancelled", "ended", "failed", "full", "limit")

    def __init__(self, limit: int | None, full: Callable[[], None]) -> None:
        self.begun = 0
        self.ended = 0
        self.failed = 0
        self.cancelled = 0
        """Messages that were given back unfinished."""
        self.limit = limit
        self.full = full

    @property
    def running(self) -> int:
        """How many are being handled."""
        return self.begun - self.ended
