"""The worker of the benchmarks: a handler of 1 ms of CPU, or one that does not end."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from anyqueue.worker import Worker

if TYPE_CHECKING:
    from anyqueue import Message

worker = Worker(os.environ["QUEUE_URL"], drain_timeout=float(os.environ["DRAIN"]))


@worker.handler("bench", concurrency=4, prefetch=50)
async def handle(message: Message) -> None:
    """Work, or sleep."""
    if message.body == b"sleep":
        await asyncio.sleep(3600)
    end = time.process_time() + 0.001
    while time.process_time() < end:
        pass
