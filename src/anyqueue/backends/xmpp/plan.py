"""What is ready, who holds what, what to claim, what is left over. Pure: ids, a clock and names are passed in.

A message is one line of items; exactly one of them IS the message:

* While an item of the line is in the ready node, that is the message. What the held node has of the line then is a
  claim that was not carried out, or what a release has left.
* Else it is the item in the held node; its owner has it.

So a claim is two steps: a copy is put into the held node, under the claimant's name; then the ready item is retracted.
The server lets one retraction of an item succeed, and who was answered that it did has the message. Who was not takes
its copy back; who has won takes away whatever else the held node has of the line: copies of others who were killed
between their steps. A release goes the other way: a ready item is put, then the held one is retracted.

An owner is dead when the server says that it has no such session, for then nothing of it is still to be carried out;
or when it has not renewed its lease. What a dead owner holds is claimed from the held node as from the ready node.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

import msgspec

from anyqueue.backends.xmpp import names
from anyqueue.backends.xmpp.names import Ticket

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

SHARE: Final = 4
"""Of so many times what is wanted, a consumer beside others looks for its own part first."""
SPARE: Final = 10
"""A part in so many of a node is left free by senders."""


class Entry(msgspec.Struct, frozen=True):
    """An item that may be claimed."""

    identity: str
    ticket: Ticket
    held: bool = False
    """It is in the held node: its owner is dead."""


class View:
    """The items that one consumer knows to be there. What others have taken meanwhile is found out at the claim."""

    def __init__(self) -> None:
        self._known: dict[str, Entry] = {}
        self._due: list[tuple[str, str]] = []
        self._later: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._known)

    def add(self, entry: Entry) -> None:
        """Know of an item."""
        if entry.identity in self._known:
            return
        self._known[entry.identity] = entry
        if entry.ticket.due is None:
            heapq.heappush(self._due, (entry.ticket.order, entry.identity))
        else:
            heapq.heappush(self._later, (entry.ticket.due, entry.identity))

    def replace(self, entries: Iterable[Entry]) -> None:
        """Know of these items and no others."""
        self._known, self._due, self._later = {}, [], []
        for entry in entries:
            self.add(entry)

    def wait(self, now: float) -> float | None:
        """Return how long it is until an item is due: 0 where one is, None where there is none."""
        self._ripen(now)
        self._prune()
        if self._due:
            return 0.0
        return self._later[0][0] - now if self._later else None

    def take(self, limit: int, now: float, part: tuple[int, int] = (0, 1)) -> list[Entry]:
        """Take the oldest items that are due; of `part[1]` consumers the one numbered `part[0]` prefers its own."""
        self._ripen(now)
        number, others = part
        looked = [self._pop() for _ in range(limit if others == 1 else limit * SHARE)]
        found = [entry for entry in looked if entry is not None]
        if others > 1:
            found.sort(key=lambda entry: sum(entry.ticket.line.encode()) % others != number)
        for entry in found[limit:]:
            self.add(entry)
        return sorted(found[:limit], key=lambda entry: (entry.ticket.order, entry.identity))

    def _pop(self) -> Entry | None:
        while self._due:
            entry = self._known.pop(heapq.heappop(self._due)[1], None)
            if entry is not None:
                return entry
        return None

    def _prune(self) -> None:
        while self._due and self._due[0][1] not in self._known:
            heapq.heappop(self._due)
        while self._later and self._later[0][1] not in self._known:
            heapq.heappop(self._later)

    def _ripen(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            _, identity = heapq.heappop(self._later)
            entry = self._known.get(identity)
            if entry is not None:
                heapq.heappush(self._due, (entry.ticket.order, identity))


class Held(msgspec.Struct, frozen=True):
    """What a held node has, from the ids of its items."""

    items: dict[str, Ticket]
    owners: frozenset[str]
    """Those that have said who they are."""

    @classmethod
    def read(cls, identities: Iterable[str]) -> Held:
        """Read ids."""
        items: dict[str, Ticket] = {}
        owners: set[str] = set()
        for identity in identities:
            if identity.startswith(names.OWNER):
                owners.add(identity.removeprefix(names.OWNER))
            elif (ticket := names.read_held(identity)) is not None:
                items[identity] = ticket
        return cls(items, frozenset(owners))

    def holders(self) -> set[str]:
        """Return the owners of items."""
        return {ticket.owner for ticket in self.items.values() if ticket.owner is not None}

    def left_over(self, won: Iterable[Ticket]) -> list[str]:
        """Return what is still there of the lines of these beside themselves: nobody has a message by it.

        A later step is no left-over: its owner took the message from me, whose lease had run out.
        """
        mine = {ticket.line: ticket for ticket in won}
        found: list[str] = []
        for identity, ticket in self.items.items():
            own = mine.get(ticket.line)
            if own is not None and ticket.step <= own.step and ticket != own:
                found.append(identity)
        return found


def ready_entries(identities: Sequence[str], *, newest_first: bool) -> list[Entry]:
    """Read a listing of a ready node. Items of other programs stand where the listing has them."""
    order, entries = names.order_of(0), []
    for identity in reversed(identities) if newest_first else identities:
        ticket = names.read_ready(identity, order)
        order = max(order, ticket.order)
        entries.append(Entry(identity, ticket))
    return entries


def orphans(held: Held, ready: Iterable[Entry], dead: Collection[str]) -> list[Entry]:
    """Return the held items of the dead that are messages: of their line nothing is ready, and of several the last."""
    lines = {entry.ticket.line for entry in ready}
    alive = {ticket.line for ticket in held.items.values() if ticket.owner not in dead}
    last: dict[str, Entry] = {}
    for identity, ticket in held.items.items():
        if ticket.owner in dead and ticket.line not in lines and ticket.line not in alive:
            found = last.get(ticket.line)
            if found is None or (found.ticket.step, found.identity) < (ticket.step, identity):
                last[ticket.line] = Entry(identity, Ticket(ticket.order, ticket.line, ticket.step), held=True)
    return list(last.values())


def claimed(entry: Entry, owner: str) -> Ticket:
    """Return the ticket of the copy that a claim puts."""
    return Ticket(entry.ticket.order, entry.ticket.line, entry.ticket.step + 1, None, owner)


def released(ticket: Ticket, due: float | None) -> Ticket:
    """Return the ticket of the item that a release puts: in its place, not before `due`."""
    return Ticket(ticket.order, ticket.line, ticket.step + 1, due)


def copies_of(limit: int, most: int, consumers: int) -> int:
    """Return how many a consumer claims at once: the copies of all of them fit what senders leave free."""
    return max(1, min(limit, most // SPARE // consumers))


def part_of(owner: str, owners: Iterable[str]) -> tuple[int, int]:
    """Return which of how many consumers this is."""
    everybody = sorted({owner, *owners})
    return everybody.index(owner), len(everybody)
