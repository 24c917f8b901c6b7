"""stomp.py alone, as its users write it: receipts on the way in a window, acknowledgements in its listener."""

from __future__ import annotations

import contextlib
import os
import secrets
import statistics
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from measure import BODY, Side, Stage
from stomp_brokers import broker

os.environ.setdefault("STOMP_SKIP_HOSTNAME_SCAN", "1")
import stomp  # it asks the name server at import unless it is told not to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WINDOW: Final = 1000
"""Receipts waited for at once, messages held at once."""
SENDING: Final = {
    "rabbitmq": {"x-queue-type": "quorum", "durable": "true", "auto-delete": "false"},
    "activemq": {},
}
CONSUMING: Final = {
    "rabbitmq": {**SENDING["rabbitmq"], "prefetch-count": str(WINDOW)},
    "activemq": {"activemq.prefetchSize": str(WINDOW)},
}


class Listener(stomp.ConnectionListener):  # type: ignore[misc]  # untyped
    """Count receipts; hand messages on."""

    def __init__(self) -> None:
        self.window = threading.Semaphore(WINDOW)
        self.take: Callable[[Any], None] = lambda _frame: None

    def on_receipt(self, frame: Any) -> None:  # noqa: ANN401 -- untyped
        """Let one more be sent."""
        del frame
        self.window.release()

    def on_message(self, frame: Any) -> None:  # noqa: ANN401 -- untyped
        """Take a message."""
        self.take(frame)


class Peer:
    """A connection and a queue."""

    def __init__(self, name: str, connection: Any, listener: Listener, queue: str) -> None:  # noqa: ANN401 -- untyped
        self.listener = listener
        self.connection = connection
        self._queue = queue
        self._declaring = SENDING[name]
        self._consuming = CONSUMING[name]
        # declared by the first message, used without the headers that declare
        self._plain = f"/amq/queue/{queue}" if name == "rabbitmq" else f"/queue/{queue}"
        self._first = True

    def send(self, number: int) -> None:
        """Send one with a receipt, when the window has room."""
        self.listener.window.acquire()
        headers = {"persistent": "true", "receipt": str(number), **(self._declaring if self._first else {})}
        self.connection.send(f"/queue/{self._queue}" if self._first else self._plain, BODY, headers=headers)
        if self._first:
            self.wait()
        self._first = False

    def wait(self) -> None:
        """Wait for all receipts."""
        for _ in range(WINDOW):
            self.listener.window.acquire()
        self.listener.window.release(WINDOW)

    def consume(self, size: int) -> threading.Event:
        """Acknowledge each message; return what is set after so many."""
        done = threading.Event()
        left = size

        def take(frame: Any) -> None:  # noqa: ANN401 -- untyped
            nonlocal left
            self.connection.ack(frame.headers["ack"])
            left -= 1
            if not left:
                done.set()

        self.listener.take = take
        self.subscribe()
        return done

    def subscribe(self) -> None:
        """Subscribe."""
        destination = f"/queue/{self._queue}"
        self.connection.subscribe(destination, id="raw", ack="client-individual", headers=dict(self._consuming))


@contextlib.contextmanager
def connected(name: str, queue: str) -> Iterator[Peer]:
    """Connect."""
    listener = Listener()
    port = broker(name).ports["stomp"]
    connection = stomp.Connection12([("127.0.0.1", port)], auto_decode=False, vhost="/", try_loopback_connect=False)
    connection.set_listener("", listener)
    connection.connect("anyqueue", "anyqueue", wait=True)
    try:
        yield Peer(name, connection, listener, queue)
    finally:
        connection.disconnect()


def send(name: str) -> Side:
    """Return messages sent a second, receipts and all. They do not stay, as on the other side."""

    def run(stage: Stage) -> float:
        queue = fresh()
        with connected(name, queue) as peer:
            peer.send(0)
            start = time.perf_counter()
            for number in range(stage.size):
                peer.send(number)
            peer.wait()
            took = time.perf_counter() - start
        with connected(name, queue) as peer:
            peer.consume(stage.size + 1).wait()
        return stage.size / took

    return run


def consume(name: str) -> Side:
    """Return messages received and acknowledged a second."""

    def run(stage: Stage) -> float:
        queue = fresh()
        with connected(name, queue) as peer:
            for number in range(stage.size):
                peer.send(number)
            peer.wait()
        with connected(name, queue) as peer:
            start = time.perf_counter()
            peer.consume(stage.size).wait()
            return stage.size / (time.perf_counter() - start)

    return run


def latency(name: str) -> Side:
    """Return the median of the milliseconds from send() to the listener."""

    def run(stage: Stage) -> float:
        queue, taken, arrived = fresh(), list[float](), threading.Event()
        with connected(name, queue) as sender, connected(name, queue) as receiver:

            def take(frame: Any) -> None:  # noqa: ANN401 -- untyped
                taken.append(time.perf_counter() - start)
                receiver.connection.ack(frame.headers["ack"])
                arrived.set()

            receiver.listener.take = take
            start = time.perf_counter()
            sender.send(0)  # declares the queue: two who do so at once may both be refused
            receiver.subscribe()
            arrived.wait()
            for number in range(stage.size):
                time.sleep(0.001)
                arrived.clear()
                start = time.perf_counter()
                sender.send(number)
                arrived.wait()
                sender.wait()
        return statistics.median(taken) * 1000

    return run


def fresh() -> str:
    """Return the name of a queue that nobody has used."""
    return f"bench-{secrets.token_hex(4)}"
