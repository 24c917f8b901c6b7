"""The same API, blocking: the same names and parameters, `with` for `async with`, `for` for `async for`.

Each client runs its own event loop in a thread; handlers and hooks' users never run on it. Handlers are plain
functions and run in threads of their own, at most `concurrency` at once. Any thread may use a client.

This file is longer than others because it repeats the whole API, and nothing else.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from typing import TYPE_CHECKING, Any

from anyqueue import _client
from anyqueue._arguments import DEFAULT, Default
from anyqueue._outgoing import Given
from anyqueue._portal import BorrowedPortal, Portal
from anyqueue.driver import Address, Depth, Feature, Limits, Progress, Queue
from anyqueue.policy import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from anyqueue import _batches, _consumer, _message, _producer, hooks
    from anyqueue._client import Credentials
    from anyqueue._death import Death
    from anyqueue.capability import Support
    from anyqueue.driver import Delivery, Envelope
    from anyqueue.url import URL


def connect(  # noqa: PLR0913 -- as anyqueue.connect()
    url: str | URL,
    *,
    require: Feature = Feature.NONE,
    credentials: Credentials | None = None,
    hooks: Iterable[hooks.Hook] = (),
    progress: str | None = None,
    connect_timeout: float | None = None,
    send_timeout: float | None = None,
    settle_timeout: float | None = None,
    drain_timeout: float | None = None,
) -> Client:
    """Return an unopened blocking client. As anyqueue.connect(); hooks are called on the loop's thread."""
    return Client(
        _client.connect(
            url,
            require=require,
            credentials=credentials,
            hooks=hooks,
            progress=progress,
            connect_timeout=connect_timeout,
            send_timeout=send_timeout,
            settle_timeout=settle_timeout,
            drain_timeout=drain_timeout,
        )
    )


class Client:
    """As anyqueue.Client, blocking."""

    def __init__(self, client: _client.Client, portal: Portal | None = None) -> None:
        self._client = client
        self._portal = portal or Portal()
        self._ending = threading.Lock()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> URL:
        """As anyqueue.Client.url."""
        return self._client.url

    @property
    def features(self) -> Feature:
        """As anyqueue.Client.features."""
        return self._client.features

    @property
    def limits(self) -> Limits:
        """As anyqueue.Client.limits."""
        return self._client.limits

    def open(self) -> None:
        """Connect, as anyqueue.Client.open(). Leaves no thread behind when it raises."""
        self._portal.start()
        try:
            self._portal.call(self._client.open)
        except BaseException:
            self._portal.stop()
            raise

    def close(self) -> None:
        """Close, as anyqueue.Client.close(), and end the thread. In a forked child it does nothing."""
        if not self._portal.running:
            return
        with self._ending:
            if self._portal.running:
                try:
                    self._portal.call(self._client.close)
                finally:
                    self._portal.stop()

    def support(self, feature: Feature) -> Support:
        """As anyqueue.Client.support()."""
        return self._client.support(feature)

    def send(  # noqa: PLR0913 -- as anyqueue.Client.send()
        self,
        address: str | Address,
        payload: object,
        *,
        id: str | None = None,  # noqa: A002 -- the field's own word
        headers: Mapping[str, str] | None = None,
        content_type: str | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        delay: float | None = None,
        expires: float | None = None,
        priority: int | None = None,
    ) -> str:
        """Send one message and return its id once confirmed, as anyqueue.Client.send()."""
        given = Given(
            id=id,
            headers=headers,
            content_type=content_type,
            correlation_id=correlation_id,
            reply_to=reply_to,
            delay=delay,
            expires=expires,
            priority=priority,
        )
        return _posted(self._portal, lambda: self._client.producer(address), payload, given)

    def request(
        self,
        queue: str | Queue,
        payload: object,
        *,
        timeout: float = 30.0,
        type: Any = None,  # noqa: A002, ANN401 -- the field's own word; any type msgspec knows
        headers: Mapping[str, str] | None = None,
        content_type: str | None = None,
        priority: int | None = None,
        progress: Callable[[Progress], object] | None = None,
    ) -> Any:  # noqa: ANN401 -- what the handler returned
        """As anyqueue.Client.request(); `progress` is called on the loop's thread and must not block."""
        return self._portal.call(
            self._client.request,
            queue,
            payload,
            timeout=timeout,
            type=type,
            headers=headers,
            content_type=content_type,
            priority=priority,
            progress=progress,
        )

    def producer(self, address: str | Address) -> Producer:
        """As anyqueue.Client.producer()."""
        return Producer(self._portal.run(self._client.producer, address), self._portal)

    def consumer(
        self,
        address: str | Address,
        *,
        group: str | None = None,
        concurrency: int = 1,
        prefetch: int | None = None,
        type: Any = None,  # noqa: A002, ANN401 -- the field's own word; any type msgspec knows
        retry: Retry | None = Retry(),  # noqa: B008 -- immutable
        dead_letter: str | Queue | Default | None = DEFAULT,
        drain_timeout: float | None = None,
    ) -> Consumer:
        """As anyqueue.Client.consumer()."""
        made = self._portal.run(
            self._client.consumer,
            address,
            group=group,
            concurrency=concurrency,
            prefetch=prefetch,
            type=type,
            retry=retry,
            dead_letter=dead_letter,
            drain_timeout=drain_timeout,
        )
        return Consumer(made, self._portal)

    def progress(self, identity: str) -> Progress | None:
        """As anyqueue.Client.progress()."""
        return self._portal.call(self._client.progress, identity)

    def queues(self) -> list[tuple[str, Depth]]:
        """As anyqueue.Client.queues()."""
        return self._portal.call(self._client.queues)

    def depth(self, queue: str | Queue) -> Depth:
        """As anyqueue.Client.depth()."""
        return self._portal.call(self._client.depth, queue)

    def browse(self, queue: str | Queue, limit: int = 100) -> list[Message]:
        """As anyqueue.Client.browse()."""
        found = self._portal.call(self._client.browse, queue, limit)
        return [Message(message, self._portal) for message in found]

    def purge(self, queue: str | Queue) -> int:
        """As anyqueue.Client.purge()."""
        return self._portal.call(self._client.purge, queue)

    def delete(self, queue: str | Queue) -> None:
        """As anyqueue.Client.delete()."""
        self._portal.call(self._client.delete, queue)

    def dead_letters(
        self, queue: str | Queue, *, limit: int = 100, match: Callable[[_message.Message], bool] | None = None
    ) -> list[Message]:
        """As anyqueue.Client.dead_letters(); `match` is called as in redrive()."""
        found = self._portal.call(self._client.dead_letters, queue, limit=limit, match=match)
        return [Message(message, self._portal) for message in found]

    def discard(
        self, queue: str | Queue, *, limit: int | None = None, match: Callable[[_message.Message], bool] | None = None
    ) -> int:
        """As anyqueue.Client.discard(); `match` is called as in redrive()."""
        return self._portal.call(self._client.discard, queue, limit=limit, match=match)

    def redrive(
        self,
        queue: str | Queue,
        *,
        to: str | Queue | None = None,
        limit: int | None = None,
        match: Callable[[_message.Message], bool] | None = None,
    ) -> int:
        """As anyqueue.Client.redrive(); `match` looks at the message on the loop's thread and must not block."""
        return self._portal.call(self._client.redrive, queue, to=to, limit=limit, match=match)


