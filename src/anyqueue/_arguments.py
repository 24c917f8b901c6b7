"""What users give -> checked values, or TypeError and ConfigError before any I/O. Pure."""

from __future__ import annotations

import enum
import math
import unicodedata
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from anyqueue.driver import RESERVED, Address, Feature, Queue, Topic
from anyqueue.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anyqueue.url import URL

MAX_NAME: Final = 200
DEAD: Final = ".dead"
"""What the default name of a dead-letter queue ends with."""
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class Default(enum.Enum):
    """The type of DEFAULT, which stands for `NAME.dead`."""

    DEFAULT = "NAME.dead"


DEFAULT: Final = Default.DEFAULT


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """The core's own URL options, seconds."""

    connect_timeout: Seconds = 10.0
    send_timeout: Seconds = 30.0
    settle_timeout: Seconds = 10.0
    drain_timeout: Seconds = 30.0
    reply_lasts: Annotated[int, msgspec.Meta(ge=1, le=9_999_999)] = 300
    """How long replies wait for a requester that lost its connection."""


def timeouts_of(url: URL, given: Mapping[str, float | None]) -> Timeouts:
    timeouts = url.take_options(Timeouts)
    wanted = {name: check_seconds(value, name) for name, value in given.items() if value is not None}
    for name, value in wanted.items():
        if not value:
            raise ConfigError(f"{name} is more than 0 seconds")
    return msgspec.structs.replace(timeouts, **wanted)


def check_name(name: object, what: str = "queue") -> str:
    """Return a user's name of a queue, topic or group, or raise ConfigError (TypeError where it is no str).

    1 to 200 characters (more for the default name of a topic group's dead letters), none of them a control character or
    a lone surrogate, not beginning with `aq.`.
    """
    if not isinstance(name, str):
        raise TypeError(f"a {what} name is a str, not {type(name).__name__}")
    most = 2 * MAX_NAME + len(DEAD) + 1 if name.endswith(DEAD) else MAX_NAME
    if not 1 <= len(name) <= most:
        raise ConfigError(f"a {what} name has 1 to {MAX_NAME} characters, this one {len(name)}")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        raise ConfigError(f"the {what} name {name!r} holds a control character or a lone surrogate")
    if name.startswith(RESERVED):
        raise ConfigError(f"the {what} name {name!r} begins with {RESERVED!r}, which is anyqueue's own")
    return name


def address_of(value: object) -> Address:
    """Return the address of a user's str (a queue), Queue or Topic; raise TypeError or ConfigError."""
    if isinstance(value, str):
        return Queue(check_name(value))
    if isinstance(value, Queue):
        check_name(value.name)
        return value
    if isinstance(value, Topic):
        check_name(value.name, "topic")
        return value
    raise TypeError(f"an address is a str, Queue or Topic, not {type(value).__name__}")


def check_seconds(value: object, what: str, kind: str = "a number of seconds") -> float:
    """Return a user's number of seconds (or other kind), 0 or more and finite; raise TypeError or ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} is {kind}, not {type(value).__name__}")
    if not (math.isfinite(value) and value >= 0):
        raise ConfigError(f"{what} is {kind}, finite and 0 or more, not {value}")
    return float(value)


def check_one(feature: object) -> None:
    """Raise TypeError for what is no Feature, ConfigError for none or several at once."""
    if not isinstance(feature, Feature):
        raise TypeError(f"a feature is a Feature, not {type(feature).__name__}")
    if len(feature) != 1:
        raise ConfigError(f"this takes one feature at a time, not {feature!r}")


def count_of(value: object, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} is an int, not {type(value).__name__}")
    if value < 1:
        raise ConfigError(f"{what} is at least 1, not {value}")
    return value


def check_match(value: object) -> None:
    """Raise TypeError for what cannot choose messages."""
    if value is not None and not callable(value):
        raise TypeError(f"match is a function of one message, not {type(value).__name__}")


def queue_of(value: object) -> Queue:
    address = address_of(value)
    if isinstance(address, Topic):
        raise TypeError("this takes a queue, not a topic")
    return address


def dead_letter_of(address: Address, group: str | None, given: str | Queue | Default | None) -> Queue | None:
    if given is None:
        return None
    if given is DEFAULT:
        return Queue(f"{address.name}.{group}{DEAD}" if group else f"{address.name}{DEAD}")
    return queue_of(given)
