"""The queues that somebody waits for: who has credit, who is next, what is claimed for whom. No I/O, no clock.

How it works:

* A subscriber with credit, that holds fewer than its prefetch, is hungry. The hungry of a queue take turns.
* A claim is a piece of work on the store. It is begun with the credit of that moment, and what it claimed is handed
  out once it is committed; there is one at a time. So nobody ever holds more than its prefetch.
* A queue that gave less than was asked is dry: it is left alone until it is stirred, or something in it falls due.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final

import msgspec

from anyqueue.errors import Error, QueueNotFound
from anyqueue.store.contract import Store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anyqueue.driver import Delivery
    from anyqueue.store.contract import Holder

TURN: Final = 2000
"""The most deliveries of one claim: others are waiting too."""
PAUSE: Final = 1.0
"""Seconds until a claim that failed is tried again."""


class Job(msgspec.Struct, frozen=True):
    """Work on the store, and who is told what came of it, once it is committed."""

    work: Callable[[Store, float], Any]
    done: Callable[[Any], None]
    failed: Callable[[Error], None]


class Subscriber:
    """One subscription of one peer."""

    __slots__ = ("credit", "held", "holder", "identity", "last", "line", "number", "passing", "prefetch")

    def __init__(self, identity: bytes, number: int, holder: Holder, *, prefetch: int, passing: bool) -> None:
        self.identity = identity
        self.number = number
        self.holder = holder
        self.prefetch = prefetch
        self.credit = 0
        """How many more it has asked for."""
        self.passing = passing
        """It is a group of its own, which ends with it."""
        self.held: dict[int, object] = {}
        """The number of a delivery -> its receipt."""
        self.last = 0
        self.line: Line | None = None
        """The queue it waits for; None once it has ended."""

    @property
    def free(self) -> int:
        """How many more it may be handed."""
        return min(self.credit, self.prefetch - len(self.held))

    def number_of(self, receipt: object) -> int:
        """Hold one more delivery, and return the number it is known by."""
        self.last += 1
        self.held[self.last] = receipt
        return self.last


class Line:
    """A queue, and its subscribers."""

    __slots__ = ("claiming", "dry", "due", "hungry", "name", "subscribers")

    def __init__(self, name: str) -> None:
        self.name = name
        self.subscribers: set[Subscriber] = set()
        self.hungry: dict[Subscriber, None] = {}
        """The next one first."""
        self.claiming = False
        self.dry = False
        self.due: float | None = None
        """When, by the wall clock, a dry one is worth another try."""


Claimed = tuple[list[tuple[Subscriber, "list[Delivery]"]], bool, float | None]
"""What was claimed for whom, whether the queue is dry, and when it is worth another try."""


class Lines:
    """All queues with subscribers. `begin` takes a piece of work; `hand` and `gone` tell the subscriber."""

    def __init__(
        self,
        begin: Callable[[Job], None],
        hand: Callable[[Subscriber, list[Delivery]], None],
        gone: Callable[[Subscriber], None],
    ) -> None:
        self._begin = begin
        self._hand = hand
        self._gone = gone
        self._lines: dict[str, Line] = {}
        self._dues: list[tuple[float, str]] = []
        self._wall = 0.0
        self.stopped = False
        """Nothing is handed out any more."""

    def join(self, subscriber: Subscriber) -> None:
        """Let one wait for its queue."""
        name = subscriber.holder.queue
        line = subscriber.line = self._lines.setdefault(name, Line(name))
        line.subscribers.add(subscriber)
        self.changed(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        """Let one wait no more; what it holds is the caller's business."""
        line, subscriber.line = subscriber.line, None
        if line is not None:
            line.subscribers.discard(subscriber)
            line.hungry.pop(subscriber, None)
            if not line.subscribers:
                del self._lines[line.name]

    def changed(self, subscriber: Subscriber) -> None:
        """Look whether it is hungry now."""
        line = subscriber.line
        if line is None:
            return
        if subscriber.free > 0:
            line.hungry[subscriber] = None
            self._feed(line)
        else:
            line.hungry.pop(subscriber, None)

    def stir(self, names: Iterable[str]) -> None:
        """Look again at these queues: something in them changed."""
        for name in names:
            line = self._lines.get(name)
            if line is not None:
                line.dry = False
                self._feed(line)

    def stir_all(self) -> None:
        """Look again at all."""
        self.stir(list(self._lines))

    def tick(self, wall: float) -> None:
        """Look again at the queues in which something fell due by now."""
        self._wall = wall
        while self._dues and self._dues[0][0] <= wall:
            due, name = heappop(self._dues)
            line = self._lines.get(name)
            if line is not None and line.due == due:
                line.due = None
                line.dry = False
                self._feed(line)

    def __bool__(self) -> bool:
        return bool(self._lines)

    @property
    def next_due(self) -> float | None:
        """When, by the wall clock, tick() has something to do; None: it has nothing."""
        return self._dues[0][0] if self._dues else None

    def _feed(self, line: Line) -> None:
        if line.claiming or line.dry or not line.hungry or self.stopped:
            return
        line.claiming = True
        wanted: list[tuple[Subscriber, int]] = []
        room = TURN
        for subscriber in line.hungry:
            if room <= 0:
                break
            wanted.append((subscriber, min(subscriber.free, room)))
            room -= wanted[-1][1]
        self._begin(
            Job(
                lambda store, wall: claim(store, line.name, wanted, wall),
                lambda claimed: self._claimed(line, claimed),
                lambda error: self._failed(line, error),
            )
        )

    def _claimed(self, line: Line, claimed: Claimed) -> None:
        handed, line.dry, due = claimed
        line.claiming = False
        for subscriber, deliveries in handed:
            subscriber.credit = max(subscriber.credit - len(deliveries), 0)
            self._hand(subscriber, deliveries)
            if line.hungry.pop(subscriber, self) is None and subscriber.free > 0:
                line.hungry[subscriber] = None
        if line.dry and due is not None:
            self._wait(line, due)
        self._feed(line)

    def _failed(self, line: Line, error: Error) -> None:
        line.claiming = False
        if isinstance(error, QueueNotFound):
            for subscriber in list(line.subscribers):
                self.leave(subscriber)
                self._gone(subscriber)
            return
        line.dry = True
        self._wait(line, self._wall + PAUSE)

    def _wait(self, line: Line, due: float) -> None:
        if line.due is None or due < line.due:
            line.due = due
            heappush(self._dues, (due, line.name))


def claim(store: Store, queue: str, wanted: list[tuple[Subscriber, int]], wall: float) -> Claimed:
    """Claim for each as much as it wants, in turn, until the queue gives less."""
    claimed: list[tuple[Subscriber, list[Delivery]]] = []
    for subscriber, number in wanted:
        deliveries = store.claim(subscriber.holder, number, wall)
        if deliveries:
            claimed.append((subscriber, deliveries))
        if len(deliveries) < number:
            due = store.next_due(queue, wall)
            return claimed, due is None or due > wall, due
    return claimed, False, None
