"""A ZeroMQ context of one owner's, with its sockets: all closed before it ends, whoever forgets to.

Context.term() waits until every socket is closed, and so does collecting a context: one that is collected together with
an open socket waits for ever. So the sockets are kept here, out of their owner's reach, until the owner closes them or
is itself collected.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Final

import zmq

if TYPE_CHECKING:
    from collections.abc import Sequence

# Plain numbers: each use of one of zmq's enums makes a new object, and a send has three.
NOW: Final = int(zmq.NOBLOCK)
_MORE: Final = int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS: Final = int(zmq.EVENTS)
_READABLE: Final = int(zmq.POLLIN)


def send_now(socket: zmq.Socket[bytes], frames: Sequence[bytes]) -> None:
    """Send a multipart without waiting, or raise zmq.ZMQError at its first frame and send nothing."""
    send = socket.send
    for frame in frames[:-1]:
        send(frame, _MORE)
    send(frames[-1], NOW)


def is_readable(socket: zmq.Socket[bytes]) -> bool:
    """Say whether a message is there. It is cheaper to ask than to be told zmq.Again."""
    return bool(socket.getsockopt(_EVENTS) & _READABLE)  # type: ignore[operator]  # this option is a number


class Sockets:
    """The sockets of one owner, for its thread."""

    def __init__(self, owner: object) -> None:
        self._sockets: Final[list[zmq.Socket[bytes]]] = []
        self._context = zmq.Context()
        # Not at exit: then another thread may still use them, and the process's end closes them all the same.
        self._finalizer = weakref.finalize(owner, _close, self._context, self._sockets, 0)
        self._finalizer.atexit = False

    def open(self, kind: int) -> zmq.Socket[bytes]:
        """Open one."""
        socket = self._context.socket(kind)
        self._sockets.append(socket)
        return socket

    def monitor(self, socket: zmq.Socket[bytes], events: int) -> zmq.Socket[bytes]:
        """Open one that tells what becomes of the connections of another."""
        monitor = socket.get_monitor_socket(events)
        self._sockets.insert(0, monitor)
        return monitor

    def close(self, linger: int = 0) -> None:
        """Close them; what was sent has `linger` milliseconds to leave. Closing twice is a no-op."""
        if self._finalizer.detach() is not None:
            _close(self._context, self._sockets, linger)


def _close(context: zmq.Context[zmq.Socket[bytes]], sockets: list[zmq.Socket[bytes]], linger: int) -> None:
    for socket in sockets:
        socket.close(linger)
    sockets.clear()
    context.term()
