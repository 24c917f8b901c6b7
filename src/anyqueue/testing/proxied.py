"""One connection through the proxy: two sockets, and two pumps between them that obey the faults."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from typing import TYPE_CHECKING, Final, Literal, Protocol

from anyqueue.testing.proxy_faults import SPACE

if TYPE_CHECKING:
    from anyqueue.testing.proxy_faults import Direction, Faults

How = Literal["rst", "fin"]
CHUNK: Final = 65536
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: close() sends RST."""


class Meter(Protocol):
    """What a connection tells its proxy."""

    def passed(self, direction: Direction, data: bytes) -> None:
        """Bytes were handed on."""

    def cut_soon(self) -> None:
        """It is time to reset every connection."""


class Connection:
    """One client's connection and the one to the target that belongs to it."""

    def __init__(self, client: socket.socket, target: tuple[str, int], faults: Faults, meter: Meter) -> None:
        self._target = target
        self._faults = faults
        self._meter = meter
        self._sides = [client]
        self._how: How | None = None
        self.lossy = False
        """Bytes of it were swallowed: it can only be reset."""
        self.task = asyncio.create_task(self._run(_prepared(client)))
        self.task.add_done_callback(self._close)

    def cut(self, how: How) -> None:
        """End it, on both sides. With `fin` they have been told when this returns."""
        if self._how == "rst":
            return
        self._how = how
        if how == "fin":
            for side in self._sides:
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_WR)
        self.task.cancel()

    async def _run(self, client: socket.socket) -> None:
        pumps: list[asyncio.Task[None]] = []
        try:
            server = await _connect(self._target)
            self._sides.append(server)
            pumps.append(asyncio.create_task(self._pump("up", client, server)))
            pumps.append(asyncio.create_task(self._pump("down", server, client)))
            await asyncio.gather(*pumps)
            self._how = self._how or "fin"
        except OSError:
            self._how = "rst"  # one side is gone; so is the other
        except asyncio.CancelledError:
            pass  # by cut(), which has said how
        finally:
            await _stopped(pumps)
            if self._how == "fin":
                await asyncio.gather(*map(_emptied, self._sides))

    def _close(self, task: asyncio.Task[None]) -> None:
        """Close the sockets: with RST, unless both sides have said goodbye. Also if the task was never begun."""
        for side in self._sides:
            if self._how != "fin" or task.cancelled():
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            side.close()

    async def _pump(self, direction: Direction, source: socket.socket, target: socket.socket) -> None:
        loop, faults = asyncio.get_running_loop(), self._faults
        while True:
            try:
                data = await loop.sock_recv(source, CHUNK)
            except OSError:
                if direction not in faults.swallowed:
                    raise
                data = b""
            await faults.let_pass(direction)
            if direction in faults.swallowed:
                self.lossy = True
                if not data:
                    await asyncio.Event().wait()  # nobody is told; heal() resets it
            elif not data:
                target.shutdown(socket.SHUT_WR)
                return
            else:
                data, cut = faults.touch(direction, data)
                await self._write(direction, target, data)
                if cut:
                    loop.call_soon(self._meter.cut_soon)
                    return

    async def _write(self, direction: Direction, target: socket.socket, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        for piece, wait in self._faults.pieces(data):
            await self._faults.let_pass(direction)
            self._meter.passed(direction, piece)
            await loop.sock_sendall(target, piece)
            if wait == SPACE:
                time.sleep(wait)  # noqa: ASYNC251 -- shorter than the loop's clock can wait; nobody is held up by it
            await asyncio.sleep(0 if wait == SPACE else wait)


async def _connect(target: tuple[str, int]) -> socket.socket:
    """Connect to the first address of a host that answers. The lookup is not the loop's: that would begin a thread."""
    loop = asyncio.get_running_loop()
    failure: OSError = OSError(f"no address of {target}")
    for family, kind, protocol, _, address in socket.getaddrinfo(*target, type=socket.SOCK_STREAM):
        server = _prepared(socket.socket(family, kind, protocol))
        try:
            await loop.sock_connect(server, address)
        except OSError as error:
            failure = error
            server.close()
        except BaseException:
            server.close()
            raise
        else:
            return server
    raise failure


def _prepared(side: socket.socket) -> socket.socket:
    side.settimeout(0)
    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return side


async def _stopped(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until none uses its sockets any more, whoever cancels us meanwhile."""
    for task in tasks:
        task.cancel()
    while not all(task.done() for task in tasks):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait(tasks)


async def _emptied(side: socket.socket) -> None:
    """Take what still comes until the other side has closed too."""
    with contextlib.suppress(OSError):
        while await asyncio.get_running_loop().sock_recv(side, CHUNK):
            pass
