"""`anyqueue bridge`: move the messages of a queue to another broker."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from typing import Annotated

import typer

import anyqueue
from anyqueue import Queue, Topic
from anyqueue.bridge import Bridge, Moved
from anyqueue.worker import logs
from anyqueue.worker.process import LEFT, leave

_log = logging.getLogger(__name__)

From = Annotated[str, typer.Argument(metavar="FROM-URL", help="Where the messages are")]
To = Annotated[str, typer.Argument(metavar="TO-URL", help="Where they go")]
Name = Annotated[str, typer.Option("--queue", metavar="NAME", help="The queue; with --group, the topic")]
ToName = Annotated[str | None, typer.Option("--to", metavar="NAME", help="Its name there, if it is another")]
Group = Annotated[str | None, typer.Option("--group", help="NAME is a topic: move what this group gets")]
UntilEmpty = Annotated[bool, typer.Option("--until-empty", help="End once the queue is empty")]
Count = Annotated[int | None, typer.Option("--count", "-n", metavar="N", min=1, help="Stop after so many")]


def bridge(
    source: From,
    target: To,
    queue: Name,
    to: ToName = None,
    group: Group = None,
    until_empty: UntilEmpty = False,
    count: Count = None,
) -> None:
    """Move messages from one broker to another, until SIGTERM or Ctrl-C; none is lost when anything dies."""
    logs.configure("text" if sys.stderr.isatty() else "json", "info")
    address = Queue(queue) if group is None else Topic(queue)
    there = Queue(to or queue) if group is None else Topic(to or queue)
    moved = asyncio.run(_run(source, address, target, there, group=group, until_empty=until_empty, limit=count))
    print(f"moved {moved.moved} message{'' if moved.moved == 1 else 's'} from {queue} to {there.name}")
    if moved.rejected:
        raise ValueError(f"{moved.rejected} could not be sent there, and are dead letters of {queue}")


async def _run(
    source: str,
    address: Queue | Topic,
    target: str,
    to: Queue | Topic,
    *,
    group: str | None,
    until_empty: bool,
    limit: int | None,
) -> Moved:
    async with anyqueue.connect(source) as here, anyqueue.connect(target) as there:
        moving = Bridge(here, address, there, to, group=group)
        asked = False

        def ask() -> None:
            nonlocal asked
            if asked:
                leave(LEFT)
            asked = True
            moving.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ask)
        _log.info("ready", extra={"source": str(here.url), "target": str(there.url)})
        return await moving.run(until_empty=until_empty, limit=limit)
