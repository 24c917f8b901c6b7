"""Let many in together, or one alone. For one event loop; nobody is overtaken by somebody who came later."""

from __future__ import annotations

import asyncio
from collections import deque


class Gate:
    """Count who is inside. `enter(alone=True)` waits until nobody else is, and keeps everybody out until leave()."""

    def __init__(self) -> None:
        self._inside = 0
        self._alone = False
        self._queue: deque[tuple[asyncio.Future[None], bool]] = deque()

    async def enter(self, *, alone: bool = False) -> None:
        """Wait for the turn. Cancelling gives the turn up."""
        if not self._queue and self._admits(alone=alone):
            self._admit(alone=alone)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((turn, alone))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            self._next()
            raise

    def leave(self) -> None:
        """Go out, and let the next in."""
        self._inside -= 1
        self._alone = False
        self._next()

    def _admits(self, *, alone: bool) -> bool:
        return not self._alone and not (alone and self._inside)

    def _admit(self, *, alone: bool) -> None:
        self._inside += 1
        self._alone = alone

    def _next(self) -> None:
        while self._queue:
            turn, alone = self._queue[0]
            if turn.done():
                self._queue.popleft()
            elif self._admits(alone=alone):
                self._queue.popleft()
                self._admit(alone=alone)
                turn.set_result(None)
            else:
                return
