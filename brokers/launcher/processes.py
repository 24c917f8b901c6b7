"""The processes of a node: found, signalled and waited for.

A node is started with MARK=its name and folder in its environment, and all of its helpers inherit that. So processes
are read from /proc, never from a file: what a crash, a reboot or somebody else's `kill` did is seen as it is. Every
signal goes through a pidfd opened before the mark is read, so that a number used again is never signalled; and a pidfd
tells when a process has really gone. One that is dying has no environment any more, but may still have its ports.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from launcher.place import LaunchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MARK: Final = "ANYQUEUE_BROKER_NODE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How to start a process."""

    argv: Sequence[str]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Held:
    """Processes of a node, the oldest first (that is its main one): their pidfds."""

    descriptors: Sequence[int]

    def tell(self, number: signal.Signals) -> None:
        """Signal them all."""
        for descriptor in self.descriptors:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)

    def tell_main(self, number: signal.Signals) -> None:
        """Signal the main one."""
        Held(self.descriptors[:1]).tell(number)

    def gone(self, patience: float) -> bool:
        """Wait for all to end; return whether they did."""
        deadline = time.monotonic() + patience
        for descriptor in self.descriptors:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return False
        return True


def spawn(mark: str, command: Command, path: Path) -> subprocess.Popen[bytes]:
    """Start it in a session of its own, in the folder of its log."""
    with path.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 -- what the broker's module says
            command.argv,
            env={**command.environment, MARK: mark},
            cwd=path.parent,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def members(mark: str) -> list[int]:
    """Return the processes of a node, the oldest first."""
    found = [number for number in _numbers() if _marked(number, mark)]
    ages = {number: started for number in found if (started := _started(number)) is not None}
    return sorted(ages, key=lambda number: (ages[number], number))


@contextlib.contextmanager
def held(mark: str) -> Iterator[Held]:
    """Take hold of the processes of a node."""
    with contextlib.ExitStack() as stack:
        descriptors = []
        for number in members(mark):
            with contextlib.suppress(ProcessLookupError):
                descriptor = os.pidfd_open(number)
                stack.callback(os.close, descriptor)
                if _marked(number, mark):
                    descriptors.append(descriptor)
        yield Held(descriptors)


def kill(mark: str, patience: float) -> bool:
    """Kill all, again and again, as a dying process may have just made another; return whether all are gone."""
    deadline = time.monotonic() + patience
    while True:
        with held(mark) as found:
            if not found.descriptors:
                return True
            found.tell(signal.SIGKILL)
            if not found.gone(deadline - time.monotonic()):
                return False


def stopped(mark: str) -> bool:
    """Say whether the main process is frozen by SIGSTOP."""
    return any(fields[0] in "Tt" for number in members(mark)[:1] if (fields := _stat(number)))


def _numbers() -> Iterator[int]:
    yield from (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())


def _marked(number: int, mark: str) -> bool:
    """Read a process's environment: a zombie has none, and another user's cannot be read."""
    try:
        content = Path(f"/proc/{number}/environ").read_bytes()
    except OSError:
        return False
    return f"{MARK}={mark}".encode() in content.split(b"\0")


def _stat(number: int) -> list[str]:
    """Return the fields of /proc/N/stat after the name, which may hold anything: the state first (proc(5))."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _started(number: int) -> int | None:
    fields = _stat(number)
    return int(fields[19]) if fields else None


def require_linux() -> None:
    """Refuse where there is no /proc to read."""
    if not Path("/proc/self/environ").exists():
        raise LaunchError("the launcher needs Linux (/proc); use docker compose instead")
