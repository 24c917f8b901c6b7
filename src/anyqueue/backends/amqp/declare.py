"""Queues, exchanges and bindings: made to exist, once a connection, or refused with the argument that is in the way.

* A queue that exists with other arguments is used as it is where that keeps our promises. The broker names one argument
  that differs at a time, so asking again with its own value finds the next, until it agrees or one cannot be accepted.
  Nothing is ever deleted or declared anew.
* A quorum queue that we made is not safe at once. RabbitMQ keeps the names of its logs in a file that it writes half a
  second after the last change: killed before, it does not find the log again, and what it had confirmed is lost. Making
  another queue writes the file, so one is made and deleted (`seal`) before anything is sent to a new queue.
* A quorum queue that is deleted and made again within some 20 ms keeps its consumers, who hear nothing ever again. So
  what was deleted is made again no sooner than REST seconds after that was found out: by then they have been told.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from typing import TYPE_CHECKING, Final

from anyqueue.backends.amqp.channel import NOT_FOUND, PRECONDITION_FAILED, Channel, Refused, explain
from anyqueue.driver import RESERVED
from anyqueue.errors import QueueMismatch

if TYPE_CHECKING:
    from anyqueue.backends.amqp.connection import Connection
    from anyqueue.backends.amqp.names import Arguments

MAX_KNOWN: Final = 10_000
"""Names that are remembered as declared."""
REST: Final = 0.3
UNSEALED: Final = 1.0
SEAL_LASTS: Final = 60_000
"""Milliseconds."""
MAX_SEALED: Final = 220
"""Bytes in a name to which the seal's own can be added."""
LEAST_LIMIT: Final = 20
"""The least delivery limit that leaves room for retries."""
_DIFFERS: Final = re.compile(
    r"inequivalent arg '(?P<name>[^']+)'.*current is "
    r"(?:(?P<none>none)|the value '(?P<value>.*)' of type '(?P<type>\w+)'|'(?P<plain>.*)')",
    re.DOTALL,
)
_CUT: Final = re.compile(r"""inequivalent arg '(?P<name>[^']+)'.*\.\.\.["']?\Z""", re.DOTALL)
_HARMLESS: Final = frozenset(
    {
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-dead-letter-strategy",
        "x-overflow",
        "x-queue-mode",
        "x-queue-version",
        "x-queue-master-locator",
        "x-quorum-initial-group-size",
        "x-max-in-memory-length",
        "x-max-in-memory-bytes",
    }
)
"""Arguments that may be another's choice: dead letters and retries are ours, whatever the broker does besides."""


