"""Names on the service: the nodes of queues, topics and groups, and the ids of items. Pure.

* A queue is a node of the user's own name, percent-encoded where it has other characters than letters, digits and
  `-._~`. Beside it stands its held node, `aq.held.` and the same.
* A topic is the node `aq.topic.NAME`, which keeps nothing; its named groups are written in `aq.groups.NAME`, and each
  is a queue of its own, `aq.group.TOPIC:GROUP`.
* A reply queue is a queue that ends: until when it lasts is written in `aq.requesters.ACCOUNT`, as NODE:UNTIL.
* An item's id says all that decides about it, so that listing ids is enough:
      ready    aq:ORDER:LINE:STEP[:DUE]
      held     aq:ORDER:LINE:STEP:OWNER
      owner    owner:OWNER                (in the held node: until when, and who it is)
  ORDER sorts by time of sending and stays with the message; LINE is one message's, through all its moves; each move
  is one more STEP; DUE is a time before which it is not delivered. No id is ever used twice.
* Any other id is another program's item. Its line is a hash of its id.
"""

from __future__ import annotations

import math
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

import msgspec

from anyqueue.driver import RESERVED, reply_lasts

if TYPE_CHECKING:
    from collections.abc import Iterable

HELD: Final = f"{RESERVED}held."
TOPIC: Final = f"{RESERVED}topic."
GROUPS: Final = f"{RESERVED}groups."
GROUP: Final = f"{RESERVED}group."
PROOF: Final = f"{RESERVED}proof."
REQUESTERS: Final = f"{RESERVED}requesters."
OWNER: Final = "owner:"
_MARK: Final = "aq"
_FIELDS: Final = 4
_ORDER_DIGITS: Final = 14


class Ticket(msgspec.Struct, frozen=True):
    """What the id of an item says."""

    order: str
    line: str
    step: int
    due: float | None = None
    owner: str | None = None


def ready_node(queue: str) -> str:
    """Return the node of a queue."""
    return quote(queue, safe="~")


def held_node(queue: str) -> str:
    """Return the node in which a queue's messages are while they are held."""
    return HELD + quote(queue, safe="~")


def held_beside(ready: str) -> str:
    """Return the held node beside a queue's node."""
    return HELD + ready


def topic_node(topic: str) -> str:
    """Return the node that hands a topic's messages to whoever listens now."""
    return TOPIC + quote(topic, safe="~")


def groups_node(topic: str) -> str:
    """Return the node in which a topic's named groups are written."""
    return GROUPS + quote(topic, safe="~")


def group_queue(topic: str, group: str) -> str:
    """Return the queue of a named group. Injective: both names are percent-encoded."""
    return f"{GROUP}{quote(topic, safe='')}:{quote(group, safe='')}"


def proof_node(account: str) -> str:
    """Return the node on which an account tries what the service can."""
    return PROOF + quote(account, safe="~")


def requesters_node(account: str) -> str:
    """Return the node in which an account's reply queues are written down."""
    return REQUESTERS + quote(account, safe="~")


def queue_of(node: str) -> str | None:
    """Return the queue whose node this is; None for the nodes beside the queues."""
    if node.startswith(RESERVED) and not node.startswith(GROUP):
        return None
    name = unquote(node)
    return name if ready_node(name) == node else None


def order_of(microseconds: int) -> str:
    """Return a time as it sorts."""
    return f"{microseconds:0{_ORDER_DIGITS}x}"


def ready_id(ticket: Ticket) -> str:
    """Return the id of a ready or delayed item."""
    start = f"{_MARK}:{ticket.order}:{ticket.line}:{ticket.step}"
    return start if ticket.due is None else f"{start}:{ticket.due!r}"


def held_id(ticket: Ticket) -> str:
    """Return the id of a held item."""
    return f"{_MARK}:{ticket.order}:{ticket.line}:{ticket.step}:{ticket.owner}"


def owner_id(owner: str) -> str:
    """Return the id of the item that says who an owner is."""
    return OWNER + owner


def tenure_id(node: str, until: float) -> str:
    """Return the id of the item that says until when a reply queue lasts."""
    return f"{node}:{until!r}"


def tenures_over(identities: Iterable[str], now: float) -> dict[str, str | None]:
    """Return the ids whose time is over, and the node of each if its queue ends: none of its ids is still to come."""
    over: dict[str, str | None] = {}
    lasting: set[str] = set()
    for identity in identities:
        node, _, text = identity.rpartition(":")
        until = _time(text)
        if until is None or reply_lasts(node) is None:
            continue
        if until < now:
            over[identity] = node
        else:
            lasting.add(node)
    return {identity: None if node in lasting else node for identity, node in over.items()}


def read_ready(identity: str, order: str) -> Ticket:
    """Read the id of an item of a queue's node; `order` is where it stands if its id does not say."""
    parts = identity.split(":")
    if parts[0] == _MARK and len(parts) in {_FIELDS, _FIELDS + 1} and _is_step(parts[3]):
        due = _time(parts[4]) if len(parts) > _FIELDS else None
        if len(parts) == _FIELDS or due is not None:
            return Ticket(parts[1], parts[2], int(parts[3]), due)
    return Ticket(order, f"x{sha256(identity.encode()).hexdigest()[:24]}", 0)


def read_held(identity: str) -> Ticket | None:
    """Read the id of an item of a held node; None for what is no held message."""
    parts = identity.split(":")
    if parts[0] != _MARK or len(parts) != _FIELDS + 1 or not _is_step(parts[3]):
        return None
    return Ticket(parts[1], parts[2], int(parts[3]), None, parts[4])


def _is_step(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _time(text: str) -> float | None:
    try:
        due = float(text)
    except ValueError:
        return None
    return due if math.isfinite(due) else None
