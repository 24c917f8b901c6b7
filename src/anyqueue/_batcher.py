"""Accumulate while a call is in flight: what arrives meanwhile goes out together in the next one.

No timers and no waiting for company: an item alone goes out at once, under load batches grow by themselves. Used by
the producer for sends and by the consumer for settlements.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

ItemT = TypeVar("ItemT")


class Batcher(Generic[ItemT]):
    """Call `carry` with lists of 1 to `max_batch` items, in order, at most `max_calls` calls at once.

    `carry` tells each item's own waiter how it went and never raises. For one event loop.
    """

    def __init__(self, carry: Callable[[list[ItemT]], Awaitable[None]], *, max_batch: int, max_calls: int = 1) -> None:
        self._carry = carry
        self._max_batch = max_batch
        self._max_calls = max_calls
        self._items: deque[ItemT] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._running = 0

    def __len__(self) -> int:
        """Count the items that wait, without those in flight."""
        return len(self._items)

    @property
    def busy(self) -> bool:
        """Say whether anything waits or is in flight."""
        return bool(self._items or self._running)

    def add(self, item: ItemT) -> None:
        """Add one item; it goes out in the loop's next turn, or when a call in flight ends."""
        self._items.append(item)
        if self._running < self._max_calls and (not self._running or len(self._items) >= self._max_batch):
            self._start()

    def add_all(self, items: Sequence[ItemT]) -> None:
        """Add several at once."""
        self._items.extend(items)
        full = len(self._items) // self._max_batch
        for _ in range(min(self._max_calls - self._running, full or int(not self._running))):
            self._start()

    async def flush(self) -> None:
        """Wait until nothing waits and nothing is in flight. Cancelling stops only the waiting."""
        while self._calls:
            await asyncio.wait(self._calls)

    def abandon(self) -> list[ItemT]:
        """Cancel the calls in flight and return the items that were still waiting."""
        for call in self._calls:
            call.cancel()
        items = list(self._items)
        self._items.clear()
        return items

    def _start(self) -> None:
        self._running += 1
        task = asyncio.get_running_loop().create_task(self._run())
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _run(self) -> None:
        items = self._items
        try:
            while items:
                await self._carry([items.popleft() for _ in range(min(self._max_batch, len(items)))])
        finally:
            self._running -= 1  # here, not when the task is done: what is added in between must start another
