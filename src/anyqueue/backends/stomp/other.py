"""The dialect for servers nobody knows: what every STOMP 1.2 server does. Pure.

A receipt confirms, what is not acknowledged is taken to come again, and consumers share a queue. Whether it survives a
crash, nobody can say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from anyqueue.backends.stomp import headers, names, plain
from anyqueue.backends.stomp.dialect import Place, Read, Source, accept
from anyqueue.driver import Address, Envelope, Feature, Limits, Queue, Spec

if TYPE_CHECKING:
    from anyqueue.backends.stomp.frames import Raw

FEATURES: Final = Feature.CONFIRM | Feature.REDELIVER | Feature.COMPETING
MAX_BODY: Final = 1024 * 1024
"""Bytes that any server may be expected to take."""


class Other:
    """The dialect."""

    name = "other"
    transacts = False
    features = FEATURES
    limits = Limits(max_body=MAX_BODY, max_sends=8)

    def place(self, address: Address, not_before: float | None, now: float) -> Place:
        """Return the queue."""
        del not_before, now
        return Place(f"SEND\ndestination:/queue/{names.other_part(address.name)}\npersistent:true\n".encode())

    def frame(self, place: Place, envelope: Envelope, receipt: int | None, now: float, extra: str = "") -> bytes:
        """Return the SEND of an envelope."""
        del now
        body = envelope.body
        told = f"{extra}{plain.lines(envelope)}content-length:{len(body)}\nreceipt:{headers.RECEIPT}{receipt}\n\n"
        return b"%b%b%b\0" % (place.prefix, told.encode(), body)

    def source(self, spec: Spec, token: str) -> Source:
        """Return the queue, asking for a prefetch in the ways of the servers that are known."""
        del token
        asked = {
            "ack": "client-individual",
            "destination": f"/queue/{names.other_part(spec.address.name)}",
            "prefetch-count": str(spec.prefetch),
            "activemq.prefetchSize": str(spec.prefetch),
        }
        return Source(headers=asked, home=Queue(spec.address.name))

    def read(self, raw: Raw, queue: str) -> Read:
        """Read a MESSAGE."""
        del queue
        found = dict(reversed(headers.pairs(raw[0])))
        envelope = plain.envelope_of(found, raw[1], found.get("message-id", ""))
        return Read(envelope, headers.escape(found.get("ack", "")), None, found.get("redelivered") == "true")

    def deletes(self, queue: Queue) -> str | None:
        """Return None: STOMP has no word for it."""
        del queue
        return None

    def drop(self, ack: str) -> bytes:
        """Accept: what a NACK does is another thing on every server."""
        return accept(ack)
