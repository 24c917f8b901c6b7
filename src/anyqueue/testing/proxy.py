"""A TCP proxy that does to connections what networks do: cut, refuse, swallow, hold, throttle, slice, corrupt.

It lives on an event loop in a thread of its own, so any loop and any child process can use it; its methods may be
called from any thread and return once what they do is done. A fault stays until heal(), and is on every connection,
those to come included. Each direction of a connection holds one chunk and no more: who sends faster than the other side
reads is held up, as by any network.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Literal

from anyqueue.testing.proxied import Connection
from anyqueue.testing.proxy_faults import Faults

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyqueue.testing.proxied import How
    from anyqueue.testing.proxy_faults import Direction

OVERHEARD: Final = 65536


class Proxy:
    """A proxy on 127.0.0.1 in front of one host and port."""

    def __init__(self, target_host: str, target_port: int) -> None:
        self.target = (target_host, target_port)
        self.port = 0
        self.connections = 0
        """How many connections it has taken in all."""
        self.moments: deque[float] = deque(maxlen=1000)
        """When it took the last of them, by time.monotonic()."""
        self.bytes: dict[Direction, int] = {"up": 0, "down": 0}
        self.overheard = b""
        """The first 64 KiB that went up."""
        self._open: set[Connection] = set()
        self._thread: threading.Thread | None = None
        self._listener: socket.socket | None = None

    def start(self) -> None:
        """Listen on a free port of 127.0.0.1, in a new thread."""
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(ready)), name=f"proxy to {self.target}", daemon=True
        )
        self._thread.start()
        ready.wait()
        self.accept()

    def close(self) -> None:
        """Reset every connection, listen no more, and end the thread. Closing twice is a no-op."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._loop.call_soon_threadsafe(self._ending.set)
            thread.join()

    @property
    def open(self) -> int:
        """How many connections it has now."""
        return len(self._open)

    def cut(self, how: How = "rst") -> None:
        """End every connection there is now; new ones are taken."""
        self._do(lambda: self._cut(how))

    def refuse(self) -> None:
        """Let new connections be refused; those there are go on."""
        self._do(self._stop_listening)

    def accept(self) -> None:
        """Take new connections again, on the same port."""
        self._do(self._listen)

    def blackhole(self, direction: Literal["up", "down", "both"] = "both") -> None:
        """Swallow what comes in a direction, its end too: the connection looks open to both sides, and is not.

        heal() resets the connections whose bytes were swallowed.
        """
        self._change(lambda faults: faults.swallowed.update(("up", "down") if direction == "both" else (direction,)))

    def hold(self, direction: Direction) -> None:
        """Keep what comes in a direction back; heal() lets it go on."""
        self._change(lambda faults: faults.held.add(direction))

    def throttle(self, bytes_a_second: float) -> None:
        """Let so many bytes a second pass, of each direction of each connection."""
        self._change(lambda faults: setattr(faults, "rate", bytes_a_second))

    def slice(self, size: int) -> None:
        """Hand on so many bytes at once, and no more."""
        self._change(lambda faults: setattr(faults, "size", size))

    def cut_after(self, count: int, direction: Direction) -> None:
        """Reset every connection once `count` more bytes have gone in a direction, and before the next one; once."""
        self._change(lambda faults: faults.cut_in.__setitem__(direction, count))

    def corrupt(self, offset: int, direction: Direction) -> None:
        """Turn every bit of the byte that comes after `offset` more bytes in a direction; once."""
        self._change(lambda faults: faults.flip_in.__setitem__(direction, offset))

    def heal(self) -> None:
        """End every fault, and take connections again."""
        self._do(self._heal)

    def cut_soon(self) -> None:
        """Reset every connection. For the proxy's own loop."""
        for connection in self._open:
            connection.cut("rst")

    def passed(self, direction: Direction, data: bytes) -> None:
        """Count bytes that were handed on. For the proxy's own loop."""
        self.bytes[direction] += len(data)
        if direction == "up" and len(self.overheard) < OVERHEARD:
            self.overheard += data[: OVERHEARD - len(self.overheard)]

    async def _cut(self, how: How) -> None:
        connections = list(self._open)
        for connection in connections:
            connection.cut(how)
        if how == "rst" and connections:
            await asyncio.wait([connection.task for connection in connections])

    async def _heal(self) -> None:
        faults = self._faults
        faults.held, faults.swallowed, faults.cut_in, faults.flip_in = set(), set(), {}, {}
        faults.rate = faults.size = None
        for connection in self._open:
            if connection.lossy:
                connection.cut("rst")
        faults.change()
        await self._listen()

    def _change(self, change: Callable[[Faults], object]) -> None:
        async def act() -> None:
            change(self._faults)
            self._faults.change()

        self._do(act)

    def _do(self, act: Callable[[], Awaitable[None]]) -> None:
        """Act on the proxy's loop, and wait until it is done."""

        async def acting() -> None:
            await act()

        assert self._thread is not None, "the proxy is not started"
        asyncio.run_coroutine_threadsafe(acting(), self._loop).result()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._faults = Faults()
        self._ending = asyncio.Event()
        ready.set()
        await self._ending.wait()
        await self._stop_listening()
        while self._open:
            await self._cut("rst")

    async def _listen(self) -> None:
        if self._listener is None:
            listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
            listener.settimeout(0)
            self.port = listener.getsockname()[1]
            self._listener = listener
            self._loop.add_reader(listener, self._take, listener)

    async def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            self._loop.remove_reader(listener)
            listener.close()

    def _take(self, listener: socket.socket) -> None:
        """Take one connection: by a callback, for a coroutine that is cancelled may forget one that it was given."""
        try:
            client, _ = listener.accept()
        except OSError:  # it was reset while it waited
            return
        client.settimeout(0)
        self.connections += 1
        self.moments.append(time.monotonic())
        connection = Connection(client, self.target, self._faults, self)
        self._open.add(connection)
        connection.task.add_done_callback(lambda _, gone=connection: self._open.discard(gone))  # type: ignore[misc]
