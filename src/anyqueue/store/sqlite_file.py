"""One SQLite file, open in this process: its lock, its connection, its transactions, its checkpoints.

SQLite before 3.51.3 can lose commits when two connections write and checkpoint a WAL at once
(https://www.sqlite.org/wal.html, "The WAL-reset bug"). So whatever writes (a transaction, a checkpoint, opening,
closing) happens under a lock of our own, always, for another process may run another SQLite. And SQLite is told to
checkpoint by itself never.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote

import msgspec

from anyqueue.errors import ConfigError
from anyqueue.store import sqlite_place as place
from anyqueue.store.contract import FOREVER
from anyqueue.store.file_lock import FileLock
from anyqueue.store.sqlite import SqliteStore
from anyqueue.store.sqlite_schema import APPLICATION, GIVE_BACK_UNLEASED, SCHEMA, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKPOINT: Final = 1000
"""About how many pages this process writes into the WAL before it writes them back."""
LARGE: Final = 64 * 1024 * 1024
"""The size of the WAL, in bytes, from which it is also cut. Below, its space is used again: growing is slow."""
_PAGES: Final = 8
"""About how many pages a small transaction writes."""
_ROWS: Final = 32
"""About how many changed rows fill another one."""
_log: Final = logging.getLogger("anyqueue.store")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a file is used."""

    durability: Literal["full", "process"] = "full"
    """full: a commit is on disk; process: it survives this process, not the machine."""
    busy_timeout: float = 10.0
    poll: float = 0.1
    """Seconds between two looks for what other processes did."""


class SqliteFile:
    """A store in a file. For one thread, the one that opens it, but for close()."""

    def __init__(self, path: str, settings: Settings) -> None:
        self.path = path
        self._timeout = settings.busy_timeout
        self._lock = FileLock(f"{path}-lock")
        self._pages = 0
        self._large = LARGE
        self._connection = self._open(settings)
        self._store = SqliteStore(self._connection)

    @contextmanager
    def writing(self) -> Iterator[SqliteStore]:
        """Give the store inside one transaction, committed at the end, rolled back on an exception."""
        with self._lock.held(self._timeout):
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                self._store.begin()
                yield self._store
                changed = self._store.end()
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._pages = CHECKPOINT  # should the disk be full, this is what can make room
                raise
            if changed:
                self._pages += _PAGES + changed // _ROWS

    def take_stirred(self) -> set[str]:
        """Return, once, the queues to look at again."""
        return self._store.take_stirred()

    def give_back_unleased(self) -> int:
        """Give back what is held without a lease, for its holder ended with an earlier process; return how many."""
        with self.writing():
            return self._connection.execute(GIVE_BACK_UNLEASED, (FOREVER,)).rowcount

    def version(self) -> int:
        """Return a number that changes when another connection commits."""
        number: int = self._connection.execute("PRAGMA data_version").fetchall()[0][0]
        return number

    def checkpoint(self) -> None:
        """Write the WAL back once it is due. A reader in its way, or a full disk, puts it off."""
        if self._pages < CHECKPOINT and self._wal_size() < self._large:
            return
        self._pages = 0
        mode = "PASSIVE" if self._wal_size() < self._large else "TRUNCATE"
        try:
            with self._lock.held(self._timeout):
                self._connection.execute("PRAGMA busy_timeout = 0")
                self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        except (sqlite3.Error, OSError):
            _log.debug("no checkpoint of %s now", self.path, exc_info=True)
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {int(self._timeout * 1000)}")
        size = self._wal_size()
        self._large = LARGE if size < LARGE else size + LARGE

    def _wal_size(self) -> int:
        try:
            return os.stat(f"{self.path}-wal").st_size  # noqa: PTH116 -- often, and a Path takes longer to make
        except OSError:
            return 0

    def close(self) -> None:
        """Close; the last one of all processes to do so writes the WAL back and removes it. Never raises."""
        try:
            with self._lock.held(self._timeout):
                self._connection.close()
        except (sqlite3.Error, OSError):
            _log.warning("%s could not be closed in an orderly way", self.path, exc_info=True)
        self._lock.close()

    def abandon(self) -> None:
        """Let go in a fork's child, where neither the lock nor the connection is to be touched."""
        self._lock.close()

    def _open(self, settings: Settings) -> sqlite3.Connection:
        place.check(self.path)
        try:
            with self._lock.held(self._timeout):
                return self._open_locked(settings)
        except (OSError, sqlite3.Error, ConfigError) as error:
            self._lock.close()
            raise place.open_error(self.path, error) from error

    def _open_locked(self, settings: Settings) -> sqlite3.Connection:
        made, connection = False, None
        try:
            made = place.make(self.path)
            connection = _connect(self.path, settings)
            _claim(self.path, connection)
        except BaseException:
            if connection is not None:
                connection.close()
            if made:
                for suffix in ("", "-wal", "-shm"):
                    Path(self.path + suffix).unlink(missing_ok=True)
            if self._lock.made:
                self._lock.remove()
            raise
        return connection


def _connect(path: str, settings: Settings) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(os.fspath(path))}?mode=rw",
        uri=True,
        timeout=settings.busy_timeout,
        isolation_level=None,
        check_same_thread=False,
    )
    synchronous = "FULL" if settings.durability == "full" else "NORMAL"
    pragmas = ("wal_autocheckpoint = 0", f"synchronous = {synchronous}", "mmap_size = 0", "temp_store = MEMORY")
    try:
        for pragma in (*pragmas, "cache_size = -16384"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _claim(path: str, connection: sqlite3.Connection) -> None:
    """Make sure that the database is ours and can be written; give an empty one its tables."""
    (application,) = connection.execute("PRAGMA application_id").fetchall()[0]
    (version,) = connection.execute("PRAGMA user_version").fetchall()[0]
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()[0]
    if application == 0 and not tables:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("BEGIN IMMEDIATE")
        for statement in (*SCHEMA, f"PRAGMA application_id = {APPLICATION}", f"PRAGMA user_version = {VERSION}"):
            connection.execute(statement).fetchall()
        connection.execute("COMMIT")
    elif application != APPLICATION:
        raise ConfigError(f"{path} is a database of another application", hint="name another file")
    elif version != VERSION:
        what = f"{path} has format {version}, this anyqueue reads format {VERSION}"
        raise ConfigError(what, hint="use the version of anyqueue that made it, or a later one")
    else:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE meta SET clock = clock")  # only a real write says that it may be written
        connection.execute("ROLLBACK")
