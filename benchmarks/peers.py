"""What others offer on SQLite, with the same durability where they let one choose it. Returns messages a second."""

from __future__ import annotations

import time

from huey import SqliteHuey
from persistqueue import SQLiteAckQueue

from measure import BODY, Stage


def persistqueue_send(stage: Stage) -> float:
    """Put, a transaction each; there is no batch."""
    queue = SQLiteAckQueue(str(stage.folder))
    start = time.perf_counter()
    for _ in range(stage.size):
        queue.put(BODY)
    return stage.size / (time.perf_counter() - start)


def persistqueue_consume(stage: Stage) -> float:
    """Get and acknowledge."""
    queue = SQLiteAckQueue(str(stage.folder))
    for _ in range(stage.size):
        queue.put(BODY)
    start = time.perf_counter()
    for _ in range(stage.size):
        queue.ack(queue.get())
    return stage.size / (time.perf_counter() - start)


def make_huey(stage: Stage) -> SqliteHuey:
    """Open one that syncs to disk, as anyqueue does."""
    return SqliteHuey(filename=str(stage.folder / "huey.db"), fsync=True, results=False)


def huey_send(stage: Stage) -> float:
    """Enqueue, a transaction each."""
    huey = make_huey(stage)
    task = huey.task()(len)
    start = time.perf_counter()
    for _ in range(stage.size):
        task(BODY)
    return stage.size / (time.perf_counter() - start)


def huey_consume(stage: Stage) -> float:
    """Take and run; a task is deleted as it is taken, there is no acknowledgement."""
    huey = make_huey(stage)
    task = huey.task()(len)
    for _ in range(stage.size):
        task(BODY)
    start = time.perf_counter()
    for _ in range(stage.size):
        huey.execute(huey.dequeue())
    return stage.size / (time.perf_counter() - start)
