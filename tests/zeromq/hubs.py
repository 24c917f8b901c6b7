"""Hubs in a thread of this process, and raw peers that say whatever they like."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec
import zmq
from zmq import auth

from anyqueue.hub import open_hub
from anyqueue.testing.targets.raw_hub import NO_EPOCH, WELCOME, RawHub, RawPeer

if TYPE_CHECKING:
    from pathlib import Path

    from anyqueue.backends.zeromq.serve import HubServer

Run = Callable[..., "Hub"]
PATIENCE: Final = 30.0


class Hub:
    """A hub that runs."""

    def __init__(self, server: HubServer, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.server = server
        self.port = server.endpoint.port
        self.url = f"zmq://127.0.0.1:{self.port}"
        self._context = context
        self._thread = threading.Thread(target=server.run, name="hub")
        self._thread.start()

    def stop(self) -> None:
        """End it, and wait."""
        self.server.stop()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def raw(self) -> RawHub:
        """Return where raw peers connect to."""
        return RawHub(self._context, f"tcp://127.0.0.1:{self.port}")

    def raw_keyed(self, keys: Path, name: str) -> RawHub:
        """Return where raw peers with these keys connect to."""
        hub, _ = auth.load_certificate(keys / "hub.key")
        public, secret = auth.load_certificate(keys / f"{name}.key_secret")
        assert secret is not None
        return RawHub(self._context, f"tcp://127.0.0.1:{self.port}", (hub, public, secret))

    @contextmanager
    def stranger(self, identity: bytes | None = None) -> Iterator[Stranger]:
        """Connect without saying anything."""
        socket = self._context.socket(zmq.DEALER)
        try:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.SNDTIMEO, int(PATIENCE * 1000))
            socket.setsockopt(zmq.ROUTING_ID, secrets.token_bytes(16) if identity is None else identity)
            socket.connect(f"tcp://127.0.0.1:{self.port}")
            yield Stranger(socket)
        finally:
            socket.close()


class Stranger:
    """A peer that need not keep to the protocol."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.socket = socket
        self.peer = RawPeer(socket)

    def say(self, *frames: bytes) -> None:
        """Send any frames."""
        self.socket.send_multipart(frames)

    def hear(self, seconds: float = PATIENCE) -> list[Any] | None:
        """Return the next message that is no Pong, decoded, or None."""
        while self.socket.poll(int(seconds * 1000)):
            message = msgspec.msgpack.decode(self.socket.recv_multipart()[1], type=list[Any])
            if message != [110]:
                return message
        return None

    def greet(self, heartbeat: float = 10.0) -> bytes:
        """Say hello; return the first frame of whatever is said from now on."""
        self.say(b"AQH\x01" + NO_EPOCH, msgspec.msgpack.encode([1, heartbeat]))
        while self.socket.poll(int(PATIENCE * 1000)):
            first, message, *_ = self.socket.recv_multipart()
            if msgspec.msgpack.decode(message, type=list[Any])[0] == WELCOME:
                return first
        raise AssertionError("the hub does not welcome anybody")


@contextmanager
def running(context: zmq.Context[zmq.Socket[bytes]]) -> Iterator[Run]:
    """Give what runs hubs; they end with the block."""
    hubs: list[Hub] = []

    def run(**settings: Any) -> Hub:
        given = {"listen": "tcp://127.0.0.1:0", "drain": 0.5, **settings}
        hubs.append(Hub(open_hub(**given), context))
        return hubs[-1]

    try:
        yield run
    finally:
        for hub in hubs:
            hub.stop()


def alive(hub: Hub) -> bool:
    """Prove that a hub still does its work."""
    queue = f"alive-{secrets.token_hex(4)}"
    with hub.raw().connected() as peer:
        peer.put(queue, b"still there?", {})
        found = peer.get(queue)
        peer.delete(queue)
    return found is not None and found[1] == b"still there?"
