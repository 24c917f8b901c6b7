"""The least that the same work can cost: sqlite3 and asyncio without a library. Returns messages a second."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

from measure import BODY, Stage

if TYPE_CHECKING:
    from pathlib import Path

BATCH: Final = 100
"""Messages a transaction."""


def open_table(path: Path) -> sqlite3.Connection:
    """Open a table that survives a power cut: WAL, synchronous=FULL."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE queue (id INTEGER PRIMARY KEY, body BLOB NOT NULL, held INTEGER DEFAULT 0)")
    return connection


def fill(connection: sqlite3.Connection, size: int) -> None:
    """Insert, BATCH a transaction."""
    for _ in range(0, size, BATCH):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO queue (body) VALUES (?)", [(BODY,)] * BATCH)
        connection.execute("COMMIT")


def insert(stage: Stage) -> float:
    """Send."""
    with closing(open_table(stage.folder / "raw.db")) as connection:
        start = time.perf_counter()
        fill(connection, stage.size)
        return stage.size / (time.perf_counter() - start)


def claim_and_delete(stage: Stage) -> float:
    """Consume: a transaction that marks BATCH messages as held, and one that deletes them."""
    with closing(open_table(stage.folder / "raw.db")) as connection:
        fill(connection, stage.size)
        start = time.perf_counter()
        for _ in range(0, stage.size, BATCH):
            rows = connection.execute(
                "UPDATE queue SET held = 1 WHERE id IN (SELECT id FROM queue WHERE held = 0 ORDER BY id LIMIT ?)"
                " RETURNING id, body",
                (BATCH,),
            ).fetchall()
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("DELETE FROM queue WHERE id = ?", [(row[0],) for row in rows])
            connection.execute("COMMIT")
        return stage.size / (time.perf_counter() - start)


def asyncio_queue(stage: Stage) -> float:
    """Put and get in one event loop: no acknowledgement, no retry, no limits."""

    async def run() -> float:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        start = time.perf_counter()
        for _ in range(stage.size):
            await queue.put(BODY)
        for _ in range(stage.size):
            await queue.get()
        return stage.size / (time.perf_counter() - start)

    return asyncio.run(run())
