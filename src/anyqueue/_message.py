"""Message: what a handler sees, settled once.

The first settlement wins; a second one, and one that comes too late, raises SettleError. How a settlement reaches the
broker is the holder's business (`_hold`); what a failure leads to is the policy's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from anyqueue import codecs
from anyqueue._death import ATTEMPTS, Death, first_failure, read_death, used_attempts
from anyqueue._progress import checked
from anyqueue._replies import answer, asks
from anyqueue.driver import HEADER_RESERVED
from anyqueue.errors import Rejected, RetryLater, SettleError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from anyqueue.driver import Delivery, Envelope, Progress

_UNREAD: Any = object()


class Holder(Protocol):
    """Who carries out what becomes of a message. Those named `_soon` do not wait, and log what fails."""

    async def accept(self, message: Message, result: object = None) -> None:
        """Settle it as done, and wait until the broker knows; of a request, `result` is the reply."""

    async def fail(self, message: Message, error: BaseException) -> None:
        """Do what the policy plans for a failed message, and wait until it is done or parked."""

    async def report(self, message: Message, progress: Progress) -> None:
        """Report how far its handling is."""

    def accept_soon(self, message: Message, result: object = None) -> None:
        """Settle it as done; of a request, `result` is the reply."""

    def accept_all_soon(self, deliveries: Sequence[Delivery]) -> None:
        """Settle those of messages that are no requests as done."""

    def fail_soon(self, message: Message, error: BaseException) -> None:
        """Do what the policy plans for a failed message."""

    def give_up(self, message: Message, reason: str) -> None:
        """Dead-letter it, or reject it where no dead letter is wanted."""

    def give_back(self, message: Message) -> None:
        """Return a message whose handling never ended."""


class Message:
    """One message handed to you.

    Use it as `async with message:` to have it accepted at the end and the policy applied to an exception; or call
    ack(), retry() or reject(). What you change on it stays with you: a retry brings the message as it was sent.
    """

    __slots__ = ("_headers", "_holder", "_kind", "_payload", "_reruns", "_settled", "delivery", "queue")

    def __init__(
        self,
        delivery: Delivery,
        queue: str,
        holder: Holder | None,
        kind: Any = None,  # noqa: ANN401 -- any type msgspec knows
        reruns: int = 0,
    ) -> None:
        self.delivery = delivery
        self.queue = queue
        self._holder = holder
        self._kind = kind
        self._reruns = reruns
        self._settled = holder is None
        self._payload = _UNREAD
        self._headers: dict[str, str] | None = None

    @property
    def envelope(self) -> Envelope:
        """The message as it travels, anyqueue's own headers included."""
        return self.delivery.envelope

    @property
    def id(self) -> str:
        """The id that send() returned, the same over redelivery, retry, dead letter and redrive."""
        return self.delivery.envelope.id

    @property
    def body(self) -> bytes:
        """The body as it was sent."""
        return self.delivery.envelope.body

    @property
    def headers(self) -> dict[str, str]:
        """The sender's headers."""
        if self._headers is None:
            given = self.delivery.envelope.headers
            self._headers = {name: text for name, text in given.items() if not name.startswith(HEADER_RESERVED)}
        return self._headers

    @property
    def payload(self) -> Any:  # noqa: ANN401 -- what the sender sent, or the type asked for
        """The decoded body; raises Undecodable, which a handler may let pass: the message is then dead-lettered."""
        if self._payload is _UNREAD:
            envelope = self.delivery.envelope
            self._payload = codecs.decode(envelope.body, envelope.content_type, self._kind)
        return self._payload

    @property
    def content_type(self) -> str | None:
        """What the body is."""
        return self.delivery.envelope.content_type

    @property
    def correlation_id(self) -> str | None:
        """As the sender gave it."""
        return self.delivery.envelope.correlation_id

    @property
    def reply_to(self) -> str | None:
        """As the sender gave it."""
        return self.delivery.envelope.reply_to

    @property
    def is_request(self) -> bool:
        """Say whether its sender waits for a reply, by client.request()."""
        return asks(self.delivery)

    @property
    def priority(self) -> int | None:
        """As the sender gave it: 0 to 9, the highest."""
        return self.delivery.envelope.priority

    @property
    def expires_at(self) -> float | None:
        """When it ends, Unix seconds."""
        return self.delivery.envelope.expires_at

    @property
    def timestamp(self) -> float | None:
        """When it was sent, Unix seconds, by the sender's clock."""
        return self.delivery.envelope.timestamp

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1: deliveries counted by the broker, and retries counted in the headers."""
        here = self.delivery.attempt
        if here is None:
            here = 2 if self.delivery.redelivered else 1
        return used_attempts(self.delivery.envelope.headers) + here + self._reruns

    @property
    def redelivered(self) -> bool:
        """False: surely never handed over before. True: it may have been."""
        return self.delivery.redelivered or self.attempt > 1 or ATTEMPTS in self.delivery.envelope.headers

    @property
    def first_failure(self) -> float | None:
        """When a handler first failed on it, Unix seconds, as far as is known."""
        return self.delivery.first_failure or first_failure(self.delivery.envelope.headers)

    @property
    def death(self) -> Death | None:
        """Why it is a dead letter; None for one that is not."""
        return read_death(self.delivery.envelope.headers)

    @property
    def native(self) -> object:
        """The client library's own object, where the backend gives one."""
        return self.delivery.native

    @property
    def settled(self) -> bool:
        """Say whether a settlement was begun; another would raise SettleError."""
        return self._settled

    async def ack(self) -> None:
        """Accept: it is done and never comes again. Returns once the broker knows."""
        await self.settle_with(None)

    async def reply(self, payload: object) -> None:
        """Accept a request with this reply: what a handler does by returning it. Returns once the broker knows.

        Raises TypeError, ValueError or TooLarge for what cannot be carried, SettleError for what is no request.
        """
        answer(self.envelope, payload, 0.0)
        if not self.is_request:
            raise SettleError(f"message {self.id} is no request: nobody waits for its reply", queue=self.queue)
        await self.claim().accept(self, payload)

    async def retry(self, delay: float | None = None) -> None:
        """Have it again after `delay` seconds; None: after the retry policy's delay. It counts as an attempt."""
        await self.settle_with(RetryLater(delay))

    async def reject(self, reason: str = "rejected") -> None:
        """Give it up: into the dead letters with this reason, or dropped where there are none."""
        await self.settle_with(Rejected(reason))

    async def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Report how far its handling is, for client.progress(id) to read. What cannot be kept is logged.

        Raises SettleError for a message that is not being handled.
        """
        report = checked(done, total, note, time.time())
        if self._holder is None or self._settled:
            raise SettleError("this message is not being handled: it has no progress", queue=self.queue)
        await self._holder.report(self, report)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            if not self._settled:
                await self.ack()
            return False
        if not isinstance(error, Exception) or self._settled:
            return False
        await self.settle_with(error)
        return True

    def claim(self) -> Holder:
        """Take the one settlement this message has, or raise SettleError."""
        if self._holder is None:
            raise SettleError("this message was only looked at, not received", queue=self.queue)
        if self._settled:
            raise SettleError(f"message {self.id} is settled already", queue=self.queue)
        self._settled = True
        return self._holder

    async def settle_with(self, error: BaseException | None) -> None:
        """Accept, or with an error do what the policy plans for it."""
        holder = self.claim()
        if error is None:
            await holder.accept(self)
        else:
            await holder.fail(self, error)

    def again(self) -> Message:
        """Return the same delivery for another attempt in this process."""
        return Message(self.delivery, self.queue, self._holder, self._kind, self._reruns + 1)

    def __repr__(self) -> str:
        return f"<Message {self.id} of {self.queue!r}, attempt {self.attempt}, {len(self.body)} bytes>"


def check_message(value: object) -> None:
    """Raise TypeError for what is no Message."""
    if not isinstance(value, Message):
        raise TypeError(f"this takes a Message, not {type(value).__name__}")
