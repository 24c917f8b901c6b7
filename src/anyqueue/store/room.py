"""A memory store that several event loops share: its lock, and who waits for its queues.

Waking is cheap where the waiter is on the caller's own loop, and thread-safe where it is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading

from anyqueue.store.memory import MemoryStore


class Waiter:
    """Someone who waits for a queue to change, on whichever loop."""

    def __init__(self, delay: float | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()
        self.timer = None if delay is None else self.loop.call_later(delay, self.fire)

    def fire(self) -> None:
        """Wake it; on its own loop."""
        if not self.future.done():
            self.future.set_result(None)


class Room:
    """A store, its lock (held for one batch), and who waits."""

    def __init__(self, *, expiry: bool) -> None:
        self.process = os.getpid()
        self.lock = threading.Lock()
        self.store = MemoryStore(expiry=expiry)
        self.consumers: dict[str, int] = {}
        """How many subscriptions a queue has."""
        self._waiters: dict[str, list[Waiter]] = {}
        self._owner = 0

    def new_owner(self) -> int:
        """Return a number that no other owner in this room has."""
        with self.lock:
            self._owner += 1
            return self._owner

    def wait(self, queue: str, now: float) -> Waiter:
        """Note, under the lock, who waits until the queue changes or something in it falls due."""
        due = self.store.next_due(queue, now)
        waiter = Waiter(None if due is None else max(due - now, 0.0))
        self._waiters.setdefault(queue, []).append(waiter)
        return waiter

    def forget(self, queue: str, waiter: Waiter) -> None:
        """Let one wait no more."""
        if waiter.timer is not None:
            waiter.timer.cancel()
        with self.lock:
            waiters = self._waiters.get(queue, [])
            if waiter in waiters:
                waiters.remove(waiter)
                if not waiters:
                    del self._waiters[queue]

    def woken(self, *also: str) -> list[Waiter]:
        """Return, under the lock, who waits for what changed, to be woken outside it."""
        stirred = self.store.take_stirred().union(also)
        return [waiter for queue in stirred for waiter in self._waiters.pop(queue, ())]


def wake(waiters: list[Waiter]) -> None:
    """Wake them, from whatever thread."""
    for waiter in waiters:
        _fire(waiter)


def _fire(waiter: Waiter) -> None:
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if here is waiter.loop:
        waiter.fire()
    elif not waiter.loop.is_closed():
        with contextlib.suppress(RuntimeError):  # closed in between
            waiter.loop.call_soon_threadsafe(waiter.fire)
