"""What must not grow: the time to claim with the backlog, memory with the backlog, the time to import."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyqueue

if TYPE_CHECKING:
    from anyqueue import Client
    from measure import Stage

CLAIMED: Final = 1000
BATCH: Final = 100
FILL: Final = 10_000
SMALL: Final = b"x" * 64


def claim_from_many(stage: Stage) -> float:
    """Return the seconds it takes to claim and acknowledge CLAIMED of `stage.size` waiting messages."""
    return asyncio.run(_claim(stage.shared / f"waiting-{stage.size}.db", stage.size))


def claim_from_few(stage: Stage) -> float:
    """Return the seconds it takes to claim and acknowledge CLAIMED of as many."""
    return asyncio.run(_claim(stage.folder / "few.db", CLAIMED))


async def _claim(path: Path, waiting: int) -> float:
    async with anyqueue.connect(f"sqlite:///{path}") as client:
        await _fill(client, waiting)
        async with client.consumer("bench", prefetch=BATCH) as messages:
            start = time.perf_counter()
            for _ in range(0, CLAIMED, BATCH):
                batch = await messages.receive(BATCH)
                await asyncio.gather(*(message.ack() for message in batch))
            return time.perf_counter() - start


async def _fill(client: Client, waiting: int) -> None:
    missing = waiting - (await client.depth("bench")).ready
    async with client.producer("bench") as producer:
        for _ in range(0, missing, FILL):
            await producer.send_many([SMALL] * min(FILL, missing))


def backlog(stage: Stage) -> float:
    """Return how many MiB a consumer with a slow handler grows by while `stage.size` messages wait."""
    url = f"sqlite:///{stage.folder / 'queue.db'}"
    return float(_python(str(Path(__file__).with_name("slow_consumer.py")), url, str(stage.size)))


def import_ours(_stage: Stage) -> float:
    """Return the milliseconds that `import anyqueue` takes in a fresh process."""
    script = "import time; start = time.perf_counter(); import anyqueue; print((time.perf_counter() - start) * 1000)"
    return float(_python("-c", script))


def start_with(script: str) -> float:
    """Return the milliseconds a whole process takes."""
    start = time.perf_counter()
    _python("-c", script)
    return (time.perf_counter() - start) * 1000


def _python(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)  # noqa: S603 -- ours
    return done.stdout
