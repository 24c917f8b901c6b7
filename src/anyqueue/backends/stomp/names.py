"""Queues, topics, groups and delays -> names on the broker. Pure, and injective: two names never meet.

RabbitMQ: a queue has its own name, as over AMQP, unless STOMP cannot say it: names over 255 bytes, in `amq.`, with
`%2F` in them (which the broker reads as a slash) or with a blank at an end (which it cuts off) become `aq.name.` and a
hash. A topic is a routing key of `amq.topic`, percent-encoded where it would be a pattern. A group is a queue bound to
it.

ActiveMQ: what its names would mean (options, wildcards, lists, blanks at the ends) is percent-encoded. A topic is the
virtual topic `VirtualTopic.NAME`, and a named group the queue `Consumer.GROUP.VirtualTopic.NAME`.
"""

from __future__ import annotations

import math
import re
from hashlib import sha256
from typing import Final
from urllib.parse import quote, unquote

from anyqueue.driver import RESERVED

MAX_NAME: Final = 255
"""Bytes in a name of AMQP."""
DAY: Final = 86400.0
STEP: Final = 0.01
SHARE: Final = 0.05
"""A delay on RabbitMQ is late by at most STEP seconds or this share of it, whichever is more."""
LINGER: Final = 2 * int(DAY) * 1000
"""Milliseconds that a delay queue lives beyond its delay: the day in which it is filled, and one for wrong clocks."""
_MANTISSAS: Final = [*range(100, 200, 5), *range(200, 500, 10), *range(500, 1001, 25)]
"""The steps of a decade, in hundredths."""
_GROUP: Final = f"{RESERVED}group."
_UNSAFE: Final = re.compile(r"[%,?*>:\x00-\x1f]|^\s+|\s+$")
_SPECIAL: Final = re.compile(r"(Consumer\.[^.]*\.VirtualTopic\.|ActiveMQ\.(?!DLQ(\.|$)))")


def rabbit_queue(name: str) -> str:
    """Return the name of a queue on RabbitMQ."""
    said = not name.startswith("amq.") and "%2F" not in name and name.strip(" ") == name
    return name if said and len(name.encode()) <= MAX_NAME else f"{RESERVED}name.{_hash(name)}"


def rabbit_key(topic: str) -> str:
    """Return the routing key of a topic on RabbitMQ."""
    key = re.sub(r"[%*#]|^ +| +$", _encoded, topic)
    return key if len(key.encode()) <= MAX_NAME else f"{RESERVED}topic.{_hash(topic)}"


def rabbit_group(topic: str, group: str) -> str:
    """Return the queue of a named group on RabbitMQ."""
    return _fit("stomp.group.", f"{quote(topic, safe='')}:{quote(group, safe='')}")


def rabbit_passing(topic: str, token: str) -> str:
    """Return the queue of a group without a name on RabbitMQ; no named group has it."""
    return _fit("stomp.group.", f"{quote(topic, safe='')}:*{token}")


def is_passing(queue: str) -> bool:
    """Say whether this is the queue of a group without a name: it is there for as long as its consumer."""
    return queue.startswith(f"{RESERVED}stomp.group.") and ":*" in queue


def rabbit_delay(target: str, step: int, now: float, *, topic: bool) -> str:
    """Return the queue on RabbitMQ in which what is sent now waits for `step` milliseconds.

    A queue with an expiry is deleted after that time with all that is in it, whatever is sent to it meanwhile. So each
    day has queues of its own, which are filled on that day alone, and expire when all in them has long left.
    """
    kind = "stomp.delay-topic" if topic else "stomp.delay"
    return _fit(f"{kind}.{step}.{int(now // DAY)}.", target.replace("%2F", "%252F"))


def delay_step(seconds: float) -> int:
    """Return the step of a delay, in milliseconds: never less, and late as SHARE and STEP say.

    So a retry with jitter has some fifty queues to wait in, not thousands.
    """
    wanted = max(math.ceil(seconds * 1000), 1)
    if wanted <= STEP * 1000 / SHARE:
        grain = round(STEP * 1000)
        return -(-wanted // grain) * grain
    unit = 10 ** (len(str(wanted - 1)) - 1)
    step: int = next(mantissa * unit // 100 for mantissa in _MANTISSAS if mantissa * unit >= wanted * 100)
    return step


def rabbit_path(name: str) -> str:
    """Return a name of RabbitMQ's as a part of a destination."""
    return name.replace("/", "%2F")


def active_queue(name: str) -> str:
    """Return the name of a queue on ActiveMQ; a group's home is one of ours."""
    if name.startswith(_GROUP):
        topic, _, group = name.removeprefix(_GROUP).partition(":")
        return f"Consumer.{active_part(unquote(group)).replace('.', '%2E')}.{active_topic(unquote(topic))}"
    wire = active_part(name)
    return f"%{ord(wire[0]):02X}{wire[1:]}" if _SPECIAL.match(wire) else wire


def active_topic(topic: str) -> str:
    """Return the name of a topic on ActiveMQ."""
    return f"VirtualTopic.{active_part(topic)}"


def active_home(topic: str, group: str) -> str:
    """Return what active_queue() makes the queue of a named group on ActiveMQ."""
    return f"{_GROUP}{quote(topic, safe='')}:{quote(group, safe='')}"


def active_part(name: str) -> str:
    """Return a name with what ActiveMQ would read as something else percent-encoded."""
    return _UNSAFE.sub(_encoded, name)


def active_name(wire: str) -> str:
    """Return the user's name of a queue on ActiveMQ."""
    return unquote(wire)


def other_part(name: str) -> str:
    """Return a name for a server nobody knows."""
    return quote(name, safe="")


def _encoded(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode())


def _fit(kind: str, rest: str) -> str:
    name = f"{RESERVED}{kind}{rest}"
    fits = len(name.encode()) <= MAX_NAME and rest.strip(" ") == rest
    return name if fits else f"{RESERVED}{kind}{_hash(rest)}"


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()
