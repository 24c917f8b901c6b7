"""`anyqueue progress`: how far a message is, once or until it is done."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from anyqueue.cli._options import Url
from anyqueue.sync import connect

if TYPE_CHECKING:
    from anyqueue.sync import Client

POLL: Final = 0.2

Identity = Annotated[str, typer.Argument(metavar="ID", help="The message's id, as send() returned it")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Until it is done: a bar on a terminal, else a line each")]
Tracker = Annotated[str | None, typer.Option("--tracker", metavar="WHERE", help="A path, or a database's URL")]
Timeout = Annotated[float | None, typer.Option("--timeout", metavar="SECONDS", help="With --follow: no longer than so")]


def progress(
    url: Url, identity: Identity, follow: Follow = False, tracker: Tracker = None, timeout: Timeout = None
) -> int:
    """Show how far the handling of a message is."""
    with connect(url, progress=tracker) as client:
        if follow:
            return _follow(client, identity, None if timeout is None else time.monotonic() + timeout)
        found = client.progress(identity)
    if found is None:
        print(f"anyqueue: nothing is known of message {identity}", file=sys.stderr)
        return 1
    print(json.dumps(msgspec.structs.asdict(found), ensure_ascii=False))
    return 0


def _follow(client: Client, identity: str, deadline: float | None) -> int:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, disable=not sys.stdout.isatty()) as bar:
        task, before = bar.add_task("waiting", total=None), None
        while deadline is None or time.monotonic() < deadline:
            found = client.progress(identity)
            if found is not None and found != before:
                before = found
                bar.update(task, completed=found.done, total=found.total, description=found.note)
                if bar.disable:
                    print(json.dumps(msgspec.structs.asdict(found), ensure_ascii=False), flush=True)
            if found is not None and found.total is not None and found.done >= found.total:
                return 0
            time.sleep(POLL)
    print(f"anyqueue: message {identity} is not done", file=sys.stderr)
    return 1
