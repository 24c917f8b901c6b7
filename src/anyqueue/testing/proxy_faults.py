"""What is wrong with a network, and what that makes of the bytes that pass: the decisions of the proxy. No I/O."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Direction = Literal["up", "down"]
"""Up is towards the broker, down towards the client."""

SPACE: Final = 0.0001
"""Seconds between slices, so that the other side sees them one by one."""


class Faults:
    """The faults of the moment. For the proxy's own loop."""

    def __init__(self) -> None:
        self.held: set[Direction] = set()
        self.swallowed: set[Direction] = set()
        self.rate: float | None = None
        self.size: int | None = None
        self.cut_in: dict[Direction, int] = {}
        self.flip_in: dict[Direction, int] = {}
        self._changed = asyncio.Event()

    def change(self) -> None:
        """Let everybody who waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def let_pass(self, direction: Direction) -> None:
        """Wait for as long as the direction is held."""
        while direction in self.held:
            await self._changed.wait()

    def touch(self, direction: Direction, data: bytes) -> tuple[bytes, bool]:
        """Return what is left of the bytes, and whether the connections are cut behind them."""
        flip = self.flip_in.pop(direction, None)
        if flip is not None and flip < len(data):
            data = data[:flip] + bytes([data[flip] ^ 0xFF]) + data[flip + 1 :]
        elif flip is not None:
            self.flip_in[direction] = flip - len(data)
        left = self.cut_in.pop(direction, None)
        if left is None:
            return data, False
        if left <= len(data):
            return data[:left], True
        self.cut_in[direction] = left - len(data)
        return data, False

    def pieces(self, data: bytes) -> Iterator[tuple[bytes, float]]:
        """Yield what to write at once, and the seconds to wait after it; the faults may change meanwhile."""
        start = 0
        while start < len(data):
            rate = self.rate
            piece = data[start : start + (self.size or (len(data) if rate is None else max(1, int(rate / 20))))]
            start += len(piece)
            yield piece, (SPACE if self.size else 0.0) if rate is None else len(piece) / rate
