"""A worker process as its parent sees it: started, ordered over a socket, watched, ended."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from typing import TYPE_CHECKING, Final

import msgspec

from anyqueue.worker.health import State
from anyqueue.worker.process import LEAVE, STOP

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

_log = logging.getLogger(__name__)
MARGIN: Final = 5.0
"""Seconds beyond the drain timeout after which a process that was told to stop is killed."""


class Child:
    """One worker process. Made by start()."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.pid = process.pid
        self.state: State | None = None
        self.ready = asyncio.Event()
        """Set once it has taken up its work, and when it has ended."""
        self.was_ready = False
        self._process = process
        self._writer = writer
        self.ended = asyncio.create_task(self._follow(reader))
        """Ends with the process; its result is the exit status, negative for a signal."""

    @classmethod
    async def start(cls, arguments: Sequence[str]) -> Self:
        """Start `anyqueue worker` with these arguments and a socket to this process."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "anyqueue.cli", "worker", *arguments, "--channel", str(theirs.fileno())]
            process = await asyncio.create_subprocess_exec(*command, pass_fds=[theirs.fileno()])
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(process, reader, writer)

    def stop(self) -> None:
        """Tell it to drain."""
        self._order(STOP)

    def leave(self) -> None:
        """Tell it to leave at once."""
        self._order(LEAVE)

    async def gone(self, within: float) -> int:
        """Wait for its end, and kill it if it takes too long; return its status."""
        done, _ = await asyncio.wait([self.ended], timeout=within)
        if not done:
            _log.warning("killing a process that does not end", extra={"pid": self.pid, "after": within})
            self._process.kill()
        return await self.ended

    def _order(self, order: bytes) -> None:
        if not self.ended.done() and not self._writer.is_closing():
            self._writer.write(order)

    async def _follow(self, reader: asyncio.StreamReader) -> int:
        try:
            while line := await reader.readline():
                self.state = msgspec.json.decode(line, type=State)
                if self.state.status == "ready":
                    self.was_ready = True
                    self.ready.set()
        except OSError:  # killed in the middle
            pass
        status = await self._process.wait()
        self._writer.close()
        self.ready.set()
        return status
