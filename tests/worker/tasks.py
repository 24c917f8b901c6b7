"""The worker of the tests: it does what a message says, and writes what it does into a journal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from anyqueue import Retry
from anyqueue.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anyqueue import Message, sync

QUEUE = os.environ["QUEUE"]
RETRY = Retry(attempts=3, initial=0.05, jitter=0)


def write(word: str, rest: object) -> None:
    """Append a line to the journal, whole."""
    line = f"{word} {rest}\n".encode()
    file = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND)
    os.write(file, line)
    os.close(file)


@contextlib.contextmanager
def noted(worker: Worker) -> Iterator[None]:  # noqa: ARG001 -- a lifespan is told its worker
    """Write that a worker is there."""
    write("up", os.getpid())
    yield


worker = Worker(os.environ["QUEUE_URL"], drain_timeout=float(os.environ.get("DRAIN", "10")), lifespan=noted)


@worker.handler(QUEUE, concurrency=int(os.environ.get("CONCURRENCY", "2")), prefetch=10, retry=RETRY)
async def handle(message: Message) -> None:
    """Do what the payload says."""
    order: dict[str, Any] = message.payload
    write("begun", order["n"])
    write("pid", os.getpid())
    await asyncio.sleep(order.get("sleep", 0))
    if order.get("fail"):
        raise ValueError(order["n"])
    write("done", order["n"])


@worker.handler(f"{QUEUE}-plain", concurrency=2, retry=RETRY)
def block(message: sync.Message) -> None:
    """Do it in a thread."""
    write("begun", message.payload["n"])
    time.sleep(message.payload.get("sleep", 0))
    write("done", message.payload["n"])
