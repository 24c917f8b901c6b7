"""The steps of a claim, a settlement and a look at the nodes, as requests over one session. plan.py says why so."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from typing import TYPE_CHECKING, Final

import msgspec

from anyqueue.backends.xmpp import codec, names, plan, stanzas
from anyqueue.backends.xmpp.codec import Stored
from anyqueue.backends.xmpp.names import Ticket
from anyqueue.driver import Release
from anyqueue.errors import ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from xml.etree.ElementTree import Element

    from anyqueue.backends.xmpp.nodes import Nodes
    from anyqueue.backends.xmpp.plan import Entry
    from anyqueue.backends.xmpp.proof import Proof
    from anyqueue.backends.xmpp.session import Session
    from anyqueue.backends.xmpp.stanzas import Answer
    from anyqueue.driver import Settlement

PATIENCE: Final = 0.5
"""Seconds in which a session answers that it is there; one that does not has the rest of its lease."""
AT_ONCE: Final = 50
"""Items fetched with one request: their bodies come in one stanza, and a server's stanzas have limits too."""
MAX_ITEM: Final = 256 * 1024 - 2048
"""Bytes of an item: both servers close the stream at a stanza over 256 KiB."""
_OWNER: Final = f"{{{codec.NAMESPACE}}}owner"

_log = logging.getLogger(__name__)
Request = tuple[str, str]


class Claim(msgspec.Struct, frozen=True):
    """A message that is ours, as it is in the held node."""

    ticket: Ticket
    stored: Stored


