"""What answers in a process of its own: a hub, or the raw references' sides."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

RAW: Final = Path(__file__).with_name("zeromq_raw.py")


@contextlib.contextmanager
def hub(store: str = "memory:") -> Iterator[int]:
    """Run `anyqueue hub`, and give its port."""
    with _process("-m", "anyqueue.cli", "hub", "--listen", "tcp://127.0.0.1:0", "--store", store) as said:
        yield int(said.partition(",")[0].rpartition(":")[2])


@contextlib.contextmanager
def raw(part: str, *arguments: object) -> Iterator[int]:
    """Run a part of zeromq_raw.py, and give the port that it prints."""
    with _process(str(RAW), part, *map(str, arguments)) as said:
        yield int(said)


@contextlib.contextmanager
def started(script: str, *arguments: object) -> Iterator[None]:
    """Run a script that says nothing, until it ends or the block does."""
    command = [sys.executable, script, *map(str, arguments)]
    with subprocess.Popen(command) as process:  # noqa: S603 -- ours
        try:
            yield
        finally:
            process.terminate()


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def _process(*arguments: str) -> Iterator[str]:
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:  # noqa: S603 -- ours
        try:
            assert process.stdout is not None  # noqa: S101 -- it was asked for
            yield process.stdout.readline()
        finally:
            process.terminate()
