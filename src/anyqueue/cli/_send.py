"""`anyqueue send`: one text, or a file of JSON Lines, into a queue."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from anyqueue import BatchFailed
from anyqueue.cli._lines import Numbered, batches, defect
from anyqueue.cli._options import AsTopic, Name, Url, address
from anyqueue.sync import connect

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from io import BufferedReader

    from anyqueue.sync import Producer

FileOption = Annotated[
    str | None, typer.Option("--file", "-f", metavar="FILE", help="JSON Lines, a message each; - is stdin")
]
Text = Annotated[str | None, typer.Option("--text", help="Send this text instead")]
Delay = Annotated[float | None, typer.Option("--delay", metavar="SECONDS", help="Hand it over this much later")]
Expires = Annotated[float | None, typer.Option("--expires", metavar="SECONDS", help="Forget it after so long")]
Priority = Annotated[int | None, typer.Option("--priority", help="0 to 9, the highest")]
Header = Annotated[
    list[str] | None, typer.Option("--header", "-H", metavar="NAME=VALUE", help="A header; may be repeated")
]


class Terms(TypedDict):
    """What every message of one call is sent with."""

    delay: float | None
    expires: float | None
    priority: int | None
    headers: dict[str, str]


def send(
    url: Url,
    queue: Name,
    file: FileOption = None,
    text: Text = None,
    delay: Delay = None,
    expires: Expires = None,
    priority: Priority = None,
    header: Header = None,
    topic: AsTopic = False,
) -> None:
    """Send messages: each line of a JSON Lines file (stdin by default), or one text."""
    if text is not None and file is not None:
        raise typer.BadParameter("--text and --file exclude each other")
    if text is None and file is None and sys.stdin.isatty():
        raise typer.BadParameter("give --text TEXT, --file FILE, or pipe JSON Lines in")
    terms = Terms(delay=delay, expires=expires, priority=priority, headers=_headers(header or []))
    with _open(file, text) as source, connect(url) as client, client.producer(address(queue, topic=topic)) as producer:
        if text is not None:
            producer.send(text, **terms)
            print(f"sent 1 message to {queue}")
            return
        sent, refused = _send_lines(producer, source, terms, client.limits.max_body)
    print(f"sent {sent} message{'' if sent == 1 else 's'} to {queue}")
    if refused:
        raise ValueError(f"{refused} line{'' if refused == 1 else 's'} refused, {sent} sent")


def _headers(pairs: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name or name in headers:
            raise typer.BadParameter(f"--header {pair!r} is not NAME=VALUE with a name of its own")
        headers[name] = value
    return headers


def _open(file: str | None, text: str | None) -> AbstractContextManager[BufferedReader]:
    """Open what is read; with a text, nothing is."""
    if text is not None or file in {None, "-"}:
        return nullcontext(sys.stdin.buffer)  # type: ignore[arg-type]  # typeshed says BinaryIO; CPython has read1
    return Path(str(file)).open("rb")


def _send_lines(producer: Producer, source: BufferedReader, terms: Terms, max_body: int) -> tuple[int, int]:
    """Send every good line; report the others by their numbers. Return how many were sent and refused."""
    sent = refused = 0
    for lines in batches(source):
        bad = {number: why for number, line in lines if (why := defect(line, max_body))}
        good = [(number, line) for number, line in lines if number not in bad]
        bad |= _send_batch(producer, good, terms)
        for number, why in sorted(bad.items()):
            print(f"anyqueue: line {number}: {why}", file=sys.stderr)
        sent += len(lines) - len(bad)
        refused += len(bad)
    return sent, refused


def _send_batch(producer: Producer, lines: list[Numbered], terms: Terms) -> dict[int, str]:
    """Send lines that are JSON, as they are; return why some were refused, by line number."""
    if not lines:
        return {}
    try:
        producer.send_many([line for _, line in lines], content_type="application/json", **terms)
    except BatchFailed as failed:
        return {lines[position][0]: str(error) for position, error in failed.failures.items()}
    return {}
