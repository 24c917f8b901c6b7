"""`anyqueue dead list|show|redrive|purge`: what was given up, on any backend."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from anyqueue import URL, ConfigError, Feature, QueueNotFound
from anyqueue.cli._match import matcher
from anyqueue.cli._options import Json, Name, Url
from anyqueue.cli._receive import record, write
from anyqueue.sync import connect

if TYPE_CHECKING:
    from anyqueue.sync import Client, Message

SHOWN: Final = 100
SHORT: Final = 60
app = typer.Typer(
    help="Look at dead letters, send them back, throw them away.", rich_markup_mode=None, no_args_is_help=True
)

Matches = Annotated[
    list[str] | None,
    typer.Option("--match", "-m", metavar="NAME=PATTERN", help="Only those, such as reason=*timeout*; may be repeated"),
]
Limit = Annotated[int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="At most so many")]
To = Annotated[str | None, typer.Option("--to", metavar="QUEUE", help="Not where they came from, but there")]


@app.command(name="list")
def list_(url: Url, queue: Name, match: Matches = None, limit: Limit = SHOWN, as_json: Json = False) -> None:
    """List dead letters: when each failed last, how often, and why."""
    with _connect(url) as client:
        found = _found(client, queue, match, limit)
    if as_json:
        for message in found:
            print(json.dumps(_row(message), ensure_ascii=False))
        return
    table = Table("id", "failed", "attempts", "origin", "reason")
    for message in found:
        row = _row(message)
        table.add_row(*(_printable(row[name]) for name in ("id", "failed", "attempts", "origin", "reason")))
    Console(highlight=False).print(table)


@app.command()
def show(url: Url, queue: Name, match: Matches = None, limit: Limit = SHOWN) -> None:
    """Show dead letters whole, a JSON object each: payload, headers, exception, traceback."""
    with _connect(url) as client:
        for message in _found(client, queue, match, limit):
            write(record(message))


@app.command()
def redrive(url: Url, queue: Name, match: Matches = None, limit: Limit = None, to: To = None) -> None:
    """Send dead letters back to where they came from, as they were, attempts from 1."""
    with _connect(url) as client:
        _check(client, queue)
        count = client.redrive(queue, to=to, limit=limit, match=matcher(match or []))
    print(f"redrove {count} message{'' if count == 1 else 's'} from {queue}")


@app.command()
def purge(url: Url, queue: Name, match: Matches = None, limit: Limit = None) -> None:
    """Throw dead letters away, for good."""
    with _connect(url) as client:
        _check(client, queue)
        count = client.discard(queue, limit=limit, match=matcher(match or []))
    print(f"purged {count} message{'' if count == 1 else 's'} from {queue}")


def _found(client: Client, queue: str, match: list[str] | None, limit: int | None) -> list[Message]:
    chosen = matcher(match or [])
    _check(client, queue)
    found = client.dead_letters(queue, limit=limit or SHOWN, match=chosen)
    if len(found) == limit:
        print(f"anyqueue: stopped at {limit}; --limit N shows more", file=sys.stderr)
    return found


def _connect(url: str) -> Client:
    """Return a client that declares nothing, where the backend knows the option: looking makes no queue."""
    parsed = URL.parse(url)
    if "declare" in dict(parsed.options):
        return connect(url)
    try:
        return connect(replace(parsed, options=(*parsed.options, ("declare", "never"))))
    except ConfigError:
        return connect(url)


def _check(client: Client, queue: str) -> None:
    """Raise QueueNotFound for a queue that is not there, where the backend can say so."""
    if Feature.INSPECT in client.features and queue not in dict(client.queues()):
        hint = "anyqueue queues URL lists what there is"
        raise QueueNotFound("there is no such queue", queue=queue, url=client.url, hint=hint)


def _row(message: Message) -> dict[str, object]:
    death = message.death
    failed = None if death is None or death.last_failure is None else death.last_failure
    return {
        "id": message.id,
        "failed": None if failed is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(failed)),
        "attempts": None if death is None else death.attempts,
        "origin": None if death is None else death.origin,
        "reason": None if death is None else death.reason,
    }


def _printable(value: object) -> str:
    """Return one short line without control characters or the table's own markup."""
    text = "" if value is None else str(value).split("\n", 1)[0]
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return (text if len(text) <= SHORT else f"{text[: SHORT - 1]}…").replace("[", "\\[")
