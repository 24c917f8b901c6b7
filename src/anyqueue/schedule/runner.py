"""Run a schedule: wait to be the leader, send what is due, remember it.

A run is sent before it is remembered: a leader that is killed in between has its successor send it again, with the same
id. While the broker is away nothing is remembered, and what was due is sent by the rule of missed runs when it is back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final, TypeVar

from anyqueue import Error
from anyqueue.schedule.entry import due, identity, next_time, stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyqueue import Client
    from anyqueue.leader import Lock
    from anyqueue.schedule.entry import Entry

T = TypeVar("T")
_log = logging.getLogger(__name__)
LOOK: Final = 0.5
"""Seconds between two tries to become the leader."""
LONGEST: Final = 1.0
"""Seconds of sleep at most: a clock that is put forward is seen this late."""


class Scheduler:
    """Sends what is due, while it is the leader."""

    def __init__(self, entries: Sequence[Entry], client: Client, lock: Lock) -> None:
        self._entries = entries
        self._client = client
        self._lock = lock
        self._memory: dict[str, float] = {}
        self.leads = False

    async def run(self) -> None:
        """Run until cancelled. Raises OSError where the lock cannot be had at all, and ConfigError."""
        try:
            while True:
                await self._become_leader()
                await self._lead()
        finally:
            self.leads = False
            self._lock.release()

    async def _become_leader(self) -> None:
        while not await _in_thread(self._lock.acquire):  # noqa: ASYNC110 -- nobody tells that a lock is free
            await asyncio.sleep(LOOK)
        self._memory = await _in_thread(self._lock.read)
        self.leads = True
        now = time.time()
        for entry in self._entries:
            self._memory.setdefault(entry.name, now)
        await self._remember()
        _log.info("leading the schedule", extra={"entries": [entry.name for entry in self._entries]})

    async def _lead(self) -> None:
        while await _in_thread(self._lock.held):
            now = time.time()
            sent = [await self._send_due(entry, now) for entry in self._entries]
            if any(sent):
                await self._remember()
            await asyncio.sleep(self._until_next(time.time()))
        self.leads = False
        self._lock.release()
        _log.warning("the lock of the schedule is lost")

    async def _send_due(self, entry: Entry, now: float) -> bool:
        """Send what is due of one entry; say whether there is something to remember."""
        last = self._memory[entry.name]
        try:
            if next_time(entry, last) > now:
                return False
            for at in due(entry, last, now):
                await self._send(entry, at)
                self._memory[entry.name] = at
        except (Error, StopIteration) as error:
            _log.warning("a scheduled message was not sent: %s", error, extra={"schedule": entry.name})
            return self._memory[entry.name] != last
        self._memory[entry.name] = now
        return True

    async def _send(self, entry: Entry, at: float) -> None:
        await self._client.send(
            entry.address,
            entry.payload,
            id=identity(entry, at),
            headers={**entry.headers, "scheduled-at": stamp(at)},
            priority=entry.priority,
        )
        _log.info("sent", extra={"schedule": entry.name, "at": stamp(at), "queue": entry.address.name})

    async def _remember(self) -> None:
        try:
            await _in_thread(lambda: self._lock.write(self._memory))
        except OSError as error:  # a full disk: what was sent may be sent again after a restart, with the same id
            _log.error("the schedule's memory could not be written: %s", error)

    def _until_next(self, now: float) -> float:
        soonest = min(next_time(entry, self._memory[entry.name]) for entry in self._entries)
        return min(max(soonest - now, 0.001), LONGEST)


async def _in_thread(call: Callable[[], T]) -> T:
    """Call in a thread, and see it end also when cancelled: a lock is not to be taken behind our back."""
    task = asyncio.create_task(asyncio.to_thread(call))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
