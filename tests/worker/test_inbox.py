"""Inboxes: a message that was handled is acknowledged and not handled again, whoever was killed when."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from places import eventually, until

import anyqueue
from anyqueue import ConfigError, Message, Retry
from anyqueue.inbox import Inbox, SqliteInbox, open_inbox
from anyqueue.inbox.sql import SqlInbox
from anyqueue.worker import Ended, Limits, Worker

if TYPE_CHECKING:
    from pathlib import Path

    from places import Place, Shop
    from postgres import Postgres

    from anyqueue import Batch, sync

OFF = Limits(until_empty=True)


@pytest.fixture
def inbox(store: str) -> Inbox:
    return open_inbox(store)


async def test_a_duplicate_is_acknowledged_and_not_handled(anywhere: Place, inbox: Inbox) -> None:
    worker, seen = Worker(anywhere.url), []

    @worker.handler(anywhere.queue, deduplicate=inbox)
    async def handle(message: Message) -> None:
        seen.append(message.payload)

    async with anyqueue.connect(anywhere.url) as client:
        for _ in range(2):
            await client.send(anywhere.queue, "once", id="1")
            await client.send(anywhere.queue, "twice", id=f"2-{len(seen)}")
            assert await worker.run(OFF) is Ended.EMPTY
        anywhere.counts(anywhere.queue, total=0)
        anywhere.counts(f"{anywhere.queue}.dead", total=0)
    assert sorted(seen) == ["once", "twice", "twice"]


async def test_what_failed_or_was_put_off_is_no_duplicate(anywhere: Place, inbox: Inbox) -> None:
    worker, seen = Worker(anywhere.url), []

    @worker.handler(anywhere.queue, deduplicate=inbox, retry=Retry(attempts=3, initial=0, jitter=0))
    async def handle(message: Message) -> None:
        seen.append(message.attempt)
        if message.attempt == 1:
            await message.retry(0)
        elif message.attempt == 2:
            raise ValueError("not yet")

    async with anyqueue.connect(anywhere.url) as client:
        await client.send(anywhere.queue, "x")
        await worker.run(OFF)
        anywhere.counts(f"{anywhere.queue}.dead", total=0)
    assert seen == [1, 2, 3]


async def test_duplicates_are_left_out_of_batches(anywhere: Place, inbox: Inbox) -> None:
    worker, seen = Worker(anywhere.url), list[list[Any]]()

    @worker.batch_handler(anywhere.queue, max_size=4, max_wait=0.1, deduplicate=inbox)
    def handle(batch: sync.Batch) -> None:
        seen.append([message.payload for message in batch])

    async with anyqueue.connect(anywhere.url) as client:
        for first in (0, 2):
            for number in range(first, first + 4):
                await client.send(anywhere.queue, number, id=f"n{number}")
            await worker.run(OFF)
        anywhere.counts(anywhere.queue, total=0)
    assert seen == [[0, 1, 2, 3], [4, 5]]


async def test_the_same_id_in_two_queues_is_two_messages(anywhere: Place, inbox: Inbox) -> None:
    worker, seen = Worker(anywhere.url), []
    for queue in (anywhere.queue, f"{anywhere.queue}-other"):
        worker.handler(queue, deduplicate=inbox)(lambda message: seen.append(message.queue))
    async with anyqueue.connect(anywhere.url) as client:
        for queue in (anywhere.queue, f"{anywhere.queue}-other"):
            await client.send(queue, "x", id="1")
        await worker.run(OFF)
    assert len(seen) == 2


TASKS = """
import os, signal
from anyqueue.inbox.sql import SqlInbox
from anyqueue.inbox.sqlite import SqliteInbox
from anyqueue.worker import Worker
from pathlib import Path

worker = Worker(os.environ["QUEUE_URL"])
database = os.environ["DATABASE"]

class Deadly:
    def done(self, queue, ids):
        super().done(queue, ids)
        if os.environ.get("DIE"):
            os.kill(os.getpid(), signal.SIGKILL)

class DeadlySql(Deadly, SqlInbox): pass
class DeadlySqlite(Deadly, SqliteInbox): pass
inbox = DeadlySql(database) if "://" in database else DeadlySqlite(Path(database))

@worker.handler(os.environ["QUEUE"], deduplicate=inbox)
async def handle(message):
    with open(os.environ["JOURNAL"], "a") as journal:
        journal.write(f"handled {message.id}\\n")
