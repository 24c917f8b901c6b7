"""`anyqueue worker`: run the handlers of MODULE:NAME as one process, or as several.

Exit statuses: 0 asked to end, or its work is done; 1 it could not start or go on; 70 a second signal made it leave at
once.
"""

from __future__ import annotations

import enum
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from anyqueue.worker import Limits, logs
from anyqueue.worker.load import load, settings
from anyqueue.worker.process import Options, run_process
from anyqueue.worker.processes import run_processes

Target = Annotated[str, typer.Argument(metavar="MODULE:NAME", help="The worker; NAME is `worker` unless given")]
Processes = Annotated[int, typer.Option("--processes", metavar="N", min=1, help="So many processes, and a parent")]
UntilEmpty = Annotated[bool, typer.Option("--until-empty", help="End once the queues are empty")]
MaxMessages = Annotated[
    int | None, typer.Option("--max-messages", metavar="N", min=1, help="A process ends after so many messages")
]
Reload = Annotated[bool, typer.Option("--reload", help="Begin anew when a Python file below this folder changes")]
HealthFile = Annotated[Path | None, typer.Option("--health-file", metavar="FILE", help="Written every second")]
HealthPort = Annotated[
    int | None, typer.Option("--health-port", metavar="PORT", min=1, max=65535, help="/live and /ready on 127.0.0.1")
]


class Form(enum.StrEnum):
    """How log lines look."""

    json = "json"
    text = "text"


class Level(enum.StrEnum):
    """The least that is logged."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


LogFormat = Annotated[Form | None, typer.Option("--log-format", help="Lines on stderr; text on a terminal, else json")]
LogLevel = Annotated[Level, typer.Option("--log-level", help="debug also logs every message")]
Check = Annotated[bool, typer.Option("--check", hidden=True)]
Channel = Annotated[int | None, typer.Option("--channel", hidden=True)]


def worker(
    target: Target,
    processes: Processes = 1,
    until_empty: UntilEmpty = False,
    max_messages: MaxMessages = None,
    reload: Reload = False,
    health_file: HealthFile = None,
    health_port: HealthPort = None,
    log_format: LogFormat = None,
    log_level: LogLevel = Level.info,
    check: Check = False,
    channel: Channel = None,
) -> int:
    """Run a worker until SIGTERM or Ctrl-C, which let it finish what it has begun; SIGHUP begins anew."""
    if check:
        print(msgspec.json.encode(settings(load(target))).decode())
        return 0
    form = log_format or (Form.text if sys.stderr.isatty() else Form.json)
    logs.configure(form.value, log_level.value)
    options = Options(
        target=target,
        limits=Limits(until_empty=until_empty, max_messages=max_messages),
        reload=reload,
        health_file=health_file,
        health_port=health_port,
        channel=channel,
    )
    if processes == 1:
        return run_process(load(target), options)
    return run_processes(options, processes, _arguments(options, form, log_level))


def _arguments(options: Options, form: Form, level: Level) -> list[str]:
    """Return the arguments of each process of several."""
    limits = options.limits
    most = [] if limits.max_messages is None else ["--max-messages", str(limits.max_messages)]
    until = ["--until-empty"] if limits.until_empty else []
    return [options.target, *most, *until, "--log-format", form.value, "--log-level", level.value]
