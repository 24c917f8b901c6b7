"""An inbox in a SQLite file of its own: nothing to install. For the processes of one machine."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Final

from anyqueue.inbox.contract import KEEP, Inbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

BUSY: Final = 10.0
"""Seconds to wait for another process's write."""
CHUNK: Final = 500
"""Ids in one statement."""


class SqliteInbox(Inbox):
    """A table in a file; made when it is first used. `keep`: seconds for which an id is remembered."""

    def __init__(self, path: Path, *, keep: float = KEEP) -> None:
        super().__init__(keep)
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def seen(self, queue: str, ids: Sequence[str]) -> set[str]:
        """Look the ids up."""
        found: set[str] = set()
        with self._open() as connection:
            for start in range(0, len(ids), CHUNK):
                some = ids[start : start + CHUNK]
                marks = ",".join("?" * len(some))
                query = f"SELECT id FROM inbox WHERE queue = ? AND id IN ({marks})"  # noqa: S608 -- question marks
                found.update(identity for (identity,) in connection.execute(query, (queue, *some)))
        return found

    def done(self, queue: str, ids: Sequence[str]) -> None:
        """Insert the ids, in one transaction."""
        now = time.time()
        with self._open() as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            rows = [(queue, identity, now) for identity in ids]
            connection.executemany("INSERT OR IGNORE INTO inbox VALUES (?, ?, ?)", rows)
            if (before := self._overdue(now)) is not None:
                connection.execute("DELETE FROM inbox WHERE at < ?", (before,))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock:
                if self._connection is None:
                    self._connection = self._connect()
                yield self._connection
        except sqlite3.Error as error:
            raise OSError(f"the inbox {self._path}: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS inbox (queue TEXT NOT NULL, id TEXT NOT NULL, at REAL NOT NULL,"
            " PRIMARY KEY (queue, id)) WITHOUT ROWID"
        )
        connection.execute("CREATE INDEX IF NOT EXISTS inbox_at ON inbox (at)")
        return connection