"""


def test_killed_between_handling_and_acknowledging(across: Place, shop: Shop, store: str) -> None:
    """Kill -9 after the handler and before the ack: it comes again, and is acknowledged unhandled."""
    (shop.folder / "tasks.py").write_text(TASKS)
    shop.at(across).environment["DATABASE"] = store
    with across.client() as client:
        identity = client.send(across.queue, "x")
        assert shop.start("worker", "tasks", DIE="1").wait() == -signal.SIGKILL
        across.counts(across.queue, total=1)
        program = shop.worker()
        eventually(lambda: across.depth(across.queue).total == 0)
        assert program.events("handled before")[0]["ids"] == [identity]
    assert shop.wrote("handled") == [identity]


async def test_in_the_handlers_own_transaction_it_happens_once(anywhere: Place, database: str) -> None:
    """Also when the handler fails after it has written, and when the message is delivered twice at once."""
    engine = sa.create_engine(database)
    effects = sa.Table("effects", sa.MetaData(), sa.Column("id", sa.String(100)))
    effects.create(engine)
    inbox = SqlInbox(engine)
    inbox.create()
    worker = Worker(anywhere.url)

    @worker.handler(anywhere.queue, concurrency=4, retry=Retry(attempts=3, initial=0.01))
    def handle(message: sync.Message) -> None:
        with engine.begin() as connection:
            if inbox.first(connection, message):
                connection.execute(sa.insert(effects).values(id=message.id))
            if message.attempt == 1 and message.payload == "fails":
                raise ValueError("after the effect")

    async with anyqueue.connect(anywhere.url) as client:
        for number in range(10):
            for _ in range(2):
                await client.send(anywhere.queue, "fails" if number % 2 else "goes well", id=f"m{number}")
        await worker.run(OFF)
        anywhere.counts(f"{anywhere.queue}.dead", total=0)
    with engine.connect() as connection:
        found = sorted(connection.scalars(sa.select(effects.c.id)))
    assert found == sorted(f"m{number}" for number in range(10))
    engine.dispose()


async def test_while_the_database_is_down_messages_wait_and_lose_no_attempt(
    anywhere: Place, postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    worker, seen = Worker(anywhere.url), []

    @worker.handler(anywhere.queue, deduplicate=postgres.database())
    async def handle(message: Message) -> None:
        seen.append((message.payload, message.attempt))

    async with anyqueue.connect(anywhere.url) as client:
        await client.send(anywhere.queue, 1)
        await worker.run(OFF)
        await asyncio.to_thread(postgres.stop)
        try:
            running = asyncio.create_task(worker.run())
            await client.send(anywhere.queue, 2)
            await until(lambda: "messages wait for their inbox" in caplog.text)
            assert len(seen) == 1
        finally:
            await asyncio.to_thread(postgres.start)
        await until(lambda: len(seen) == 2)
        worker.stop()
        await running
    assert seen == [(1, 1), (2, 1)]


def test_what_is_old_is_forgotten(inbox: Inbox) -> None:
    inbox.done("q", ["old"])
    assert inbox.seen("q", ["old", "other"]) == {"old"}
    inbox._keep, inbox._swept = 0.0, 0.0
    inbox.done("q", ["new"])
    assert "old" not in inbox.seen("q", ["old"])
    inbox.close()


def test_many_ids_at_once(inbox: Inbox) -> None:
    many = [f"id {number}" for number in range(1200)]
    inbox.done("q", many[:1100])
    inbox.done("q", many[:1])
    assert inbox.seen("q", many) == set(many[:1100])
    inbox.close()


def test_an_inbox_that_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    worker = Worker("memory://refused")
    with pytest.raises(TypeError, match="an inbox is"):
        worker.handler("q", deduplicate=True)(print)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="cannot be used"):
        worker.handler("q", deduplicate="oracle+nothing://x")(print)
    with pytest.raises(OSError, match="unable to open"):
        SqliteInbox(tmp_path / "none" / "inbox.db").seen("q", ["1"])
    (tmp_path / "text.db").write_text("no database " * 100)
    with pytest.raises(OSError, match="not a database"):
        SqliteInbox(tmp_path / "text.db").done("q", ["1"])


def test_a_full_disk_is_an_oserror_and_remembers_nothing(tmp_path: Path) -> None:
    inbox = SqliteInbox(tmp_path / "inbox.db")
    inbox.done("q", ["before"])
    assert inbox._connection is not None
    pages = inbox._connection.execute("PRAGMA page_count").fetchone()[0]
    inbox._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OSError, match="full"):
        inbox.done("q", ["x" * 200 + str(number) for number in range(1000)])
    assert inbox.seen("q", ["before", "x" * 200 + "1"]) == {"before"}
    inbox.close()
    with sqlite3.connect(tmp_path / "inbox.db") as file:
        assert file.execute("SELECT count(*) FROM inbox").fetchone() == (1,)
    file.close()


async def test_batch_of_nothing_new_calls_nobody(anywhere: Place, inbox: Inbox) -> None:
    worker = Worker(anywhere.url)

    @worker.batch_handler(anywhere.queue, max_wait=0.05, deduplicate=inbox)
    async def handle(batch: Batch) -> None:
        raise AssertionError(batch)

    inbox.done(anywhere.queue, ["1"])
    async with anyqueue.connect(anywhere.url) as client:
        await client.send(anywhere.queue, "x", id="1")
        await worker.run(OFF)
        anywhere.counts(anywhere.queue, total=0)
        anywhere.counts(f"{anywhere.queue}.dead", total=0)
