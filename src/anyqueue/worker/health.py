"""What a worker says of itself: to a file, to HTTP, to its parent.

* Alive: its event loop turns. The file is written every second, so one that is older is of a process that hangs.
* Ready: it is connected and takes messages; not while it starts, drains, or its broker is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import time
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from anyqueue import hooks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from anyqueue.worker.meter import Meter

_log = logging.getLogger(__name__)
EVERY: Final = 1.0
PATIENCE: Final = 5.0
Status = Literal["starting", "ready", "disconnected", "draining"]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """How a process does. Times are Unix seconds."""

    status: Status
    pid: int
    started: float
    time: float
    handled: int = 0
    failed: int = 0
    running: int = 0
    processes: tuple[State, ...] = ()
    """Of a parent: its processes."""


_BEGAN: Final = time.time()


def starting() -> State:
    """Return the state of a process whose worker does not run yet."""
    return State(status="starting", pid=os.getpid(), started=_BEGAN, time=time.time())


class Health:
    """The state of this process, kept by the run and by the client's events."""

    def __init__(self, meter: Meter, consumers: int, begun: Callable[[], None]) -> None:
        self.ready = False
        self.draining = False
        self._lost = 0
        self._meter = meter
        self._missing = consumers
        self._subscribed: set[tuple[str, str | None]] = set()
        self._begun = begun

    connections_only = True

    def __call__(self, event: hooks.Event) -> None:
        """Note a connection that was lost, or is back, and when every consumer has begun."""
        match event:
            case hooks.Subscribed() if not self.ready:
                self._subscribed.add((event.queue, event.group))
                if len(self._subscribed) == self._missing:
                    self.ready = True
                    self._begun()
            case hooks.Disconnected():
                self._lost += 1
            case hooks.Connected() if self._lost:
                self._lost -= 1
            case _:
                pass

    def state(self) -> State:
        """Say how it is now."""
        meter = self._meter
        return State(
            status=self._status(),
            pid=os.getpid(),
            started=_BEGAN,
            time=time.time(),
            handled=meter.ended - meter.failed - meter.cancelled,
            failed=meter.failed,
            running=meter.running,
        )

    def _status(self) -> Status:
        if self.draining:
            return "draining"
        if not self.ready:
            return "starting"
        return "disconnected" if self._lost else "ready"


@contextlib.asynccontextmanager
async def shown(state: Callable[[], State], *, file: Path | None, port: int | None) -> AsyncIterator[None]:
    """Show a state in a file and at a port of this host, as far as they are given, while the block runs.

    Raises OSError for a port that is taken and a file that cannot be written.
    """
    async with contextlib.AsyncExitStack() as stack:
        if port is not None:
            server = await asyncio.start_server(functools.partial(_answer, state), "127.0.0.1", port)
            await stack.enter_async_context(server)
        if file is not None:
            _write(file, state())
            stack.callback(file.unlink, missing_ok=True)
            task = asyncio.create_task(_keep(file, state))
            stack.push_async_callback(_end, task)
        yield


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def _keep(file: Path, state: Callable[[], State]) -> None:
    while True:
        await asyncio.sleep(EVERY)
        try:
            _write(file, state())
        except OSError as error:  # a full disk is no reason to stop working
            _log.warning("the health file could not be written: %s", error)


def _write(file: Path, state: State) -> None:
    """Replace the file: a reader sees the old or the new one, whole."""
    new = file.with_name(f"{file.name}.{os.getpid()}")
    new.write_bytes(msgspec.json.encode(state) + b"\n")
    new.replace(file)


async def _answer(state: Callable[[], State], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one HTTP request: /live is 200; /ready is 200 or 503; anything else is 404."""
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        async with asyncio.timeout(PATIENCE):
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.partition(b" ")[2].partition(b" ")[0]
            now = state()
            found = {b"/live": 200, b"/ready": 200 if now.status == "ready" else 503}.get(path, 404)
            body = msgspec.json.encode(now) + b"\n" if found != 404 else b'{"paths": ["/live", "/ready"]}\n'  # noqa: PLR2004 -- HTTP's own number
            writer.write(
                b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
                % (found, {200: b"OK", 404: b"Not Found", 503: b"Service Unavailable"}[found], len(body), body)
            )
            await writer.drain()
    writer.close()
