"""Go over all URLs: measure one after another, then kill consumers at all of them at once, for that is mostly waiting.

What one broker does is its row's alone: an error there is written into it, and the others go on. However a run ends, it
deletes the queues it has used, whose names begin with a prefix of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from anyqueue import Unsupported, __version__, connect
from anyqueue.compare import plan
from anyqueue.compare.recovery import recover
from anyqueue.compare.results import Guarantee, Report, Row
from anyqueue.compare.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyqueue import Client
    from anyqueue.compare.plan import Settings, Target

CONNECTS: Final = 5.0
"""Seconds that a broker has to answer."""
PATIENCE: Final = 30.0
"""Seconds that a broker may take beyond what its cells need, before it is given up."""
CLEANS: Final = 20.0
"""Seconds in which its queues are deleted."""
STARTING: Final = 2
"""Consumer processes that start at once."""
Tell = Callable[[str], None]


class Bench:
    """One broker: its row, and the queues that were used there."""

    def __init__(self, target: Target, settings: Settings, prefix: str) -> None:
        self.row = Row(label=target.label, url=target.shown)
        self._target = target
        self._settings = settings
        self._prefix = prefix
        self._used: dict[str, None] = {}

    def name(self, word: str) -> str:
        """Return the name of a queue, and note that it is used."""
        if self._target.queue is not None:
            return self._target.queue
        name = f"{self._prefix}.{word}"
        self._used[name] = None
        return name

    async def measure(self, tell: Tell) -> None:
        """Measure everything but the recovery, and delete the queues."""
        try:
            async with connect(self._target.url, connect_timeout=CONNECTS) as client:
                self.row.guarantees = _guarantees(client)
                work = Workload(client, self._settings, self.name)
                cells = len(list(plan.steps(self._settings, client.features, client.limits)))
                async with asyncio.timeout(cells * self._settings.seconds * 2 + PATIENCE):
                    await work.run(self.row, lambda what: tell(f"{self.row.label}: {what}"))
        except Exception as error:  # noqa: BLE001 -- whatever a backend does, the others are compared
            self.row.error = _explained(error)
        finally:
            await self.clean()

    async def recover(self, folder: Path, turn: asyncio.Semaphore) -> None:
        """Kill a consumer, and delete the queue."""
        if self.row.error is not None:
            return
        try:
            queue = self.name("killed")
            self.row.recovery = await recover(self._target, queue, self._settings, folder, turn)
        except Exception as error:  # noqa: BLE001 -- as above
            self.row.error = f"recovery: {_explained(error)}"
        finally:
            await self.clean()

    async def clean(self) -> None:
        """Delete the queues that were used; note those that could not be."""
        if not self._used:
            return
        left = dict(self._used)
        try:
            async with asyncio.timeout(CLEANS), connect(self._target.url, connect_timeout=CONNECTS) as client:
                for name in self._used:
                    with contextlib.suppress(Unsupported):  # there are no queues there
                        await client.delete(name)
                    del left[name]
        except Exception as error:  # noqa: BLE001 -- as above
            self.row.error = self.row.error or f"its queues could not be deleted: {_explained(error)}"
        self.row.left += left
        self._used.clear()


async def compare(targets: Sequence[Target], settings: Settings, tell: Tell = lambda _: None) -> Report:
    """Measure every target and return the report; never raises for what a broker does.

    `tell` is called with what is being done. Cancelled, it deletes the queues first, which takes some seconds.
    """
    begun, prefix = time.time(), plan.prefix()
    benches = [Bench(target, settings, f"{prefix}.{number}") for number, target in enumerate(targets, 1)]
    for bench in benches:
        await bench.measure(tell)
    tell("killing a consumer of each")
    with tempfile.TemporaryDirectory(prefix="anyqueue-compare-") as folder:
        turn = asyncio.Semaphore(STARTING)
        async with asyncio.TaskGroup() as group:
            for bench in benches:
                group.create_task(bench.recover(Path(folder), turn))
    return _report([bench.row for bench in benches], settings, begun)


def _report(rows: list[Row], settings: Settings, begun: float) -> Report:
    return Report(
        anyqueue=__version__,
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}",
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        at=begun,
        seconds=time.time() - begun,
        sizes=list(settings.sizes),
        concurrency=list(settings.concurrency),
        pause=settings.pause,
        rows=rows,
    )


def _guarantees(client: Client) -> list[Guarantee]:
    found = ((feature, client.support(feature)) for feature in type(client.features))
    return [Guarantee(feature=feature.name or "", kind=has.kind, note=has.note) for feature, has in found]


def _explained(error: BaseException) -> str:
    """Return an error in one line; of several at once, the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = " ".join(str(error).split())
    return text or ("it took too long" if isinstance(error, TimeoutError) else type(error).__name__)
