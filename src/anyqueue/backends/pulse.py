"""Whether a peer is alive. Not every byte says so: behind a wrong length, heartbeats vanish into a body without end.

So what counts is a whole frame, or a good piece of one that is long.
"""

from __future__ import annotations

from typing import Final

PIECE: Final = 4096
"""Bytes: no heartbeats add up to so many while one is waited for."""


class Pulse:
    """When a peer was last heard of, on the loop's clock."""

    __slots__ = ("_bytes", "at")

    def __init__(self, now: float) -> None:
        self.at = now
        self._bytes = 0

    def hear(self, now: float, size: int, *, whole: bool) -> None:
        """Take note of so many bytes, and of whether they ended a frame."""
        self._bytes += size
        if whole or self._bytes >= PIECE:
            self.at = now
            self._bytes = 0
