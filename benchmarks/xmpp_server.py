"""Prosody and ejabberd for the benchmarks: as brokers/launch.py starts them, on the disk that is measured."""

from __future__ import annotations

import atexit
import functools
import json
import os
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from measure import Stage

LAUNCH: Final = Path(__file__).parents[1] / "brokers" / "launch.py"
TICKS: Final = os.sysconf("SC_CLK_TCK")


def described(stage: Stage, name: str) -> dict[str, Any]:
    """Have a server up, for as long as this process lives; return what the launcher says of it."""
    return _started(stage.shared, name)


def url_of(stage: Stage, name: str) -> str:
    """Return its URL."""
    return str(described(stage, name)["urls"]["xmpp"])


def seconds_of(pid: int) -> float:
    """Return the processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@functools.cache
def _started(folder: Path, name: str) -> dict[str, Any]:
    environment = {
        **os.environ,
        "ANYQUEUE_BROKERS_DIR": str(_place(folder)),
        "ANYQUEUE_BROKERS_PORT": str(_port(folder)),
    }
    _launch(environment, "up", name)
    atexit.register(_launch, environment, "purge", name)
    found: dict[str, Any] = json.loads(_launch(environment, "describe", name))
    return found


@functools.cache
def _place(folder: Path) -> Path:
    """Return where the servers are: beside the run's folder, which goes before they do. It goes when all have ended."""
    place = folder.with_name(f"{folder.name}-xmpp")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


@functools.cache
def _port(_folder: Path) -> int:
    """Return a first port whose neighbours are free."""
    while True:
        base = random.randrange(28_000, 32_600, 100)  # noqa: S311 -- no secret
        try:
            for offset in (60, 61, 70, 71):
                socket.create_server(("127.0.0.1", base + offset)).close()
        except OSError:
            continue
        return base


def _launch(environment: dict[str, str], *words: str) -> str:
    done = subprocess.run([sys.executable, str(LAUNCH), *words], env=environment, capture_output=True, text=True)  # noqa: S603, PLW1510 -- ours; its words are shown below
    if done.returncode:
        raise SystemExit(f"this benchmark needs {words[-1]}: {done.stderr or done.stdout}")
    return done.stdout
