"""A channel whose calls are awaited.

A channel that the broker closes is closed for good: whoever waits on it gets what the broker said as `Refused`, and the
connection lives.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from pika import exceptions

from anyqueue.errors import ConnectionLost, Error, QueueError, QueueMismatch, QueueNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyqueue.backends.amqp.connection import Connection
    from anyqueue.backends.amqp.wire import Listener

ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED, PRECONDITION_FAILED = 403, 404, 405, 406


class Refused(Exception):
    """The broker closed a channel over what was asked there."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} ({code})")
        self.code = code
        self.text = text


class Channel:
    """A channel. `closed` says why, once it is; `on_closed` is called then."""

    def __init__(self, connection: Connection) -> None:
        self.closed: Refused | ConnectionLost | None = None
        self.on_closed: Callable[[Refused | ConnectionLost], None] | None = None
        self._connection = connection
        self._wire = connection.wire
        self._channel: Any = None
        self._waiting: set[asyncio.Future[Any]] = set()

    @property
    def number(self) -> int:
        """Return its number, which is the broker's name for it."""
        number: int = self._channel.channel_number
        return number

    @property
    def frame_max(self) -> int:
        """Return the size of the largest frame."""
        return self._wire.frame_max

    async def open(self, listener: Listener | None = None) -> Channel:
        """Open it; `listener` takes what comes in bulk. Cancelled, it is closed in the background."""
        future = self._future()
        try:
            self._channel = self._wire.channel(on_open_callback=lambda channel: _done(future, channel))
            self._channel.add_on_close_callback(self._on_closed)
            if listener is not None:
                self._wire.listeners[self.number] = listener
            await future
        except exceptions.NoFreeChannels as error:
            what = "this connection has no channel left: each consumer takes one"
            raise QueueError(what, url=self._connection.url, hint="connect() a second client") from error
        except exceptions.AMQPError as error:
            raise self._connection.on_lost(error) from error
        except BaseException:
            self.drop()
            raise
        finally:
            self._waiting.discard(future)
        return self

    async def call(self, method: str, **arguments: object) -> Any:  # noqa: ANN401 -- pika's frame
        """Call a method of pika's channel and wait for the answer. Raises Refused or ConnectionLost."""
        future = self._future()
        try:
            getattr(self._channel, method)(**arguments, callback=lambda frame=None: _done(future, frame))
            return await future
        except exceptions.AMQPError as error:
            raise self._connection.on_lost(error) from error
        finally:
            self._waiting.discard(future)

    def emit(self, data: bytes) -> None:
        """Send frames that are written already. Raises Refused or ConnectionLost."""
        if self.closed is not None:
            raise self.closed
        self._wire.emit(data)

    def on_cancelled(self, cancelled: Callable[[object], None]) -> None:
        """Have it called when the broker ends a consumer of this channel."""
        self._channel.add_on_cancel_callback(cancelled)

    async def close(self) -> None:
        """Close it, and wait until it is closed. What is unsettled on it goes back."""
        if self.closed is not None or self._channel is None:
            return
        future = self._future()
        self.drop()
        with contextlib.suppress(Refused, ConnectionLost):
            await future
        self._waiting.discard(future)

    def drop(self) -> None:
        """Close it in the background."""
        if self._channel is not None and not (self._channel.is_closing or self._channel.is_closed):
            with contextlib.suppress(exceptions.AMQPError):
                self._channel.close()

    def _future(self) -> asyncio.Future[Any]:
        if self.closed is not None:
            raise self.closed
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        return future

    def _on_closed(self, channel: Any, reason: Exception) -> None:  # noqa: ANN401 -- pika is untyped
        self._wire.forget(channel.channel_number)
        if isinstance(reason, exceptions.ChannelClosedByBroker):
            self.closed = Refused(reason.reply_code, reason.reply_text)
        elif isinstance(reason, exceptions.ChannelClosedByClient):
            self.closed = ConnectionLost("it was closed on this side", url=self._connection.url)
        else:
            self.closed = self._connection.on_lost(reason)
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_exception(self.closed)
                future.exception()  # seen, if nobody waits any more
        if self.on_closed is not None:
            self.on_closed(self.closed)


def _done(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


_HINTS: Final = {
    ACCESS_REFUSED: "see rabbitmqctl list_permissions",
    NOT_FOUND: "declare it, or leave out declare=never",
    RESOURCE_LOCKED: "it belongs to another connection alone: use another name",
}
_KINDS: Final = {NOT_FOUND: QueueNotFound, RESOURCE_LOCKED: QueueMismatch, PRECONDITION_FAILED: QueueMismatch}


def explain(refused: Refused, what: str, *, queue: str, url: object) -> Error:
    """Return the error of the tree for what the broker refused."""
    kind = _KINDS.get(refused.code, QueueError)
    error = kind(f"{what}: {refused.text}", queue=queue, url=url, hint=_HINTS.get(refused.code))
    error.__cause__ = refused
    return error
