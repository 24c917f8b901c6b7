"""What an inbox does, and what the two that there are agree on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

KEEP: Final = 7 * 86400.0
"""Seconds for which an id is remembered: longer than a message may lie in a queue or its dead letters."""
SWEEP: Final = 60.0
"""Seconds between two removals of what is older."""


class Inbox(ABC):
    """The ids of messages that were handled, by queue. Calls block, and may come from several threads.

    Raises OSError where the database cannot be reached or written: try again.
    """

    def __init__(self, keep: float) -> None:
        self._keep = keep
        self._swept = 0.0

    @abstractmethod
    def seen(self, queue: str, ids: Sequence[str]) -> set[str]:
        """Return those of the ids that were handled before."""

    @abstractmethod
    def done(self, queue: str, ids: Sequence[str]) -> None:
        """Remember that these were handled. On its return they survive a crash."""

    @abstractmethod
    def close(self) -> None:
        """Let the database go. Never raises."""

    def _overdue(self, now: float) -> float | None:
        """Return, once in a while, the time before which ids are to be forgotten."""
        if now - self._swept < SWEEP:
            return None
        self._swept = now
        return now - self._keep
