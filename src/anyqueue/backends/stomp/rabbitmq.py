"""The dialect of RabbitMQ's STOMP adapter, as of 3.10. Pure.

* Queues are used by `/amq/queue/NAME`, which declares nothing, so no message carries a queue's arguments about. They
  are made to exist over a connection of its own (`declare`).
* The adapter makes headers into properties and the other way round. In a MESSAGE come, in this order, its own headers,
  those of the sender, and the properties. So a sender's `content-type` is told from the property by its place.
* Delayed messages wait in quorum queues that dead-letter into the target. Without a confirm the broker drops what is
  due while the target has no leader, as after each start. STOMP has no word for the confirm; a policy has. So DELAY is
  declared only where the operator says that the policy is there.
* STOMP has no way to stop a subscription and keep what it holds: what is requeued comes straight back to who gave it
  back. So RELEASE is not declared, and what is unsettled goes back when the subscription's connection is closed.
* `receipt` and `content-length` of a SEND become headers of the message. They mean nothing there, and are left out.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from anyqueue.backends.declared import DECLARED
from anyqueue.backends.stomp import headers, names
from anyqueue.backends.stomp.dialect import Declared, Place, Read, Source
from anyqueue.driver import Address, Envelope, Feature, Limits, Queue, Spec, Topic, reply_lasts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anyqueue.backends.stomp.dialect import Version
    from anyqueue.backends.stomp.frames import Raw

BATCH: Final = 200
SENDS: Final = 4
"""With more messages on the way than a thousand the broker is slower, by a tenth with 8,000."""
MAX_BODY: Final = 16 * 1024 * 1024
LATER_MAX_BODY: Final = 3 * 1024 * 1024
"""Later versions take frames of 4 MiB, unless they are told otherwise; the headers are in it."""
_LATER: Final = (3, 11)
MAX_DELAY: Final = 40 * names.DAY
COUNT: Final = "x-delivery-count"
_PREFIX: Final = "SEND\ndestination:{}\npersistent:true\n"
_FIRST: Final = ("subscription", "destination", "message-id", "redelivered", "ack")
"""What the adapter itself says of a delivery, in its order."""
_LAST: Final = (
    *("content-length", "content-type", "content-encoding", "persistent", "priority", "correlation-id", "reply-to"),
    *("expiration", "amqp-message-id", "timestamp"),
)
"""The properties from the end of a MESSAGE. Before them would come type, user-id and app-id: nothing to us."""
_SENT: Final = ("receipt", "content-length", "transaction", "durable", "auto-delete", "exclusive", "x-queue-name")
_ARGUMENTS: Final = (
    *("x-dead-letter-exchange", "x-dead-letter-routing-key", "x-expires", "x-max-length", "x-max-length-bytes"),
    *("x-max-priority", "x-message-ttl", "x-queue-type", "prefetch-count", "x-stream-offset"),
)
_BROKERS: Final = (
    *("CC", "BCC", "x-death", COUNT, "x-acquired-count", "x-invalid-headers", "x-received-from", "x-shovelled"),
    *(f"x-{which}-death-{what}" for which in ("first", "last") for what in ("exchange", "queue", "reason")),
)
_TAKEN: Final = frozenset({*_SENT, *_ARGUMENTS, *_BROKERS, headers.BUNDLE, headers.TIMESTAMP, headers.EXPIRES})
"""Names that a sender's header cannot have on its way: they mean something to the adapter or to the broker."""
_UNSENDABLE: Final = frozenset({*_TAKEN, *_FIRST, *_LAST, "type", "user-id", "app-id"})
_REPLY: Final = "/reply-queue/"
SHORT: Final = 255
"""Bytes in a property, and in a header's name."""


