"""The file of a SQLite store: what is refused, who may read it, its locks, its plans, its failures.

This file is longer than others: each way in which a file can be unfit is made first.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from anyqueue.driver import ACCEPT, Envelope, Queue, Reject, Release
from anyqueue.errors import ConfigError, ConnectFailed
from anyqueue.store import sqlite_file, sqlite_place, sqlite_schema
from anyqueue.store.contract import Holder
from anyqueue.store.file_lock import FileLock
from anyqueue.store.sqlite_file import Settings, SqliteFile
from anyqueue.testing.stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FAST = Settings(durability="process", busy_timeout=0.2)
Q = Queue("q")
MINE = Holder(owner=1, queue="q", dead_letter="dead", lease=10.0)
OTHER = Holder(owner=2, queue="q", lease=10.0)


def some(number: int) -> list[Envelope]:
    return [Envelope(id=str(index), body=b"x" * 100) for index in range(number)]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "q.db")


@pytest.fixture
def file(path: str) -> Iterator[SqliteFile]:
    file = SqliteFile(path, FAST)
    yield file
    file.close()


# What is refused, with one error that says what to do, leaving nothing behind.


def _text(path: Path) -> None:
    path.write_text("no database, but long enough to be one" * 100, encoding="ascii")


def _foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x)")


def _numbered(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 7")


def _newer(path: Path) -> None:
    SqliteFile(str(path), FAST).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {sqlite_schema.VERSION + 1}")


def _link(path: Path) -> None:
    path.symlink_to(path.with_suffix(".other"))


def _twins(path: Path) -> None:
    path.touch()
    os.link(path, path.with_suffix(".other"))


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (_text, "no SQLite database"),
        (_foreign, "another application"),
        (_numbered, "another application"),
        (_newer, "format 2"),
        (_link, "symbolic link"),
        (_twins, "hard links"),
        (Path.mkdir, "no regular file"),
        (os.mkfifo, "no regular file"),
        (lambda path: path.parent.rmdir(), "does not exist"),
    ],
    ids=["text", "foreign", "numbered", "newer", "symlink", "hardlink", "directory", "fifo", "nowhere"],
)
def test_a_path_where_no_store_can_be_is_refused(tmp_path: Path, prepare: Callable[[Path], None], says: str) -> None:
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub" / "q.db"
    prepare(path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=says):
        SqliteFile(str(path), FAST)
    assert [one for one in sorted(tmp_path.rglob("*")) if not one.name.endswith("-lock")] == [
        one for one in before if not one.name.endswith("-lock")
    ]


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Give up root's rights, where these tests have them."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_directory_or_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents[:-1]):
        with suppress(PermissionError):
            parent.chmod(parent.stat().st_mode | 0o011)
    folder = tmp_path / "sub"
    folder.mkdir(0o555)
    with _as_nobody(), pytest.raises(ConfigError, match="cannot be used: Permission denied"):
        SqliteFile(str(folder / "q.db"), FAST)
    assert list(folder.iterdir()) == []
    folder.chmod(0o777)
    path = folder / "q.db"
    SqliteFile(str(path), FAST).close()
    path.chmod(0o444)
    (folder / "q.db-lock").unlink()
    with _as_nobody(), pytest.raises(ConfigError, match="cannot be written"):
        SqliteFile(str(path), FAST)
    assert list(folder.iterdir()) == [path]


def test_a_network_file_system_is_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = sqlite_place.file_system(path, Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
    assert kind is not None
    monkeypatch.setattr(sqlite_place, "REMOTE", frozenset({kind}))
    with pytest.raises(ConfigError, match=f"network file system.*{kind}"):
        SqliteFile(path, FAST)
    assert list(Path(path).parent.iterdir()) == []


def test_the_file_system_is_that_of_the_innermost_mount() -> None:
    mounts = (
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "30 22 0:5 / /home rw - nfs4 server:/home rw\n"
        "31 30 0:6 / /home/a\\040b rw - tmpfs tmpfs rw\n"
    )
    found = [sqlite_place.file_system(folder, mounts) for folder in ("/x", "/home", "/homer", "/home/a b/c", "/home/c")]
    assert found == ["ext4", "nfs4", "ext4", "tmpfs", "nfs4"]


def test_a_file_that_another_program_keeps_locked(path: str, file: SqliteFile) -> None:
    """Opening gives up at its deadline, and works afterwards."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ConnectFailed, match="locked"):
            SqliteFile(path, FAST)
    with file.writing(), pytest.raises(ConnectFailed, match="busy_timeout"):
        SqliteFile(path, FAST)
    SqliteFile(path, FAST).close()


# Q13: who may read it.


