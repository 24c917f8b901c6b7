"""The hub's sockets: the ROUTER, what tells of ended connections, what asks who may come in, and what wakes it.

* ROUTER_MANDATORY, and nothing waits: who cannot be reached, or does not read, is told to the caller.
* The high-water marks bound what a peer can pile up on either side; MAXMSGSIZE bounds a frame before it is read.
"""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING, Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from anyqueue.backends.zeromq import protocol as p
from anyqueue.backends.zeromq.security import ZAP, Door, Endpoint
from anyqueue.backends.zeromq.sockets import NOW, Sockets, is_readable, send_now
from anyqueue.errors import ConfigError, ConnectFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

BURST: Final = 4 * 1024 * 1024
"""About how many bytes are received at once."""
MESSAGES: Final = 500
"""How many messages are."""
QUEUED: Final = 1000
"""Messages that a peer has not read yet when it is too slow."""
WAITING: Final = 64
"""Messages from a peer that wait for their turn; then it is the peer that waits."""
FAREWELL: Final = 500
"""Milliseconds that the last messages may take."""


class Router:
    """Listens once it is made. For one thread at a time, but for wake()."""

    def __init__(self, listen: Endpoint, door: Door, heartbeat: float) -> None:
        self._door = door
        self._open = True
        self._waking = threading.Lock()
        self._wake_out, self._wake_in = os.pipe()
        os.set_blocking(self._wake_in, False)
        self._sockets = Sockets(self)
        try:
            self._zap = self._sockets.open(zmq.REP)
            self._zap.bind(ZAP)  # before anybody can come: without it every key is let in
            self._socket = self._sockets.open(zmq.ROUTER)
            self._prepare(listen, heartbeat)
            self._monitor = self._sockets.monitor(self._socket, zmq.EVENT_DISCONNECTED)
            self.endpoint = self._bind(listen)
        except BaseException:
            self.close()
            raise
        self._poller = zmq.Poller()
        for item in (self._socket, self._zap, self._monitor, self._wake_out):
            self._poller.register(item, zmq.POLLIN)

    def poll(self, seconds: float) -> tuple[bool, bool]:
        """Wait until something comes; return whether messages did, and whether a connection ended."""
        ready = dict(self._poller.poll(int(seconds * 1000)))
        if self._wake_out in ready:
            os.read(self._wake_out, 64)
        if self._zap in ready:
            self._zap.send_multipart(self._door.answer(self._zap.recv_multipart()))
        return self._socket in ready, self._monitor in ready and self._connection_ended()

    def wake(self) -> None:
        """End a poll(), if it is not closed; from any thread, or from a signal handler."""
        if self._waking.acquire(blocking=False):  # else somebody wakes it, or closes it
            try:
                if self._open:
                    os.write(self._wake_in, b"!")
            finally:
                self._waking.release()

    def receive(self) -> Iterator[tuple[bytes, list[bytes]]]:
        """Yield what has arrived, at most about BURST bytes of it: (identity, frames)."""
        socket, size = self._socket, 0
        for _ in range(MESSAGES):
            if size > BURST or not is_readable(socket):
                return
            identity, *frames = socket.recv_multipart(NOW)
            yield identity, frames
            size += sum(map(len, frames))

    def send(self, identity: bytes, frames: list[bytes]) -> bool:
        """Send now, or return False: the peer is gone, or it does not read."""
        try:
            send_now(self._socket, [identity, *frames])
        except zmq.ZMQError as error:
            if error.errno in {errno.EAGAIN, errno.EHOSTUNREACH}:
                return False
            raise
        return True

    def close(self) -> None:
        """Close; what was sent last gets a moment to leave."""
        self._sockets.close(FAREWELL)
        with self._waking:
            self._open = False
            for file in (self._wake_out, self._wake_in):
                os.close(file)

    def _prepare(self, listen: Endpoint, heartbeat: float) -> None:
        beat = int(heartbeat * 1000)
        for option, value in (
            (zmq.ROUTER_MANDATORY, 1),
            (zmq.SNDHWM, QUEUED),
            (zmq.RCVHWM, WAITING),
            (zmq.MAXMSGSIZE, p.MAX_FRAME),
            (zmq.HEARTBEAT_IVL, beat),
            (zmq.HEARTBEAT_TIMEOUT, 3 * beat),
            (zmq.HANDSHAKE_IVL, 10_000),
            (zmq.BACKLOG, 1024),
        ):
            self._socket.setsockopt(option, value)
        listen.prepare(self._socket)
        self._door.use(self._socket)

    def _bind(self, listen: Endpoint) -> Endpoint:
        try:
            self._socket.bind(str(listen.bindable()))
        except zmq.ZMQError as error:
            if error.errno == errno.EADDRINUSE:
                hint = "is a hub running there already? Connect to it, or listen elsewhere"
                raise ConnectFailed(f"{listen} is taken", hint=hint) from error
            hint = "name an address of this machine: tcp://127.0.0.1:5555"
            raise ConfigError(f"nothing can listen on {listen}: {error}", hint=hint) from error
        bound = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        return Endpoint(listen.host, int(bound.rpartition(":")[2]))

    def _connection_ended(self) -> bool:
        try:
            while True:
                recv_monitor_message(self._monitor, zmq.NOBLOCK)
        except zmq.Again:
            return True
