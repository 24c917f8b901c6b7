"""The store in SQLite: its operations, each inside a transaction that somebody else began.

Who calls: `begin()` right after BEGIN IMMEDIATE, any operations, then `end()` right before COMMIT. An operation that
raises one of anyqueue's errors has changed nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from anyqueue.driver import REPLIES, Accept, Delivery, Depth, Envelope, Queue, Reject, Release, Settlement
from anyqueue.errors import QueueNotFound
from anyqueue.packing import pack, unpack
from anyqueue.store import sqlite_schema as sql
from anyqueue.store.contract import FOREVER, NO_MORE, OWNED, TOO_LATE, Holder, Store, bury, expiry_headers

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from anyqueue.driver import Address

_STEP: Final = 1000
"""How many messages one claim at most moves because they fell due, or because they expired."""


class SqliteStore(Store):
    """Queues in a SQLite database, on one connection in autocommit mode."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._changes = 0
        self._sequence = 0
        self._now = 0.0
        self._stirred: set[str] = set()

    def begin(self) -> None:
        """Take up the counters, as the last transaction of any process left them."""
        self._changes = self._connection.total_changes
        self._sequence, clock = self._all("SELECT sequence, clock FROM meta")[0]
        self._tick(clock)

    def end(self) -> int:
        """Store the counters, if anything was changed; return how many rows were."""
        changed = self._connection.total_changes - self._changes
        if changed:
            self._run("UPDATE meta SET sequence = ?, clock = ?", (self._sequence, self._now))
        return changed

    @property
    def changed(self) -> int:
        """How many rows this connection has changed so far."""
        return self._connection.total_changes

    def put(self, address: Address, batch: Sequence[Envelope], now: float) -> None:
        """Add messages, in order."""
        now = self._tick(now)
        if isinstance(address, Queue):
            if address.name.startswith(REPLIES) and not self._all(sql.AWAITED, (address.name, now)):
                raise QueueNotFound(NO_MORE, queue=address.name)
            groups = [(self._declare(address.name), address.name)]
        else:
            groups = self._groups(address.name, now)
        records = [pack(envelope) for envelope in batch]
        for queue, name in groups:
            self._put(queue, batch, records, now)
            self._stirred.add(name)

    def claim(self, holder: Holder, limit: int, now: float) -> list[Delivery]:
        """Hold up to `limit` ready messages; none while a crowd of expired ones is being moved away."""
        now = self._tick(now)
        queue = self._find(holder.queue)
        self._promote(queue, now)
        if self._bury_expired(queue, holder, now) == _STEP:
            return []
        rows = self._all(sql.FIRST, (queue, limit))
        due = FOREVER if holder.lease is None else now + holder.lease
        if rows:
            self._run(sql.HOLD, (due, holder.owner, queue, len(rows)))
        return [
            Delivery(
                envelope=unpack(record),
                receipt=(sequence, claims + 1),
                attempt=attempts + 1,
                redelivered=claims > 0,
                first_failure=first_failure,
            )
            for sequence, attempts, claims, first_failure, record in rows
        ]

    def settle(self, holder: Holder, batch: Sequence[tuple[object, Settlement]], now: float) -> Mapping[int, str]:
        """Settle by receipt."""
        now = self._tick(now)
        if all(isinstance(settlement, Accept) for _, settlement in batch):
            return self._accept(holder, [sql.read_receipt(receipt) for receipt, _ in batch], now)
        failures: dict[int, str] = {}
        for index, (receipt, settlement) in enumerate(batch):
            if not self._settle(settlement, holder, (*sql.read_receipt(receipt), holder.owner, now)):
                failures[index] = TOO_LATE
        return failures

    def extend(self, holder: Holder, receipts: Sequence[object], now: float) -> list[int]:
        """Hold these for another lease from now."""
        now = self._tick(now)
        due = FOREVER if holder.lease is None else now + holder.lease
        mine = [(due, *sql.read_receipt(receipt), holder.owner, now) for receipt in receipts]
        return [index for index, row in enumerate(mine) if not self._run(sql.EXTEND, row)]

    def release_all(self, holder: Holder, now: float, *, counted: bool = False) -> int:
        """Give back everything this owner holds."""
        now = self._tick(now)
        found = self._lookup(holder.queue)
        if found is None:
            return 0
        self._promote(found, now, everything=True)
        self._stirred.add(holder.queue)
        return self._run(sql.RELEASE_ALL, (int(not counted), found, holder.owner))

    def next_due(self, queue: str, now: float) -> float | None:
        """Return when a claim is worth trying again."""
        now = self._tick(now)
        number = self._find(queue)
        if self._all(sql.FIRST, (number, 1)):
            return now
        times = [rows[0][0] for statement in sql.SOON if (rows := self._all(statement, (number,)))]
        soon: float = min(times, default=FOREVER)
        return soon if soon < FOREVER else None

    def declare(self, queue: str) -> None:
        """Make a queue, if it is not there."""
        self._groups(REPLIES, self._now)
        self._declare(queue)

    def join(self, topic: str, queue: str, now: float, lease: float | None) -> None:
        """Make `queue` a group of the topic, if it is not one."""
        now = self._tick(now)
        self._groups(topic, now)
        if self._lookup(queue) is None:
            until = None if lease is None else now + lease
            self._run("INSERT INTO queue (name, topic, until) VALUES (?, ?, ?)", (queue, topic, until))

    def renew(self, queues: Sequence[str], now: float, lease: float) -> None:
        """Let these groups live until `now + lease`."""
        now = self._tick(now)
        self._many("UPDATE queue SET until = ? WHERE name = ?", [(now + lease, queue) for queue in queues])

    def queues(self, now: float) -> list[tuple[str, Depth]]:
        """List the queues by name."""
        names = sorted(name for (name,) in self._all("SELECT name FROM queue"))
        return [(name, self.depth(name, now)) for name in names]

    def depth(self, queue: str, now: float) -> Depth:
        """Count its messages."""
        now = self._tick(now)
        if (number := self._lookup(queue)) is None:
            return Depth(ready=0, delayed=0, held=0)
        self._promote(number, now, everything=True)
        counts = self._connection.execute(sql.COUNT, {"queue": number, "now": now}).fetchall()
        ready, delayed, held, ready_expired, delayed_expired = counts[0]
        return Depth(ready=ready - ready_expired, delayed=delayed - delayed_expired, held=held)

    def browse(self, queue: str, limit: int, now: float) -> list[Envelope]:
        """Return the ready messages in order, then the delayed ones."""
        now = self._tick(now)
        number = self._lookup(queue)
        if number is None:
            return []
        self._promote(number, now, everything=True)
        seen: list[Envelope] = []
        for statement in sql.BROWSE:
            seen += [unpack(record) for (record,) in self._all(statement, (number, now, limit - len(seen)))]
        return seen

    def purge(self, queue: str, now: float) -> int:
        """Delete what nobody holds."""
        depth = self.depth(queue, now)
        number = self._lookup(queue)
        for statements in sql.CLEAR[:2]:
            for statement in statements:
                self._run(statement, (number,))
        return depth.ready + depth.delayed

    def delete(self, queue: str) -> None:
        """Delete a queue with all its messages."""
        number = self._lookup(queue)
        if number is None:
            return
        for statements in sql.CLEAR:
            for statement in statements:
                self._run(statement, (number,))
        self._run("DELETE FROM queue WHERE id = ?", (number,))
        self._stirred.add(queue)

    def take_stirred(self) -> set[str]:
        """Return, once, the queues to look at again."""
        stirred, self._stirred = self._stirred, set()
        return stirred

    def _all(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement, values).fetchall()

    def _run(self, statement: str, values: Sequence[object]) -> int:
        return self._connection.execute(statement, values).rowcount

    def _many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        if rows:
            self._connection.executemany(statement, rows)

    def _tick(self, now: float) -> float:
        self._now = max(self._now, now)
        return self._now

    def _lookup(self, queue: str) -> int | None:
        rows = self._all("SELECT id FROM queue WHERE name = ?", (queue,))
        return rows[0][0] if rows else None

    def _find(self, queue: str) -> int:
        number = self._lookup(queue)
        if number is None:
            raise QueueNotFound("the queue does not exist, or was deleted", queue=queue)
        return number

    def _declare(self, queue: str) -> int:
        if (number := self._lookup(queue)) is not None:
            return number
        if queue.startswith(OWNED):
            raise QueueNotFound(NO_MORE, queue=queue)
        self._run("INSERT INTO queue (name) VALUES (?)", (queue,))
        return self._find(queue)

    def _groups(self, topic: str, now: float) -> list[tuple[int, str]]:
        rows = self._all("SELECT id, name, until FROM queue WHERE topic = ? ORDER BY id", (topic,))
        for _, name, until in rows:
            if until is not None and until <= now:
                self.delete(name)
        return [(number, name) for number, name, until in rows if until is None or until > now]

    def _put(self, queue: int, batch: Sequence[Envelope], records: Sequence[bytes], now: float) -> None:
        first = self._sequence + 1
        self._sequence += len(batch)
        rows = [sql.row_of(sequence, queue, envelope, now) for sequence, envelope in enumerate(batch, first)]
        self._many(sql.ADD_ENTRY, rows)
        self._many(sql.ADD_BODY, list(enumerate(records, first)))

    def _promote(self, queue: int, now: float, *, everything: bool = False) -> None:
        for statement in sql.DUE:
            while due := self._all(statement, (queue, now, _STEP)):
                self._many(sql.READY, due)
                if not everything or len(due) < _STEP:
                    break

    def _bury_expired(self, queue: int, holder: Holder, now: float) -> int:
        rows = self._all(sql.EXPIRED, (queue, now, _STEP))
        for sequence, record in rows:
            self._bury(sequence, record, holder, expiry_headers(holder.queue))
        return len(rows)

    def _bury(self, sequence: int, record: bytes, holder: Holder, headers: Mapping[str, str]) -> None:
        if holder.dead_letter is not None:
            self.put(Queue(holder.dead_letter), [bury(unpack(record), headers)], self._now)
        self._run(sql.DROP_ENTRY, (sequence,))
        self._run(sql.DROP_BODY, (sequence,))

    def _settle(self, settlement: Settlement, holder: Holder, mine: tuple[int, int, int, float]) -> bool:
        if isinstance(settlement, Accept):
            return not self._accept(holder, [mine[:2]], self._now)
        if isinstance(settlement, Release):
            return self._release(settlement, holder, mine)
        return self._reject(settlement, holder, mine)

    def _accept(self, holder: Holder, receipts: Sequence[tuple[int, int]], now: float) -> dict[int, str]:
        rows = [(sequence, claims, holder.owner, now) for sequence, claims in receipts]
        deleted = self._connection.executemany(sql.ACCEPT, rows).rowcount
        gone = [(sequence,) for sequence, _ in receipts]
        failures: dict[int, str] = {}
        if deleted < len(rows):  # those without an entry, but still with a body, were deleted just now
            seen: set[tuple[int]] = set()
            for index, one in enumerate(gone):
                if one in seen or not self._all(sql.BEREFT, one):
                    failures[index] = TOO_LATE
                seen.add(one)
            gone = [one for index, one in enumerate(gone) if index not in failures]
        self._many(sql.DROP_BODY, gone)
        return failures

    def _release(self, release: Release, holder: Holder, mine: tuple[int, int, int, float]) -> bool:
        due = self._now + release.delay
        state, when = (1, due) if due > self._now else (0, None)
        settled = self._run(sql.RELEASE, (state, when, int(release.failed_at is None), release.failed_at, *mine))
        if settled:
            self._stirred.add(holder.queue)
        return bool(settled)

    def _reject(self, reject: Reject, holder: Holder, mine: tuple[int, int, int, float]) -> bool:
        held = self._all(f"SELECT 1 FROM entry {sql.MINE}", mine)  # noqa: S608 -- all of it is ours
        if held:
            record = self._all("SELECT record FROM body WHERE sequence = ?", mine[:1])[0][0]
            self._bury(mine[0], record, holder, reject.headers)
        return bool(held)