class Producer:
    """As anyqueue.Producer, blocking."""

    def __init__(self, producer: _producer.Producer, portal: Portal) -> None:
        self._producer = producer
        self._portal = portal

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """As anyqueue.Producer.close()."""
        self._portal.call(self._producer.close)

    def send(  # noqa: PLR0913 -- as anyqueue.Producer.send()
        self,
        payload: object,
        *,
        id: str | None = None,  # noqa: A002 -- the field's own word
        headers: Mapping[str, str] | None = None,
        content_type: str | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        delay: float | None = None,
        expires: float | None = None,
        priority: int | None = None,
    ) -> str:
        """Send one message and return its id once confirmed, as anyqueue.Producer.send()."""
        given = Given(
            id=id,
            headers=headers,
            content_type=content_type,
            correlation_id=correlation_id,
            reply_to=reply_to,
            delay=delay,
            expires=expires,
            priority=priority,
        )
        return _posted(self._portal, lambda: self._producer, payload, given)

    def send_many(
        self,
        payloads: Iterable[object],
        *,
        headers: Mapping[str, str] | None = None,
        content_type: str | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        delay: float | None = None,
        expires: float | None = None,
        priority: int | None = None,
    ) -> list[str]:
        """Send messages in order and return their ids once all are confirmed, as anyqueue.Producer.send_many()."""
        return self._portal.call(
            self._producer.send_many,
            list(payloads),
            headers=headers,
            content_type=content_type,
            correlation_id=correlation_id,
            reply_to=reply_to,
            delay=delay,
            expires=expires,
            priority=priority,
        )

    def forward(self, message: Message) -> str:
        """As anyqueue.Producer.forward()."""
        if not isinstance(message, Message):
            raise TypeError(f"this takes a Message, not {type(message).__name__}")
        return self._portal.call(self._producer.forward, message._message)  # noqa: SLF001 -- its twin


def _posted(portal: Portal, producer: Callable[[], _producer.Producer], payload: object, given: Given) -> str:
    """Send one message in as few turns of the loop as it takes; `producer` is called on the loop."""
    return portal.await_end(lambda done: producer()._post(payload, given, done)).verdict()  # noqa: SLF001 -- its twin


