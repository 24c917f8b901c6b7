"""Another program's client of a hub: raw pyzmq, written from docs/backends/zeromq.md alone. It knows no anyqueue."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec
import zmq

if TYPE_CHECKING:
    from collections.abc import Iterator

GREETING: Final = b"AQH\x01"
NO_EPOCH: Final = bytes(16)
HELLO, SEND, SUBSCRIBE, SETTLE, UNSUBSCRIBE, QUEUES, MEASURE, BROWSE, PURGE, DELETE, PING, BYE, STATUS, CREDIT = range(
    1, 15
)
WELCOME, DONE, SUBSCRIBED, SETTLED, DEPTHS, SHOWN, DELIVER, GONE, REFUSED, PONG, GOODBYE, HEALTH = range(101, 113)
QUEUE: Final = False
"""A name is a queue's, not a topic's."""
PATIENCE: Final = 10_000
"""Milliseconds that the hub has to answer."""
Keys = tuple[bytes, bytes, bytes]
"""The hub's public key, the client's, and its secret one."""


class RefusedByHub(RuntimeError):
    """The hub said no."""


class RawHub:
    """A place to connect to. For one thread at a time: each `with` is a connection of its own."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, keys: Keys | None = None) -> None:
        self._context = context
        self._endpoint = endpoint
        self._keys = keys

    @contextmanager
    def connected(self) -> Iterator[RawPeer]:
        """Connect, say hello, and say goodbye."""
        socket = self._context.socket(zmq.DEALER)
        try:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RCVTIMEO, PATIENCE)
            socket.setsockopt(zmq.SNDTIMEO, PATIENCE)
            socket.setsockopt(zmq.ROUTING_ID, secrets.token_bytes(16))
            if self._keys is not None:
                hub, public, secret = self._keys
                socket.setsockopt(zmq.CURVE_SERVERKEY, hub)
                socket.setsockopt(zmq.CURVE_PUBLICKEY, public)
                socket.setsockopt(zmq.CURVE_SECRETKEY, secret)
            socket.connect(self._endpoint)
            peer = RawPeer(socket)
            peer.hello()
            yield peer
            peer.ask(BYE)
        finally:
            socket.close()


class RawPeer:
    """A connection that has said hello."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._epoch = NO_EPOCH
        self._request = 0

    def hello(self) -> list[Any]:
        """Say hello, and return the welcome."""
        self.say([HELLO, 10.0, "raw"])
        frames = self._socket.recv_multipart()
        kind, *fields = msgspec.msgpack.decode(frames[1], type=list[Any])
        assert kind == WELCOME, f"{kind} {fields}"
        self._epoch = frames[0][4:]
        return fields

    def say(self, message: list[Any], *rest: bytes) -> None:
        """Send a message."""
        self._socket.send_multipart([GREETING + self._epoch, msgspec.msgpack.encode(message), *rest])

    def ask(self, kind: int, *fields: object, rest: tuple[bytes, ...] = ()) -> tuple[list[Any], list[bytes]]:
        """Send a request, and return the fields and the other frames of its reply."""
        self._request += 1
        self.say([kind, self._request, *fields], *rest)
        while True:
            kind, answer, frames = self.hear()
            if kind not in {DELIVER, PONG} and answer[0] == self._request:
                return answer[1:], frames

    def hear(self) -> tuple[int, list[Any], list[bytes]]:
        """Return the next message: its kind, its fields, its other frames."""
        first, second, *rest = self._socket.recv_multipart()
        assert first == GREETING + self._epoch
        kind, *fields = msgspec.msgpack.decode(second)
        if kind == REFUSED:
            raise RefusedByHub(str(fields))
        return kind, fields, rest

    def put(self, queue: str, body: bytes, headers: dict[str, str]) -> None:
        """Send one message without an id."""
        self.ask(SEND, QUEUE, queue, rest=(msgspec.msgpack.encode([["", body, headers]]),))

    def get(self, queue: str) -> tuple[str, bytes, dict[str, str]] | None:
        """Take the next ready message for good: (id, body, headers); None where there is none."""
        if self.depth(queue)[0] == 0:
            return None
        self.ask(SUBSCRIBE, 1, QUEUE, queue, None, 1)
        self.say([CREDIT, 1, 1])
        while True:
            kind, _, frames = self.hear()
            if kind == DELIVER:
                break
        ((number, _, _, _, (identity, body, *fields)),) = msgspec.msgpack.decode(frames[0])
        self.ask(SETTLE, 1, [number])
        self.ask(UNSUBSCRIBE, 1)
        return identity, body, fields[0] if fields else {}

    def depth(self, queue: str) -> tuple[int, int, int]:
        """Count the ready, delayed and held messages of a queue."""
        ((_, ready, delayed, held),) = self.ask(MEASURE, queue)[0][0]
        return ready, delayed, held

    def queues(self) -> set[str]:
        """Name the queues."""
        return {name for name, *_ in self.ask(QUEUES)[0][0]}

    def delete(self, queue: str) -> None:
        """Delete a queue."""
        self.ask(DELETE, queue)

    def peers(self) -> int:
        """Count the others that have said hello."""
        _, peers, _, _ = self.ask(STATUS)[0]
        return int(peers) - 1
