"""Names and arguments on the broker: what a queue, a group, a topic and a delay are there. Pure.

* A queue has the user's own name, and a topic is an exchange of its own name, unless AMQP has no room for it: names
  over 255 bytes, and those that begin with `amq.`, become `aq.name.` and a hash.
* A delay is a queue of its own for each target and step: what is in it dies after the step, into the target. A quorum
  queue with an expiry is deleted after that time with all that is in it, whatever is sent to it meanwhile (the broker's
  documents and RabbitMQ 3.10 say so). So each day has delay queues of its own, which are filled on that day alone and
  expire when all in them has long left: a day of clock error between senders is tolerated.
* Delays are rounded up to steps of a twentieth, some seventy from one second to ten, so that retries with jitter share
  queues.
* What the broker itself gives up (brought back too often, rejected by another client, a stranger's that expired) it
  sends to the dead letters, with a confirm (quorum queues): while there is no such queue, it keeps it.
"""

from __future__ import annotations

import math
from hashlib import sha256
from typing import Final
from urllib.parse import quote, unquote

from anyqueue.driver import RESERVED

MAX_NAME: Final = 255
"""Bytes in a name of AMQP."""
_GROUP: Final = f"{RESERVED}group."
DEAD: Final = ".dead"
"""What a queue's own dead-letter queue is called after its name, unless a consumer says otherwise."""
DAY: Final = 86400.0
MAX_DELAY: Final = 40 * DAY
STEP: Final = 0.01
SHARE: Final = 0.05
"""A delay is late by at most STEP seconds or this share of it, whichever is more."""
_LINGER: Final = 2 * int(DAY) * 1000
"""Milliseconds that a delay queue lives beyond its delay: the day in which it is filled, and one for wrong clocks."""
_MANTISSAS: Final = [*range(100, 200, 5), *range(200, 500, 10), *range(500, 1001, 25)]
"""The steps of a decade, in hundredths."""

Arguments = dict[str, str | int]


def wire_name(name: str) -> str:
    """Return the name on the broker of a queue or an exchange."""
    if len(name) * 4 <= MAX_NAME and not name.startswith("amq."):
        return name
    if len(name.encode()) <= MAX_NAME and not name.startswith("amq."):
        return name
    return f"{RESERVED}name.{_hash(name)}"


def group_queue(topic: str, group: str) -> str:
    """Return the queue of a named group. Injective: both names are percent-encoded."""
    return _fit("group.", f"{quote(topic, safe='')}:{quote(group, safe='')}")


def passing_queue(topic: str, token: str) -> str:
    """Return the queue of a group without a name; no named group has it."""
    return _fit("group.", f"{quote(topic, safe='')}:*{token}")


def is_passing(name: str) -> bool:
    """Say whether this is the queue of a group without a name: only its own connection may declare it."""
    return name.startswith(_GROUP) and ":*" in name


def dead_letters(name: str) -> str:
    """Return where the dead letters of a queue, a group's among them, go where no consumer says otherwise."""
    topic, colon, group = name.removeprefix(_GROUP).partition(":")
    return f"{unquote(topic)}.{unquote(group)}{DEAD}" if colon and name.startswith(_GROUP) else f"{name}{DEAD}"


def delay_step(seconds: float) -> int:
    """Return the step of a delay, in milliseconds: never less, and late as SHARE and STEP say."""
    wanted = max(math.ceil(seconds * 1000), 1)
    if wanted <= STEP * 1000 * 20:
        grain = round(STEP * 1000)
        return -(-wanted // grain) * grain
    unit = 10 ** (len(str(wanted - 1)) - 1)
    step: int = next(mantissa * unit // 100 for mantissa in _MANTISSAS if mantissa * unit >= wanted * 100)
    return step


def delay_queue(target: str, step: int, now: float, *, topic: bool) -> str:
    """Return the queue in which what is sent now waits for `step` milliseconds. `target` is a name on the broker."""
    kind = "delay-topic" if topic else "delay"
    return _fit(f"{kind}.{step}.{int(now // DAY)}.", target)


def delay_arguments(target: str, step: int, *, topic: bool) -> Arguments:
    """Return the arguments of a delay queue: quorum, for only those dead-letter with a confirm (since 3.10)."""
    arguments: Arguments = {
        "x-queue-type": "quorum",
        "x-message-ttl": step,
        "x-expires": step + _LINGER,
        "x-dead-letter-exchange": target if topic else "",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    if not topic:
        arguments["x-dead-letter-routing-key"] = target
    return arguments


def queue_arguments(dead: str, queue_type: str, *, delivery_limit: int, max_priority: int) -> Arguments:
    """Return the arguments of a queue of a user's, a group's or of dead letters. `dead` is a name on the broker."""
    arguments: Arguments = {
        "x-queue-type": queue_type,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead,
    }
    if queue_type == "quorum":
        arguments["x-dead-letter-strategy"] = "at-least-once"
        arguments["x-overflow"] = "reject-publish"
        arguments["x-delivery-limit"] = delivery_limit
    elif max_priority:
        arguments["x-max-priority"] = max_priority
    return arguments


def reply_arguments(lasts: int) -> Arguments:
    """Return the arguments of a reply queue: it ends `lasts` seconds after its last consumer."""
    return {"x-queue-type": "classic", "x-expires": lasts * 1000}


def passing_arguments(*, max_priority: int) -> Arguments:
    """Return the arguments of the queue of a group without a name."""
    arguments: Arguments = {"x-queue-type": "classic"}
    if max_priority:
        arguments["x-max-priority"] = max_priority
    return arguments


def _fit(kind: str, rest: str) -> str:
    name = f"{RESERVED}{kind}{rest}"
    return name if len(name.encode()) <= MAX_NAME else f"{RESERVED}{kind}{_hash(rest)}"


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()
