"""Arguments and options that several commands share, and what they mean."""

from __future__ import annotations

from typing import Annotated

import typer

from anyqueue import Queue, Topic

Url = Annotated[str, typer.Argument(metavar="URL", help="The broker, such as sqlite:///jobs.db")]
Name = Annotated[str, typer.Argument(metavar="QUEUE", help="The queue")]
AsTopic = Annotated[bool, typer.Option("--topic", help="QUEUE names a topic: every group gets each message")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line instead of a table")]


def address(name: str, *, topic: bool) -> Queue | Topic:
    """Return what a name on the command line means."""
    return Topic(name) if topic else Queue(name)
