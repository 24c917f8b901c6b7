"""What a service manager must know to start a worker, let it drain, and start it again when it dies."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from anyqueue import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MARGIN: Final = 10.0
"""Seconds beyond the drain timeout before a manager kills: a worker's own processes are killed after 5."""
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A worker as a service. Raises ConfigError for what a section cannot hold."""

    name: str
    command: tuple[str, ...]
    """How the worker is started, without --processes."""
    folder: Path
    drain_timeout: float
    processes: int = 1
    environment: Mapping[str, str]
    logs: Path
    """The folder of the log files."""
    user: str | None = None

    def __post_init__(self) -> None:
        """Check names and values."""
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"a service's name has letters, digits, . _ and -, not {self.name!r}", hint="use --name")
        for name, value in self.environment.items():
            if not _VARIABLE.fullmatch(name):
                raise ConfigError(f"{name!r} is no name of an environment variable")
            _one_line(value, f"the environment variable {name}")
        for text in (*self.command, str(self.folder), str(self.logs)):
            _one_line(text, "a part of the command or a path")

    @property
    def stop_wait(self) -> int:
        """Whole seconds from the stop signal until the manager kills."""
        return math.ceil(self.drain_timeout + MARGIN)


def _one_line(text: str, what: str) -> None:
    if any(ord(character) < ord(" ") for character in text):
        raise ConfigError(f"{what} holds a control character, which a section cannot: {text!r}")


def supervisord(service: Service) -> str:
    """Return a [program:x] section. supervisord keeps the processes itself, each on its own."""
    name = "%(program_name)s_%(process_num)02d" if service.processes > 1 else "%(program_name)s"
    pairs = ",".join(f"{key}={_quoted(value)}" for key, value in service.environment.items())
    lines = {
        "command": " ".join(_percent(shlex.quote(part)) for part in service.command),
        "directory": _percent(str(service.folder)),
        "process_name": name,
        "numprocs": str(service.processes),
        "autostart": "true",
        "autorestart": "true",
        "startsecs": "1",
        "stopsignal": "TERM",
        "stopwaitsecs": str(service.stop_wait),
        "environment": pairs,
        "user": service.user or "",
        "stdout_logfile": _percent(f"{service.logs}/{service.name}") + "_%(process_num)02d.out.log",
        "stderr_logfile": _percent(f"{service.logs}/{service.name}") + "_%(process_num)02d.err.log",
    }
    body = "".join(f"{key}={value}\n" for key, value in lines.items() if value)
    return f"[program:{service.name}]\n{body}"


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(value: str) -> str:
    """Quote for supervisord: it knows no escapes, strips quotes at the ends, and takes ` ;` and ` #` for comments."""
    quote = "'" if '"' in value else '"'
    if quote in value or value.strip("'\"") != value or re.search(r"\s[;#]", value):
        what = f"supervisord cannot hold the value {value!r} of an environment variable"
        raise ConfigError(what, hint="let the worker read it from a file")
    return f"{quote}{_percent(value)}{quote}"


def systemd(service: Service) -> str:
    """Return a unit. The worker's own parent keeps the processes; a stop signal goes to it alone."""
    processes = ("--processes", str(service.processes)) if service.processes > 1 else ()
    command = " ".join(_systemd_quoted(part) for part in (*service.command, *processes))
    environment = "".join(f"Environment={_systemd_quoted(f'{k}={v}')}\n" for k, v in service.environment.items())
    user = f"User={service.user}\n" if service.user else ""
    return (
        f"[Unit]\nDescription=anyqueue worker {service.name}\n"
        "After=network-online.target\nWants=network-online.target\n\n"
        f"[Service]\nType=exec\nExecStart={command}\nExecReload=/bin/kill -HUP $MAINPID\n"
        f"WorkingDirectory={str(service.folder).replace('%', '%%')}\n{environment}{user}"
        f"KillSignal=SIGTERM\nKillMode=mixed\nTimeoutStopSec={service.stop_wait}\nRestart=always\nRestartSec=1\n"
        f"StandardOutput=append:{service.logs}/{service.name}.out.log\n"
        f"StandardError=append:{service.logs}/{service.name}.err.log\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )


def _systemd_quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if re.fullmatch(r"[\w@:./=+,-]+", escaped) else f'"{escaped}"'
