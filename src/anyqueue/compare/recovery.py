"""Kill a consumer process that holds messages, and see when another consumer has them, and whether all come."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from anyqueue import connect
from anyqueue.compare.plan import LEAST_SIZE, why_no_kill
from anyqueue.compare.results import Recovery
from anyqueue.compare.tally import Tally
from anyqueue.testing.children import POLL, ProcessChild, Script

if TYPE_CHECKING:
    from pathlib import Path

    from anyqueue import Client, Message
    from anyqueue.compare.plan import Settings, Target

STARTS: Final = 20.0
"""Seconds that a consumer process has to start and to take its messages."""
PATIENCE: Final = 15.0
"""Seconds, beyond the lease where there is one, after which what has not come back is lost."""
SIZE: Final = 1024


async def recover(target: Target, queue: str, settings: Settings, folder: Path, turn: asyncio.Semaphore) -> Recovery:
    """Measure one recovery. `turn` keeps too many processes from starting at once. Cancelled, the child is killed."""
    async with connect(target.url) as client:
        if why := why_no_kill(target, client.features, settings):
            return Recovery(note=why)
        tally = Tally(min(max(SIZE, LEAST_SIZE), client.limits.max_body))
        await client.producer(queue).send_many(tally.bodies(settings.held))
        child = None
        try:
            async with turn:
                child = ProcessChild(
                    "killed", folder / f"{id(target)}.jsonl", target.url, _script(queue, settings.held)
                )
                held = await _held(child, settings.held)
            if held:
                await child.kill()
                return await _returned(client, queue, tally, held)
            return Recovery(note="another process saw none of the messages")
        finally:
            if child is not None:
                await child.end()


def _script(queue: str, held: int) -> Script:
    """Take so many, and let none go."""
    return Script(
        role="consumer",
        queue=queue,
        concurrency=held,
        prefetch=held,
        handler="hold",
        attempts=None,
        dead_letter=False,
    )


async def _held(child: ProcessChild, wanted: int) -> int:
    """Wait until it has what it may take, or takes no more; return how many it has."""
    deadline = time.monotonic() + STARTS
    while child.count("receive") < wanted and child.alive() and time.monotonic() < deadline:  # noqa: ASYNC110 -- a file tells nobody
        await asyncio.sleep(POLL)
    return child.count("receive") if child.alive() else 0


async def _returned(client: Client, queue: str, tally: Tally, held: int) -> Recovery:
    """Take what comes, by a consumer that begins now."""
    begun = time.perf_counter()
    times: list[float] = []
    whole = asyncio.Event()

    async def handle(message: Message) -> None:
        if tally.took(message.body):
            times.append(time.perf_counter() - begun)
        if not tally.waiting:
            whole.set()

    consumer = client.consumer(queue, concurrency=held, retry=None, dead_letter=None)
    async with asyncio.TaskGroup() as group:
        group.create_task(consumer.run(handle))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout((client.limits.lease or 0.0) + PATIENCE):
                await whole.wait()
        consumer.stop()
    return Recovery(
        held=held,
        first=times[0] if times else None,
        last=times[-1] if times and not tally.waiting else None,
        lost=tally.waiting,
        duplicated=tally.duplicated,
    )
