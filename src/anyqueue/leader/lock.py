"""Who is the leader among several processes, and what it remembers: for a schedule, what was dealt with up to when.

On one machine: an exclusive `flock` on a file, which the kernel frees when its holder ends, however it ends; the
memory is a file beside it, replaced whole. Between machines: see `database`.
"""

from __future__ import annotations

import fcntl
import json
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from anyqueue import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Lock(ABC):
    """A lock that one process at a time holds, with a memory. Calls may block as long as a disk or a database does."""

    @abstractmethod
    def acquire(self) -> bool:
        """Take it if nobody holds it, and say whether we hold it."""

    @abstractmethod
    def held(self) -> bool:
        """Say whether it is still ours."""

    @abstractmethod
    def read(self) -> dict[str, float]:
        """Return what was remembered last, by whomever. Raises ConfigError where it cannot be understood."""

    @abstractmethod
    def write(self, memory: Mapping[str, float]) -> None:
        """Remember. On its return it survives a crash of the machine."""

    @abstractmethod
    def release(self) -> None:
        """Let go. Never raises."""


class FileLock(Lock):
    """A lock on a file, for the processes of one machine."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._memory = path.with_name(f"{path.name}.json")
        self._file: int | None = None

    def acquire(self) -> bool:
        """Lock the file. Raises OSError where it cannot be made."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._file = file
        if not self.held():  # removed and made anew since it was opened
            self.release()
            return False
        return True

    def held(self) -> bool:
        """Say whether the file that we hold is the one that others see."""
        try:
            return self._file is not None and os.path.samestat(os.fstat(self._file), os.stat(self._path))  # noqa: PTH116 -- beside fstat
        except FileNotFoundError:
            return False

    def read(self) -> dict[str, float]:
        """Read the file beside it."""
        try:
            return {str(name): float(at) for name, at in json.loads(self._memory.read_bytes()).items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError, TypeError) as error:
            hint = "remove it: the schedules then begin anew from now"
            raise ConfigError(f"{self._memory} is no memory of a scheduler: {error}", hint=hint) from error

    def write(self, memory: Mapping[str, float]) -> None:
        """Replace the file beside it. Raises OSError, and the old one is still there."""
        new = self._memory.with_name(f"{self._memory.name}.new")
        with new.open("w") as file:
            json.dump(dict(memory), file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._memory)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def release(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def open_lock(where: str | Path, names: Iterable[str]) -> Lock:
    """Return the lock at a path, or in the database of a URL; there, who gives the same names contends for it."""
    text = str(where)
    if "://" not in text:
        return FileLock(Path(text))
    from anyqueue.leader.database import DatabaseLock  # noqa: PLC0415 -- needs SQLAlchemy, which may be missing

    return DatabaseLock(text, names)
