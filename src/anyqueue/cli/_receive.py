"""`anyqueue receive`: messages of a queue on stdout, one JSON object each.

A message is acknowledged once its line has been written: what a closed pipe did not take stays in the queue. Nothing
is ever given up here, so no message ends in the dead letters for being looked at.
"""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from anyqueue import ConfigError, Undecodable
from anyqueue.cli._options import AsTopic, Name, Url, address
from anyqueue.sync import connect

if TYPE_CHECKING:
    from anyqueue.sync import Message, Messages

BATCH: Final = 100
PEEK: Final = 1000
"""How many messages --no-ack holds at most, unless --count says otherwise."""
_CONTROL: Final = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}

Count = Annotated[int | None, typer.Option("--count", "-n", metavar="N", min=1, help="Stop after so many")]
NoAck = Annotated[bool, typer.Option("--no-ack", help=f"Put them back at the end (at most {PEEK}, or --count)")]
Timeout = Annotated[float | None, typer.Option("--timeout", metavar="SECONDS", help="Stop when none came for so long")]
Group = Annotated[str | None, typer.Option("--group", help="QUEUE names a topic: receive as this group")]


def receive(
    url: Url,
    queue: Name,
    count: Count = None,
    no_ack: NoAck = False,
    timeout: Timeout = None,
    group: Group = None,
    topic: AsTopic = False,
) -> None:
    """Receive messages, for ever by default, and print each as a JSON object."""
    if timeout is not None and timeout <= 0:
        raise typer.BadParameter("--timeout is more than 0 seconds")
    most = count or (PEEK if no_ack else None)
    prefetch = most if no_ack else min(most or BATCH, BATCH)
    where = address(queue, topic=topic or group is not None)
    with (
        connect(url) as client,
        client.consumer(where, group=group, prefetch=prefetch, retry=None, dead_letter=None) as messages,
    ):
        _print_all(messages, most, timeout, ack=not no_ack)


def _print_all(messages: Messages, most: int | None, timeout: float | None, *, ack: bool) -> None:
    left = most
    while left is None or left > 0:
        batch = messages.receive(1, timeout=timeout)
        if not batch:
            return
        limit = (BATCH if left is None else min(left, BATCH)) - 1
        batch += messages.receive(limit, timeout=0) if limit else []
        for message in batch:
            write(record(message))
            if ack:
                message.ack()
        left = None if left is None else left - len(batch)


def write(shown: dict[str, object]) -> None:
    """Write one JSON object: indented on a terminal, a line in a pipe."""
    text = json.dumps(shown, ensure_ascii=False).translate(_CONTROL)
    if sys.stdout.isatty():
        Console(highlight=False).print_json(text, ensure_ascii=False)
        return
    sys.stdout.buffer.write(text.encode(errors="backslashreplace") + b"\n")
    sys.stdout.buffer.flush()


def record(message: Message) -> dict[str, object]:
    """Return what is shown of a message. A payload that JSON cannot show is base64, and `encoding` says so."""
    shown: dict[str, object] = {"id": message.id, "queue": message.queue, "content_type": message.content_type}
    try:
        payload = message.payload
    except (Undecodable, ConfigError):
        payload = message.body
    if isinstance(payload, bytes):
        shown |= {"payload": base64.b64encode(payload).decode(), "encoding": "base64"}
    else:
        shown["payload"] = payload
    shown |= {"headers": message.headers, "attempt": message.attempt, "redelivered": message.redelivered}
    for name in ("correlation_id", "reply_to", "priority", "timestamp", "expires_at"):
        if (value := getattr(message, name)) is not None:
            shown[name] = value
    if message.death is not None:
        shown["death"] = {name: value for name, value in asdict(message.death).items() if value is not None}
    return shown
