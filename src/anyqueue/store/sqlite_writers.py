"""The writers of this process: one for each file and its settings, shared, counted, and closed at the end.

The one global of the store, for a process may have but one of them for a file. After a fork the child has none: its
copies are let go without touching the files.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING, Final

from anyqueue.store.sqlite_writer import Writer

if TYPE_CHECKING:
    from anyqueue.store.sqlite_file import Settings

_PATIENCE: Final = 30.0
"""Seconds that the end of the process waits for a writer to finish."""


class Writers:
    """Hands out writers and takes them back."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._writers: dict[tuple[str, Settings], tuple[Writer, int]] = {}
        self._running: list[Writer] = []

    def acquire(self, path: str, settings: Settings) -> Writer:
        """Return the writer of a file, begun but perhaps not open yet."""
        with self._lock:
            writer, users = self._writers.get((path, settings), (None, 0))
            if writer is None:
                writer = Writer(path, settings)
                self._running = [one for one in self._running if not one.closed.done()]
                self._running.append(writer)
                writer.start()
            self._writers[path, settings] = (writer, users + 1)
            return writer

    def release(self, writer: Writer) -> None:
        """Give one back; the last to do so stops it. Returns at once, from any thread, also from a finalizer."""
        with self._lock:
            for key, (one, users) in list(self._writers.items()):
                if one is not writer:
                    continue
                if users > 1:
                    self._writers[key] = (writer, users - 1)
                else:
                    del self._writers[key]
                    writer.stop()

    def finish(self) -> None:
        """Stop all and wait for them."""
        with self._lock:
            running = [writer for writer in self._running if not writer.closed.done()]
            self._writers.clear()
        for writer in running:
            writer.stop()
        for writer in running:
            writer.join(_PATIENCE)

    def abandon(self) -> None:
        """Forget all, in a fork's child."""
        self._lock = threading.RLock()
        for writer in self._running:
            writer.abandon()
        _left_behind.extend(self._running)
        self._writers, self._running = {}, []


_left_behind: Final[list[Writer]] = []
"""What a fork's child got from its parent: kept, for collecting a connection would close it."""
WRITERS: Final = Writers()
atexit.register(WRITERS.finish)
os.register_at_fork(after_in_child=WRITERS.abandon)
