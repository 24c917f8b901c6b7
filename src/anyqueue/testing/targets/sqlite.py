"""sqlite://: the witness is sqlite3 on the same file, by the rules that the file asks of every writer.

Those rules (store/sqlite_file.py): write only under the lock file, and leave the checkpoints alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final
from urllib.parse import quote

import msgspec

from anyqueue import ConfigError, ConnectFailed, Feature, Limits
from anyqueue.testing.children import ProcessChild
from anyqueue.testing.harness import Count, Expected, Failure, Foreign, Harness, Seen, query

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from anyqueue.testing.children import Child, Script

LEASE: Final = 3.0
"""Seconds after which a killed consumer's messages come back: short, so that the suite is."""
_VERSION: Final = b"\x01"
_READY: Final = """SELECT sequence FROM entry JOIN queue ON queue.id = entry.queue
    WHERE name = ? AND state = 0 AND (expires IS NULL OR expires > ?) ORDER BY rank, sequence LIMIT 1"""
_COUNT: Final = """SELECT count(*) FILTER (WHERE state <> 2), count(*) FILTER (WHERE state = 2)
    FROM entry JOIN queue ON queue.id = entry.queue WHERE name = ? AND (state = 2 OR expires IS NULL OR expires > ?)"""

_BLOCK: Final = """
import fcntl, os, sqlite3, sys
lock = os.open(sys.argv[1] + "-lock", os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX)
file = sqlite3.connect(sys.argv[1], isolation_level=None)
file.execute("PRAGMA busy_timeout = 10000")
file.execute("PRAGMA wal_autocheckpoint = 0")
file.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
file.execute("ROLLBACK")
file.close()
"""


class SqliteForeign(Foreign):
    """sqlite3 on the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = itertools.count(1)

    async def put(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Insert a row with a record made by hand: a version, and id, body, headers as a MessagePack array."""
        record = _VERSION + msgspec.msgpack.encode([f"foreign-{next(self._number)}", body, dict(headers)])
        with self._open() as file:
            file.execute("INSERT OR IGNORE INTO queue (name) VALUES (?)", (queue,))
            ((number,),) = file.execute("SELECT id FROM queue WHERE name = ?", (queue,)).fetchall()
            file.execute("UPDATE meta SET sequence = sequence + 1")
            ((sequence,),) = file.execute("SELECT sequence FROM meta").fetchall()
            insert = "INSERT INTO entry (sequence, queue, state, rank) VALUES (?, ?, 0, 5)"
            file.execute(insert, (sequence, number))
            file.execute("INSERT INTO body VALUES (?, ?)", (sequence, record))

    async def get(self, queue: str) -> Seen | None:
        """Delete the first ready row."""
        with self._open() as file:
            rows = file.execute(_READY, (queue, time.time())).fetchall()
            if not rows:
                return None
            ((record,),) = file.execute("SELECT record FROM body WHERE sequence = ?", rows[0]).fetchall()
            file.execute("DELETE FROM entry WHERE sequence = ?", rows[0])
            file.execute("DELETE FROM body WHERE sequence = ?", rows[0])
        identity, body, *rest = msgspec.msgpack.decode(record[1:])
        return Seen(body=body, headers=rest[0] if rest else {}, id=identity)

    async def count(self, queue: str) -> Count:
        """Count the rows by state."""
        with self._open() as file:
            ((waiting, held),) = file.execute(_COUNT, (queue, time.time())).fetchall()
        return Count(waiting=waiting, unacked=held)

    async def queues(self) -> set[str]:
        """Select the names."""
        with self._open() as file:
            return {name for (name,) in file.execute("SELECT name FROM queue").fetchall()}

    async def delete(self, queue: str) -> None:
        """Delete the rows."""
        with self._open() as file:
            mine = "SELECT id FROM queue WHERE name = ?"
            rows = f"SELECT sequence FROM entry WHERE queue IN ({mine})"  # noqa: S608 -- ours
            file.execute(f"DELETE FROM body WHERE sequence IN ({rows})", (queue,))  # noqa: S608 -- ours
            file.execute(f"DELETE FROM entry WHERE queue IN ({mine})", (queue,))  # noqa: S608 -- ours
            file.execute("DELETE FROM queue WHERE name = ?", (queue,))

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with (
            _locked(f"{self._path}-lock"),
            contextlib.closing(sqlite3.connect(self._path, isolation_level=None)) as file,
        ):
            file.execute("PRAGMA busy_timeout = 10000")
            file.execute("PRAGMA wal_autocheckpoint = 0")
            file.execute("BEGIN IMMEDIATE")
            yield file
            file.execute("COMMIT")


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if Path(path).exists() and os.path.samestat(os.fstat(lock), os.stat(path)):  # noqa: PTH116 -- beside fstat
                yield
                return
        finally:
            os.close(lock)


