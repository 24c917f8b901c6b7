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
_HINT: Final = "configure the node, or delete it and let anyqueue make it"
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
    left: int = 0
    """What there was room for when it was counted last, without what was let in since."""
    counted: float = -math.inf
    """When that count began."""
    closed: bool = False
    """Nobody reads there but whom its owner lets."""
    told: bool = False
    """The account is told what is published there."""
    turn: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)
    """Held from taking room until what was let in is on its way: a count finds all that was let in before it."""


class Nodes:
    """The nodes that one session has seen."""

    def __init__(self, session: Session) -> None:
        self.made_by_service = False
        """What is published to a node that is not there makes it, with the service's settings."""
        self._session = session
        self._rooms: dict[str, Room] = {}

    def knows(self, node: str) -> bool:
        """Say whether a node was seen to exist."""
        return node in self._rooms

    def most(self, node: str) -> int:
        """Return how many items a node holds that was seen to exist."""
        return self._rooms[node].holds if node in self._rooms else self._session.target.options.max_items

    def publish(self, node: str, identity: str, payload: str) -> tuple[str, str]:
        """Return the request that puts an item; if its node is deleted meanwhile, nobody else may read what comes."""
        closed = self.made_by_service and node in self._rooms and self._rooms[node].closed
        return "set", stanzas.publish(node, identity, payload, stanzas.CLOSED if closed else "")

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

    async def reach_passing(self, topic: str) -> None:
        """Have a topic's node exist for a sender, where the service would make it: open to all, and with a memory."""
        if self.made_by_service and not self.knows(names.topic_node(topic)):
            # whoever may make none makes none by publishing
            await self._make_passing(topic, stanzas.CONFLICT, *stanzas.RIGHTS)

    async def ensure_passing(self, topic: str) -> None:
        """Make the node of a topic exist, which keeps nothing; look at the settings of one that does, if we may."""
        settings = await self._make_passing(topic, stanzas.CONFLICT)
        keeps = settings.get("persist_items") not in stanzas.NO
        if keeps and settings.get("send_last_published_item", "never") != "never":
            what = "the topic's node keeps its last message for whoever comes later (send_last_published_item)"
            raise QueueMismatch(what, queue=topic, url=self._session.url, hint=_HINT)

    async def _make_passing(self, topic: str, *borne: str) -> dict[str, str]:
        """Make a topic's node, or bear with some refusals; return its settings, if the service tells them."""
        node = names.topic_node(topic)
        requests = [("get", stanzas.settings(node))]
        if self._session.target.options.declare == "always":
            requests.insert(0, ("set", stanzas.create(node, stanzas.PASSED)))
        *made, there = await self._session.ask_all(requests)
        for answer in made:
            if answer.refusal is not None and answer.refusal.condition not in borne:
                raise self.explain(answer.refusal, "the topic's node cannot be made", topic)
        settings = stanzas.read_settings(there.content) if there.refusal is None else {}
        self._see(node, Room(0, closed=settings.get("access_model") == "whitelist"))
        return settings

    async def find(self, node: str, user: str) -> None:
        """Look at the settings of a node that must exist."""
        if node in self._rooms:
            return
        self._found(node, await self._session.ask("get", stanzas.settings(node)), user)

    def _found(self, node: str, answer: Answer, user: str, *, new: bool = False) -> None:
        """Take note of a node's settings. One that is new is empty, and so is the one for what is held."""
        if answer.refusal is not None:
            raise self.explain(answer.refusal, "the node cannot be used", user)
        settings = stanzas.read_settings(answer.content)
        room = Room(self._check(settings, user), closed=settings.get("access_model") == "whitelist")
        room.takes = self._most_taken(room.holds)
        if new:
            room.free, room.good, room.left = room.takes // SHARE, time.monotonic() + COUNTS, room.takes
        self._see(node, room)

    def _most_taken(self, holds: int) -> int:
        """Return how many messages are put into a node that holds so many items."""
        return min(self._session.target.options.max_items, holds - holds // SPARE)

    def _see(self, node: str, room: Room) -> None:
        if node in self._rooms:  # by another sender meanwhile, who may have taken room already
            return
        while len(self._rooms) >= KNOWN:
            self.forget(next(iter(self._rooms)))
        self._rooms[node] = room

    def _check(self, settings: Mapping[str, str], user: str) -> int:
        """Return how many items a node holds; raise QueueMismatch where our promises cannot stand on it."""
        wrong = None
        if settings.get("persist_items") in stanzas.NO:
            wrong = "persist_items is off, so it keeps no messages"
        most = settings.get("max_items", "")
        if most in {"max", "infinity"}:  # what that is, nobody tells
            most = str(self._session.target.options.max_items)
        if not (most.isascii() and most.isdecimal()) or int(most) < SPARE:
            wrong = wrong or f"max_items is {most or 'not told'}, and the oldest message beyond it is dropped"
        if wrong is not None:
            what = f"the queue's node has other settings: {wrong}"
            raise QueueMismatch(what, queue=user, url=self._session.url, hint=_HINT)
        return min(int(most), MAX_ITEMS)

    @contextlib.asynccontextmanager
    async def admitted(self, node: str, user: str, count: int) -> AsyncIterator[None]:
        """Let messages in that are written before the block ends; raise QueueFull where there is no room.

        Whoever takes several nodes' turns at once takes them in the order of their names.
        """
        room, asked = self._rooms[node], time.monotonic()
        async with room.turn:
            if room.free < count or time.monotonic() > room.good:
                await self._recount(room, node, user, count, asked)
            room.free -= count
            room.left -= count
            yield

    async def _recount(self, room: Room, node: str, user: str, count: int, asked: float) -> None:
        """Take note of how many messages a node has room for; raise QueueFull where that is fewer than are wanted.

        Who waited while a count found it full needs none of its own.
        """
        if room.counted < asked or room.left >= count:
            began = time.monotonic()
            there = await self._count(room, node, user)
            room.left, room.counted = room.takes - there, began
            ended = time.monotonic()
            room.free, room.good = max(count, room.left / SHARE), ended + max(COUNTS, COSTS * (ended - began))
        if room.left < count:
            room.free = 0.0
            small = room.takes < self._session.target.options.max_items
            hint = "consume, or raise max_items" + (" of its node, which keeps a tenth spare" if small else "=")
            what = f"the queue holds {room.takes - room.left:,} messages of at most {room.takes:,}"
            raise QueueFull(what, queue=user, url=self._session.url, hint=hint)

    async def _count(self, room: Room, node: str, user: str) -> int:
        """Return how many messages are ready and held. Where it may have been made anew, see what it holds now."""
        nodes = (node, names.held_beside(node))
        looks = [stanzas.list_ids(each) for each in nodes]
        if self.made_by_service:
            looks.append(stanzas.settings(node))
        ready, held, *anew = await self._session.ask_all([("get", look) for look in looks])
        for answer in (ready, held):
            if answer.refusal is not None and (answer is ready or answer.refusal.condition != stanzas.NOT_FOUND):
                self.forget(node)
                raise self.explain(answer.refusal, "the messages of the queue cannot be counted", user)
        if anew and anew[0].refusal is None:
            room.holds = self._check(stanzas.read_settings(anew[0].content), user)
            room.takes = self._most_taken(room.holds)
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
