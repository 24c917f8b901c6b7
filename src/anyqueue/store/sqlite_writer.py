"""One thread a file and process that does everything on the file, for all who use it.

How it works:

* Work is a function of the store and the time. It is queued; the thread takes all that is queued and runs it in one
  transaction, so that many senders share one sync to disk. Then it tells each event loop, once, what came of it.
* If the transaction fails, each piece of work gets one of its own (see `transact`).
* Where something changed, by us or by another process, those who watch that queue are told to look again.
* The groups of this process's own subscriptions are kept alive from here, whatever the event loop is doing.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections import defaultdict
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from anyqueue.errors import Closed, ConnectionLost, Error
from anyqueue.store.sqlite_file import Settings, SqliteFile
from anyqueue.store.transact import Outcome, transact

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyqueue.store.sqlite import SqliteStore

T = TypeVar("T")
GROUP_LEASE: Final = 60.0
"""How long the group of a subscriber outlives its process."""
_SHARE: Final = 4
"""Renewals in a lease."""


class Watcher:
    """Who wants to know that a queue changed. It refers to no driver, so that one left behind can be collected."""

    def __init__(self, name: str, lease: float | None) -> None:
        self.name = name
        self.lease = lease
        """The queue lives for so many seconds after it was last watched; None: for ever."""
        self.loop = asyncio.get_running_loop()
        self.changed = asyncio.Event()


class _Job(Generic[T]):
    __slots__ = ("future", "loop", "work")

    def __init__(self, work: Callable[[SqliteStore, float], T]) -> None:
        self.work = work
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self.loop.create_future()


Told = tuple[_Job[Any], Outcome[Any]]


class Writer:
    """The thread of a file."""

    def __init__(self, path: str, settings: Settings) -> None:
        self.path = path
        self.opened: Future[None] = Future()
        self.closed: Future[None] = Future()
        """Done when the file is closed and the thread about to end."""
        self._settings = settings
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._watchers: set[Watcher] = set()
        self._guard = threading.Lock()
        self._file: SqliteFile | None = None
        self.stopping = False
        self._version = 0
        self._next_look = 0.0
        self._next_renewal = 0.0
        self._thread = threading.Thread(target=self._run, name=f"anyqueue {path}", daemon=True)

    def start(self) -> None:
        """Begin; `opened` tells how it went."""
        for future in (self.opened, self.closed):
            future.set_running_or_notify_cancel()  # nobody who waits for it can cancel it
        self._thread.start()

    def submit(self, work: Callable[[SqliteStore, float], T]) -> asyncio.Future[T]:
        """Have it done; the future is the running event loop's. Work that has begun is not undone by cancelling."""
        job = _Job(work)
        with self._guard:
            if self.stopping:
                raise Closed(f"{self.path} was closed")
            self._jobs.put(job)
        return job.future

    def watch(self, watcher: Watcher) -> None:
        """Tell it of changes from now on."""
        with self._guard:
            self._watchers.add(watcher)
            self._next_renewal = 0.0
        self._jobs.put(None)

    def unwatch(self, watcher: Watcher) -> None:
        """Tell it no more."""
        with self._guard:
            self._watchers.discard(watcher)

    def stop(self) -> None:
        """Finish what is queued, close the file, end the thread; `closed` tells when."""
        self.stopping = True
        self._jobs.put(None)

    def join(self, timeout: float) -> None:
        """Wait, in another thread, until it has stopped."""
        self._thread.join(timeout)

    def abandon(self) -> None:
        """Let go of everything in a fork's child, where the thread does not exist."""
        self.stopping = True
        if self._file is not None:
            self._file.abandon()

    def _run(self) -> None:
        try:
            self._file = SqliteFile(self.path, self._settings)
        except Error as error:
            self.opened.set_exception(error)
            self.closed.set_result(None)
            return
        self.opened.set_result(None)
        try:
            self._serve(self._file)
        finally:
            self._refuse_the_rest()
            self._file.close()
            self.closed.set_result(None)

    def _serve(self, file: SqliteFile) -> None:
        while True:
            jobs = self._collect()
            if jobs:
                self._perform(file, jobs)
                file.checkpoint()
            if self.stopping and self._jobs.empty():
                return
            self._look(file)

    def _refuse_the_rest(self) -> None:
        """Answer what is still queued: nothing after an orderly end, all of it if this thread failed."""
        with self._guard:
            self.stopping = True
        with suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    self._tell([(job, Outcome(None, ConnectionLost(f"{self.path} was closed by a failure")))], ())

    def _collect(self) -> list[_Job[Any]]:
        now = time.monotonic()
        timeout = max(self._next_look - now, 0.0) if self._watchers else None
        taken: list[_Job[Any] | None] = []
        try:
            taken.append(self._jobs.get(timeout=timeout))
            while True:
                taken.append(self._jobs.get_nowait())
        except queue.Empty:
            return [job for job in taken if job is not None]

    def _perform(self, file: SqliteFile, jobs: Sequence[_Job[Any]]) -> None:
        outcomes = transact(file, [job.work for job in jobs])
        self._tell(list(zip(jobs, outcomes, strict=True)), self._watching(file.take_stirred()))

    def _look(self, file: SqliteFile) -> None:
        """Do what is due by the clock: look for the commits of other processes, renew the groups."""
        now = time.monotonic()
        with self._guard:
            leases = {watcher.name: watcher.lease for watcher in self._watchers if watcher.lease is not None}
        if self._watchers and now >= self._next_look:
            self._next_look = now + self._settings.poll
            with suppress(sqlite3.Error):  # whoever works on the file is told
                version, self._version = self._version, file.version()
                if version != self._version:
                    self._tell((), self._watching(None))
        if leases and now >= self._next_renewal:
            self._next_renewal = now + min(leases.values()) / _SHARE
            with suppress(Exception), file.writing() as store:  # the next renewal is soon enough
                for name, lease in leases.items():
                    store.renew([name], time.time(), lease)

    def _watching(self, names: set[str] | None) -> list[Watcher]:
        with self._guard:
            return [watcher for watcher in self._watchers if names is None or watcher.name in names]

    def _tell(self, outcomes: Sequence[Told], watchers: Sequence[Watcher]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, tuple[list[Told], list[Watcher]]] = defaultdict(lambda: ([], []))
        for outcome in outcomes:
            by_loop[outcome[0].loop][0].append(outcome)
        for watcher in watchers:
            by_loop[watcher.loop][1].append(watcher)
        for loop, told in by_loop.items():
            with suppress(RuntimeError):  # the loop was closed: nobody is there to be told
                loop.call_soon_threadsafe(_arrive, *told)


def _arrive(outcomes: Sequence[Told], watchers: Sequence[Watcher]) -> None:
    for job, outcome in outcomes:
        if job.future.done():  # cancelled
            continue
        if outcome.error is None:
            job.future.set_result(outcome.result)
        else:
            job.future.set_exception(outcome.error)
    for watcher in watchers:
        watcher.changed.set()
