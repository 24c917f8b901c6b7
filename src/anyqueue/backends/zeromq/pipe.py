"""One socket of a bare pattern on an event loop. It reconnects by itself, and remembers nothing of who was there.

The descriptor of a ZeroMQ socket tells only that something changed, once. So who waits tries first, waits for the
descriptor, and tries again; a look each SAFETY seconds bounds what a missed wake-up could cost.
"""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Final, TypeVar

import zmq

from anyqueue.backends.zeromq import protocol as p
from anyqueue.backends.zeromq.sockets import NOW, Sockets, send_now
from anyqueue.errors import ConfigError, ConnectFailed, ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from anyqueue.backends.zeromq.security import Endpoint

T = TypeVar("T")
SAFETY: Final = 0.1
QUEUED: Final = 16
"""Messages of about 256 KiB that wait in the library on each side."""
_OPTIONS: Final[Mapping[int, int]] = {
    zmq.IMMEDIATE: 1,  # what nobody is there for waits here, where it can be taken back
    zmq.SNDHWM: QUEUED,
    zmq.RCVHWM: QUEUED,
    zmq.MAXMSGSIZE: p.MAX_FRAME,
    zmq.RECONNECT_IVL: 50,
    zmq.RECONNECT_IVL_MAX: 2000,
    zmq.HEARTBEAT_IVL: 5000,
    zmq.HEARTBEAT_TIMEOUT: 15_000,
    zmq.HEARTBEAT_TTL: 15_000,
}


class Pipe:
    """A socket of one kind that listens at, or connects to, one endpoint."""

    def __init__(
        self, kind: int, endpoint: Endpoint, *, listen: bool, options: Mapping[int, int] | None = None
    ) -> None:
        self._endpoint = endpoint
        self._loop = asyncio.get_running_loop()
        self._waiters: list[asyncio.Future[None]] = []
        self._closed = False
        self._listens = listen
        self._sockets = Sockets(self)
        try:
            self._socket = self._sockets.open(kind)
            for option, value in {**_OPTIONS, **(options or {})}.items():
                self._socket.setsockopt(option, value)
            endpoint.prepare(self._socket)
            self._attach(listen=listen)
        except BaseException:
            self._sockets.close()
            raise
        self._loop.add_reader(self._socket.FD, self.wake)

    async def send(self, frames: Sequence[bytes]) -> None:
        """Hand a message to the library, which has somebody to send it to; wait for that. Cancelled, it is not sent."""
        await self._when_ready(lambda: send_now(self._socket, frames))

    async def receive(self) -> list[bytes]:
        """Wait for a message. Cancelling loses nothing."""
        return await self._when_ready(lambda: self._socket.recv_multipart(NOW))

    def subscribe(self, prefix: bytes) -> None:
        """Of SUB: let in what begins so."""
        self._socket.setsockopt(zmq.SUBSCRIBE, prefix)

    def wake(self) -> None:
        """Have everybody who waits try again."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def close(self, linger: float = 0.0) -> None:
        """Close; what was handed over has `linger` seconds to leave. Closing twice is a no-op."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._socket.FD)
        self.wake()
        if self._listens:
            self._socket.unbind(self._socket.getsockopt_string(zmq.LAST_ENDPOINT))
        await asyncio.to_thread(self._sockets.close, int(linger * 1000))

    async def _when_ready(self, act: Callable[[], T]) -> T:
        while True:
            if self._closed:
                raise ConnectionLost("the socket was closed", url=str(self._endpoint))
            try:
                done = act()
            except zmq.Again:
                waiter = self._loop.create_future()
                self._waiters.append(waiter)
                timer = self._loop.call_later(SAFETY, self.wake)
            else:
                self.wake()  # using the socket may have used up the wake-up of somebody else
                return done
            try:
                await waiter
            finally:
                timer.cancel()

    def _attach(self, *, listen: bool) -> None:
        endpoint = self._endpoint.bindable() if listen else self._endpoint
        try:
            if listen:
                self._socket.bind(str(endpoint))
            else:
                self._socket.connect(str(endpoint))
        except zmq.ZMQError as error:
            if error.errno == errno.EADDRINUSE:
                hint = "one process listens there; a hub (zmq://) has no such limit"
                raise ConnectFailed(f"{self._endpoint} is taken", hint=hint) from error
            raise ConfigError(f"{self._endpoint} cannot be used: {error}") from error
