"""One worker process: signals, its parent's orders, its health, and how it ends.

* SIGTERM and SIGINT drain; the second of them, whichever, leaves at once: what is not finished comes back.
* SIGHUP makes it begin anew: the worker is loaded in a process beside this one, and if that went well, this one drains
  and executes itself again. A worker that does not load is logged, and this one goes on. So do changed files.
* A process that has a parent takes its orders over a socket, and drains when the parent is gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec

from anyqueue.worker.anew import Anew
from anyqueue.worker.calls import THREADS
from anyqueue.worker.health import EVERY, shown
from anyqueue.worker.meter import Ended, Limits

if TYPE_CHECKING:
    from pathlib import Path

    from anyqueue.worker.app import Worker
    from anyqueue.worker.health import State
    from anyqueue.worker.load import Settings

_log = logging.getLogger(__name__)
OK: Final = 0
FAILED: Final = 1
LEFT: Final = 70
"""After a second signal: at once, with messages unfinished."""
FULL: Final = 75
"""To its parent: it has handled as many messages as it was to, and another may take its place."""
STOP: Final = b"stop\n"
LEAVE: Final = b"leave\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How one process runs."""

    target: str
    limits: Limits
    reload: bool = False
    health_file: Path | None = None
    health_port: int | None = None
    channel: int | None = None
    """The descriptor of the socket to its parent."""


def run_process(worker: Worker, options: Options) -> int:
    """Run until it has ended, and return the exit status. Raises what made it fail; does not return to begin anew."""
    process = Process(worker, options)
    try:
        ended = asyncio.run(process.run())
    finally:
        logging.shutdown()
    if ended is Ended.RELOAD:
        sys.stdout.flush()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the new one listens
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 -- this very command again
    status = FULL if ended is Ended.FULL and options.channel is not None else OK
    if any(thread.name.startswith(THREADS) for thread in threading.enumerate()):
        leave(status)  # a plain handler that outlasted the drain timeout would hold the process for as long as it likes
    return status


def leave(status: int) -> NoReturn:
    """End this process now."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


class Process:
    """What happens around a worker's run."""

    def __init__(self, worker: Worker, options: Options) -> None:
        self._worker = worker
        self._options = options
        self._asked = 0
        self._anew = False
        self._looker = Anew(options.target, self._begin_anew)

    async def run(self) -> Ended:
        """Run the worker, and say why it ended."""
        options, worker = self._options, self._worker
        self._listen()
        beside = [asyncio.create_task(self._looker.watch_files())] if options.reload else []
        running = asyncio.create_task(worker.run(options.limits))
        await asyncio.sleep(0)  # from here on stop() stops it
        try:
            async with shown(worker.health, file=options.health_file, port=options.health_port):
                if options.channel is not None:
                    beside.append(asyncio.create_task(self._serve(options.channel)))
                ended = await running
        finally:
            for task in beside:
                task.cancel()
            if not running.done():
                running.cancel()
                await asyncio.wait([running])
        _log.info("ended", extra={"why": "it is to begin anew" if self._anew else ended.value})
        return Ended.RELOAD if self._anew else ended

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask, signal.Signals(number).name)
        if self._options.channel is None:
            loop.add_signal_handler(signal.SIGHUP, self._looker.ask, "SIGHUP")
        else:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the parent decides

    def _ask(self, by: str) -> None:
        self._asked += 1
        if self._asked > 1:
            _log.warning("leaving at once", extra={"by": by})
            leave(LEFT)
        _log.info("stopping", extra={"by": by})
        self._anew = False
        self._worker.stop()

    def _begin_anew(self, settings: Settings) -> None:
        del settings  # the next one loads it itself
        if not self._asked:
            self._anew = True
            self._worker.stop()

    async def _serve(self, channel: int) -> None:
        """Tell the parent how it does, and do what it orders; its end is an order to stop."""
        reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=channel))
        telling = asyncio.create_task(self._tell(writer))
        try:
            while order := await reader.readline():
                if order == LEAVE:
                    leave(LEFT)
                if not self._asked:
                    self._ask("the parent")
            if not self._asked:
                self._ask("the parent's end")
        finally:
            telling.cancel()
            writer.close()

    async def _tell(self, writer: asyncio.StreamWriter) -> None:
        before: State | None = None
        while True:
            now = self._worker.health()
            if before is None or now.status != before.status or now.time - before.time >= EVERY:
                before = now
                writer.write(msgspec.json.encode(now) + b"\n")
                await writer.drain()
            await asyncio.sleep(EVERY / 10)
