"""Events: services trigger, queues carry. blinker's signals, forwarded to queues and topics, and emitted from them.

    forward(user_saved, client.producer(Topic("user.saved")))             # here: each send() becomes a message
    worker.handler(Topic("user.saved"), group="mail")(emit(user_saved))   # there: each message becomes a send()

What is forwarded are the keywords of `signal.send(sender, **keywords)`; the sender stays here, unless `payload` says
otherwise. A signal that was emitted from a message is not forwarded again, so both may stand in one process.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from anyqueue import ConfigError, Message, Producer, Rejected, sync

if TYPE_CHECKING:
    from anyqueue.outbox import OutboxProducer

Payload = Callable[..., object]
"""(sender, **keywords) -> what is sent."""


class Signal(Protocol):
    """What is used of blinker's Signal."""

    def connect(self, receiver: Any, sender: Any = ..., weak: bool = ...) -> Any:  # noqa: ANN401, FBT001 -- blinker's own
        """Call the receiver at each send()."""

    def disconnect(self, receiver: Any) -> None:  # noqa: ANN401 -- blinker's own
        """Call it no more."""

    def send_async(self, sender: Any, /, **keywords: Any) -> Awaitable[Any]:  # noqa: ANN401 -- blinker's own
        """Call the receivers."""


def keywords_of(sender: object, **keywords: object) -> object:
    """Return the keywords: what is sent by default."""
    del sender
    return keywords


def forward(
    signal: Signal,
    producer: Producer | sync.Producer | OutboxProducer,
    *,
    payload: Payload = keywords_of,
    headers: Mapping[str, str] | None = None,
) -> Callable[[], None]:
    """Send a message at each send() of a signal, until the function that is returned is called.

    With an async producer, use `await signal.send_async(...)`; with a blocking one, `signal.send(...)`. Both return, or
    raise, once the broker has confirmed. With an outbox's producer, `signal.send(sender, session=session, ...)` adds
    the message to that session's transaction: it is sent if and only if it commits.
    """
    receiver = _receiver(producer, payload, headers)
    signal.connect(receiver, weak=False)
    return lambda: signal.disconnect(receiver)


def _receiver(producer: Any, payload: Payload, headers: Mapping[str, str] | None) -> Callable[..., object]:  # noqa: ANN401 -- one of three
    if isinstance(producer, Producer):

        async def sending(sender: object, **keywords: object) -> str | None:
            if _from_a_queue(sender):
                return None
            return await producer.send(payload(sender, **keywords), headers=headers)

        return sending
    if isinstance(producer, sync.Producer):

        def blocking(sender: object, **keywords: object) -> str | None:
            return None if _from_a_queue(sender) else producer.send(payload(sender, **keywords), headers=headers)

        return blocking
    if not hasattr(producer, "outbox"):
        raise TypeError(f"a signal is forwarded to a producer, not to a {type(producer).__name__}")

    def adding(sender: object, session: object = None, **keywords: object) -> str | None:
        if _from_a_queue(sender):
            return None
        if session is None:
            raise ConfigError("this signal is forwarded to an outbox", hint="send(sender, session=session, ...)")
        found: str = producer.send(session, payload(sender, **keywords), headers=headers)
        return found

    return adding


def _from_a_queue(sender: object) -> bool:
    return isinstance(sender, Message)


def emit(signal: Signal) -> Callable[[Message], Awaitable[None]]:
    """Return a handler that calls the signal's receivers with the message as sender and its payload as keywords.

    Async receivers run on the event loop, plain ones in threads. What one of them raises is the retry policy's
    business, and a retry calls all of them again.
    """

    async def handle(message: Message) -> None:
        keywords = message.payload
        if not isinstance(keywords, dict) or not all(isinstance(name, str) for name in keywords):
            raise Rejected("an event's payload is an object: its names are the keywords of the signal")
        await signal.send_async(message, **keywords, _sync_wrapper=_threaded)

    return handle


def _threaded(receiver: Callable[..., object]) -> Callable[..., Awaitable[object]]:
    @functools.wraps(receiver)
    async def call(*args: object, **keywords: object) -> object:
        result = await asyncio.to_thread(receiver, *args, **keywords)
        return await result if inspect.isawaitable(result) else result

    return call
