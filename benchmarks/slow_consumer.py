"""Fill a queue, then consume it slowly and print by how many MiB the process grew.  slow_consumer.py URL SIZE."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyqueue
from measure import BODY

if TYPE_CHECKING:
    from anyqueue import Message

CHUNK: Final = 1000
SECONDS: Final = 5.0
"""Long enough for a consumer without a bound to take the whole backlog."""


def resident() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def fill(url: str, size: int) -> None:
    """Send the backlog."""
    async with anyqueue.connect(url) as client, client.producer("bench") as producer:
        for _ in range(0, size, CHUNK):
            await producer.send_many([BODY] * CHUNK)


async def consume(url: str) -> float:
    """Handle slowly for SECONDS; return the growth."""
    most = 0.0

    async def handle(message: Message) -> None:  # noqa: ARG001 -- a handler that takes its time
        nonlocal most
        await asyncio.sleep(0.01)
        most = max(most, resident())

    async with anyqueue.connect(url) as client:
        before = resident()
        consumer = client.consumer("bench", concurrency=16)
        asyncio.get_running_loop().call_later(SECONDS, consumer.stop)
        await consumer.run(handle)
    return most - before


if __name__ == "__main__":
    if os.fork() == 0:  # fill in a process of its own: memory it used is not the consumer's
        asyncio.run(fill(sys.argv[1], int(sys.argv[2])))
        os._exit(0)
    assert os.wait()[1] == 0  # noqa: S101 -- without a backlog there is nothing to measure
    print(asyncio.run(consume(sys.argv[1])))
