"""Give requests their replies, for one subscription: the reply is confirmed, then the request is accepted.

A reply that cannot be sent is tried again with backoff for as long as its requester waits and the subscription lives;
until then the request stays unsettled, so that a consumer that is killed meanwhile has it answered by another.
"""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING

import msgspec

from anyqueue import _replies
from anyqueue._link import backoff
from anyqueue.driver import ACCEPT, Answer, Feature, Queue
from anyqueue.errors import Error, QueueError, Unroutable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from anyqueue._held import Held
    from anyqueue._message import Message
    from anyqueue._sending import Outbox
    from anyqueue.driver import Envelope, Progress

_log = logging.getLogger(__name__)


class Answers:
    """`park` waits that many seconds, or until `hurry` is set."""

    def __init__(
        self,
        held: Held,
        outbox: Callable[[Queue], Outbox],
        park: Callable[[float], Awaitable[None]],
        hurry: asyncio.Event,
    ) -> None:
        self._held = held
        self._outbox = outbox
        self._park = park
        self._hurry = hurry

    async def value(self, message: Message, payload: object) -> None:
        """Reply with what a handler returned; what cannot be carried is an error of the handler's."""
        try:
            reply = _replies.answer(message.envelope, payload, time.time(), self._held.driver.limits.max_body)
        except (TypeError, ValueError, Error) as error:
            _log.warning("the reply to request %s of queue %r cannot be sent: %s", message.id, message.queue, error)
            await self.error(message, error)
        else:
            await self._give(message, reply, None)

    async def error(self, message: Message, error: BaseException | str) -> None:
        """Reply with an error."""
        await self._give(message, _replies.failure(message.envelope, error, time.time()), _replies.said(error))

    async def report(self, message: Message, progress: Progress) -> None:
        """Tell the requester of progress, once; what fails is logged."""
        try:
            if message.delivery.asks:
                await self._held.subscription.report(message.delivery, progress)
            elif report := _replies.report(message.envelope, progress):
                await self._outbox(Queue(message.reply_to or "")).send([self._ending(message, report)])
        except Error as error:
            _log.warning("the requester of %s was not told of its progress: %s", message.id, error)

    async def _give(self, message: Message, reply: Envelope, error: str | None) -> None:
        if message.delivery.asks:
            await self._held.settled(message.delivery, Answer(reply, error))
        elif await self._send(message, self._ending(message, reply)):
            await self._held.settled(message.delivery, ACCEPT)

    def _ending(self, message: Message, reply: Envelope) -> Envelope:
        """Let a reply expire with its requester's patience, where the broker sees to that."""
        by = _replies.waits_until(message.envelope)
        if by is None or Feature.EXPIRY not in self._held.driver.features:
            return reply
        return msgspec.structs.replace(reply, expires_at=by)

    async def _send(self, message: Message, reply: Envelope) -> bool:
        """Send it, over as many tries as it takes; False where the request must stay for another consumer."""
        tries = 0
        while self._held.lost is None:
            if not _replies.waits(message.envelope, time.time()):
                _log.info("the requester of %s no longer waits", message.id)
                return True
            try:
                await self._outbox(Queue(message.reply_to or "")).send([reply])
            except Error as failure:
                _log.warning("the reply to request %s of queue %r: %s", message.id, message.queue, failure)
                if _is_gone(failure):
                    return True
                if self._hurry.is_set():
                    return False
                tries += 1
                await self._park(backoff(tries, random.random()))  # noqa: S311 -- jitter, no secret
            else:
                return True
        return False


def _is_gone(failure: Error) -> bool:
    """Say whether the reply queue is no more, or is none that can be sent to: trying again does not help."""
    cause = failure.__cause__
    return isinstance(failure, Unroutable) or (isinstance(cause, QueueError) and not cause.transient)
