"""`anyqueue supervisor`: a section for supervisord, or a unit for systemd, from a worker's own settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from anyqueue.cli._worker import Target
from anyqueue.supervision import Service, supervisord, systemd
from anyqueue.worker.load import load

Systemd = Annotated[bool, typer.Option("--systemd", help="A systemd unit instead")]
Name = Annotated[str | None, typer.Option("--name", help="The service's name (the module's)")]
Processes = Annotated[int, typer.Option("--processes", metavar="N", min=1, help="So many processes")]
Environment = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", metavar="NAME[=VALUE]", help="A variable; without a value, as here"),
]
Logs = Annotated[Path | None, typer.Option("--logs", metavar="FOLDER", help="Where log files go (here)")]
User = Annotated[str | None, typer.Option("--user", help="Who runs it")]


def supervisor(
    target: Target,
    unit: Systemd = False,
    name: Name = None,
    processes: Processes = 1,
    env: Environment = None,
    logs: Logs = None,
    user: User = None,
) -> None:
    """Print what lets a service manager run a worker: stop signal, stop wait, processes, environment, log files."""
    worker = load(target)
    service = Service(
        name=name or target.partition(":")[0].replace(".", "-"),
        command=(sys.executable, "-m", "anyqueue.cli", "worker", target),
        folder=Path.cwd(),
        drain_timeout=worker.drain_timeout,
        processes=processes,
        environment=dict(_pair(text) for text in env or []),
        logs=(logs or Path.cwd()).absolute(),
        user=user,
    )
    print(systemd(service) if unit else supervisord(service), end="")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if equals:
        return name, value
    if name not in os.environ:
        raise typer.BadParameter(f"--env {name}: there is no such variable here; write {name}=VALUE")
    return name, os.environ[name]
