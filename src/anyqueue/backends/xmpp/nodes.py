"""Nodes: made to exist, or refused; and how much they hold.

A server keeps the newest `max_items` of a node and drops the oldest without a word, so a sender sends no more than it
knows to have room. What is held counts too, for it may come back. A sender counts again after an eighth of what was
free. Others add meanwhile what it does not know of, so nodes are made as large as a service should allow, and less is
put there: what `max_items=` says, or nine tenths of a node that is small.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import TYPE_CHECKING, Final

import msgspec

from anyqueue.backends.xmpp import names, plan, stanzas
from anyqueue.backends.xmpp.options import MAX_ITEMS
from anyqueue.backends.xmpp.plan import SPARE
from anyqueue.driver import reply_lasts
from anyqueue.errors import ConfigError, QueueError, QueueFull, QueueMismatch, QueueNotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from anyqueue.backends.xmpp.session import Session
    from anyqueue.backends.xmpp.stanzas import Answer, Refusal
    from anyqueue.errors import Error

SHARE: Final = 8
COUNTS: Final = 5.0
"""Seconds for which a count is good; a long queue's takes long, and counting takes at most one part in COSTS."""
COSTS: Final = 50
KNOWN: Final = 10_000
"""Nodes that a session remembers; then it forgets the first. A responder sees a new reply queue with each requester."""
_TOO_LARGE: Final = frozenset({"bad-request", "resource-constraint", "not-acceptable"})
"""How Prosody, ejabberd and others refuse a setting that is out of bounds."""
_RIGHTS: Final = "whoever uses a queue must own its node, or have created it: see docs/backends/xmpp.md"


class Room(msgspec.Struct):
    """How much a node holds, as far as we know."""

    holds: int
    """Items until the server drops the oldest."""
    takes: int = 0
    """Messages that senders put there."""
    free: float = 0.0
    """What may be put there before it is counted again."""
    good: float = -math.inf
    """Until when that is believed."""
    told: bool = False
    """The account is told what is published there."""
    turn: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)
    """Held from taking room until what was let in is on its way: a count finds all that was let in before it."""


