"""Queues of RabbitMQ, made to exist over a connection of their own.

The adapter declares a queue at the first SEND to it in a session, and never again; it says nothing if the queue is
deleted later, and confirms what is sent to nowhere. So:

* A queue is declared by a SEND in a transaction that is aborted, in a session of its own: no message is made, and a
  refusal ends that session alone. One SEND more, to where no queue is, brings the receipt: by then it is done.
* What was declared is taken to be there for FRESH seconds. Then it is declared anew before anything more is sent to it,
  which costs a connection of some 3 ms. What one connection of this process finds deleted, all forget.
* A quorum queue that was made is not safe at once: RabbitMQ keeps the names of its logs in a file that it writes half a
  second after the last change, and one that is killed before does not find the log again. Making another queue writes
  the file; STOMP does not say whether a queue is new; so the first use of a queue in this process makes a second one,
  NAME.aq-seal-TOKEN, which is gone after some seconds.
* A quorum queue that is deleted and made again within some 20 ms keeps its consumers, who hear nothing ever again. So
  what was found deleted is made again no sooner than REST seconds later: by then they have been told.
* A queue that exists with other arguments is used as it is where that keeps our promises. The broker names one argument
  that differs at a time, in its own order; asking again with its value finds the next. One that STOMP cannot say, or
  whose value the broker cuts off, ends the search. So the arguments of a queue with a dead-letter strategy, as AMQP
  clients declare it, are taken on trust.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final
from weakref import WeakSet

from anyqueue.backends.stomp import frames
from anyqueue.backends.stomp.connection import connect
from anyqueue.backends.stomp.names import MAX_NAME
from anyqueue.backends.stomp.receipts import Refused
from anyqueue.backends.stomp.refusals import CUT, DIFFERS
from anyqueue.driver import RESERVED
from anyqueue.errors import AuthFailed, ConnectFailed, ConnectionLost

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable

    from anyqueue.backends.stomp.connection import Connection
    from anyqueue.backends.stomp.dialect import Declared
    from anyqueue.backends.stomp.options import Target
    from anyqueue.backends.stomp.refusals import Refusal
    from anyqueue.url import Host

FRESH: Final = 1.0
REST: Final = 0.3
UNSEALED: Final = 1.0
"""Seconds after which a new queue is safe by itself, where no second one may be made."""
MAX_KNOWN: Final = 10_000
NOWHERE: Final = "/amq/queue/aq.stomp.nowhere"
"""No queue has this name."""
SEAL: Final = ".aq-seal-"
_SAYABLE: Final = frozenset({"x-dead-letter-exchange", "x-dead-letter-routing-key", "x-max-priority"})
"""Arguments that may be another's choice, and that STOMP can say."""
_HARMLESS: Final = _SAYABLE | {
    "x-dead-letter-strategy",
    "x-overflow",
    "x-delivery-limit",
    "x-queue-mode",
    "x-queue-version",
    "x-queue-master-locator",
    "x-quorum-initial-group-size",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
}
_QUORUM: Final = ("x-queue-type", "quorum")


@dataclass(slots=True)
class _Shared:
    """What this process knows of one broker."""

    declarers: WeakSet[Declarer] = field(default_factory=WeakSet)
    sealed: set[str] = field(default_factory=set)
    gone: dict[str, float] = field(default_factory=dict)
    """A queue -> when it was found deleted."""


