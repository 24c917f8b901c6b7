"""A broker that `brokers/launch.py` runs: the only place that knows how the suite speaks to the launcher."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final, Literal

import msgspec

from anyqueue.testing.harness import Broker, Certificate

LOG_END: Final = 4000
"""Bytes of a log that are shown."""
PATIENCE: Final = 300.0
"""Seconds that a verb may take: the first `up` may install a package."""


class LaunchFailed(RuntimeError):
    """The launcher could not do what it was asked: what it printed."""


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """What the launcher says of a broker."""

    name: str
    version: str | None = None
    running: bool
    pid: int | None = None
    log: str | None = None
    data: str
    urls: dict[str, str]
    """Scheme -> URL, credentials and all."""
    ports: dict[str, int]
    users: dict[str, str] = {}
    """Name -> password."""
    ca: str | None = None
    """The certificate authority of its TLS, a PEM file."""
    certificates: dict[str, Certificate] = {}
    ctl: list[str] = []
    """Of RabbitMQ: the command that controls it, environment and all."""
    witness: list[str] = []
    """Of RabbitMQ: the command that looks into it and stays."""


def launcher() -> Path:
    """Return the launcher: in the directory that $ANYQUEUE_BROKERS names, or in `brokers/` at or above this one."""
    if named := os.environ.get("ANYQUEUE_BROKERS"):
        return Path(named) / "launch.py"
    here = Path.cwd()
    found = (folder / "brokers" / "launch.py" for folder in (here, *here.parents))
    return next((path for path in found if path.exists()), here / "brokers" / "launch.py")


class LaunchedBroker(Broker):
    """One broker of the launcher's, by name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._described: Described | None = None
        self._runs = False
        """We started it last, and have not stopped or frozen it since."""

    def missing(self) -> str | None:
        """Say why there can be no such broker here; None where there can. It is started to find out."""
        if self._runs and _listens(self.described):
            return None
        if not launcher().exists():
            return f"no launcher at {launcher()}: set ANYQUEUE_BROKERS to the directory that has it"
        try:
            self.start()
        except LaunchFailed as error:
            return str(error)
        return None

    @property
    def described(self) -> Described:
        """What the launcher says of it: ports and files stay, so it is asked once. Of a broker that was started."""
        if self._described is None:
            self._described = msgspec.json.decode(self._launch("describe"), type=Described)
        return self._described

    def start(self) -> None:
        """Start it on its data unless it runs; return once it answers."""
        self._launch("up")
        self._runs = True

    def stop(self) -> None:
        """SIGTERM, and wait."""
        self._runs = False
        self._launch("down")

    def kill(self) -> None:
        """SIGKILL."""
        self._runs = False
        self._launch("kill")

    def pause(self) -> None:
        """SIGSTOP."""
        self._runs = False
        self._launch("pause")

    def resume(self) -> None:
        """SIGCONT."""
        self._launch("resume")

    def log(self) -> str:
        """Return the end of its log."""
        path = self.described.log
        if path is None or not Path(path).exists():
            return ""
        return Path(path).read_bytes()[-LOG_END:].decode(errors="replace")

    def alarm(self, state: Literal["on", "off"]) -> None:
        """Let it be short of memory, or no more: it takes no messages meanwhile."""
        self._launch("alarm", state)

    def _launch(self, verb: str, *more: str) -> bytes:
        command = [sys.executable, str(launcher()), verb, self.name, *more]
        ran = subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE)  # noqa: S603 -- ours
        if ran.returncode:
            said = (ran.stderr or ran.stdout).decode(errors="replace")[-LOG_END:].strip()
            raise LaunchFailed(f"launch.py {verb} {self.name} failed: {said}")
        return ran.stdout


def _listens(described: Described) -> bool:
    """Say whether a broker takes connections: quick, as each case of each target asks first. The launcher logs in."""
    try:
        with socket.create_connection(("127.0.0.1", next(iter(described.ports.values()))), timeout=1.0):
            return True
    except OSError:
        return False
