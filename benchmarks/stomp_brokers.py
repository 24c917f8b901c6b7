"""Brokers of the benchmarks' own, in a folder and on ports of their own, until the run ends."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec

LAUNCHER: Final = Path(__file__).parents[1] / "brokers" / "launch.py"
PORTS: Final = "25000"


class Described(msgspec.Struct):
    """What is used of what the launcher says of a broker."""

    urls: dict[str, str]
    ports: dict[str, int]


@functools.cache
def broker(name: str) -> Described:
    """Start a broker, once."""
    launch("up", name)
    return msgspec.json.decode(launch("describe", name), type=Described)


def launch(*words: str) -> bytes:
    """Run the launcher."""
    place = {"ANYQUEUE_BROKERS_DIR": folder(), "ANYQUEUE_BROKERS_PORT": PORTS}
    ran = subprocess.run(  # noqa: S603 -- ours
        [sys.executable, str(LAUNCHER), *words], env={**os.environ, **place}, stdout=subprocess.PIPE, check=True
    )
    return ran.stdout


@functools.cache
def folder() -> str:
    """Make the folder; it and the brokers go when the run ends."""
    made = tempfile.mkdtemp(prefix="anyqueue-brokers-")

    def clear() -> None:
        launch("purge")
        shutil.rmtree(made)

    atexit.register(clear)
    return made
