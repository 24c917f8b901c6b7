"""One DEALER socket on an event loop: frames out, frames in, and the moment the connection ends.

How it works:

* The socket is used by the loop's thread alone. Its descriptor tells only that something changed, once; so every use
  of the socket ends by reading until nothing is there. A look each SAFETY seconds bounds what a missed one could cost
  (https://github.com/zeromq/pyzmq/issues/2173 is about wake-ups that others missed).
* It never reconnects: the monitor says when a connection could not be made, or ended, and that is the end of it.
* What cannot be sent yet waits here, in order.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from typing import TYPE_CHECKING, Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from anyqueue.backends.zeromq import protocol as p
from anyqueue.backends.zeromq.sockets import NOW, Sockets, is_readable, send_now
from anyqueue.errors import AuthFailed, ConnectFailed, ConnectionLost, Error

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyqueue.backends.zeromq.security import Endpoint, Keys

SAFETY: Final = 0.1
TURN: Final = 100
"""Messages that are read before the loop turns once."""
QUEUED: Final = 64
"""Messages that wait in the library; more wait here, where they can be taken back."""
_EVENTS: Final = (
    zmq.EVENT_CLOSED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
)


class Wire:
    """A connection. `heard` is given the frames of each message, `lost` the error that ended it, once."""

    def __init__(
        self,
        endpoint: Endpoint,
        keys: Keys | None,
        heartbeat: float,
        *,
        heard: Callable[[list[bytes]], None],
        lost: Callable[[Error], object],
    ) -> None:
        self._endpoint = endpoint
        self._keys = keys
        self._heard = heard
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[list[bytes]] = deque()
        self._established = False
        self._closed = False
        self._sockets = Sockets(self)
        self._socket = self._sockets.open(zmq.DEALER)
        beat = max(int(heartbeat * 500), 1)
        for option, value in (
            (zmq.IMMEDIATE, 1),
            (zmq.RECONNECT_IVL, -1),
            (zmq.SNDHWM, QUEUED),
            (zmq.RCVHWM, 0),  # what comes was asked for: replies, and deliveries within the credit
            (zmq.MAXMSGSIZE, 2 * p.MAX_FRAME),
            (zmq.HEARTBEAT_IVL, beat),
            (zmq.HEARTBEAT_TIMEOUT, 2 * beat),
            (zmq.HEARTBEAT_TTL, 3 * beat),
        ):
            self._socket.setsockopt(option, value)
        self._socket.setsockopt(zmq.ROUTING_ID, secrets.token_bytes(16))
        endpoint.prepare(self._socket)
        if keys is not None:
            keys.use(self._socket)
        self._monitor = self._sockets.monitor(self._socket, _EVENTS)
        self._loop.add_reader(self._monitor.FD, self._watch)
        self._loop.add_reader(self._socket.FD, self._turn)
        self._timer = self._loop.call_later(SAFETY, self._look)
        self._socket.connect(str(endpoint))
        self._loop.call_soon(self._watch)  # not now: who is told of a failure is not ready to hear

    def send(self, frames: list[bytes]) -> None:
        """Send in order, now or when it can be."""
        self._waiting.append(frames)
        self._turn()

    def close(self) -> None:
        """Close. What waits is dropped. Closing twice is a no-op."""
        if self._closed:
            return
        self._closed = True
        self._timer.cancel()
        self._loop.remove_reader(self._socket.FD)
        self._loop.remove_reader(self._monitor.FD)
        self._waiting.clear()
        self._sockets.close()

    def _turn(self) -> None:
        """Send what waits, and read until nothing is there."""
        if self._closed:
            return
        socket, waiting = self._socket, self._waiting
        try:
            while waiting:
                send_now(socket, waiting[0])
                waiting.popleft()
        except zmq.Again:
            pass
        for _ in range(TURN):
            if self._is_idle():
                return
            self._heard(socket.recv_multipart(NOW))
        self._loop.call_soon(self._turn)

    def _is_idle(self) -> bool:
        """Say whether there is nothing to read, or nobody who would."""
        return self._closed or not is_readable(self._socket)

    def _look(self) -> None:
        """Look again, whatever the descriptors said."""
        self._timer = self._loop.call_later(SAFETY, self._look)
        self._turn()
        self._watch()

    def _watch(self) -> None:
        """Read what became of the connection."""
        try:
            while not self._closed:
                event = recv_monitor_message(self._monitor, zmq.NOBLOCK)
                self._learn(event["event"], event["value"])
        except zmq.Again:
            return

    def _learn(self, event: int, value: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._established = True
            self._turn()
            return
        if event != zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self._turn()  # what came before the end
        if not self._closed:
            self._lost(self._reason(event, value))

    def _reason(self, event: int, value: int) -> Error:
        error = self._error(event, value)
        error.__cause__ = ConnectionError(f"libzmq: {zmq.Event(event).name} {value}")
        return error

    def _error(self, event: int, value: int) -> Error:
        where = str(self._endpoint)
        if self._established:
            return ConnectionLost("the connection to the hub ended", url=where)
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            hint = "put its public key into the directory that the hub was given with --allow"
            return AuthFailed(f"the hub does not know this client's key (status {value})", url=where, hint=hint)
        if event == zmq.EVENT_CLOSED:
            return ConnectFailed("nobody listens there", url=where, hint="is the hub running, and is this its port?")
        what = "what listens there ended the connection before it had begun"
        secured = "with" if self._keys is not None else "without"
        hint = f"is it a hub, run {secured} keys as this client is, and is hub_key its public key?"
        return ConnectFailed(what, url=where, hint=hint)
