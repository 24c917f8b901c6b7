"""Headers of STOMP 1.2: the escapes of one, the lines of many, and the bundle of those that do not fit. Pure.

A header of a user's travels under its own name where the broker and its other clients can bear it. The others (names
that mean something to the broker, control characters) travel together, as JSON, in `aq-headers`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMESTAMP: Final = "aq-timestamp"
EXPIRES: Final = "aq-expires-at"
BUNDLE: Final = "aq-headers"
FIELD: Final = "aq-field-"
"""In front of the name of an envelope's field that the broker has no room for."""
MAX_DIGITS: Final = 18
RECEIPT: Final = "aq-"
"""What the receipts of messages begin with: RabbitMQ leaves them in, and who reads over AMQP knows them by it."""
_PLAIN: Final = {"\\\\": "\\", "\\r": "\r", "\\n": "\n", "\\c": ":"}
_ESCAPED: Final = {plain: escaped for escaped, plain in _PLAIN.items()} | {"\0": "\ufffd"}
"""STOMP has no escape for a NUL, which would end the frame: what must keep its own travels in the bundle."""
_SPECIAL: Final = re.compile(r"[\\\r\n:\0]")
_ESCAPE: Final = re.compile(r"\\.")
_bundle: Final = msgspec.json.Decoder(dict[str, str])


def escape(text: str) -> str:
    """Return text as a header's name or value carries it."""
    return text if text.isalnum() else _SPECIAL.sub(lambda found: _ESCAPED[found[0]], text)


def unescape(text: str) -> str:
    """Return what a header says. An escape that STOMP does not have is left as it is: one stranger's header."""
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda found: _PLAIN.get(found[0], found[0]), text)


def line(name: str, text: str) -> str:
    """Return the line of a header, with its end. The name is plain, or escaped already."""
    return f"{name}:{escape(text)}\n"


def pairs(head: bytes) -> list[tuple[str, str]]:
    """Return the headers of a frame in their order, repeated ones too. `head` is all above the body."""
    text = head.decode(errors="backslashreplace")
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    lines = text.split("\n")
    del lines[0]
    if "\\" in text:
        return [(unescape(name), unescape(value)) for name, _, value in (one.partition(":") for one in lines)]
    return [(name, value) for name, _, value in (one.partition(":") for one in lines)]


def bundled(headers: Mapping[str, str]) -> str:
    """Return the bundle of headers: JSON, so without line ends or NUL."""
    return msgspec.json.encode(headers).decode()


def unbundle(text: str, into: dict[str, str]) -> None:
    """Add the headers of a bundle; a stranger's that is none adds nothing."""
    try:
        into.update(_bundle.decode(text))
    except (msgspec.DecodeError, ValueError):
        return


def whole(text: str | None) -> int | None:
    """Return a whole number of some digits, or None for what is none."""
    return int(text) if text is not None and len(text) <= MAX_DIGITS and text.isdecimal() else None


def receipt(text: str) -> int:
    """Return the number of a receipt; 0 for what is none of ours."""
    return whole(text.removeprefix(RECEIPT)) or 0


def number(text: str | None) -> float | None:
    """Return a finite number, or None for what is none."""
    try:
        value = None if text is None else float(text)
    except ValueError:
        return None
    return value if value is not None and value - value == 0.0 else None