class Consumer:
    """As anyqueue.Consumer, blocking."""

    def __init__(self, consumer: _consumer.Consumer, portal: Portal) -> None:
        self._consumer = consumer
        self._portal = portal

    def run(self, handler: Callable[[Message], object]) -> None:
        """Handle messages until stop() is called from another thread, or Ctrl-C; then drain.

        The handler is a plain function; it runs in threads, never on the loop's. As anyqueue.Consumer.run().
        """
        if inspect.iscoroutinefunction(handler):
            raise TypeError("a blocking consumer takes a plain function", "use anyqueue.connect for async handlers")
        if not callable(handler):
            raise TypeError(f"a handler is a function of one message, not {type(handler).__name__}")
        portal = self._portal
        portal.call(self._consumer.run, lambda message: handler(Message(message, portal)))

    def run_batches(self, handler: Callable[[Batch], object], *, max_size: int, max_wait: float) -> None:
        """As anyqueue.Consumer.run_batches(), with a plain function in threads."""
        if inspect.iscoroutinefunction(handler):
            raise TypeError("a blocking consumer takes a plain function", "use anyqueue.connect for async handlers")
        portal = self._portal
        portal.call(
            self._consumer.run_batches,
            lambda batch: handler(Batch(batch, portal)),
            max_size=max_size,
            max_wait=max_wait,
        )

    @contextlib.contextmanager
    def batches(self, max_size: int, max_wait: float) -> Iterator[Batches]:
        """As anyqueue.Consumer.batches()."""
        taking = self._portal.run(self._consumer.batches, max_size, max_wait)
        batches = self._portal.call(taking.__aenter__)
        try:
            yield Batches(batches, self._portal)
        finally:
            self._portal.call(taking.__aexit__, None, None, None)

    def stop(self) -> None:
        """As anyqueue.Consumer.stop(), from any thread."""
        self._portal.run(self._consumer.stop)

    def __enter__(self) -> Messages:
        return Messages(self._portal.call(self._consumer.__aenter__), self._portal)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.call(self._consumer.__aexit__, kind, error, trace)


class Messages:
    """As anyqueue.Messages, blocking."""

    def __init__(self, messages: _consumer.Messages, portal: Portal) -> None:
        self._messages = messages
        self._portal = portal

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        return self.receive()[0]

    def receive(self, limit: int = 1, timeout: float | None = None) -> list[Message]:
        """As anyqueue.Messages.receive()."""
        taken = self._portal.call(self._messages.receive, limit, timeout)
        return [Message(message, self._portal) for message in taken]


class Batches:
    """As anyqueue.Batches, blocking."""

    def __init__(self, batches: _batches.Batches, portal: Portal) -> None:
        self._batches = batches
        self._portal = portal

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        return self.receive()

    def receive(self) -> Batch:
        """As anyqueue.Batches.receive()."""
        return Batch(self._portal.call(self._batches.receive), self._portal)


class Message:
    """As anyqueue.Message, with ack(), retry() and reject() blocking."""

    __slots__ = ("_message", "_portal")

    id: str
    body: bytes
    headers: dict[str, str]
    payload: Any
    content_type: str | None
    correlation_id: str | None
    reply_to: str | None
    is_request: bool
    priority: int | None
    expires_at: float | None
    timestamp: float | None
    attempt: int
    redelivered: bool
    first_failure: float | None
    death: Death | None
    queue: str
    native: object
    settled: bool
    delivery: Delivery
    envelope: Envelope

    def __init__(self, message: _message.Message, portal: Portal) -> None:
        self._message = message
        self._portal = portal

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- the fields above, which the async message has
        return getattr(self._message, name)

    def ack(self) -> None:
        """As anyqueue.Message.ack()."""
        self._portal.call(self._message.ack)

    def reply(self, payload: object) -> None:
        """As anyqueue.Message.reply()."""
        self._portal.call(self._message.reply, payload)

    def retry(self, delay: float | None = None) -> None:
        """As anyqueue.Message.retry()."""
        self._portal.call(self._message.retry, delay)

    def reject(self, reason: str = "rejected") -> None:
        """As anyqueue.Message.reject()."""
        self._portal.call(self._message.reject, reason)

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """As anyqueue.Message.progress()."""
        self._portal.call(self._message.progress, done, total, note)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return self._portal.call(self._message.__aexit__, kind, error, trace)

    def __repr__(self) -> str:
        return repr(self._message)


class Batch(list[Message]):
    """As anyqueue.Batch, of blocking messages."""

    def __init__(self, batch: _batches.Batch, portal: Portal) -> None:
        super().__init__(Message(message, portal) for message in batch)
        self._batch = batch
        self._portal = portal

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return self._portal.call(self._batch.__aexit__, kind, error, trace)


class Twins:
    """The blocking twins of an open client of the running loop and of its messages, for code in other threads.

    They call into that loop: used on its own thread they raise RuntimeError, and `client` closes as the client does.
    """

    def __init__(self, client: _client.Client) -> None:
        self._portal = BorrowedPortal()
        self.client = Client(client, self._portal)

    def message(self, message: _message.Message) -> Message:
        """Return the blocking twin of a message."""
        return Message(message, self._portal)

    def batch(self, batch: _batches.Batch) -> Batch:
        """Return the blocking twin of a batch."""
        return Batch(batch, self._portal)


__all__ = ["DEFAULT", "Batch", "Batches", "Client", "Consumer", "Message", "Messages", "Producer", "Twins", "connect"]