class SqliteHarness(Harness):
    """The target sqlite://."""

    name: ClassVar[str] = "sqlite"
    crosses_processes: ClassVar[bool] = True
    expected: ClassVar[Expected] = Expected(
        features=Feature.CONFIRM
        | Feature.REDELIVER
        | Feature.RELEASE
        | Feature.RELEASE_DELAY
        | Feature.ATTEMPTS
        | Feature.DEAD_LETTER
        | Feature.DELAY
        | Feature.PRIORITY
        | Feature.EXPIRY
        | Feature.COMPETING
        | Feature.FANOUT
        | Feature.INSPECT
        | Feature.COUNT
        | Feature.DELETE
        | Feature.DURABLE
        | Feature.LEASE,
        limits=Limits(
            max_body=16 * 1024 * 1024,
            max_batch=1000,
            max_sends=64,
            max_unsettled=None,
            delay_step=0.0,
            max_delay=None,
            lease=LEASE,
        ),
        released="in place",
        unheard="dropped",
        unknown="created",
    )

    def start(self, folder: Path) -> None:
        """Name a file."""
        self._folder = folder
        self._path = folder / "contract queues.db"
        self._children = itertools.count(1)
        self.foreign = SqliteForeign(self._path)

    def stop(self) -> None:
        """Leave the file to the folder."""

    def url(self, **options: object) -> str:
        """Return sqlite:////PATH."""
        return f"sqlite:///{quote(str(self._path))}{query({'lease': LEASE, **options})}"

    def failures(self) -> Sequence[Failure]:
        """Return what can be wrong with a path and a file."""
        folder = self._folder
        text, link, locked = folder / "text.db", folder / "link.db", folder / "locked.db"
        text.write_text("this is no database, however long it is " * 100)
        link.unlink(missing_ok=True)
        link.symlink_to(self._path)
        return [
            Failure(sentence="no such directory", url=f"sqlite:///{folder}/none/file.db", error=ConfigError),
            Failure(sentence="the file is a directory", url=f"sqlite:///{folder}", error=ConfigError),
            Failure(sentence="no database", url=f"sqlite:///{text}", error=ConfigError),
            Failure(sentence="a symbolic link", url=f"sqlite:///{link}", error=ConfigError),
            Failure(sentence="a host", url="sqlite://localhost/file.db", error=ConfigError),
            Failure(sentence="no path", url="sqlite://", error=ConfigError),
            Failure(sentence="a lease of no time", url=f"sqlite:///{locked}?lease=0", error=ConfigError),
            Failure(
                sentence="another program keeps it locked",
                url=f"sqlite:///{locked}?busy_timeout=0.3",
                error=ConnectFailed,
                arrange=lambda: _locked(f"{locked}-lock"),
            ),
        ]

    def child(self, name: str, script: Script, *, url: str | None = None) -> Child:
        """Start a process."""
        journal = self._folder / f"child-{next(self._children)}.jsonl"
        return ProcessChild(name, journal, url or self.url(), script)

    @contextlib.contextmanager
    def blocked(self) -> Iterator[None]:
        """Let another process hold the lock file, and the file's own lock by BEGIN EXCLUSIVE."""
        command = [sys.executable, "-c", _BLOCK, str(self._path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 -- ours
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            try:
                yield
            finally:
                process.stdin.close()
