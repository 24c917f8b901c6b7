"""The parent of N worker processes: it handles no message and loads no worker, so it does not fail with one.

* A process that ends is replaced: at once when it had been ready, else with backoff. When none was ever ready, the
  parent ends with the status of the first that failed by itself; one that a signal ended says nothing of the others.
* Its own SIGTERM or SIGINT is an order to all of them to drain; the second one, to leave at once. Who does not end in
  the drain timeout and a margin is killed. If the parent itself is killed, they drain.
* SIGHUP, or a changed file, replaces all, each old one told to stop once its successor is ready.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from typing import TYPE_CHECKING, Final

from anyqueue import ConfigError
from anyqueue.worker.anew import Anew
from anyqueue.worker.child import MARGIN, Child
from anyqueue.worker.health import State, Status, shown
from anyqueue.worker.load import Unloadable, look
from anyqueue.worker.process import FAILED, FULL, LEFT, OK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyqueue.worker.load import Settings
    from anyqueue.worker.process import Options

_log = logging.getLogger(__name__)
FIRST_BACKOFF: Final = 0.2
MAX_BACKOFF: Final = 30.0


def run_processes(options: Options, count: int, arguments: Sequence[str]) -> int:
    """Keep `count` processes running, and return the exit status. `arguments` are those of each process."""
    return asyncio.run(Parent(options, count, arguments).run())


def backoff(failures: int) -> float:
    """Return the seconds to wait before a process is started again that failed so often before it was ready."""
    return 0.0 if not failures else min(MAX_BACKOFF, FIRST_BACKOFF * 2.0 ** (failures - 1))


def _worst(states: Sequence[State], count: int) -> Status:
    """Return the status of the least ready of so many processes."""
    present = {state.status for state in states}
    if len(states) < count or "starting" in present:
        return "starting"
    return "disconnected" if "disconnected" in present else "ready"


class Parent:
    """What keeps the processes."""

    def __init__(self, options: Options, count: int, arguments: Sequence[str]) -> None:
        self._options = options
        self._count = count
        self._arguments = arguments
        self._children: set[Child] = set()
        self._leaving: set[asyncio.Task[int]] = set()
        self._stopping = asyncio.Event()
        self._renew = [asyncio.Event() for _ in range(count)]
        self._asked = 0
        self._ever_ready = False
        self._began = time.time()
        self._looker = Anew(options.target, self._begin_anew)

    async def run(self) -> int:
        """Run until told to stop, or until there is nothing left to run."""
        try:
            self._settings = await look(self._options.target)
        except Unloadable:
            return FAILED
        if self._settings.scheme == "memory":
            raise ConfigError("the queues of memory:// live in one process", hint="leave --processes out")
        self._listen()
        watching = [asyncio.create_task(self._looker.watch_files())] if self._options.reload else []
        async with shown(self.state, file=self._options.health_file, port=self._options.health_port):
            statuses = await asyncio.gather(*(self._keep(place) for place in range(self._count)))
            if self._leaving:
                await asyncio.wait(self._leaving)
        for task in watching:
            task.cancel()
        status = LEFT if self._asked > 1 else max(statuses)
        _log.info("ended", extra={"status": status})
        return status

    def state(self) -> State:
        """Add the processes up: as ready as the least ready of them."""
        states = tuple(child.state for child in self._children if child.state is not None)
        return State(
            status="draining" if self._stopping.is_set() else _worst(states, self._count),
            pid=os.getpid(),
            started=self._began,
            time=time.time(),
            handled=sum(state.handled for state in states),
            failed=sum(state.failed for state in states),
            running=sum(state.running for state in states),
            processes=states,
        )

    async def _keep(self, place: int) -> int:
        """Keep one process running until it has nothing to do or all is to stop; return the status."""
        failures, old = 0, None
        while not self._stopping.is_set():
            await self._pause(backoff(failures))
            child = await self._start()
            await child.ready.wait()
            if child.was_ready:
                self._ever_ready = True
                self._retire(old)
                old = None
            if await self._to_be_renewed(child, place):
                old = child
                continue
            status = await self._end(child)
            if self._stopping.is_set() or (status == OK and self._options.limits.until_empty):
                break
            self._say_ended(child, status)
            worked = child.was_ready or status in {OK, FULL}
            self._ever_ready, failures = self._ever_ready or worked, 0 if worked else failures + 1
            if not self._ever_ready and status > 0:
                self._stop("a process that could not start")
                return status
        self._retire(old)
        return OK

    async def _start(self) -> Child:
        child = await Child.start(self._arguments)
        self._children.add(child)
        _log.info("a process started", extra={"pid": child.pid})
        return child

    async def _to_be_renewed(self, child: Child, place: int) -> bool:
        """Wait until a process has ended or is to end; True if it is to be replaced first."""
        renew, stop = (asyncio.create_task(event.wait()) for event in (self._renew[place], self._stopping))
        try:
            await asyncio.wait([child.ended, renew, stop], return_when=asyncio.FIRST_COMPLETED)
        finally:
            renew.cancel()
            stop.cancel()
        wanted = self._renew[place].is_set() and not self._stopping.is_set()
        self._renew[place].clear()
        return wanted and not child.ended.done()

    def _retire(self, child: Child | None) -> None:
        """Let a process that was replaced end, beside its successor."""
        if child is not None:
            task = asyncio.create_task(self._end(child))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    def _say_ended(self, child: Child, status: int) -> None:
        level = logging.INFO if status in {OK, FULL} else logging.ERROR
        _log.log(level, "a process ended", extra={"pid": child.pid, "status": status})

    async def _end(self, child: Child) -> int:
        if not child.ended.done():
            child.stop()
        status = await child.gone(self._settings.drain_timeout + MARGIN)
        self._children.discard(child)
        return status

    async def _pause(self, seconds: float) -> None:
        if seconds:
            try:
                async with asyncio.timeout(seconds):
                    await self._stopping.wait()
            except TimeoutError:
                return

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, signal.Signals(number).name)
        loop.add_signal_handler(signal.SIGHUP, self._looker.ask, "SIGHUP")

    def _stop(self, by: str) -> None:
        self._asked += by in {"SIGTERM", "SIGINT"}
        if self._asked > 1:
            for child in self._children:
                child.leave()
        elif not self._stopping.is_set():
            _log.info("stopping", extra={"by": by})
        self._stopping.set()

    def _begin_anew(self, settings: Settings) -> None:
        self._settings = settings
        for renew in self._renew:
            renew.set()