class Declarer:
    """Declare over a channel of its own, one thing at a time. Errors name the queue or topic as the user knows it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = asyncio.Lock()
        self._channel: Channel | None = None
        self._known: set[object] = set()
        self._gone: dict[object, float] = {}
        """What was deleted, and when that was found out."""

    def knows(self, thing: object) -> bool:
        """Say whether a queue (by its name), an exchange or a binding was declared over this connection."""
        return thing in self._known

    def forget(self, thing: object) -> None:
        """Take it for deleted: look for it, or make it again, when it is next needed."""
        self._known.discard(thing)
        if len(self._gone) >= MAX_KNOWN:
            self._gone.clear()
        self._gone[thing] = time.monotonic()

    async def queue(self, name: str, arguments: Arguments, *, user: str, **flags: bool) -> None:
        """Make a queue exist. Raises QueueMismatch, or QueueError where it is forbidden."""
        if name not in self._known:
            async with self._lock:
                if name not in self._known:
                    await self._declare(name, dict(arguments), user, flags)
                    self._remember(name)

    async def delete(self, name: str, *, user: str) -> None:
        """Delete a queue with all that is in it, if there is one. Raises QueueError where it is forbidden."""
        async with self._lock:
            await self._ask(user, "the queue cannot be deleted", "queue_delete", queue=name)
        self.forget(name)

    async def check(self, name: str, user: str) -> None:
        """Raise QueueNotFound unless a queue exists. What was found once is not asked for again."""
        if name not in self._known:
            async with self._lock:
                await self._ask(user, "the queue cannot be used", "queue_declare", queue=name, passive=True)
                self._remember(name)

    async def exchange(self, name: str, user: str) -> None:
        """Make a durable exchange exist: fanout, or topic where it exists as that, for groups are bound with `#`."""
        if ("exchange", name) in self._known:
            return
        async with self._lock:
            try:
                await self._call("exchange_declare", exchange=name, exchange_type="fanout", durable=True)
            except Refused as refused:
                differs = _DIFFERS.search(refused.text)
                if differs is None or (differs["name"], differs["plain"]) != ("type", "topic"):
                    raise self._mismatch(refused, differs, "the topic's exchange", user) from refused
                await self._ask(user, "the topic cannot be used", "exchange_declare", exchange=name, passive=True)
            self._remember(("exchange", name))

    async def bind(self, queue: str, exchange: str, *, user: str) -> None:
        """Bind a queue to an exchange, for all messages."""
        if (queue, exchange) in self._known:
            return
        async with self._lock:
            what = f"the queue cannot be bound to {exchange!r}"
            await self._ask(user, what, "queue_bind", queue=queue, exchange=exchange, routing_key="#")
            self._remember((queue, exchange))

    async def _declare(self, name: str, arguments: Arguments, user: str, flags: dict[str, bool]) -> None:
        """Declare, giving in to harmless differences one after another."""
        new = arguments.get("x-queue-type") == "quorum" and not await self._exists(name)
        if new:
            await asyncio.sleep(self._gone.pop(name, 0.0) + REST - time.monotonic())
        for _ in range(len(_HARMLESS) + 2):
            try:
                await self._call("queue_declare", queue=name, arguments=arguments, **{"durable": True, **flags})
            except Refused as refused:
                differs = _DIFFERS.search(refused.text) if refused.code == PRECONDITION_FAILED else None
                if differs is None and _left_out(arguments, refused.text):
                    continue
                if differs is None or not _accepts(differs):
                    raise self._mismatch(refused, differs, "the queue", user) from refused
                _give_in(arguments, differs)
            else:
                break
        if new:
            await self._seal(name)

    async def _exists(self, name: str) -> bool:
        try:
            await self._call("queue_declare", queue=name, passive=True)
        except Refused as refused:
            return refused.code != NOT_FOUND
        return True

    async def _seal(self, name: str) -> None:
        """Have the broker write down the queue that was just made: see above.

        The other queue's name begins as this one's, as permissions often want it. Where it may not be made, the file is
        waited for.
        """
        token = secrets.token_hex(8)
        other = f"{name}.aq-seal-{token}" if len(name.encode()) <= MAX_SEALED else f"{RESERVED}seal.{token}"
        try:
            arguments = {"x-queue-type": "quorum", "x-expires": SEAL_LASTS}  # where we end before we delete it
            await self._call("queue_declare", queue=other, durable=True, arguments=arguments)
            await self._call("queue_delete", queue=other)
        except Refused:
            await asyncio.sleep(UNSEALED)

    def _mismatch(self, refused: Refused, differs: re.Match[str] | None, what: str, user: str) -> Exception:
        if differs is None:
            return explain(refused, f"{what} cannot be used", queue=user, url=self._connection.url)
        current = differs["none"] or differs["value"] or differs["plain"]
        name = differs["name"]
        return QueueMismatch(
            f"{what} exists with another argument {name}: it is {current}",
            queue=user,
            url=self._connection.url,
            hint=_hint(name),
        )

    async def _ask(self, user: str, what: str, method: str, **arguments: object) -> None:
        try:
            await self._call(method, **arguments)
        except Refused as refused:
            raise explain(refused, what, queue=user, url=self._connection.url) from refused

    async def _call(self, method: str, **arguments: object) -> None:
        if self._channel is None or self._channel.closed is not None:
            self._channel = await Channel(self._connection).open()
        await self._channel.call(method, **arguments)

    def _remember(self, thing: object) -> None:
        self._gone.pop(thing, None)
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known.add(thing)


def _left_out(arguments: Arguments, text: str) -> bool:
    """Leave an argument out that may be absent, where the broker's 255 bytes have no room to say how it is.

    False if that is in vain: then the broker names it once more.
    """
    cut = _CUT.search(text)
    may_be_absent = cut is not None and (cut["name"] in _HARMLESS or cut["name"] == "x-delivery-limit")
    return cut is not None and may_be_absent and arguments.pop(cut["name"], None) is not None


def _accepts(differs: re.Match[str]) -> bool:
    """Say whether a queue may differ in this."""
    if differs["name"] == "x-delivery-limit":
        value = differs["value"] or differs["plain"] or ""
        return differs["none"] is not None or (value.isdigit() and int(value) >= LEAST_LIMIT)
    return differs["name"] in _HARMLESS


def _give_in(arguments: Arguments, differs: re.Match[str]) -> None:
    """Take the value that the queue has."""
    name, value = differs["name"], differs["value"] if differs["value"] is not None else differs["plain"]
    if value is None:
        arguments.pop(name, None)
    else:
        number = differs["type"] not in {None, "longstr"} or (differs["plain"] is not None and value.isdigit())
        arguments[name] = int(value) if number and value.lstrip("-").isdigit() else value


def _hint(name: str) -> str:
    if name == "x-queue-type":
        return "write queue_type= as the queue is, or use another queue"
    if name == "x-max-priority":
        return "write max_priority= as the queue has it (0: none), or use another queue"
    return "use another queue, or declare=never to use it as it is, without our promises"
