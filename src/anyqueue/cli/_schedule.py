"""`anyqueue schedule`: send messages by the clock, from a TOML file. Several may run; one of them leads."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

import anyqueue
from anyqueue import ConfigError
from anyqueue.leader import open_lock
from anyqueue.worker import logs

if TYPE_CHECKING:
    from anyqueue.schedule import Plan

_log = logging.getLogger(__name__)
NEXT: Final = 3

File = Annotated[Path, typer.Argument(metavar="FILE", help="TOML: url, and an [[entry]] each")]
List = Annotated[bool, typer.Option("--list", help=f"Print the next {NEXT} times of each entry, and send nothing")]
After = Annotated[float | None, typer.Option("--after", metavar="SECONDS", help="With --list: from this Unix time")]


def schedule(file: File, show: List = False, after: After = None) -> None:
    """Send what a file says when it says, until SIGTERM or Ctrl-C."""
    plan = _load(file)
    if show:
        _show(plan, after)
        return
    logs.configure("text" if sys.stderr.isatty() else "json", "info")
    asyncio.run(_run(plan))


def _load(file: Path) -> Plan:
    try:
        from anyqueue.schedule import load  # noqa: PLC0415 -- needs cronsim, which may be missing
    except ModuleNotFoundError as error:
        raise ConfigError(f"a schedule needs {error.name}", hint="pip install 'anyqueue[schedule]'") from error
    return load(file)


def _show(plan: Plan, after: float | None) -> None:
    import time  # noqa: PLC0415 -- only here

    from anyqueue.schedule import times  # noqa: PLC0415 -- as above
    from anyqueue.schedule.entry import stamp  # noqa: PLC0415 -- as above

    for entry in plan.entries:
        found = itertools.islice(times(entry, time.time() if after is None else after), NEXT)
        line = {"name": entry.name, "queue": entry.address.name, "next": [stamp(at) for at in found]}
        print(json.dumps(line, ensure_ascii=False))


async def _run(plan: Plan) -> None:
    from anyqueue.schedule import Scheduler  # noqa: PLC0415 -- as above

    async with anyqueue.connect(plan.url) as client:
        lock = open_lock(plan.lock, [entry.name for entry in plan.entries])
        running = asyncio.create_task(Scheduler(plan.entries, client, lock).run())
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        waiting = asyncio.create_task(stopping.wait())
        _log.info("ready", extra={"url": str(plan.url)})
        await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        running.cancel()
        try:
            await running
        except asyncio.CancelledError:
            _log.info("ended")
