"""What a tracker of progress does. Loaded by name by the core, when a report is made or asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from anyqueue.driver import Progress

KEEP: Final = 7 * 86400.0
"""Seconds for which the last report on a message is kept."""
SWEEP: Final = 60.0


class Tracker(ABC):
    """The last report on each message, by id. Calls block, and may come from several threads. Raises OSError."""

    def __init__(self) -> None:
        self._swept = 0.0

    @abstractmethod
    def report(self, identity: str, progress: Progress) -> None:
        """Keep a report; an earlier one is replaced."""

    @abstractmethod
    def read(self, identity: str) -> Progress | None:
        """Return the last report; None where there was none."""

    @abstractmethod
    def close(self) -> None:
        """Let the database go. Never raises."""

    def _overdue(self, now: float) -> float | None:
        """Return, once in a while, the time before which reports are to be forgotten."""
        if now - self._swept < SWEEP:
            return None
        self._swept = now
        return now - KEEP