class RabbitMQ:
    """The dialect, for queues of one type."""

    name = "rabbitmq"
    transacts = False

    def __init__(self, queue_type: str, version: Version, *, delay_policy: bool) -> None:
        self.features = DECLARED["stomp-rabbitmq"]
        if queue_type != "quorum":
            self.features &= ~Feature.ATTEMPTS
        if not delay_policy:
            self.features &= ~Feature.DELAY
        max_body = MAX_BODY if version < _LATER else LATER_MAX_BODY
        self.limits = Limits(
            max_body=max_body,
            max_batch=BATCH,
            max_sends=SENDS,
            delay_step=names.STEP if delay_policy else 0.0,
            max_delay=MAX_DELAY if delay_policy else None,
        )
        self._type = queue_type
        self._place = lru_cache(maxsize=1024)(self._make_place)

    def place(self, address: Address, not_before: float | None, now: float) -> Place:
        """Return the queue, or the routing key, or the queue to wait in."""
        if not_before is None or not_before <= now:
            return self._place(address, None, 0)
        return self._place(address, names.delay_step(not_before - now), int(now // names.DAY))

    def _make_place(self, address: Address, step: int | None, day: int) -> Place:
        topic = isinstance(address, Topic)
        target = names.rabbit_key(address.name) if topic else names.rabbit_queue(address.name)
        declares = () if topic or names.is_passing(target) else (self.declared(target),)
        destination = f"{'/topic' if topic else '/amq/queue'}/{names.rabbit_path(target)}"
        if step is not None:
            queue = names.rabbit_delay(target, step, day * names.DAY, topic=topic)
            declares = (*declares, _delay(queue, target, step, topic=topic))
            destination = f"/amq/queue/{names.rabbit_path(queue)}"
        return Place(_PREFIX.format(headers.escape(destination)).encode(), declares)

    def declared(self, queue: str) -> Declared:
        """Return how a queue is declared; one of replies ends some time after its last consumer, as over AMQP."""
        kind = [("x-queue-type", self._type)]
        if lasts := reply_lasts(queue):
            kind = [("x-queue-type", "classic"), ("x-expires", str(lasts * 1000))]
        return Declared(queue, (("durable", "true"), ("auto-delete", "false"), *kind))

    def frame(self, place: Place, envelope: Envelope, receipt: int | None, now: float, extra: str = "") -> bytes:
        """Return the SEND of an envelope."""
        del now
        body = envelope.body
        lines = f"{extra}{_property('id', 'amqp-message-id', envelope.id)}"
        if envelope.content_type is not None:
            lines += _again("content_type", "content-type", envelope.content_type)
        if (timestamp := envelope.timestamp) is not None:
            lines += f"timestamp:{max(int(timestamp), 0)}\n{headers.TIMESTAMP}:{timestamp!r}\n"
        if envelope.headers or envelope.correlation_id is not None or envelope.reply_to is not None:
            lines += _more(envelope)
        if envelope.expires_at is not None:
            lines += f"{headers.EXPIRES}:{envelope.expires_at!r}\n"
        if envelope.priority is not None:
            lines += f"priority:{envelope.priority}\n"
        lines += f"content-length:{len(body)}\nreceipt:{headers.RECEIPT}{receipt}\n\n"
        return b"%b%b%b\0" % (place.prefix, lines.encode(), body)

    def source(self, spec: Spec, token: str) -> Source:
        """Return a queue, or what declares a group's queue and binds it to the topic."""
        asked = {"ack": "client-individual", "prefetch-count": str(spec.prefetch)}
        if isinstance(spec.address, Queue):
            queue = names.rabbit_queue(spec.address.name)
            asked["destination"] = f"/amq/queue/{names.rabbit_path(queue)}"
            return Source(headers=asked, home=spec.address, declares=(self.declared(queue),))
        topic = spec.address.name
        declares: tuple[Declared, ...]
        asked["destination"] = f"/topic/{names.rabbit_path(names.rabbit_key(topic))}"
        if spec.group is None:
            queue, declares = names.rabbit_passing(topic, token), ()
            asked |= {"durable": "false", "auto-delete": "true", "exclusive": "true", "x-queue-name": queue}
        else:
            queue = names.rabbit_group(topic, spec.group)
            declares = (self.declared(queue),)
            asked |= {**dict(declares[0].arguments), "exclusive": "false", "x-queue-name": queue}
        return Source(headers=asked, home=Queue(queue), declares=declares)

    def deletes(self, queue: Queue) -> str | None:
        """Return the name of a queue."""
        return names.rabbit_queue(queue.name)

    def read(self, raw: Raw, queue: str) -> Read:
        """Read a MESSAGE."""
        found = headers.pairs(raw[0])
        told, given, properties = _sorted(found)
        count = headers.whole(next((text for name, text in given if name == COUNT), None))
        envelope = _envelope(given, properties, raw[1], queue)
        redelivered = told.get("redelivered") == "true"
        attempt = 1 + count if count is not None else None if redelivered else 1
        return Read(envelope, headers.escape(told.get("ack", "")), attempt, redelivered)

    def drop(self, ack: str) -> bytes:
        """Reject, which a dead-letter exchange of the operator's hears of."""
        return b"NACK\nid:%b\nrequeue:false\n" % ack.encode()


def _delay(queue: str, target: str, step: int, *, topic: bool) -> Declared:
    """Return a queue whose messages die after `step` milliseconds, into the target."""
    arguments = {
        "durable": "true",
        "auto-delete": "false",
        "x-queue-type": "quorum",
        "x-message-ttl": str(step),
        "x-expires": str(step + names.LINGER),
        "x-dead-letter-exchange": "amq.topic" if topic else "",
        "x-dead-letter-routing-key": target,
    }
    return Declared(queue, tuple(arguments.items()))


def _property(field: str, name: str, text: str) -> str:
    """Return the line of a property, or of the header that carries what it has no room for."""
    fits = len(text) * 4 <= SHORT or len(text.encode()) <= SHORT
    return headers.line(name if fits else f"{headers.FIELD}{field}", text)


_again: Final = lru_cache(maxsize=256)(_property)
"""For what is the same in many messages."""


def _more(envelope: Envelope) -> str:
    lines = [_line(name, text) for name, text in envelope.headers.items()]
    if None in lines:
        kept = zip(envelope.headers.items(), lines, strict=True)
        bundle = headers.bundled({name: text for (name, text), made in kept if made is None})
        lines.append(headers.line(headers.BUNDLE, bundle))
    if envelope.correlation_id is not None:
        lines.append(_property("correlation_id", "correlation-id", envelope.correlation_id))
    if (reply_to := envelope.reply_to) is not None:
        plain = reply_to and "/" not in reply_to  # the adapter takes only what it can parse as a destination
        name = "reply-to" if plain and len(reply_to.encode()) <= SHORT else f"{headers.FIELD}reply_to"
        lines.append(headers.line(name, reply_to))
    return "".join(made for made in lines if made is not None)


def _line(name: str, text: str) -> str | None:
    """Return the line of a sender's header; None for one that must go into the bundle."""
    escaped = _name(name)
    return None if escaped is None or "\0" in text else f"{escaped}:{headers.escape(text)}\n"


@lru_cache(maxsize=1024)
def _name(name: str) -> str | None:
    odd = name in _UNSENDABLE or "\0" in name or len(name.encode()) > SHORT
    return None if odd or name.startswith(headers.FIELD) else headers.escape(name)


def _sorted(
    found: list[tuple[str, str]],
) -> tuple[dict[str, str], list[tuple[str, str]], dict[str, str]]:
    """Tell the adapter's headers, the sender's and the properties apart, by their places."""
    told: dict[str, str] = {}
    properties: dict[str, str] = {}
    start, end = 0, len(found)
    for name in _FIRST:
        if start < end and found[start][0] == name:
            told[name] = found[start][1]
            start += 1
    for name in _LAST:
        if start < end and found[end - 1][0] == name:
            end -= 1
            properties[name] = found[end][1]
    return told, found[start:end], properties


def _envelope(given: list[tuple[str, str]], properties: Mapping[str, str], body: bytes, queue: str) -> Envelope:
    """Put an envelope together."""
    user: dict[str, str] = {}
    own: dict[str, str] = {}
    for name, text in given:
        if name.startswith("aq-") and (name in _TAKEN or name.startswith(headers.FIELD)):
            own[name] = text
        elif name not in _TAKEN:
            user.setdefault(name, text)
    if headers.BUNDLE in own:
        headers.unbundle(own[headers.BUNDLE], user)
    reply_to = properties.get("reply-to")
    priority = headers.number(properties.get("priority"))
    timestamp = headers.number(own.get(headers.TIMESTAMP))
    if timestamp is None:
        timestamp = headers.number(properties.get("timestamp"))
    identity = properties.get("amqp-message-id") or own.get(f"{headers.FIELD}id")
    return Envelope(
        id=identity or _made_up(given, properties, body, queue),
        body=body,
        headers=user,
        content_type=properties.get("content-type", own.get(f"{headers.FIELD}content_type")),
        correlation_id=properties.get("correlation-id", own.get(f"{headers.FIELD}correlation_id")),
        reply_to=own.get(f"{headers.FIELD}reply_to") if reply_to is None else reply_to.removeprefix(_REPLY),
        priority=None if priority is None else int(priority),
        expires_at=headers.number(own.get(headers.EXPIRES)),
        timestamp=timestamp,
    )


def _made_up(given: list[tuple[str, str]], properties: Mapping[str, str], body: bytes, queue: str) -> str:
    """Return an id for a message that has none, the same whenever it is read: a hash of all that does not change."""
    told = sorted([*((name, text) for name, text in given if name not in _BROKERS), *properties.items()])
    return sha256(f"{queue}\0{told!r}\0".encode(errors="replace") + body).hexdigest()[:32]