class Desk:
    """One consumer's work on the two nodes of its queue."""

    def __init__(self, session: Session, nodes: Nodes, queue: str, owner: str, proof: Proof) -> None:
        self.owner = owner
        self.until = 0.0
        """When our lease ends."""
        self.others: frozenset[str] = frozenset()
        """Other consumers that hold something."""
        self.listed = 0
        """How many items the last look has listed."""
        self._too_large: set[str] = set()
        self._session = session
        self._nodes = nodes
        self._queue = queue
        self._ready = names.ready_node(queue)
        self._held = names.held_node(queue)
        self._newest_first = proof.newest_first
        self._lease = session.target.options.lease if proof.atomic else math.inf

    def most_at_once(self, limit: int, consumers: int) -> int:
        """Return how many may be claimed at once, of `limit` that are wanted."""
        return plan.copies_of(limit, min(self._nodes.most(self._ready), self._nodes.most(self._held)), consumers)

    async def look(self) -> list[Entry]:
        """Return what may be claimed: what is ready, and what the dead hold. The held node first: see plan."""
        both = await self._session.ask_all([("get", stanzas.list_ids(node)) for node in (self._held, self._ready)])
        self._check(both, "the queue cannot be read")
        ids = [stanzas.read_ids(answer.content) for answer in both]
        self.listed = sum(map(len, ids))
        held, ready = plan.Held.read(ids[0]), plan.ready_entries(ids[1], newest_first=self._newest_first)
        others = (held.holders() | held.owners) - {self.owner}
        dead = await self._dead(others) if others else set()
        self.others = frozenset(others - dead)
        gone = dead & held.owners - held.holders()
        await self._session.ask_all([("set", stanzas.retract(self._held, names.owner_id(owner))) for owner in gone])
        found = [*ready, *plan.orphans(held, ready, dead)]
        return [entry for entry in found if entry.identity not in self._too_large]

    async def is_alone(self) -> bool:
        """Say who we are, for as long as our session lives, and whether no other consumer has said so."""
        answers = await self._session.ask_all([*self._renewal(), ("get", stanzas.list_ids(self._held))])
        self._check(answers, "the queue cannot be held")
        held = plan.Held.read(stanzas.read_ids(answers[-1].content))
        others = (held.holders() | held.owners) - {self.owner}
        return not others or not others - await self._dead(others)

    async def _dead(self, owners: Collection[str]) -> set[str]:
        """Return which of these have gone: they have no record, no lease, or no session."""
        said = await self._fetch(self._held, [names.owner_id(owner) for owner in owners])
        now, dead, living = time.time(), set[str](), list[tuple[str, str]]()
        for owner in owners:
            record = said.get(names.owner_id(owner))
            address, until = read_owner(record)
            if until < now:
                dead.add(owner)
            else:
                living.append((owner, address))
        gone = await asyncio.gather(*(self._has_gone(address) for _, address in living))
        return dead | {owner for (owner, _), lost in zip(living, gone, strict=True) if lost}

    async def _has_gone(self, address: str) -> bool:
        """Say whether the server has no such session any longer."""
        if address == self._session.address:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                answer = await self._session.ask("get", stanzas.ping(), address)
                return answer.refusal is not None and answer.refusal.condition == stanzas.UNAVAILABLE
        return False

    async def _fetch(self, node: str, identities: Sequence[str]) -> dict[str, Element | None]:
        parts = [identities[start : start + AT_ONCE] for start in range(0, len(identities), AT_ONCE)]
        answers = await self._session.ask_all([("get", stanzas.fetch(node, part)) for part in parts])
        found: dict[str, Element | None] = {}
        for answer in answers:
            if answer.refusal is None or answer.refusal.condition != stanzas.NOT_FOUND:
                self._check([answer], "the queue's messages cannot be read")
            found.update(stanzas.read_items(answer.content))
        return {identity: found[identity] for identity in identities if identity in found}

    async def claim(self, entries: Sequence[Entry]) -> list[Claim]:
        """Try to claim these; return those that are ours now."""
        stored = await self._stored(entries)
        copies = {
            entry.identity: self._copy(entry, stored[entry.identity]) for entry in entries if entry.identity in stored
        }
        copies = self._fitting(copies)
        if not copies:
            return []
        await self._put(list(copies.values()))
        chosen = [entry for entry in entries if entry.identity in copies]
        takes = [
            ("set", stanzas.retract(self._held if entry.held else self._ready, entry.identity)) for entry in chosen
        ]
        *answers, listed = await self._session.ask_all([*takes, ("get", stanzas.list_ids(self._held))])
        won = [copies[entry.identity] for entry, answer in zip(chosen, answers, strict=True) if answer.refusal is None]
        lost = [
            copies[entry.identity] for entry, answer in zip(chosen, answers, strict=True) if answer.refusal is not None
        ]
        held = plan.Held.read(stanzas.read_ids(listed.content))
        over = [*held.left_over(claim.ticket for claim in won), *(names.held_id(claim.ticket) for claim in lost)]
        await self._session.ask_all(
            [("set", stanzas.retract(self._held, identity)) for identity in dict.fromkeys(over)]
        )
        for answer in answers:
            if answer.refusal is not None and answer.refusal.condition != stanzas.NOT_FOUND:
                await self.give_back(won)
                raise self._nodes.explain(answer.refusal, "a message of the queue cannot be taken", self._queue)
        return won

    def _fitting(self, copies: dict[str, Claim]) -> dict[str, Claim]:
        """Leave out, from now on, what another program sent and whose copy has no room in a stanza."""
        large = {identity for identity, copy in copies.items() if len(codec.encode(copy.stored).encode()) > MAX_ITEM}
        for identity in large - self._too_large:
            _log.error(
                "item %r of queue %r at %s is too large to be claimed, and stays where it is: retract it there",
                identity,
                self._queue,
                self._session.url,
            )
        self._too_large |= large
        return {identity: copy for identity, copy in copies.items() if identity not in large}

    async def _stored(self, entries: Sequence[Entry]) -> dict[str, Stored]:
        found: dict[str, Stored] = {}
        for node, held in ((self._ready, False), (self._held, True)):
            wanted = [entry.identity for entry in entries if entry.held is held]
            for identity, payload in (await self._fetch(node, wanted)).items():
                found[identity] = codec.decode(payload, identity)
        return found

    def _copy(self, entry: Entry, stored: Stored) -> Claim:
        again = entry.held or stored.redelivered
        copy = msgspec.structs.replace(stored, attempts=stored.attempts + 1, redelivered=again)
        return Claim(plan.claimed(entry, self.owner), copy)

    async def _put(self, copies: Sequence[Claim]) -> None:
        """Put copies into the held node; where one is not taken, take all away again and raise."""
        requests = self._renewal() if self.until < time.time() + self._lease / 2 else []
        puts = [
            self._nodes.publish(self._held, names.held_id(copy.ticket), codec.encode(copy.stored)) for copy in copies
        ]
        answers = await self._session.ask_all([*requests, *puts])
        if all(answer.refusal is None for answer in answers):
            return
        over = [("set", stanzas.retract(self._held, names.held_id(copy.ticket))) for copy in copies]
        await self._session.ask_all(over)
        self._check(answers, "a message of the queue cannot be held")

    def _renewal(self) -> list[Request]:
        """Return the request that says until when we hold what we hold."""
        self.until = time.time() + self._lease
        record = write_owner(self._session.address, self.until)
        return [self._nodes.publish(self._held, names.owner_id(self.owner), record)]

    async def extend(self) -> set[str]:
        """Renew the lease; return the ids of what is held."""
        answers = await self._session.ask_all([*self._renewal(), ("get", stanzas.list_ids(self._held))])
        self._check(answers, "the lease cannot be renewed")
        return set(stanzas.read_ids(answers[-1].content))

    async def settle(self, batch: Sequence[tuple[Claim, Settlement]]) -> dict[int, str]:
        """Settle claims; return why those that came too late did, by position."""
        backs = await self._put_back(batch)
        answers = await self._session.ask_all(
            [("set", stanzas.retract(self._held, names.held_id(claim.ticket))) for claim, _ in batch]
        )
        failures: dict[int, str] = {}
        for index, answer in enumerate(answers):
            if answer.refusal is not None and await self._is_late(backs.get(index)):
                failures[index] = f"the server no longer has it: {answer.refusal}"
        return failures

    async def _put_back(self, batch: Sequence[tuple[Claim, Settlement]]) -> dict[int, Ticket]:
        """Put what is released, before its held copy goes. Where one is not taken, all come again by our leaving."""
        backs: dict[int, Ticket] = {}
        requests: list[Request] = []
        for index, (claim, settlement) in enumerate(batch):
            if isinstance(settlement, Release):
                backs[index], stored = _released(claim, settlement)
                identity = names.ready_id(backs[index])
                requests.append(self._nodes.publish(self._ready, identity, codec.encode(stored)))
        for answer in await self._session.ask_all(requests):
            if answer.refusal is not None:
                what = f"a message could not be released: {answer.refusal}"
                raise ConnectionLost(what, queue=self._queue, url=self._session.url)
        return backs

    async def _is_late(self, back: Ticket | None) -> bool:
        """Say whether a settlement without effect was too late. A release that somebody has claimed was not."""
        if back is None:
            return True
        answer = await self._session.ask("set", stanzas.retract(self._ready, names.ready_id(back)))
        return answer.refusal is None

    async def give_back(self, claims: Iterable[Claim]) -> None:
        """Release what nobody has begun."""
        await self.settle([(claim, Release()) for claim in claims])

    async def leave(self) -> None:
        """Say that we hold nothing any longer."""
        if self.until:
            await self._session.ask("set", stanzas.retract(self._held, names.owner_id(self.owner)))

    def _check(self, answers: Iterable[Answer], what: str) -> None:
        for answer in answers:
            if answer.refusal is not None:
                if answer.refusal.condition in stanzas.OTHER:
                    self._nodes.forget(self._ready)
                    self._nodes.forget(self._held)
                raise self._nodes.explain(answer.refusal, what, self._queue)


def _released(claim: Claim, release: Release) -> tuple[Ticket, Stored]:
    """Return the item that a release puts."""
    failed = release.failed_at is not None
    stored = msgspec.structs.replace(
        claim.stored,
        attempts=claim.stored.attempts - (not failed),
        redelivered=True,
        first_failure=claim.stored.first_failure if claim.stored.first_failure is not None else release.failed_at,
    )
    due = time.time() + release.delay if release.delay > 0 else None
    return plan.released(claim.ticket, due), stored


def write_owner(address: str, until: float) -> str:
    """Return the payload that says who an owner is."""
    return f"<owner xmlns='{codec.NAMESPACE}' address='{codec.escape(address)}' until='{until!r}'/>"


def read_owner(payload: Element | None) -> tuple[str, float]:
    """Read who an owner is and until when it holds; of no or a damaged record, an end long ago."""
    if payload is None or payload.tag != _OWNER:
        return "", 0.0
    try:
        return codec.unescape(payload.get("address", "")), float(payload.get("until", ""))
    except ValueError:
        return "", 0.0
