"""A lock between processes: flock(2) on a file that only locks.

* It never blocks in the kernel: it tries, waits a little, and tries again until its deadline.
* If somebody removed or replaced the file, the lock moves to the file that now bears the name.
* Not reentrant, and for one thread.
"""

from __future__ import annotations

import fcntl
import os
import random
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIRST_WAIT: Final = 0.0002
_LONGEST_WAIT: Final = 0.004
PRIVATE: Final = 0o600


class FileLock:
    """An exclusive lock on `path`, which is made if it is not there."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = -1
        self.made = False
        """This object made the file."""

    @contextmanager
    def held(self, timeout: float) -> Iterator[None]:
        """Hold the lock. Raises TimeoutError, or OSError where the file cannot be made or opened."""
        self._acquire(time.monotonic() + timeout)
        try:
            yield
        finally:
            if self._file >= 0:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file; a fork's child does so too, for the lock belongs to all who have it open."""
        file, self._file = self._file, -1
        if file >= 0:
            with suppress(OSError):
                os.close(file)

    def remove(self) -> None:
        """Remove the file, while the lock is held."""
        with suppress(OSError):
            os.unlink(self._path)  # noqa: PTH108 -- paths are str here, as os and sqlite3 want them

    def _acquire(self, deadline: float) -> None:
        wait = _FIRST_WAIT
        while True:
            if self._file < 0:
                self._open()
            if self._try():
                if self._current():
                    return
                self.close()
                continue
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{self._path} stayed locked")
            time.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311 -- jitter, no secret
            wait = min(wait * 1.5, _LONGEST_WAIT)

    def _try(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file), os.lstat(self._path))
        except FileNotFoundError:
            return False

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._file = os.open(self._path, flags)
        except FileNotFoundError:
            with suppress(FileExistsError):
                self._file = os.open(self._path, flags | os.O_CREAT | os.O_EXCL, PRIVATE)
                os.fchmod(self._file, PRIVATE)
                self.made = True
            if self._file < 0:
                self._open()
