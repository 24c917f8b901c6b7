"""The dialect of ActiveMQ Classic, as of 5.17. Pure.

* A NACK sends a message to the broker's own dead-letter queue, so none is ever sent: what is given up for good is
  acknowledged, and what is dead-lettered or released is moved in a transaction (see `moves`).
* The scheduler delays, where it is on (see `probe`). It begins at the next half second.
* `expires` is not used: the broker would send what has expired to its own dead-letter queue. The consumer checks.
  A reply has it: a policy ends a queue only once it is empty, and nobody misses a late reply.
* What others put into `ActiveMQ.DLQ` can be consumed like any queue: where it came from and why is read as a death.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from anyqueue.backends.declared import DECLARED
from anyqueue.backends.stomp import headers, names, plain
from anyqueue.backends.stomp.dialect import Place, Read, Source, accept
from anyqueue.driver import Address, Envelope, Feature, Limits, Queue, Spec, Topic, reply_lasts

if TYPE_CHECKING:
    from anyqueue.backends.stomp.frames import Raw

BATCH: Final = 200
"""Messages in one call: with more, the broker waits for us and we for it, in turns."""
MAX_BODY: Final = 16 * 1024 * 1024
MAX_DELAY: Final = 366 * names.DAY
DELAY_STEP: Final = 1.0
DEFAULT_PRIORITY: Final = 4
"""What JMS says of a message without a priority."""
_DEATH_REASON: Final = "aq-death-reason"
_DEATH_ORIGIN: Final = "aq-death-origin"


class ActiveMQ:
    """The dialect, with or without a scheduler."""

    name = "activemq"
    transacts = True

    def __init__(self, *, scheduler: bool) -> None:
        declared = DECLARED["stomp-activemq"]
        self.features = declared if scheduler else declared & ~Feature.DELAY
        self.limits = Limits(
            max_body=MAX_BODY,
            max_batch=BATCH,
            max_sends=8,
            delay_step=DELAY_STEP if scheduler else 0.0,
            max_delay=MAX_DELAY if scheduler else None,
        )
        self._place = lru_cache(maxsize=1024)(_place)

    def place(self, address: Address, not_before: float | None, now: float) -> Place:
        """Return the queue or the topic: a delay is a header."""
        del not_before, now
        return self._place(address)

    def frame(self, place: Place, envelope: Envelope, receipt: int | None, now: float, extra: str = "") -> bytes:
        """Return the SEND of an envelope."""
        body = envelope.body
        told = extra + plain.lines(envelope)
        if envelope.timestamp is not None:
            told += f"timestamp:{max(int(envelope.timestamp * 1000), 0)}\n"
        if envelope.not_before is not None and envelope.not_before > now:
            told += f"AMQ_SCHEDULED_DELAY:{math.ceil((envelope.not_before - now) * 1000)}\n"
        if place.lasts is not None:
            told += f"expires:{math.ceil((now + place.lasts) * 1000)}\n"
        if envelope.priority is not None:
            told += f"priority:{envelope.priority}\n"
        if receipt is not None:
            told += f"receipt:{headers.RECEIPT}{receipt}\n"
        told += f"content-length:{len(body)}\n\n"
        return b"%b%b%b\0" % (place.prefix, told.encode(), body)

    def source(self, spec: Spec, token: str) -> Source:
        """Return a queue, a group's queue, or the topic itself."""
        del token
        asked = {"ack": "client-individual", "activemq.prefetchSize": str(spec.prefetch)}
        if isinstance(spec.address, Queue):
            home: Queue | None = spec.address
        elif spec.group is not None:
            home = Queue(names.active_home(spec.address.name, spec.group))
        else:
            home = None
        topic = f"/topic/{names.active_topic(spec.address.name)}"
        destination = topic if home is None else f"/queue/{names.active_queue(home.name)}"
        return Source(headers={**asked, "destination": destination}, home=home)

    def read(self, raw: Raw, queue: str) -> Read:
        """Read a MESSAGE."""
        del queue
        found = dict(reversed(headers.pairs(raw[0])))
        priority, expires = headers.number(found.get("priority")), headers.number(found.get("expires"))
        timestamp = headers.number(found.get("timestamp"))
        envelope = plain.envelope_of(
            found,
            raw[1],
            found.get("message-id", ""),
            priority=None if priority == DEFAULT_PRIORITY else priority,
            expires_at=expires / 1000 if expires else None,
            timestamp=None if timestamp is None else timestamp / 1000,
        )
        if "dlqDeliveryFailureCause" in found and isinstance(envelope.headers, dict):
            envelope.headers.setdefault(_DEATH_REASON, found["dlqDeliveryFailureCause"])
            envelope.headers.setdefault(_DEATH_ORIGIN, _origin(found.get("original-destination", "")))
        return Read(envelope, headers.escape(found.get("ack", "")), None, found.get("redelivered") == "true")

    def deletes(self, queue: Queue) -> str | None:
        """Return None: STOMP has no word for it."""
        del queue
        return None

    def drop(self, ack: str) -> bytes:
        """Accept: a NACK would keep it, in the broker's own dead-letter queue."""
        return accept(ack)


def _place(address: Address) -> Place:
    if isinstance(address, Topic):
        destination = f"/topic/{names.active_topic(address.name)}"
    else:
        destination = f"/queue/{names.active_queue(address.name)}"
    lasts = reply_lasts(address.name) if isinstance(address, Queue) else None
    return Place(f"SEND\ndestination:{headers.escape(destination)}\npersistent:true\n".encode(), lasts=lasts)


def _origin(destination: str) -> str:
    return names.active_name(destination.removeprefix("/queue/"))
