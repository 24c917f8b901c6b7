"""Does this server let exactly one of two retract an item? Asked of the server itself, by trying.

ejabberd on Mnesia, its default, lets both nearly always. All claims stand on it, so two sessions race for a few items
before the first consumer of this process may share a queue; and what the service says counts too. The listing of
the same items shows in which order this server lists.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final

import msgspec

from anyqueue.backends.xmpp import codec, names, stanzas, welcome
from anyqueue.backends.xmpp.codec import Stored
from anyqueue.backends.xmpp.session import Session
from anyqueue.driver import Envelope
from anyqueue.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from anyqueue.backends.xmpp.stanzas import Answer

ITEMS: Final = 16
RACES: Final = 12
EJABBERD: Final = "identity pubsub service Publish-Subscribe "
RESULT_SETS: Final = "feature    http://jabber.org/protocol/rsm"
ROOM: Final = 1000
"""Of the node: clients that are killed in the middle leave a few items behind, of which the oldest go."""


class Proof(msgspec.Struct, frozen=True):
    """What was found out."""

    atomic: bool
    """Of two that retract, one is told that it did."""
    newest_first: bool = False
    """Listings begin with the newest item."""
    why: str = ""
    """Why it is not atomic, as far as we know."""


MAKES_NODES: Final = f"feature    {stanzas.PUBSUB}#auto-create"
"""Whatever is published to a node that is not there makes it, with the service's settings and not ours."""


async def service_of(session: Session) -> frozenset[str]:
    """Return what the service says that it is; raise ConfigError where there is none."""
    answer = await session.ask("get", stanzas.info())
    said = stanzas.read_info(answer.content)
    if answer.refusal is not None or not any(each.startswith("identity pubsub ") for each in said):
        what = f"there is no pubsub service {session.target.service}: {answer.refusal or 'it is something else'}"
        raise ConfigError(what, url=session.url, hint="name it: ?service=pubsub.domain")
    return said


def rounds_of(said: Collection[str]) -> int:
    """Return how many races a service must pass, by what it says that it is; 0: none that it passes would be proof.

    A busy ejabberd on Mnesia passes one race in ten, where nobody came in between. But it says which storage it has:
    with SQL it has result sets (RSM). Who is not known has more races to pass.
    """
    if RESULT_SETS in said or any("Prosody" in each for each in said if each.startswith("identity ")):
        return 1
    return 0 if EJABBERD in said else RACES


async def prove(session: Session, rounds: int) -> Proof:
    """Race a second session of the same account for a few items of a node that is the account's own."""
    if not rounds:
        return Proof(atomic=False, why="this is ejabberd, and keeps its nodes in Mnesia")
    node = names.proof_node(session.account)
    made = await session.ask("set", stanzas.create(node, {**stanzas.KEPT, "max_items": str(ROOM)}))
    if made.refusal is not None and made.refusal.condition != stanzas.CONFLICT:
        return Proof(atomic=False, why=f"the account may make no node to try it on: {made.refusal}")
    other = Session(session.target, session.url)
    try:
        await welcome.log_in(other)
        found = Proof(atomic=True)
        for _ in range(rounds):
            found = await _race(session, other, node)
            if not found.atomic:
                break
        return found
    finally:
        await other.close()


async def _race(one: Session, two: Session, node: str) -> Proof:
    token = secrets.token_hex(8)
    items = [f"{token}-{number:02}" for number in range(ITEMS)]
    payload = codec.encode(Stored(Envelope(id="proof", body=b"")))
    puts = await one.ask_all([("set", stanzas.publish(node, item, payload)) for item in items])
    if refusals := [answer.refusal for answer in puts if answer.refusal is not None]:
        return Proof(atomic=False, why=f"what was published was refused: {refusals[0]}")
    listed = stanzas.read_ids((await one.ask("get", stanzas.list_ids(node))).content)
    mine = [item for item in listed if item.startswith(token)]
    if sorted(mine) != items:
        return Proof(atomic=False, why=f"of {ITEMS} items that were published {len(mine)} are there")
    winners: list[int] = []
    for item in items:  # one by one: of two rows, a busy server takes the one before the other, and nobody races
        take = stanzas.retract(node, item)
        winners.append(_won(await asyncio.gather(one.ask("set", take), two.ask("set", take))))
    if set(winners) != {1}:
        twice = sum(count > 1 for count in winners)
        return Proof(atomic=False, why=f"of {ITEMS} items {twice} could be taken twice")
    return Proof(atomic=True, newest_first=mine == items[::-1])


def _won(answers: Iterable[Answer]) -> int:
    return sum(answer.refusal is None for answer in answers)
