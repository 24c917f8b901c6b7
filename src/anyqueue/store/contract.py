"""The contract of a store: what a queue does, decided once and kept twice (in memory, in SQLite).

How it works:

* A message is READY, DELAYED until its time, or HELD by an owner until its lease ends; then it is gone.
* Its place never changes: by level (9 first), then by the sequence number it got when it was put. A message that
  was released, or whose delay or lease ended, goes back to that place, ahead of what was put after it.
* Attempts are counted at the claim, so a killed consumer is counted too. What goes back without having been
  started (release_all, Release without `failed_at`) is not counted.
* What expired is never claimed, counted or browsed. The next claim on its queue moves it into that claim's
  dead-letter queue, or drops it where there is none.
* A reply queue is a group of the topic REPLIES, to which nobody sends: it ends when it is not renewed, and is not made
  by what is sent to it.
* A topic hands each message to the queue of every group it has. A topic without groups drops its messages.
* `now` is given, in Unix seconds. A store never goes back in time: an earlier `now` counts as the latest it has
  seen, so after the clock was put back its time stands still until the clock has caught up.
* Calls are synchronous and one at a time: who shares a store locks it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec

from anyqueue.driver import REPLIES, RESERVED, Envelope, Queue, reply_lasts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anyqueue.driver import Address, Delivery, Depth, Settlement, Spec

DEATH_REASON: Final = "aq-death-reason"
"""The header that says why a store dead-lettered a message by itself."""
DEATH_ORIGIN: Final = "aq-death-origin"
"""The header that names the queue it was in."""
EXPIRED: Final = "expired"
"""The one reason a store has by itself."""
LEVELS: Final = 10
MIDDLE: Final = 4
"""The level of a message without a priority."""
GROUP: Final = RESERVED + "group:"
"""What the names of the groups' own queues begin with."""
OWNED: Final = (GROUP, REPLIES)
"""What the names of queues begin with that are not made by what is sent to them."""
FOREVER: Final = float("inf")
NO_MORE: Final = "the group of the topic, or the requester of the reply, is no more"
TOO_LATE: Final = "no longer held: its lease ended, it was settled before, or its queue was deleted"


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who claims from a queue, and on which terms."""

    owner: int
    """No other holder's, in any process."""
    queue: str
    dead_letter: str | None = None
    lease: float | None = None
    """How long a claim holds, in seconds; None: until it is settled."""


class Store(ABC):
    """Queues and topics, and the messages in them."""

    @property
    def changed(self) -> int:
        """How much was changed so far: what raised and left this as it was has done nothing. 0 where that is so."""
        return 0

    @abstractmethod
    def put(self, address: Address, batch: Sequence[Envelope], now: float) -> None:
        """Add messages, in order; a queue is declared by it.

        Raises QueueNotFound for a group's own queue, or a reply queue, that is no more.
        """

    @abstractmethod
    def claim(self, holder: Holder, limit: int, now: float) -> list[Delivery]:
        """Hold up to `limit` ready messages, the first in order. Raises QueueNotFound."""

    @abstractmethod
    def settle(self, holder: Holder, batch: Sequence[tuple[object, Settlement]], now: float) -> Mapping[int, str]:
        """Settle by receipt; return the position and the reason of those that came too late."""

    @abstractmethod
    def extend(self, holder: Holder, receipts: Sequence[object], now: float) -> list[int]:
        """Hold these for another lease from now; return the positions of those no longer held."""

    @abstractmethod
    def release_all(self, holder: Holder, now: float, *, counted: bool = False) -> int:
        """Give back everything this owner holds; return how many. `counted`: its end was no orderly one."""

    @abstractmethod
    def next_due(self, queue: str, now: float) -> float | None:
        """Return when a claim is worth trying again: `now` if something is ready, None if nothing is on its way."""

    @abstractmethod
    def declare(self, queue: str) -> None:
        """Make a queue, if it is not there, and delete the reply queues that ended. Raises QueueNotFound as put()."""

    def listen(self, queue: str, now: float, lasts: float | None = None) -> None:
        """Make a queue for who consumes from it. A reply queue lives for its own time, or `lasts`, unless renewed."""
        own = reply_lasts(queue)
        if own is None:
            self.declare(queue)
        else:
            self.join(REPLIES, queue, now, own)
            self.renew([queue], now, own if lasts is None else lasts)

    def leave(self, queue: str, now: float) -> None:
        """Let a reply queue end in its own time; no-op for another."""
        if own := reply_lasts(queue):
            self.renew([queue], now, own)

    @abstractmethod
    def join(self, topic: str, queue: str, now: float, lease: float | None) -> None:
        """Make `queue` a group of the topic, if it is not one. With a lease, only until `now + lease`."""

    @abstractmethod
    def renew(self, queues: Sequence[str], now: float, lease: float) -> None:
        """Let these groups live until `now + lease`. One that is no more stays so."""

    @abstractmethod
    def queues(self, now: float) -> list[tuple[str, Depth]]:
        """List the queues, those of groups too, by name."""

    @abstractmethod
    def depth(self, queue: str, now: float) -> Depth:
        """Count its messages; an unknown queue has none."""

    @abstractmethod
    def browse(self, queue: str, limit: int, now: float) -> list[Envelope]:
        """Return the ready messages in order, then the delayed ones by their time."""

    @abstractmethod
    def purge(self, queue: str, now: float) -> int:
        """Delete what nobody holds; return how many that were not expired."""

    @abstractmethod
    def delete(self, queue: str) -> None:
        """Delete a queue or a group with all its messages, if it is there."""

    @abstractmethod
    def take_stirred(self) -> set[str]:
        """Return, once, the queues where next_due() may have become sooner, or which were deleted."""


def group_queue(topic: str, group: str) -> str:
    """Return the name of a durable group's own queue. Injective: both names are percent-encoded."""
    return f"{GROUP}{quote(topic, safe='')}:{quote(group, safe='')}"


def passing_queue(topic: str, token: str) -> str:
    """Return the name of the queue of a group that ends with its subscription; no durable group has it."""
    return f"{GROUP}{quote(topic, safe='')}:*{token}"


def home_of(spec: Spec, token: str) -> str:
    """Return the queue that a subscription claims from; `token` is no other's."""
    if isinstance(spec.address, Queue):
        return spec.address.name
    if spec.group is None:
        return passing_queue(spec.address.name, token)
    return group_queue(spec.address.name, spec.group)


def level_of(envelope: Envelope) -> int:
    """Return a message's level, from 0 to 9."""
    priority = envelope.priority
    return MIDDLE if priority is None else min(max(priority, 0), LEVELS - 1)


def bury(envelope: Envelope, headers: Mapping[str, str]) -> Envelope:
    """Return the message as it goes into a dead-letter queue: itself, for ever, with headers added."""
    return msgspec.structs.replace(envelope, headers={**envelope.headers, **headers}, not_before=None, expires_at=None)


def expiry_headers(queue: str) -> dict[str, str]:
    """Return the headers of a message that expired in `queue`."""
    return {DEATH_REASON: EXPIRED, DEATH_ORIGIN: queue}
