"""`anyqueue hub` as a process that can be paused, killed and started again on the same port."""

from __future__ import annotations

import contextlib
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from anyqueue.testing.harness import Broker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PATIENCE: Final = 40.0
POLL: Final = 0.01
LOG_END: Final = 4000


class HubProcess(Broker):
    """`anyqueue hub` as a process that is nobody's child, so that it may come and go within a case."""

    def __init__(self, port: int, arguments: Sequence[str], log: Path) -> None:
        self._command = [sys.executable, "-m", "anyqueue.cli", "hub", "--listen", f"tcp://127.0.0.1:{port}", *arguments]
        self._log = log
        self._pid = 0
        self._starts = 0

    def start(self) -> None:
        """Start it unless it runs, and wait until it takes connections."""
        if self.alive():
            return
        self._starts = self._log.read_bytes().count(b"listening on") if self._log.exists() else 0
        shell = '"$@" >>"$0" 2>&1 </dev/null & echo $!'
        command = ["/bin/sh", "-c", shell, str(self._log), *self._command]
        started = subprocess.run(command, check=True, stdout=subprocess.PIPE, start_new_session=True)  # noqa: S603 -- ours
        self._pid = int(started.stdout)
        self._until(self._listens, "listens")

    def stop(self) -> None:
        """SIGTERM."""
        self.signal(signal.SIGTERM)
        self.wait()

    def wait(self) -> None:
        """Wait until it has ended."""
        self._until(lambda: not self.alive(), "ended")

    def kill(self) -> None:
        """SIGKILL."""
        self.signal(signal.SIGKILL)
        self._until(lambda: not self.alive(), "was killed")

    def pause(self) -> None:
        """SIGSTOP."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    @contextlib.contextmanager
    def limited_files(self, size: int) -> Iterator[None]:
        """Let no file of it grow beyond this size meanwhile, as on a full disk."""
        _, hard = resource.prlimit(self._pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (hard, hard))

    def log(self) -> str:
        """Return the end of what it printed."""
        return self._log.read_bytes()[-LOG_END:].decode(errors="replace") if self._log.exists() else ""

    def signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.alive():
            os.kill(self._pid, number)

    def alive(self) -> bool:
        """Say whether it runs; a zombie that nobody waits for does not."""
        try:
            state = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return self._pid != 0 and state not in {"Z", "X"}

    def _listens(self) -> bool:
        assert self.alive(), f"the hub ended: {self.log()}"
        return self._log.read_bytes().count(b"listening on") > self._starts

    def _until(self, fact: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not fact():
            assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: the hub {what}\n{self.log()}"
            time.sleep(POLL)


def free_port() -> int:
    """Return a port that nobody uses, below those that the kernel gives to clients.

    A client that tries such a one again and again is given it for itself at last, and is connected with itself.
    """
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
