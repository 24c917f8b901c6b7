"""`--match NAME=PATTERN`: which dead letters are meant. Pure.

NAME is id, body, reason, origin, attempts, exception, header.NAME or payload.FIELD (payload.FIELD.FIELD goes deeper);
PATTERN is a whole value with `*` and `?`. All that are given must match.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

import typer

from anyqueue import ConfigError, Undecodable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyqueue import Message

_FIELDS: Final = ("id", "body", "reason", "origin", "attempts", "exception")
_INSIDE: Final = ("header.", "payload.")
Matcher = Callable[["Message"], bool]


def matcher(given: Sequence[str]) -> Matcher | None:
    """Return the function that chooses, or None where all are meant. Raises BadParameter for what is no match."""
    pairs = [_pair(text) for text in given]
    if not pairs:
        return None
    return lambda message: all(_matches(message, name, pattern) for name, pattern in pairs)


def _pair(text: str) -> tuple[str, str]:
    name, equals, pattern = text.partition("=")
    if not equals or not (name in _FIELDS or name.startswith(_INSIDE)):
        known = ", ".join((*_FIELDS, "header.NAME", "payload.FIELD"))
        raise typer.BadParameter(f"--match {text!r} is not NAME=PATTERN with NAME one of {known}")
    return name, pattern


def _matches(message: Message, name: str, pattern: str) -> bool:
    found = value(message, name)
    return found is not None and fnmatchcase(found, pattern)


def value(message: Message, name: str) -> str | None:
    """Return what a message has under a name, as text; None where it has nothing."""
    if name.startswith("header."):
        return message.headers.get(name.removeprefix("header."))
    if name.startswith("payload."):
        return _inside(message, name.removeprefix("payload."))
    if name == "id":
        return message.id
    if name == "body":
        return message.body.decode(errors="replace")
    found = None if message.death is None else getattr(message.death, name)
    return None if found is None else str(found)


def _inside(message: Message, path: str) -> str | None:
    try:
        found: Any = message.payload
    except (Undecodable, ConfigError):
        return None
    for name in path.split("."):
        if not isinstance(found, dict) or name not in found:
            return None
        found = found[name]
    return found if isinstance(found, str) else str(found)