def test_files_are_private_whatever_the_umask(path: str) -> None:
    before = os.umask(0)
    try:
        file = SqliteFile(path, FAST)
        with file.writing() as store:
            store.put(Q, some(1), 1.0)
        modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in Path(path).parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("q.db", "q.db-wal", "q.db-shm", "q.db-lock"), 0o600)
    file.close()
    assert {one.name for one in Path(path).parent.iterdir()} == {"q.db", "q.db-lock"}


# Q1 to Q5: transactions, locks, plans.


def test_the_settings_that_keep_commits_safe(file: SqliteFile, path: str) -> None:
    """Q1, Q6: WAL, no checkpoint of SQLite's own, no memory map, and a sync at every commit where asked for."""

    def pragmas(one: SqliteFile) -> list[object]:
        names = ("journal_mode", "wal_autocheckpoint", "mmap_size", "synchronous")
        return [one._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert pragmas(file) == ["wal", 0, 0, 1]
    full = SqliteFile(path, Settings())
    assert pragmas(full) == ["wal", 0, 0, 2]
    full.close()


def test_another_connection_can_write_right_after_a_claim(file: SqliteFile, path: str) -> None:
    """Q3: no statement is left open, holding the write lock."""
    with file.writing() as store:
        store.put(Q, some(5), 1.0)
    with file.writing() as store:
        assert len(store.claim(MINE, 2, 1.0)) == 2
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")


def test_no_statement_on_the_way_scans_or_sorts(file: SqliteFile) -> None:
    """However many messages wait, a claim and what goes with it finds its rows through an index."""
    names = [
        "FIRST",
        "HOLD",
        "DUE",
        "READY",
        "EXPIRED",
        "ACCEPT",
        "RELEASE",
        "EXTEND",
        "RELEASE_ALL",
        "SOON",
        "BROWSE",
        "DROP_BODY",
        "DROP_ENTRY",
    ]
    for name in names:
        statements = getattr(sqlite_schema, name)
        for statement in (statements,) if isinstance(statements, str) else statements:
            values = (1,) * statement.count("?")
            plan = [row[3] for row in file._connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
            assert plan, name
            assert all(step.startswith(("SEARCH", "LIST SUBQUERY")) for step in plan), (name, plan)


def test_the_wal_is_written_back_in_time(file: SqliteFile, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its space is used again, so it stays small; a large one is cut; a reader in the way costs no waiting."""
    wal = Path(f"{path}-wal")
    monkeypatch.setattr(sqlite_file, "CHECKPOINT", 40)

    def work(rounds: int) -> int:
        for _ in range(rounds):
            with file.writing() as store:
                store.put(Q, some(1), 1.0)
            file.checkpoint()
        return wal.stat().st_size

    assert 0 < work(20) <= work(300) < 1_000_000
    monkeypatch.setattr(sqlite_file, "LARGE", 50_000)
    file._large = 50_000
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM meta").fetchall()
        watch = Stopwatch()
        assert work(20) > 50_000
        watch.within(20 * 0.1)
    work(60)
    assert wal.stat().st_size < 100_000


def test_the_lock_moves_when_its_file_is_removed(tmp_path: Path) -> None:
    """Whoever comes later locks the new file, and so does he who held the old one."""
    path = str(tmp_path / "lock")
    first, second = FileLock(path), FileLock(path)
    with first.held(0):
        pass
    Path(path).unlink()
    with second.held(0), pytest.raises(TimeoutError), first.held(0.05):
        pass
    with first.held(0):
        pass
    first.close()
    second.close()


def test_the_lock_is_no_way_through_a_symbolic_link(tmp_path: Path) -> None:
    """C16: a link planted in the lock's place is not followed."""
    victim = tmp_path / "victim"
    (tmp_path / "q.db-lock").symlink_to(victim)
    with pytest.raises(ConfigError, match="cannot be used"):
        SqliteFile(str(tmp_path / "q.db"), FAST)
    assert not victim.exists()


def test_a_claim_and_a_settlement_of_another_holder_are_apart(file: SqliteFile) -> None:
    """Q5: a receipt is good for its owner, its claim and its lease only."""
    with file.writing() as store:
        store.put(Q, some(1), 1.0)
        (first,) = store.claim(MINE, 1, 1.0)
        assert store.settle(OTHER, [(first.receipt, ACCEPT)], 2.0)
        assert store.settle(MINE, [(first.receipt, ACCEPT)], 11.0)
        (second,) = store.claim(OTHER, 1, 12.0)
        for stale in (ACCEPT, Release(), Reject("no")):
            assert store.settle(MINE, [(first.receipt, stale), ("junk", stale)], 13.0).keys() == {0, 1}
        assert (second.attempt, second.redelivered) == (2, True)
        assert store.settle(OTHER, [(second.receipt, ACCEPT)], 14.0) == {}


def test_a_sequence_number_is_never_given_again(file: SqliteFile) -> None:
    """A stale receipt cannot meet a later message, though the rows before it are gone."""
    with file.writing() as store:
        store.put(Q, some(1), 1.0)
        (first,) = store.claim(MINE, 1, 1.0)
        store.settle(MINE, [(first.receipt, ACCEPT)], 1.0)
        store.put(Q, some(1), 1.0)
        (second,) = store.claim(MINE, 1, 1.0)
        assert first.receipt != second.receipt


# Q8: one transaction.


def test_killed_at_any_statement_a_rejected_message_is_in_one_place(path: str) -> None:
    """The process dies at the n-th statement, for every n until it gets through."""
    file = SqliteFile(path, FAST)
    with file.writing() as store:
        store.put(Q, some(1), 1.0)
        (delivery,) = store.claim(MINE, 1, 1.0)
    file.close()
    places, through = set(), False
    for number in range(1, 40):
        through = _reject_and_die(path, delivery.receipt, number)
        file = SqliteFile(path, FAST)
        with file.writing() as store:
            found = tuple(store.depth(name, 2.0).total for name in ("q", "dead"))
        file.close()
        assert sum(found) == 1
        places.add(found)
        if through:
            break
    assert through
    assert places == {(1, 0), (0, 1)}


def _reject_and_die(path: str, receipt: object, number: int) -> bool:
    """Reject in a child that kills itself at its statement of this number; return whether it got through."""
    child = os.fork()
    if child == 0:
        left = number

        def count(_: str) -> None:
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), 9)

        file = SqliteFile(path, FAST)
        file._connection.set_trace_callback(count)
        with file.writing() as store:
            store.settle(MINE, [(receipt, Reject("bad", {"why": "bad"}))], 2.0)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


# Q9: the clock.


def test_time_stands_still_until_a_clock_put_back_has_caught_up(file: SqliteFile, path: str) -> None:
    """Also in the next process: nothing is early, no lease ends twice as late, no stamp lies in the past."""
    with file.writing() as store:
        store.put(Q, [Envelope(id="later", body=b"", not_before=1010.0), *some(1)], 1000.0)
        (held,) = store.claim(MINE, 9, 1000.0)
    again = SqliteFile(path, FAST)
    with again.writing() as store:
        assert store.claim(OTHER, 9, 400.0) == []
        assert store.next_due("q", 400.0) == 1010.0
        assert store.extend(MINE, [held.receipt], 400.0) == []
        assert store.depth("q", 1009.0).held == 1
        assert {one.envelope.id for one in store.claim(OTHER, 9, 1010.0)} == {"later", "0"}
    again.close()


# Q12: the disk is full.


@contextmanager
def _few_pages(file: SqliteFile) -> Iterator[None]:
    """Let the database not grow, as a quota does."""
    pages = file._connection.execute("PRAGMA page_count").fetchone()[0]
    file._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    yield
    file._connection.execute("PRAGMA max_page_count = 1073741823")


def test_a_full_database_takes_nothing_by_halves(file: SqliteFile) -> None:
    with file.writing() as store:
        store.put(Q, some(3), 1.0)
    with _few_pages(file):
        with pytest.raises(sqlite3.OperationalError, match="full"), file.writing() as store:
            store.put(Q, some(1000), 1.0)
        with file.writing() as store:
            assert store.depth("q", 1.0).ready == 3
            assert len(store.claim(MINE, 3, 1.0)) == 3
    with file.writing() as store:
        store.put(Q, some(1000), 1.0)
        assert store.depth("q", 1.0).total == 1003


def test_expired_crowds_are_moved_step_by_step(file: SqliteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim moves so many at most, says that it is worth trying again at once, and then goes on."""
    monkeypatch.setattr("anyqueue.store.sqlite._STEP", 10)
    with file.writing() as store:
        store.put(Q, [Envelope(id="old", body=b"", expires_at=5.0) for _ in range(25)], 1.0)
        store.put(Q, [Envelope(id="due", body=b"", not_before=5.0) for _ in range(25)], 1.0)
        store.put(Q, some(1), 1.0)
        assert store.claim(MINE, 50, 9.0) == []
        assert store.next_due("q", 9.0) == 9.0
        assert store.claim(MINE, 50, 9.0) == []
        assert [one.envelope.id for one in store.claim(MINE, 50, 9.0)].count("due") >= 10
        assert store.depth("dead", 9.0).ready == 25
        assert store.depth("q", 9.0).total == 26
