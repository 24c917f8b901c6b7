"""pygearman's client and worker, as its documentation shows them."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, Final

import gearman

from gearman_server import gearmand
from measure import BODY

if TYPE_CHECKING:
    from collections.abc import Callable

    from measure import Stage

QUEUE: Final = b"bench"
BATCH: Final = 100


def submit_many(client: Any, size: int) -> None:  # noqa: ANN401 -- pygearman is untyped
    """Submit background jobs in batches, and wait until each batch is created."""
    for first in range(0, size, BATCH):
        count = min(BATCH, size - first)
        jobs = [{"task": QUEUE, "data": BODY, "unique": uuid.uuid4().hex.encode()} for _ in range(count)]
        client.submit_multiple_jobs(jobs, background=True, wait_until_complete=False)


def submit(client: Any, size: int) -> None:  # noqa: ANN401 -- as above
    """Submit background jobs, and wait until each is created."""
    for _ in range(size):
        unique = uuid.uuid4().hex.encode()
        client.submit_job(QUEUE, BODY, unique=unique, background=True, wait_until_complete=False)


def timed(stage: Stage, work: Callable[[Any, int], None]) -> float:
    """Return messages submitted a second."""
    with gearmand(stage) as port:
        client = gearman.GearmanClient([f"127.0.0.1:{port}"])
        start = time.perf_counter()
        work(client, stage.size)
        taken = time.perf_counter() - start
        client.shutdown()
    return stage.size / taken


def send(stage: Stage) -> float:
    """Return messages submitted a second, one after the other."""
    return timed(stage, submit)


def send_many(stage: Stage) -> float:
    """Return messages submitted a second, in batches."""
    return timed(stage, submit_many)


def consume(stage: Stage) -> float:
    """Return messages worked on a second."""
    with gearmand(stage) as port:
        submit_many(gearman.GearmanClient([f"127.0.0.1:{port}"]), stage.size)
        left = stage.size

        class Worker(gearman.GearmanWorker):  # type: ignore[misc]  # pygearman is untyped
            def after_poll(self, any_activity: bool) -> bool:  # noqa: ARG002, FBT001 -- pygearman's own signature
                return left > 0

        def handle(worker: Any, job: Any) -> bytes:  # noqa: ANN401, ARG001 -- as above
            nonlocal left
            left -= 1
            return b""

        worker = Worker([f"127.0.0.1:{port}"])
        worker.register_task(QUEUE, handle)
        start = time.perf_counter()
        worker.work(poll_timeout=1.0)
        taken = time.perf_counter() - start
        worker.shutdown()
        return stage.size / taken
