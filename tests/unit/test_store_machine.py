"""Both stores do the same: random operations run on both, everything that can be seen is compared."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from anyqueue.driver import ACCEPT, Envelope, Queue, Reject, Release, Topic
from anyqueue.errors import Error, QueueNotFound
from anyqueue.store.contract import Holder, Store, group_queue
from anyqueue.store.memory import MemoryStore
from anyqueue.store.sqlite_file import Settings, SqliteFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyqueue.driver import Delivery, Settlement

T = TypeVar("T")
GROUPS = [group_queue("t", "g1"), group_queue("t", "g2")]
QUEUES = ["a", "b", "a.dead", *GROUPS]
HOLDERS = [
    Holder(owner=1, queue="a", dead_letter="a.dead", lease=5.0),
    Holder(owner=2, queue="a", dead_letter=None, lease=None),
    Holder(owner=3, queue="b", dead_letter="a.dead", lease=2.0),
    Holder(owner=4, queue="a.dead", dead_letter="a.dead", lease=5.0),
    Holder(owner=5, queue=GROUPS[0], dead_letter="b", lease=3.0),
]
steps = st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0, 7.0])
envelopes = st.builds(
    Envelope,
    id=st.uuids().map(str),
    body=st.binary(max_size=4),
    headers=st.sampled_from([{}, {"k": "v"}]),
    priority=st.none() | st.integers(0, 9),
    not_before=st.none() | steps,
    expires_at=st.none() | steps,
)
settlements = st.one_of(
    st.just(ACCEPT),
    st.builds(Release, delay=st.sampled_from([0.0, 1.0, 4.0]), failed_at=st.none() | st.floats(0, 9)),
    st.builds(Reject, reason=st.just("r"), headers=st.sampled_from([{}, {"why": "x"}])),
)


class _BothStores(RuleBasedStateMachine):
    """The memory store beside the SQLite store."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.memory = MemoryStore()
        self.file = SqliteFile(str(self.folder / "q.db"), Settings(durability="process"))
        self.now = 1000.0
        self.held: list[tuple[Holder, Delivery, Delivery]] = []

    def teardown(self) -> None:
        self.file.close()
        shutil.rmtree(self.folder)

    def both(self, operation: Callable[[Store], T]) -> tuple[T | str, T | str]:
        """Run it on both; an error counts as a result."""
        with self.file.writing() as store:
            results = (_caught(operation, self.memory), _caught(operation, store))
        assert self.memory.take_stirred() == self.file.take_stirred()
        return results

    def same(self, operation: Callable[[Store], T]) -> T | str:
        ours, theirs = self.both(operation)
        assert ours == theirs
        return ours

    @rule(queue=st.sampled_from(QUEUES), batch=st.lists(envelopes, min_size=1, max_size=5))
    def put(self, queue: str, batch: list[Envelope]) -> None:
        moved = [_moved(envelope, self.now) for envelope in batch]
        self.same(lambda store: store.put(Queue(queue), moved, self.now))

    @rule(batch=st.lists(envelopes, min_size=1, max_size=3))
    def publish(self, batch: list[Envelope]) -> None:
        moved = [_moved(envelope, self.now) for envelope in batch]
        self.same(lambda store: store.put(Topic("t"), moved, self.now))

    @rule(holder=st.sampled_from(HOLDERS), limit=st.integers(1, 5))
    def claim(self, holder: Holder, limit: int) -> None:
        ours, theirs = self.both(lambda store: store.claim(holder, limit, self.now))
        if isinstance(ours, str) or isinstance(theirs, str):
            assert ours == theirs
            return
        assert [_seen(one) for one in ours] == [_seen(one) for one in theirs]
        for delivery in ours:
            expires = delivery.envelope.expires_at
            assert expires is None or expires > self.now
        self.held += [(holder, *pair) for pair in zip(ours, theirs, strict=True)]

    @rule(data=st.data(), keep=st.booleans())
    def settle(self, data: st.DataObject, keep: bool) -> None:  # noqa: FBT001 -- drawn by name
        if not self.held:
            return
        holder = data.draw(st.sampled_from([one[0] for one in self.held]))
        mine = [one for one in self.held if one[0] == holder]
        chosen = data.draw(st.lists(st.tuples(st.sampled_from(mine), settlements), min_size=1, max_size=4))
        batch: list[list[tuple[object, Settlement]]] = [
            [(pair[side].receipt, how) for pair, how in chosen]  # type: ignore[union-attr]  # 1 and 2 are deliveries
            for side in (1, 2)
        ]
        with self.file.writing() as store:
            ours = self.memory.settle(holder, batch[0], self.now)
            theirs = store.settle(holder, batch[1], self.now)
        assert ours == theirs
        assert self.memory.take_stirred() == self.file.take_stirred()
        if not keep:
            self.held = [one for one in self.held if one not in [pair for pair, _ in chosen]]

    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        if not self.held:
            return
        holder, ours, theirs = data.draw(st.sampled_from(self.held))
        with self.file.writing() as store:
            lost = store.extend(holder, [theirs.receipt], self.now)
        assert self.memory.extend(holder, [ours.receipt], self.now) == lost

    @rule(holder=st.sampled_from(HOLDERS))
    def release_all(self, holder: Holder) -> None:
        self.same(lambda store: store.release_all(holder, self.now))

    @rule(group=st.sampled_from(GROUPS), lease=st.sampled_from([None, 3.0]))
    def join(self, group: str, lease: float | None) -> None:
        self.same(lambda store: store.join("t", group, self.now, lease))

    @rule(group=st.sampled_from(GROUPS))
    def renew(self, group: str) -> None:
        self.same(lambda store: store.renew([group], self.now, 3.0))

    @rule(queue=st.sampled_from(QUEUES))
    def declare(self, queue: str) -> None:
        self.same(lambda store: store.declare(queue))

    @rule(queue=st.sampled_from(QUEUES))
    def purge(self, queue: str) -> None:
        self.same(lambda store: store.purge(queue, self.now))

    @rule(queue=st.sampled_from(QUEUES))
    def delete(self, queue: str) -> None:
        self.same(lambda store: store.delete(queue))

    @rule(queue=st.sampled_from(QUEUES), limit=st.integers(1, 5))
    def browse(self, queue: str, limit: int) -> None:
        self.same(lambda store: store.browse(queue, limit, self.now))

    @rule(queue=st.sampled_from(QUEUES))
    def next_due(self, queue: str) -> None:
        self.same(lambda store: store.next_due(queue, self.now))

    @rule(step=st.sampled_from([0.5, 1.0, 2.0, 5.0, 30.0, -3.0]))
    def pass_time(self, step: float) -> None:
        """The clock moves; now and then it is put back."""
        self.now += step

    @rule()
    def reopen(self) -> None:
        """The file keeps the time of its last change; that it was read later is forgotten."""
        self.same(lambda store: store.put(Queue("b"), [Envelope(id="mark", body=b"")], self.now))
        self.file.close()
        self.file = SqliteFile(str(self.folder / "q.db"), Settings(durability="process"))

    @invariant()
    def same_depths(self) -> None:
        self.same(lambda store: store.queues(self.now))


def _moved(envelope: Envelope, now: float) -> Envelope:
    """Give the times of an envelope relative to now."""
    when = [None if time is None else now + time for time in (envelope.not_before, envelope.expires_at)]
    return Envelope(
        id=envelope.id,
        body=envelope.body,
        headers=envelope.headers,
        priority=envelope.priority,
        not_before=when[0],
        expires_at=when[1],
    )


def _caught(operation: Callable[[Store], T], store: Store) -> T | str:
    try:
        return operation(store)
    except Error as error:
        return f"{type(error).__name__}: {error}"


def _seen(delivery: Delivery) -> tuple[object, ...]:
    return delivery.envelope, delivery.attempt, delivery.redelivered, delivery.first_failure


TestBothStores = _BothStores.TestCase
TestBothStores.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_an_unknown_queue_is_not_found() -> None:
    """Claiming from a queue that is not there says so."""
    with pytest.raises(QueueNotFound):
        MemoryStore().claim(HOLDERS[0], 1, 0.0)
