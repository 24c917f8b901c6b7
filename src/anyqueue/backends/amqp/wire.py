"""pika's AsyncioConnection, on asyncio's own transport, its bulk of frames read by `frames`.

pika keeps the handshake, heartbeats, and all frames that are rare. Its own transport reads 4 KiB a time, and its reader
cuts its buffer anew for each frame; here a read brings up to 256 KiB, which are cut once.

pika has no public way to read frames otherwise or to write them in batches, so this file, and no other, uses what is
private there. It is written against pika 1.4; the contract suite runs all of it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, Protocol

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.utils import nbio_interface

from anyqueue.backends.amqp.frames import LEAST_FRAME_MAX, Arrived, BrokenStream, Confirmed, Other, Reader
from anyqueue.backends.pulse import Pulse

if TYPE_CHECKING:
    from collections.abc import Callable

if logging.getLogger("pika").level == logging.NOTSET:
    logging.getLogger("pika").setLevel(
        logging.CRITICAL
    )  # what goes wrong is raised here; pika logs it too, with bodies
MAX_FRAME: Final = 131072
SILENCE: Final = 1.5
"""Heartbeats without a byte after which the broker is gone: it sends two in each. pika waits 5 seconds more."""


class Listener(Protocol):
    """Who takes what comes in bulk on one channel."""

    def confirmed(self, event: Confirmed) -> None:
        """Take a confirm."""

    def arrived(self, event: Arrived) -> None:
        """Take a message, delivered or returned."""


class Timer(nbio_interface.AbstractTimerReference):  # type: ignore[misc]  # pika is untyped
    """A timer of the loop."""

    def __init__(self, handle: asyncio.TimerHandle) -> None:
        self._handle = handle

    def cancel(self) -> None:
        """Stop it."""
        self._handle.cancel()


class Services(nbio_interface.AbstractIOServices):  # type: ignore[misc]  # pika is untyped
    """What pika's connection asks of an event loop, once it has its transport."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def get_native_ioloop(self) -> asyncio.AbstractEventLoop:
        """Return the loop."""
        return self._loop

    def add_callback_threadsafe(self, callback: Callable[[], None]) -> None:
        """Call it in the loop's next turn."""
        self._loop.call_soon_threadsafe(callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call it later."""
        return Timer(self._loop.call_later(delay, callback))

    def _not_ours(self, *_args: object, **_given: object) -> Any:  # noqa: ANN401 -- it returns nothing
        raise NotImplementedError("the loop and its sockets are asyncio's")

    close = run = stop = getaddrinfo = connect_socket = create_streaming_connection = _not_ours


class Stream(nbio_interface.AbstractStreamTransport):  # type: ignore[misc]  # pika is untyped
    """An asyncio transport as pika wants one."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def write(self, data: bytes) -> None:
        """Send, or keep until it can be sent."""
        self._transport.write(data)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent."""
        return self._transport.get_write_buffer_size()

    def get_protocol(self) -> object:
        """Return who uses it."""
        return self._transport.get_protocol()


class Ears(asyncio.Protocol):
    """Hear a transport for a connection."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- of create_connection()
        self._wire.linked(Stream(transport))

    def data_received(self, data: bytes) -> None:
        """Read frames."""
        self._wire.read(data)

    def eof_received(self) -> bool:
        """Close too."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell pika, which tells everybody."""
        self._wire.unlinked(exc)


class Wire(AsyncioConnection):  # type: ignore[misc]  # pika is untyped
    """A connection. `opened` is done when it is open or has failed, `ended` when its transport is gone."""

    def __init__(self, parameters: pika.ConnectionParameters, lost: Callable[[Wire, Exception], None]) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.refusal: tuple[int, str] | None = None
        """Code and text of the broker's connection.close."""
        self.listeners: dict[int, Listener] = {}
        self._reader = Reader(MAX_FRAME)
        self._error: Exception | None = None
        self._lost = lost
        self._loop = loop
        self._pulse = Pulse(loop.time())
        self._watch: asyncio.TimerHandle | None = None
        super().__init__(
            parameters,
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_failed,
            on_close_callback=self._on_failed,
            custom_ioloop=Services(loop),
            internal_connection_workflow=False,
        )

    @property
    def frame_max(self) -> int:
        """The largest frame that both sides take."""
        return max(int(self.params.frame_max), LEAST_FRAME_MAX)

    def emit(self, data: bytes) -> None:
        """Send frames that are written already."""
        self.bytes_sent += len(data)
        self._adapter_emit_data(data)

    def forget(self, channel: int) -> None:
        """Hear no more of a channel."""
        self.listeners.pop(channel, None)
        self._reader.forget(channel)

    def cut(self) -> None:
        """End the transport at once."""
        if self._transport is not None:
            self._transport.abort()

    def linked(self, stream: Stream) -> None:
        """Begin the handshake over a transport."""
        self._proto_connection_made(stream)

    def read(self, data: bytes) -> None:
        """Read frames. Whatever goes wrong with them ends the connection."""
        try:
            self._read(data)
        except Exception as error:  # noqa: BLE001 -- a stranger's bytes must not reach the loop's exception handler
            self._fail(error)

    def unlinked(self, error: Exception | None) -> None:
        """Take the end of the transport."""
        if self._watch is not None:
            self._watch.cancel()
        if error is None and self._error is None:
            error = ConnectionAbortedError("the broker ended the connection")
        self._proto_connection_lost(error)
        if not self.ended.done():
            self.ended.set_result(None)

    def _read(self, data: bytes) -> None:
        self.bytes_received += len(data)
        if data.startswith(b"AMQP") and not self.frames_received:
            raise BrokenStream("the broker speaks another version of AMQP than 0-9-1")
        events = self._reader.feed(data)
        self._pulse.hear(self._loop.time(), len(data), whole=bool(events))
        for event in events:
            if isinstance(event, Other):
                _, frame = pika.frame.decode_frame(event.frame)
                self._process_frame(frame)
            elif (listener := self.listeners.get(event.channel)) is not None:
                listener.arrived(event) if isinstance(event, Arrived) else listener.confirmed(event)

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        self._remove_heartbeat()
        self.cut()

    def _listen(self) -> None:
        """End the connection if nothing has been heard for too long; else look again when that may be so."""
        left = self._pulse.at + SILENCE * self.params.heartbeat - self._loop.time()
        if left <= 0:
            self._fail(TimeoutError(f"nothing heard for {SILENCE * self.params.heartbeat:g} s"))
        else:
            self._watch = self._loop.call_later(left, self._listen)

    def _on_open(self, _connection: object) -> None:
        self._reader.frame_max = self.frame_max
        if self.params.heartbeat:
            self._listen()
        if not self.opened.done():
            self.opened.set_result(None)

    def _on_failed(self, _connection: object, error: Exception) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)
            self.opened.exception()  # seen, if nobody waits any more
        self._lost(self, error)

    def _on_connection_close_from_broker(self, method_frame: Any) -> None:  # noqa: ANN401 -- pika is untyped
        self.refusal = (method_frame.method.reply_code, method_frame.method.reply_text)
        super()._on_connection_close_from_broker(method_frame)
