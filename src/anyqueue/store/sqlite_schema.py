"""The tables of a store in SQLite, and the statements on its hot path.

`entry` has a small row a message, which changes; `body` has its record, which never does. So a claim rewrites few
pages however large the messages are. Every statement here finds its rows through an index whose WHERE it repeats:
no scan, no sort, however many messages wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from anyqueue.store.contract import LEVELS, level_of

if TYPE_CHECKING:
    from anyqueue.driver import Envelope

APPLICATION: Final = int.from_bytes(b"anyq", "big")
VERSION: Final = 1

SCHEMA: Final = (
    """CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        sequence INTEGER NOT NULL, -- the last one given out; never given again
        clock REAL NOT NULL -- the latest time seen
    )""",
    "INSERT INTO meta VALUES (1, 0, 0)",
    """CREATE TABLE queue (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        topic TEXT, -- of which it is a group
        until REAL -- when the group ends unless renewed
    )""",
    "CREATE INDEX queue_topic ON queue (topic) WHERE topic IS NOT NULL",
    """CREATE TABLE entry (
        sequence INTEGER PRIMARY KEY,
        queue INTEGER NOT NULL,
        state INTEGER NOT NULL, -- 0 ready, 1 delayed, 2 held
        rank INTEGER NOT NULL, -- 9 - level
        due REAL, -- when it becomes ready
        expires REAL,
        attempts INTEGER NOT NULL DEFAULT 0,
        claims INTEGER NOT NULL DEFAULT 0, -- all of them; with the sequence number the receipt
        owner INTEGER,
        first_failure REAL
    )""",
    "CREATE INDEX entry_ready ON entry (queue, rank, sequence) WHERE state = 0",
    "CREATE INDEX entry_delayed ON entry (queue, due, sequence) WHERE state = 1",
    "CREATE INDEX entry_held ON entry (queue, due) WHERE state = 2",
    "CREATE INDEX entry_expiring ON entry (queue, expires) WHERE expires IS NOT NULL",
    "CREATE TABLE body (sequence INTEGER PRIMARY KEY, record BLOB NOT NULL)",
)

AWAITED: Final = "SELECT 1 FROM queue WHERE name = ? AND until > ?"
ADD_ENTRY: Final = "INSERT INTO entry (sequence, queue, state, rank, due, expires) VALUES (?, ?, ?, ?, ?, ?)"
ADD_BODY: Final = "INSERT INTO body VALUES (?, ?)"
DROP_BODY: Final = "DELETE FROM body WHERE sequence = ?"
DROP_ENTRY: Final = "DELETE FROM entry WHERE sequence = ?"
BEREFT: Final = """
    SELECT 1 FROM body WHERE sequence = ?1 AND NOT EXISTS (SELECT 1 FROM entry WHERE sequence = ?1)"""
"""Is there a body whose entry is gone?"""
FIRST: Final = """
    SELECT entry.sequence, attempts, claims, first_failure, record
    FROM entry CROSS JOIN body ON body.sequence = entry.sequence
    WHERE queue = ? AND state = 0 ORDER BY rank, entry.sequence LIMIT ?"""
HOLD: Final = """
    UPDATE entry SET state = 2, due = ?, owner = ?, attempts = attempts + 1, claims = claims + 1
    WHERE sequence IN (SELECT sequence FROM entry WHERE queue = ? AND state = 0 ORDER BY rank, sequence LIMIT ?)"""
"""Holds what FIRST, just before, returned. One statement takes half the time of one a row."""
DUE: Final = (
    "SELECT sequence FROM entry WHERE queue = ? AND state = 1 AND due <= ? ORDER BY due LIMIT ?",
    "SELECT sequence FROM entry WHERE queue = ? AND state = 2 AND due <= ? ORDER BY due LIMIT ?",
)
READY: Final = "UPDATE entry SET state = 0, due = NULL, owner = NULL WHERE sequence = ?"
EXPIRED: Final = """
    SELECT entry.sequence, record FROM entry CROSS JOIN body ON body.sequence = entry.sequence
    WHERE queue = ? AND expires IS NOT NULL AND expires <= ? AND state <> 2 ORDER BY expires, entry.sequence LIMIT ?"""
MINE: Final = "WHERE sequence = ? AND claims = ? AND owner = ? AND state = 2 AND due > ?"
"""Names a delivery by its receipt, its owner and its lease: it is still held, and by none other."""
ACCEPT: Final = f"DELETE FROM entry {MINE}"  # noqa: S608 -- all of it is ours
RELEASE: Final = f"""
    UPDATE entry SET state = ?, due = ?, owner = NULL, attempts = attempts - ?,
    first_failure = coalesce(first_failure, ?) {MINE}"""  # noqa: S608 -- all of it is ours
EXTEND: Final = f"UPDATE entry SET due = ? {MINE}"  # noqa: S608 -- all of it is ours
RELEASE_ALL: Final = """
    UPDATE entry SET state = 0, due = NULL, owner = NULL, attempts = attempts - ?
    WHERE queue = ? AND state = 2 AND owner = ?"""
GIVE_BACK_UNLEASED: Final = "UPDATE entry SET state = 0, due = NULL, owner = NULL WHERE state = 2 AND due = ?"
SOON: Final = (
    "SELECT due FROM entry WHERE queue = ? AND state = 1 ORDER BY due LIMIT 1",
    "SELECT due FROM entry WHERE queue = ? AND state = 2 ORDER BY due LIMIT 1",
    "SELECT expires FROM entry WHERE queue = ? AND expires IS NOT NULL AND state <> 2 ORDER BY expires LIMIT 1",
)
"""When the next one falls due: a delay, a lease, an expiry."""
COUNT: Final = """
    SELECT (SELECT count(*) FROM entry WHERE queue = :queue AND state = 0),
           (SELECT count(*) FROM entry WHERE queue = :queue AND state = 1),
           (SELECT count(*) FROM entry WHERE queue = :queue AND state = 2),
           (SELECT count(*) FROM entry WHERE queue = :queue AND expires <= :now AND state = 0),
           (SELECT count(*) FROM entry WHERE queue = :queue AND expires <= :now AND state = 1)"""
BROWSE: Final = (
    """SELECT record FROM entry CROSS JOIN body ON body.sequence = entry.sequence
    WHERE queue = ? AND state = 0 AND (expires IS NULL OR expires > ?) ORDER BY rank, entry.sequence LIMIT ?""",
    """SELECT record FROM entry CROSS JOIN body ON body.sequence = entry.sequence
    WHERE queue = ? AND state = 1 AND (expires IS NULL OR expires > ?) ORDER BY due, entry.sequence LIMIT ?""",
)
CLEAR: Final = tuple(
    (
        f"DELETE FROM body WHERE sequence IN (SELECT sequence FROM entry WHERE queue = ? AND state = {state})",  # noqa: S608 -- a number of ours
        f"DELETE FROM entry WHERE queue = ? AND state = {state}",  # noqa: S608 -- a number of ours
    )
    for state in range(3)
)
"""Delete the messages of a queue, by state."""


def row_of(sequence: int, queue: int, envelope: Envelope, now: float) -> tuple[object, ...]:
    """Return the values of ADD_ENTRY for a message."""
    due = envelope.not_before
    rank = LEVELS - 1 - level_of(envelope)
    if due is None or due <= now:
        return sequence, queue, 0, rank, None, envelope.expires_at
    return sequence, queue, 1, rank, due, envelope.expires_at


def read_receipt(receipt: object) -> tuple[int, int]:
    """Return the sequence and the claims of a receipt; of a stranger's, those of no message."""
    return receipt if isinstance(receipt, tuple) else (0, 0)
