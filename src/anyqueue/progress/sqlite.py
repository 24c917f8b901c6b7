"""A tracker in a SQLite file: nothing to install. For the processes of one machine."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from anyqueue.driver import Progress
from anyqueue.progress.contract import Tracker

if TYPE_CHECKING:
    from collections.abc import Iterator

BUSY: Final = 10.0


class SqliteTracker(Tracker):
    """A table in a file; both are made when it is first used. A report lost in a power cut is no loss: no fsync."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = Path(path)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def report(self, identity: str, progress: Progress) -> None:
        """Replace the row."""
        row = (identity, progress.done, progress.total, progress.note, progress.time)
        with self._open() as connection:
            connection.execute("INSERT OR REPLACE INTO progress VALUES (?, ?, ?, ?, ?)", row)
            if (before := self._overdue(progress.time)) is not None:
                connection.execute("DELETE FROM progress WHERE time < ?", (before,))

    def read(self, identity: str) -> Progress | None:
        """Select the row."""
        with self._open() as connection:
            found = connection.execute(
                "SELECT done, total, note, time FROM progress WHERE id = ?", (identity,)
            ).fetchone()
        return None if found is None else Progress(done=found[0], total=found[1], note=found[2], time=found[3])

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
            raise OSError(f"the progress tracker {self._path}: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=BUSY, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS progress"
            " (id TEXT PRIMARY KEY, done REAL NOT NULL, total REAL, note TEXT NOT NULL, time REAL NOT NULL)"
        )
        return connection
