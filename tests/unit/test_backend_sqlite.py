"""sqlite:// alone: its URL, its writer thread, and several processes on one file.

This file is longer than others: each case of several processes brings the program that they run.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from anyqueue.backends.sqlite import SqliteDriver
from anyqueue.driver import ACCEPT, Envelope, Queue, Spec, Topic
from anyqueue.errors import Closed, ConfigError, ConnectionLost, QueueFull, QueueNotFound
from anyqueue.store.sqlite_writers import WRITERS
from anyqueue.testing.stopwatch import Stopwatch
from anyqueue.url import URL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from anyqueue.driver import Delivery, Subscription

Q = Queue("q")
CHILD = """
import asyncio, json, os, sys
from anyqueue.backends.sqlite import SqliteDriver
from anyqueue.driver import ACCEPT, Envelope, Queue, Spec, Topic
from anyqueue.store import sqlite_file, sqlite_writer
from anyqueue.url import URL

Q = Queue("q")

def say(*words):
    print(*words, flush=True)

async def opened(url):
    driver = SqliteDriver.from_url(URL.parse(url))
    await driver.open()
    return driver
"""


def some(number: int, start: int = 0) -> list[Envelope]:
    return [Envelope(id=str(index), body=b"x" * 100) for index in range(start, start + number)]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/q.db?durability=process&lease=0.3&busy_timeout=20"


async def opened(url: str) -> SqliteDriver:
    driver = SqliteDriver.from_url(URL.parse(url))
    await driver.open()
    return driver


@contextlib.contextmanager
def child(body: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a script in a process of its own; it is dead afterwards."""
    with subprocess.Popen(  # noqa: S603 -- our own scripts
        [sys.executable, "-c", CHILD + body, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def heard(process: subprocess.Popen[str]) -> str:
    """Return the next line that a child said."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def names(folder: Path) -> set[str]:
    """Return the names of the files in a folder."""
    return {one.name for one in folder.iterdir()}


async def take(subscription: Subscription, number: int) -> list[Delivery]:
    taken: list[Delivery] = []
    async with asyncio.timeout(20):
        while len(taken) < number:
            taken += await subscription.receive(number - len(taken))
    return taken


def sound(url: str) -> bool:
    """Return whether the file holds together and has no body without its entry."""
    with contextlib.closing(sqlite3.connect(URL.parse(url).path.removeprefix("/"))) as connection:
        whole = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        orphans = connection.execute(
            "SELECT (SELECT count(*) FROM body WHERE sequence NOT IN (SELECT sequence FROM entry)),"
            " (SELECT count(*) FROM entry WHERE sequence NOT IN (SELECT sequence FROM body))"
        ).fetchone()
        return whole and orphans == (0, 0)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("sqlite://q.db", "sqlite:///relative"),
        ("sqlite://user@/q.db", "sqlite:///relative"),
        ("sqlite:///", "names a file"),
        ("sqlite:///folder/", "names a file"),
        ("sqlite:///a%00b", "names a file"),
        ("sqlite:///q.db?lease=0", "lease"),
        ("sqlite:///q.db?poll=-1", "poll"),
        ("sqlite:///q.db?busy_timeout=nan", "busy_timeout"),
        ("sqlite:///q.db?durability=none", "durability"),
        ("sqlite:///q.db?fsync=1", "'fsync'.*durability"),
    ],
)
def test_a_wrong_url_is_refused(text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        SqliteDriver.from_url(URL.parse(text))


async def test_relative_and_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to write a path, and names that need escaping, reach the same file."""
    monkeypatch.chdir(tmp_path)
    relative = await opened("sqlite:///a%20b%3Fc%25.db")
    absolute = await opened(f"sqlite:///{tmp_path}/a%20b%3Fc%25.db")
    await relative.send(Q, some(1))
    assert (await absolute.depth(Q)).ready == 1
    await relative.close()
    await absolute.close()
    assert names(tmp_path) == {"a b?c%.db", "a b?c%.db-lock"}


async def test_a_failed_open_leaves_no_thread(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        await opened(f"sqlite:///{tmp_path}/nowhere/q.db")
    (tmp_path / "text").write_text("no database" * 1000, encoding="ascii")
    with pytest.raises(ConfigError, match="no SQLite database"):
        await opened(f"sqlite:///{tmp_path}/text")
    assert [one.name for one in threading.enumerate() if str(tmp_path) in one.name] == []
    assert names(tmp_path) == {"text"}


async def test_many_sends_share_a_commit(url: str) -> None:
    """What is queued while the thread works goes into one transaction; each send is answered."""
    driver = await opened(url)
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    assert driver._writer is not None
    assert driver._writer._file is not None
    driver._writer._file._connection.set_trace_callback(count)
    await asyncio.gather(*(driver.send(Q, some(1, index)) for index in range(300)))
    assert (await driver.depth(Q)).ready == 300
    assert commits < 100
    await driver.close()


async def test_what_cannot_be_done_fails_alone(url: str) -> None:
    """Beside others in one transaction, the one that breaks it is the only one that fails."""
    driver = await opened(url)
    assert driver._writer is not None
    broken: list[object] = [
        driver._writer.submit(lambda store, _: store._connection.execute("INSERT INTO meta VALUES (9, 0, 0)")),
        driver.send(Queue("aq.group:gone:gone"), some(1)),
        driver.send(Q, [Envelope(id="x", body=object())]),  # type: ignore[arg-type]  # on purpose
    ]
    calls = [driver.send(Q, some(1)), *broken, driver.send(Q, some(1))]
    results = await asyncio.gather(*calls, return_exceptions=True)  # type: ignore[call-overload]  # a future among them
    assert [type(result) for result in results] == [
        type(None),
        ConnectionLost,
        QueueNotFound,
        ConnectionLost,
        type(None),
    ]
    assert (await driver.depth(Q)).ready == 2
    await driver.close()


async def test_a_full_disk_is_told_and_got_over(url: str) -> None:
    driver = await opened(url)
    await driver.send(Q, some(10))
    assert driver._writer is not None
    assert driver._writer._file is not None
    connection = driver._writer._file._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 3}")
    with pytest.raises(QueueFull, match="free some space"):
        await driver.send(Q, some(1000))
    subscription = await driver.subscribe(Spec(address=Q))
    await subscription.settle([(one, ACCEPT) for one in await take(subscription, 10)])
    connection.execute("PRAGMA max_page_count = 1073741823")
    await driver.send(Q, some(1000))
    assert (await driver.depth(Q)).total == 1000
    await driver.close()
    assert sound(url)


async def test_a_disk_that_fails_is_told_and_got_over(url: str) -> None:
    """The system refuses to let a file grow: no send is confirmed that is not stored, and it goes on afterwards."""
    script = """
import resource
async def main():
    driver = await opened(sys.argv[1])
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    stored = 0
    try:
        while True:
            await driver.send(Q, [Envelope(id="x", body=b"x" * 500)] * 20)
            stored += 20
    except Exception as error:
        say(type(error).__name__)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    say((await driver.depth(Q)).ready == stored)
    await driver.send(Q, [Envelope(id="x", body=b"")])
    await driver.close()
    say("closed")
asyncio.run(main())
"""
    with child(script, url) as process:
        assert [await asyncio.to_thread(heard, process) for _ in range(3)] in (
            ["ConnectionLost", "True", "closed"],
            ["QueueFull", "True", "closed"],
        )
    assert sound(url)


async def test_a_forgotten_driver_leaves_no_group_alive(url: str) -> None:
    """Its groups are no longer renewed, though another driver keeps the thread going."""
    driver, other = await opened(url), await opened(url)
    subscription = await driver.subscribe(Spec(address=Topic("t")))
    assert other._writer is not None
    assert len(other._writer._watchers) == 1
    del driver, subscription
    gc.collect()
    assert len(other._writer._watchers) == 0
    await other.close()


async def test_the_file_is_closed_when_a_driver_is_forgotten(url: str, tmp_path: Path) -> None:
    """A driver that nobody closes is collected, and the file is closed under the lock all the same."""
    driver = await opened(url)
    await driver.send(Q, some(1))
    writer = driver._writer
    assert writer is not None
    del driver
    gc.collect()
    await asyncio.wait_for(asyncio.wrap_future(writer.closed), 10)
    assert names(tmp_path) == {"q.db", "q.db-lock"}


def test_a_process_that_ends_without_closing_leaves_all_in_order(url: str, tmp_path: Path) -> None:
    script = """
async def main():
    global driver, subscription, waiting
    driver = await opened(sys.argv[1])
    await driver.send(Q, [Envelope(id="1", body=b"")])
    subscription = await driver.subscribe(Spec(address=Topic("t")))
    waiting = asyncio.ensure_future(subscription.receive(1))
    await asyncio.sleep(0)
asyncio.run(main())
say("end")
"""
    with child(script, url) as process:
        assert heard(process) == "end"
        assert process.wait(20) == 0
    assert names(tmp_path) == {"q.db", "q.db-lock"}


async def test_another_process_wakes_a_receive(url: str) -> None:
    """Within about `poll` seconds, and without a transaction while nothing happens."""
    driver = await opened(url)
    subscription = await driver.subscribe(Spec(address=Q))
    waiting = asyncio.create_task(take(subscription, 1))
    script = """
async def main():
    driver = await opened(sys.argv[1])
    await driver.send(Q, [Envelope(id="1", body=b"")])
    say("sent")
    await driver.close()
asyncio.run(main())
"""
    with child(script, url) as process:
        assert await asyncio.to_thread(heard, process) == "sent"
        watch = Stopwatch()
        assert (await waiting)[0].envelope.id == "1"
        watch.within(2, "a receive to be woken")
    await driver.close()


async def test_waiting_costs_next_to_nothing(url: str) -> None:
    driver = await opened(url)
    subscription = await driver.subscribe(Spec(address=Q))
    waiting = asyncio.create_task(subscription.receive(1))
    begun = time.process_time()
    await asyncio.sleep(0.5)
    assert time.process_time() - begun < 0.05
    waiting.cancel()
    await driver.close()


def test_processes_that_hammer_lose_and_double_nothing(url: str) -> None:
    """Q1, Q2: four processes send and receive at once, with a checkpoint every few commits."""
    script = """
sqlite_file.CHECKPOINT = 20
async def main():
    url, number = sys.argv[1], int(sys.argv[2])
    driver = await opened(url.replace("lease=0.3", "lease=60"))
    subscription = await driver.subscribe(Spec(address=Q))
    sys.stdin.readline()
    got = []
    async def consume():
        while True:
            batch = await subscription.receive(10)
            await subscription.settle([(one, ACCEPT) for one in batch])
            got.extend(one.envelope.id for one in batch)
    consumer = asyncio.create_task(consume())
    for index in range(100):
        await driver.send(Q, [Envelope(id=f"{number}-{index}-{n}", body=b"x" * 200) for n in range(5)])
    while (await driver.depth(Q)).total:
        await asyncio.sleep(0.01)
    consumer.cancel()
    await driver.close()
    say(json.dumps(got))
asyncio.run(main())
"""
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(child(script, url, str(number))) for number in range(4)]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        got = [name for process in processes for name in json.loads(heard(process))]
    assert len(got) == len(set(got)) == 4 * 500
    assert sound(url)


def test_a_killed_producer_keeps_what_was_confirmed(url: str) -> None:
    """Killed with SIGKILL while it writes: what it was told is stored is there, and the file is whole."""
    script = """
async def main():
    driver = await opened(sys.argv[1])
    for index in range(100000):
        await driver.send(Q, [Envelope(id=f"{index}-{n}", body=b"x" * 300) for n in range(10)])
        say(index)
asyncio.run(main())
"""
    for turn in range(3):
        with child(script, url) as process:
            confirmed = [heard(process) for _ in range(20 + 17 * turn)]
            process.send_signal(signal.SIGKILL)
            assert process.stdout is not None
            confirmed += process.stdout.read().split()
        assert sound(url)
        stored = asyncio.run(_drained(url))
        assert stored >= {f"{index}-{n}" for index in confirmed for n in range(10)}
        assert len(stored) % 10 == 0


async def _drained(url: str) -> set[str]:
    driver = await opened(url)
    names = {one.id for one in await driver.browse(Q, 10**6)}
    await driver.purge(Q)
    await driver.close()
    return names


async def test_a_killed_consumer_is_counted(url: str) -> None:
    """Q7: what it held comes back when the lease ends, as a second attempt; what it accepted does not."""
    driver = await opened(url)
    await driver.send(Q, some(3))
    script = """
async def main():
    driver = await opened(sys.argv[1])
    subscription = await driver.subscribe(Spec(address=Q))
    got = list(await subscription.receive(2))
    await subscription.settle([(got[0], ACCEPT)])
    say(len(got))
    await asyncio.sleep(60)
asyncio.run(main())
"""
    with child(script, url) as process:
        assert await asyncio.to_thread(heard, process) == "2"
        process.kill()
    subscription = await driver.subscribe(Spec(address=Q))
    got = await take(subscription, 2)
    assert {one.envelope.id: (one.attempt, one.redelivered) for one in got} == {"2": (1, False), "1": (2, True)}
    await driver.close()


async def test_the_group_of_a_killed_subscriber_ends(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It collects messages no longer than its lease; one whose process lives is kept alive."""
    monkeypatch.setattr("anyqueue.backends.sqlite.GROUP_LEASE", 0.5)
    topic = Topic("t")
    driver = await opened(url)
    mine = await driver.subscribe(Spec(address=topic))
    script = """
import anyqueue.backends.sqlite
anyqueue.backends.sqlite.GROUP_LEASE = sqlite_writer.GROUP_LEASE = 0.5
async def main():
    driver = await opened(sys.argv[1])
    await driver.subscribe(Spec(address=Topic("t")))
    say("subscribed")
    await asyncio.sleep(60)
asyncio.run(main())
"""
    with child(script, url) as process:
        assert await asyncio.to_thread(heard, process) == "subscribed"
        process.kill()
    assert len(await driver.queues()) == 2
    async with asyncio.timeout(10):
        while len(await driver.queues()) > 1:
            await driver.send(topic, some(1))
            await asyncio.sleep(0.05)
    assert (await driver.queues())[0][0] == (mine.home and mine.home.name)
    await driver.close()


async def test_claimed_for_nobody_is_given_back_at_close(url: str) -> None:
    """A receive cancelled after its claim was queued leaves nothing held, and no attempt counted."""
    driver = await opened(url.replace("lease=0.3", "lease=600"))
    subscription = await driver.subscribe(Spec(address=Q))
    await driver.send(Q, some(5))
    task = asyncio.create_task(subscription.receive(3))
    await asyncio.sleep(0)
    task.cancel()
    await driver.depth(Q)
    assert (await driver.depth(Q)).held == 3
    await subscription.close()
    again = await driver.subscribe(Spec(address=Q))
    got = await take(again, 5)
    assert [one.envelope.id for one in got] == ["0", "1", "2", "3", "4"]
    assert {one.attempt for one in got} == {1}
    await driver.close()


async def test_claimed_for_nobody_for_too_long_is_not_handed_out(url: str) -> None:
    """When the lease of what a cancelled receive left behind has ended, the next call claims afresh."""
    driver = await opened(url)
    subscription = await driver.subscribe(Spec(address=Q))
    await driver.send(Q, some(1))
    task = asyncio.create_task(subscription.receive(1))
    await asyncio.sleep(0)
    task.cancel()
    await driver.depth(Q)
    await asyncio.sleep(0.4)
    (delivery,) = await take(subscription, 1)
    await subscription.settle([(delivery, ACCEPT)])
    assert delivery.attempt == 2
    await driver.close()


def forked(work: Callable[[], str]) -> str:
    """Return what `work` returns in a fork's child, which then ends as any process does."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.write(write, work().encode())
        finally:
            WRITERS.finish()
            os._exit(0)
    os.waitpid(process, 0)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as pipe:
        return pipe.read()


async def test_a_fork_is_refused_and_harms_nothing(url: str) -> None:
    """In the child the parent's driver raises Closed, close() and collection do nothing; the parent goes on."""
    driver = await opened(url)
    subscription = await driver.subscribe(Spec(address=Q))
    await driver.send(Q, some(1))

    def work() -> str:
        said: list[object] = []
        for call in (driver.send(Q, some(1)), driver.depth(Q), subscription.receive(1)):
            try:
                call.send(None)
            except Closed as error:
                said.append("forked" in str(error))
            except BaseException as error:  # noqa: BLE001 -- told to the parent
                said.append(repr(error))
        return repr(said)

    assert forked(work) == "[True, True, True]"
    await driver.send(Q, some(1))
    assert len(await take(subscription, 2)) == 2
    await driver.close()
    assert sound(url)


async def test_names_are_data(url: str) -> None:
    """No name is ever part of a statement."""
    driver = await opened(url)
    for name in ("'; DROP TABLE entry; --", '"', "%s", "?", "\N{SNOWMAN}", uuid4().hex * 6):
        await driver.send(Queue(name), some(1))
        assert (await driver.depth(Queue(name))).ready == 1
    await driver.close()
