"""Requests of one connection: foreground jobs, and what workers say of them.

A foreground job lives as long as somebody waits for it: gearmand forgets one whose requester hung up. Asked for again
with the same unique id while a worker has it, it is the same job, and is not handled twice.

A worker of any language may answer. What begins as a line of ours is an envelope, anything else is a body.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from anyqueue.backends.gearman.connection import CREATED, OPTION
from anyqueue.backends.gearman.jobs import MAGIC, job_of, read_line
from anyqueue.backends.gearman.protocol import (
    FOREGROUND,
    JOB_CREATED,
    OPTION_REQ,
    WORK_COMPLETE,
    WORK_DATA,
    WORK_EXCEPTION,
    WORK_STATUS,
    WORK_WARNING,
    level_of,
    pack,
    submission,
)
from anyqueue.driver import Envelope, Progress
from anyqueue.errors import ConnectionLost, RemoteError, SendError

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyqueue.backends.gearman.connection import Connection
    from anyqueue.backends.gearman.protocol import Packet

EXCEPTIONS: Final = pack(OPTION_REQ, b"exceptions")
"""Let the server pass on what a failed worker says; without it, it says only that the worker failed."""
_END: Final = 27
"""Letters of its id at the end of a request's unique id, the same each time it is asked. More would be over the 63 that
gearmand takes (it cuts the 64th off, and shifts what follows)."""


class Request:
    """One that waits."""

    def __init__(self, report: Callable[[Progress], None]) -> None:
        self.reply: asyncio.Future[Envelope] = asyncio.get_running_loop().create_future()
        self.handle = b""
        self._report = report
        self._parts: list[bytes] = []
        self._note = ""

    def fail(self, error: Exception) -> None:
        """End with an error."""
        if not self.reply.done():
            self.reply.set_exception(error)

    def take(self, command: int, data: bytes) -> None:
        """Take what a worker says of its job."""
        if self.reply.done():
            return
        if command == WORK_DATA:
            self._parts.append(data)
        elif command == WORK_WARNING:
            self._note = data.decode(errors="replace")
        elif command == WORK_STATUS:
            self._progress(data)
        elif command == WORK_COMPLETE:
            self.reply.set_result(_reply(self.handle, b"".join([*self._parts, data])))
        elif command == WORK_EXCEPTION and data.startswith(MAGIC) and (reply := read_line(data)) is not None:
            self.reply.set_result(reply)
        else:
            said = data.decode(errors="replace") or self._note
            self.fail(RemoteError(f"the worker failed{said and f': {said}'}"))

    def _progress(self, data: bytes) -> None:
        done, _, total = data.partition(b"\0")
        try:
            whole = float(total or 0)
            progress = Progress(done=float(done or 0), total=whole or None, note=self._note, time=time.time())
        except ValueError:  # a worker's nonsense
            return
        self._note = ""
        self._report(progress)


class Requests:
    """Those of one connection, by the handles of their jobs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._asked: set[Request] = set()
        self._jobs: dict[bytes, Request] = {}
        self._told = False
        connection.unasked = self._take
        connection.on_lost = self._lose

    async def ask(self, function: bytes, envelope: Envelope, report: Callable[[Progress], None]) -> Envelope:
        """Submit a foreground job, and wait for its reply. Raises ConnectionLost, SendError or RemoteError."""
        request = Request(report)

        def created(replies: list[Packet] | None) -> None:
            self._begin(request, replies)

        unique, data = job_of(envelope, envelope.id[-_END:].encode(), asks=True)
        self._asked.add(request)
        try:
            if not self._told:
                self._connection.ask(EXCEPTIONS, 1, OPTION, lambda _: None)
                self._told = True
            command = FOREGROUND[level_of(envelope.priority)]
            self._connection.ask(submission(command, function, unique, data), 1, CREATED, created)
            return await request.reply
        except asyncio.CancelledError:
            self._forget(request.handle)
            raise
        finally:
            self._asked.discard(request)
            self._jobs.pop(request.handle, None)

    def _begin(self, request: Request, replies: list[Packet] | None) -> None:
        """Note the handle at once: what a worker says of it may be in the same packet."""
        if replies is None:
            return
        ((command, body),) = replies
        if request.reply.done():
            self._forget(body)
        elif command == JOB_CREATED:
            request.handle = body
            self._jobs[body] = request
        else:
            said = body.replace(b"\0", b": ").decode(errors="replace")
            request.fail(SendError(f"the server refused the request: {said}"))

    def _forget(self, handle: bytes) -> None:
        """Have the server forget a job that nobody waits for any more. One in a worker's hand goes on."""
        if handle and self._connection.lost is None:
            self._connection.ask_text(b"cancel job %b\n" % handle, lambda _: None)

    def _take(self, command: int, body: bytes) -> None:
        handle, _, data = body.partition(b"\0")
        request = self._jobs.get(handle)
        if request is not None:
            request.take(command, data)

    def _lose(self) -> None:
        lost = self._connection.lost or ConnectionLost("the connection was closed")
        for request in self._asked:
            request.fail(lost.with_traceback(None))


def _reply(handle: bytes, data: bytes) -> Envelope:
    found = read_line(data) if data.startswith(MAGIC) else None
    return found or Envelope(id=handle.decode(errors="replace"), body=data)