class Declarer:
    """Declare for one driver. Errors name the queue as the user knows it."""

    _brokers: ClassVar[dict[tuple[Host, ...], _Shared]] = {}

    def __init__(self, target: Target, url: object) -> None:
        self.host: Host | None = None
        """Where the driver is connected."""
        self._target = target
        self._url = url
        self._known: dict[str, float] = {}
        self._shared = self._brokers.setdefault(target.hosts, _Shared())
        self._shared.declarers.add(self)

    def forget(self, queue: str) -> None:
        """Take it that a queue was deleted: every connection of this process declares it again."""
        shared = self._shared
        if len(shared.gone) >= MAX_KNOWN:
            shared.gone.clear()
        shared.gone[queue] = time.monotonic()
        shared.sealed.discard(queue)
        for other in list(shared.declarers):
            other._known.pop(queue, None)  # noqa: SLF001 -- of this class

    async def ensure(self, wanted: Iterable[Declared], user: str) -> None:
        """Make queues exist that are not known to. Raises QueueMismatch, QueueError, ConnectionLost."""
        for queue in wanted:
            begun = time.monotonic()
            if begun - self._known.get(queue.name, -FRESH) < FRESH:
                continue
            await asyncio.sleep(self._shared.gone.get(queue.name, -REST) + REST - begun)
            await self._declare(queue, user)
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[queue.name] = begun

    async def delete(self, queue: str, user: str) -> None:
        """Delete a queue with all that is in it, if there is one. Raises QueueError where it is forbidden.

        The adapter deletes the queue of a durable subscription to a topic when that ends, and takes the queue's name
        from the frame that ends it. So a subscription is made for it, to a topic where nothing is ever sent.
        """
        listening = {"id": "delete", "destination": f"/topic/{RESERVED}stomp.delete"}
        passing = {"durable": "false", "auto-delete": "true", "exclusive": "true"}
        connection = await self._connected("delete")
        try:
            await connection.ask("SUBSCRIBE", {**listening, **passing})
            await connection.ask("UNSUBSCRIBE", {**listening, "durable": "true", "x-queue-name": queue})
        except Refused as refused:
            raise refused.refusal.of_queue("the queue cannot be deleted", user, self._url) from refused
        finally:
            connection.drop()
        self.forget(queue)

    async def _connected(self, what: str) -> Connection:
        try:
            return await connect(self._target, self._url, self.host)
        except (ConnectFailed, AuthFailed) as error:
            raise ConnectionLost(f"no connection to {what} a queue over: {error.what}", url=self._url) from error

    async def _declare(self, queue: Declared, user: str) -> None:
        """Declare, giving in to harmless differences one after another."""
        arguments = dict(queue.arguments)
        for _ in range(len(_SAYABLE) + 1):
            refusal = await self._try(queue.name, arguments)
            if refusal is None:
                return await self._seal(queue)
            if refusal.is_crash:
                raise refusal.of_connection(self._url)
            differs = DIFFERS.search(refusal.text)
            named = differs or CUT.search(refusal.text)
            if named is None or named["name"] not in _HARMLESS:
                raise refusal.of_queue("the queue cannot be used", user, self._url)
            if differs is None or differs["name"] not in _SAYABLE:
                return None
            _give_in(arguments, differs)
        return None

    async def _seal(self, queue: Declared) -> None:
        """Have the broker write down the queue, which may be new."""
        sealed = self._shared.sealed
        if _QUORUM not in queue.arguments or queue.name in sealed:
            return
        token = secrets.token_hex(8)
        other = f"{queue.name}{SEAL}{token}"
        if len(other.encode()) > MAX_NAME:
            other = f"{RESERVED}stomp{SEAL}{token}"
        if await self._try(other, {**dict(queue.arguments), "x-expires": "1"}) is not None:
            await asyncio.sleep(UNSEALED)
        if len(sealed) >= MAX_KNOWN:
            sealed.clear()
        sealed.add(queue.name)

    async def _try(self, name: str, arguments: dict[str, str]) -> Refusal | None:
        """Declare in a session of its own; return why not, or None."""
        connection = await self._connected("declare")
        try:
            transaction = {"transaction": "declare"}
            destination = {"destination": f"/queue/{name.replace('/', '%2F')}"}
            steps = (
                frames.control("BEGIN", transaction),
                frames.control("SEND", {**arguments, **destination, **transaction}),
                frames.control("ABORT", transaction),
            )
            connection.write(b"".join(steps))
            await connection.ask("SEND", {"destination": NOWHERE})
        except Refused as refused:
            return refused.refusal
        finally:
            connection.drop()
        return None


def _give_in(arguments: dict[str, str], differs: re.Match[str]) -> None:
    """Take the value that the queue has."""
    value = differs["value"] if differs["value"] is not None else differs["plain"]
    if value is None:
        arguments.pop(differs["name"], None)
    else:
        arguments[differs["name"]] = value
