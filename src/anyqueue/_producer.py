"""Producer: checks what is sent to one address, and hands it to the address's outbox (_sending.py)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from anyqueue._message import check_message
from anyqueue._outgoing import Given, envelope_of, forwarded
from anyqueue.errors import Closed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Self

    from anyqueue._message import Message
    from anyqueue._sending import Outbox, Ticket


class Posted:
    """A message that was handed over, and its verdict once there is one."""

    __slots__ = ("_id", "_ticket")

    def __init__(self, identity: str, ticket: Ticket) -> None:
        self._id = identity
        self._ticket = ticket

    def verdict(self) -> str:
        """Return the id of a confirmed message, or raise the SendError."""
        for failure in self._ticket.failures.values():
            raise failure
        return self._id


class Producer:
    """Send to one queue or topic. Leaving `async with` waits until everything is confirmed."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Wait for what is under way, then refuse more. Closing twice is a no-op."""
        self._closed = True
        await self._outbox.flush()

    async def send(  # noqa: PLR0913 -- each is its own, optional, keyword
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
        """Send one message and return its id once the broker has confirmed it.

        `delay` and `expires` in seconds from now, `priority` 0 to 9 (highest). Raises TypeError, ValueError, TooLarge
        or Unsupported before any I/O, SendError where it was not confirmed (see its `unknown`).
        """
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
        self._check_open()
        envelope = envelope_of(payload, given, self._outbox.terms, time.time())
        await self._outbox.send([envelope])
        return envelope.id

    def _post(self, payload: object, given: Given, done: Callable[[], object]) -> Posted:
        """Hand one message over without waiting, for anyqueue.sync; `done` is called when it has its verdict."""
        self._check_open()
        envelope = envelope_of(payload, given, self._outbox.terms, time.time())
        return Posted(envelope.id, self._outbox.post(envelope, done))

    async def send_many(
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
        """Send messages in order and return their ids once all are confirmed.

        Every payload is checked before the first is sent. Raises as send() does, and BatchFailed, which names by
        position those that were not confirmed; the others were.
        """
        given = Given(
            headers=headers,
            content_type=content_type,
            correlation_id=correlation_id,
            reply_to=reply_to,
            delay=delay,
            expires=expires,
            priority=priority,
        )
        self._check_open()
        now = time.time()
        envelopes = [envelope_of(payload, given, self._outbox.terms, now) for payload in payloads]
        if envelopes:
            await self._outbox.send(envelopes)
        return [envelope.id for envelope in envelopes]

    async def forward(self, message: Message) -> str:
        """Send a message of another client on as it is: id, body, headers, expiry, and why it is a dead letter.

        A priority is left out where the backend has none. Raises as send() does, for what this backend cannot take.
        """
        self._check_open()
        check_message(message)
        envelope = forwarded(message.envelope, self._outbox.terms)
        await self._outbox.send([envelope])
        return envelope.id

    def _check_open(self) -> None:
        if self._closed or self._outbox.closed:
            raise Closed("the producer is closed", queue=self._outbox.terms.queue, url=self._outbox.terms.url)
