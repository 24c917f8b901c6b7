"""One queue in memory: its messages in order, and what becomes ready when.

Removing from the middle is lazy: a message that is gone stays where it lies, marked GONE, until it comes up or
until the structure is rebuilt, which it is before more than about half of it is waste.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush, nsmallest
from itertools import chain
from typing import TYPE_CHECKING, Final

import msgspec

from anyqueue.driver import Depth, Envelope
from anyqueue.store.contract import FOREVER, LEVELS, MIDDLE, level_of

if TYPE_CHECKING:
    from collections.abc import Iterator

READY: Final = 0
DELAYED: Final = 1
HELD: Final = 2
GONE: Final = 3
_SLACK: Final = 64
"""Waste below this is not worth a rebuild."""


class Entry(msgspec.Struct, eq=False, gc=False):
    """A message in a queue. It refers to nothing that refers back, so the garbage collector need not look."""

    envelope: Envelope
    sequence: int
    level: int = MIDDLE
    state: int = READY
    attempts: int = 0
    claims: int = 0
    owner: int = 0
    due: float = FOREVER
    """DELAYED: when it becomes ready; HELD: when its lease ends."""
    first_failure: float | None = None
    watched: bool = False
    """It is in the heap of what expires."""


class Ready:
    """What is ready: FIFO inside a level. What comes back is merged in by its sequence number."""

    def __init__(self) -> None:
        self._fresh: list[deque[Entry]] = [deque() for _ in range(LEVELS)]
        self._back: list[list[tuple[int, Entry]]] = [[] for _ in range(LEVELS)]
        self.count = 0
        self._gone = 0

    def add(self, entry: Entry) -> None:
        """Add a message whose sequence number is the highest so far."""
        self._fresh[entry.level].append(entry)
        self.count += 1

    def put_back(self, entry: Entry) -> None:
        """Put a message into its place."""
        heappush(self._back[entry.level], (entry.sequence, entry))
        self.count += 1

    def forget(self, entry: Entry) -> None:
        """Take this one out of the middle."""
        entry.state = GONE
        self.count -= 1
        self._gone += 1
        if self._gone > _SLACK + self.count:
            self._rebuild()

    def take(self, limit: int) -> list[Entry]:
        """Take the first ones out."""
        taken: list[Entry] = []
        for level in range(LEVELS - 1, -1, -1):
            if len(taken) == limit or not self.count:
                break
            self._take_from(level, limit, taken)
        return taken

    def _take_from(self, level: int, limit: int, taken: list[Entry]) -> None:
        fresh, back = self._fresh[level], self._back[level]
        if not back and not self._gone:
            number = min(limit - len(taken), len(fresh))
            taken += [fresh.popleft() for _ in range(number)]
            self.count -= number
            return
        while len(taken) < limit and (fresh or back):
            first = not fresh or (bool(back) and back[0][0] < fresh[0].sequence)
            entry = heappop(back)[1] if first else fresh.popleft()
            if entry.state == GONE:
                self._gone -= 1
            else:
                self.count -= 1
                taken.append(entry)

    def _rebuild(self) -> None:
        self._fresh = [deque(entry for entry in level if entry.state != GONE) for level in self._fresh]
        self._back = [[pair for pair in level if pair[1].state != GONE] for level in self._back]
        for level in self._back:
            heapify(level)
        self._gone = 0

    def __iter__(self) -> Iterator[Entry]:
        for fresh, back in zip(reversed(self._fresh), reversed(self._back), strict=True):
            level = sorted(chain(fresh, (entry for _, entry in back)), key=lambda entry: entry.sequence)
            yield from (entry for entry in level if entry.state != GONE)


class Lane:
    """One queue: what is ready, delayed, held, and when each of them changes."""

    def __init__(self, name: str, topic: str | None = None, until: float = FOREVER) -> None:
        self.name = name
        self.topic = topic
        """The topic it is a group of."""
        self.until = until
        """When it ends unless renewed."""
        self.ready = Ready()
        self.held: dict[int, Entry] = {}
        """By receipt: a number that no other claim has."""
        self._delayed: list[tuple[float, int, Entry]] = []
        self._delayed_count = 0
        self._leases: list[tuple[float, int]] = []
        self._expiring: list[tuple[float, int, Entry]] = []

    def put(self, entry: Entry, now: float, *, expires: bool) -> None:
        """Add a new message, whose sequence number is the highest so far."""
        envelope = entry.envelope
        entry.level = level_of(envelope)
        if envelope.not_before is not None and envelope.not_before > now:
            self._delay(entry, envelope.not_before)
        else:
            self.ready.add(entry)
        if expires:
            self._watch(entry)

    def hold(self, entry: Entry, receipt: int, until: float) -> None:
        """Let `entry`, just taken, be held under a lease."""
        entry.due = until
        self.held[receipt] = entry
        self.lease(receipt, until)

    def lease(self, receipt: int, until: float) -> None:
        """Note when a lease ends; an earlier note of the same receipt no longer counts."""
        heappush(self._leases, (until, receipt))
        if len(self._leases) > _SLACK + 2 * len(self.held):
            self._leases = [(entry.due, receipt) for receipt, entry in self.held.items()]
            heapify(self._leases)

    def give_back(self, entry: Entry, due: float, now: float, *, expires: bool) -> None:
        """Take back a message that was held: to be ready at `due`."""
        entry.owner = 0
        if due > now:
            self._delay(entry, due)
        else:
            entry.state = READY
            self.ready.put_back(entry)
        if expires:
            self._watch(entry)

    def promote(self, now: float, *, expires: bool) -> None:
        """Make ready what is due: delays and leases that ended."""
        while self._delayed and self._delayed[0][0] <= now:
            _, _, entry = heappop(self._delayed)
            if entry.state == DELAYED:
                self._delayed_count -= 1
                entry.state = READY
                self.ready.put_back(entry)
        while self._leases and self._leases[0][0] <= now:
            until, receipt = heappop(self._leases)
            entry_held = self.held.get(receipt)
            if entry_held is not None and entry_held.due == until:
                del self.held[receipt]
                self.give_back(entry_held, now, now, expires=expires)

    def take_expired(self, now: float) -> list[Entry]:
        """Take out what expired and is not held."""
        expired = []
        while self._expiring and self._expiring[0][0] <= now:
            _, _, entry = heappop(self._expiring)
            entry.watched = False
            if entry.state in {READY, DELAYED}:
                self._forget(entry)
                expired.append(entry)
        return expired

    def next_due(self, now: float) -> float | None:
        """Return when promote() or take_expired() next has something to do; `now` if something is ready."""
        if self.ready.count:
            return now
        while self._delayed and self._delayed[0][2].state != DELAYED:
            heappop(self._delayed)
        while self._leases and self._stale(*self._leases[0]):
            heappop(self._leases)
        while self._expiring and self._expiring[0][2].state in {HELD, GONE}:
            heappop(self._expiring)[2].watched = False
        heads = [heap[0][0] for heap in (self._delayed, self._leases, self._expiring) if heap]
        return min(heads, default=None)

    def depth(self, now: float) -> Depth:
        """Count by state, without what expired."""
        expired = [entry.state for when, _, entry in self._expiring if when <= now]
        return Depth(
            ready=self.ready.count - expired.count(READY),
            delayed=self._delayed_count - expired.count(DELAYED),
            held=len(self.held),
        )

    def browse(self, limit: int, now: float) -> list[Envelope]:
        """Return the ready ones in order, then the delayed ones by their time, without what expired."""
        delayed = (item for item in self._delayed if item[2].state == DELAYED)
        later = (entry for _, _, entry in nsmallest(len(self._delayed), delayed))
        seen: list[Envelope] = []
        for entry in chain(self.ready, later):
            if len(seen) == limit:
                break
            if not (entry.watched and (entry.envelope.expires_at or FOREVER) <= now):
                seen.append(entry.envelope)
        return seen

    def purge(self) -> None:
        """Drop all but what is held."""
        self.ready = Ready()
        self._delayed.clear()
        self._delayed_count = 0
        self._expiring = [item for item in self._expiring if item[2].state == HELD]
        heapify(self._expiring)

    def _stale(self, until: float, receipt: int) -> bool:
        entry = self.held.get(receipt)
        return entry is None or entry.due != until

    def _forget(self, entry: Entry) -> None:
        if entry.state == READY:
            self.ready.forget(entry)
        else:
            entry.state = GONE
            self._delayed_count -= 1

    def _delay(self, entry: Entry, due: float) -> None:
        entry.state = DELAYED
        entry.due = due
        heappush(self._delayed, (due, entry.sequence, entry))
        self._delayed_count += 1

    def _watch(self, entry: Entry) -> None:
        expires = entry.envelope.expires_at
        if expires is None or entry.watched:
            return
        entry.watched = True
        heappush(self._expiring, (expires, entry.sequence, entry))
        if len(self._expiring) > _SLACK + 2 * (self.ready.count + self._delayed_count + len(self.held)):
            self._expiring = [item for item in self._expiring if item[2].state != GONE]
            heapify(self._expiring)