class Nodes:
    """The nodes that one session has seen."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rooms: dict[str, Room] = {}

    def knows(self, node: str) -> bool:
        """Say whether a node was seen to exist."""
        return node in self._rooms

    def most(self, node: str) -> int:
        """Return how many items a node holds that was seen to exist."""
        return self._rooms[node].holds if node in self._rooms else self._session.target.options.max_items

    async def delete(self, node: str, user: str) -> None:
        """Delete a node with all that is in it, if there is one. Raises QueueError where the account may not."""
        answer = await self._session.ask("set", stanzas.delete(node))
        self.forget(node)
        if answer.refusal is not None and answer.refusal.condition != stanzas.NOT_FOUND:
            raise self.explain(answer.refusal, "the queue cannot be deleted", user)

    def forget(self, node: str) -> None:
        """Look again before its next use: it was deleted."""
        self._rooms.pop(node, None)

    async def reach(self, node: str, user: str) -> None:
        """Have a queue's node exist for a sender. A reply queue is its requester's to make: its end is final."""
        await (self.ensure if reply_lasts(user) is None else self.find)(node, user)

    async def listen(self, node: str, user: str) -> None:
        """Have the account told what is published: its other sessions are told too, and ask for nothing."""
        room = self._rooms[node]
        if room.told:
            return
        answer = await self._session.ask("set", stanzas.subscribe(node, self._session.account))
        if answer.refusal is not None:
            self.forget(node)
            raise self.explain(answer.refusal, "the service tells nothing of the node", user)
        room.told = True

    async def ensure(self, node: str, user: str) -> None:
        """Make a node that keeps messages exist; look at the settings of one that does, and of a new one, too."""
        if node in self._rooms:
            return
        if self._session.target.options.declare != "always":
            await self.find(node, user)
            return
        refusal, there = await self._make(node)
        if refusal is not None and there.refusal is not None and refusal.condition in _TOO_LARGE:
            hint = "raise it there (see docs/backends/xmpp.md), or lower max_items="
            most = self._session.target.options.max_items
            what = f"the service lets no node have max_items={most}: {refusal}"
            raise ConfigError(what, queue=user, url=self._session.url, hint=hint)
        if refusal is not None and refusal.condition not in {stanzas.CONFLICT, *stanzas.RIGHTS, *_TOO_LARGE}:
            raise self.explain(refusal, "the node cannot be made", user)
        self._found(node, there, user, new=refusal is None)

    async def _make(self, node: str) -> tuple[Refusal | None, Answer]:
        """Make a node as large as the service lets it be; return what it said to that, and the node's settings."""
        for size in (MAX_ITEMS, self._session.target.options.max_items):
            form = stanzas.create(node, {**stanzas.KEPT, "max_items": str(size)})
            made, there = await self._session.ask_all([("set", form), ("get", stanzas.settings(node))])
            if made.refusal is None or made.refusal.condition not in _TOO_LARGE:
                break
        return made.refusal, there

    async def ensure_passing(self, node: str, user: str) -> None:
        """Make the node of a topic exist, which keeps nothing."""
        if node in self._rooms:
            return
        refusal = None
        if self._session.target.options.declare == "always":
            refusal = (await self._session.ask("set", stanzas.create(node, stanzas.PASSED))).refusal
        if refusal is not None and refusal.condition != stanzas.CONFLICT:
            raise self.explain(refusal, "the topic's node cannot be made", user)
        self._see(node, Room(0))

    async def find(self, node: str, user: str) -> None:
        """Look at the settings of a node that must exist."""
        if node in self._rooms:
            return
        self._found(node, await self._session.ask("get", stanzas.settings(node)), user)

    def _found(self, node: str, answer: Answer, user: str, *, new: bool = False) -> None:
        """Take note of a node's settings. One that is new is empty, and so is the one for what is held."""
        if answer.refusal is not None:
            raise self.explain(answer.refusal, "the node cannot be used", user)
        holds = self._check(stanzas.read_settings(answer.content), user)
        room = Room(holds, min(self._session.target.options.max_items, holds - holds // SPARE))
        if new:
            room.free, room.good = room.takes // SHARE, time.monotonic() + COUNTS
        self._see(node, room)

    def _see(self, node: str, room: Room) -> None:
        if node in self._rooms:  # by another sender meanwhile, who may have taken room already
            return
        while len(self._rooms) >= KNOWN:
            self.forget(next(iter(self._rooms)))
        self._rooms[node] = room

    def _check(self, settings: Mapping[str, str], user: str) -> int:
        """Return how many items a node holds; raise QueueMismatch where our promises cannot stand on it."""
        wrong = None
        if settings.get("persist_items") in {"0", "false"}:
            wrong = "persist_items is off, so it keeps no messages"
        most = settings.get("max_items", "")
        if most in {"max", "infinity"}:  # what that is, nobody tells
            most = str(self._session.target.options.max_items)
        if not (most.isascii() and most.isdecimal()) or int(most) < SPARE:
            wrong = wrong or f"max_items is {most or 'not told'}, and the oldest message beyond it is dropped"
        if wrong is not None:
            hint = "configure the node, or delete it and let anyqueue make it"
            raise QueueMismatch(
                f"the queue's node has other settings: {wrong}", queue=user, url=self._session.url, hint=hint
            )
        return min(int(most), MAX_ITEMS)

    @contextlib.asynccontextmanager
    async def admitted(self, node: str, user: str, count: int) -> AsyncIterator[None]:
        """Let messages in that are written before the block ends; raise QueueFull where there is no room.

        Whoever takes several nodes' turns at once takes them in the order of their names.
        """
        room = self._rooms[node]
        async with room.turn:
            began = time.monotonic()
            if room.free < count or began > room.good:
                left = await self._left(room, node, user, count)
                ended = time.monotonic()
                room.free, room.good = max(count, left / SHARE), ended + max(COUNTS, COSTS * (ended - began))
            room.free -= count
            yield

    async def _left(self, room: Room, node: str, user: str, count: int) -> int:
        """Return how many more messages a node takes, which are as many as are wanted; or raise QueueFull."""
        there = await self._count(node, user)
        left = room.takes - there
        if left < count:
            small = room.takes < self._session.target.options.max_items
            hint = "consume, or raise max_items" + (" of its node, which keeps a tenth spare" if small else "=")
            what = f"the queue holds {there:,} messages of at most {room.takes:,}"
            raise QueueFull(what, queue=user, url=self._session.url, hint=hint)
        return left

    async def _count(self, node: str, user: str) -> int:
        """Return how many messages are ready and held."""
        nodes = (node, names.held_beside(node))
        ready, held = await self._session.ask_all([("get", stanzas.list_ids(each)) for each in nodes])
        for answer in (ready, held):
            if answer.refusal is not None and (answer is ready or answer.refusal.condition != stanzas.NOT_FOUND):
                self.forget(node)
                raise self.explain(answer.refusal, "the messages of the queue cannot be counted", user)
        return len(stanzas.read_ids(ready.content)) + len(plan.Held.read(stanzas.read_ids(held.content)).items)

    def explain(self, refusal: Refusal, what: str, user: str) -> Error:
        """Return the error of the tree for what the service refused."""
        text = f"{what}: {refusal}"
        if refusal.condition == stanzas.NOT_FOUND:
            hint = "declare it, or leave out declare=never"
            return QueueNotFound(text, queue=user, url=self._session.url, hint=hint)
        if refusal.condition in stanzas.RIGHTS:
            return QueueError(text, queue=user, url=self._session.url, hint=_RIGHTS)
        return QueueError(text, queue=user, url=self._session.url)
