"""Where the launcher's files and ports are: from the environment, decided once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOM: Final = Path(__file__).resolve().parents[1]
"""The folder `brokers/`, with one folder of configuration a broker."""
DEFAULT_PORT: Final = 26600
"""Below Linux's ephemeral ports (32768 and up): a client's own port, or a connection that a reconnecting client made to
itself, must never stand where a broker is about to listen."""
LOOPBACK: Final = "127.0.0.1"
LOCK_PATIENCE: Final = 300.0


class LaunchError(Exception):
    """What went wrong and what to do about it, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One set of brokers: their files, their ports, the address they listen on."""

    folder: Path
    base: int
    host: str = LOOPBACK

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Place:
        """Read ANYQUEUE_BROKERS_DIR, ANYQUEUE_BROKERS_PORT and ANYQUEUE_BROKERS_HOST (for containers)."""
        port = environment.get("ANYQUEUE_BROKERS_PORT") or str(DEFAULT_PORT)
        if not (port.isdecimal() and 1024 <= int(port) <= 65000):  # noqa: PLR2004 -- privileged below, no room above
            raise LaunchError(f"ANYQUEUE_BROKERS_PORT must be a number from 1024 to 65000, not {port!r}")
        folder = environment.get("ANYQUEUE_BROKERS_DIR") or str(ROOM.parent / ".brokers")
        host = environment.get("ANYQUEUE_BROKERS_HOST") or LOOPBACK
        return cls(folder=Path(folder).absolute(), base=int(port), host=host)

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Keep other runs of the launcher away from what `name` stands for."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / f"{name}.lock"):
            yield


@contextlib.contextmanager
def locked(path: Path, patience: float | None = None) -> Iterator[None]:
    """Hold a lock file; wait for another holder, but not for ever. The lock ends with the process that holds it."""
    patience = LOCK_PATIENCE if patience is None else patience
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + patience
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise LaunchError(f"another launcher has held {path} for {patience:.0f} s; end it, or wait")
            time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
