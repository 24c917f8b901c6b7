"""Header tables of AMQP: text is written, anything is read, and nothing that a stranger sends raises an error.

A header of anyqueue's is a long string. What other clients send may have any of RabbitMQ's types, among them numbers
that are none, times that no calendar knows, and tables in tables. It is read as what it is, for `Message.native`, and
shown as text: see `text_of()`.
"""

from __future__ import annotations

import struct
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LENGTH: Final = struct.Struct(">I")
_DEPTH: Final = 32
"""Tables within tables that are read; what is deeper is left out."""
MAX_NAME: Final = 255


class Broken(ValueError):
    """The bytes are no table. Never leaves this file."""


def encode(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Write a table of long strings, names of at most MAX_NAME bytes."""
    pieces = [
        b"%c%bS%b%b" % (len(name), name, _LENGTH.pack(len(value)), value)  # the type of a long string is S
        for name, value in pairs
    ]
    table = b"".join(pieces)
    return _LENGTH.pack(len(table)) + table


def decode(table: bytes) -> dict[str, object]:
    """Read a table without its length, as far as it can be read."""
    found: dict[str, object] = {}
    try:
        _read_table(table, 0, len(table), found, 0)
    except (Broken, struct.error, IndexError):
        return found
    return found


def strings(table: bytes) -> list[tuple[bytes, bytes]] | None:
    """Read a table of long strings alone, which is what anyqueue writes; None where there is anything else."""
    found: list[tuple[bytes, bytes]] = []
    at, end = 0, len(table)
    try:
        while at < end:
            name_end = at + 1 + table[at]
            if table[name_end] != 0x53:  # noqa: PLR2004 -- S
                return None
            start = name_end + 5
            stop = start + int.from_bytes(table[name_end + 1 : start], "big")
            if stop > end:
                return None
            found.append((table[at + 1 : name_end], table[start:stop]))
            at = stop
    except IndexError:
        return None
    return found


def text_of(value: object) -> str:
    """Return the text of a value: true or false, a number, seconds for a time, JSON for tables and arrays."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float() | Decimal():
            return str(value)
        case None:
            return ""
        case bytes():
            return readable(value)
        case _:
            return msgspec.json.encode(_plain(value)).decode()


def readable(raw: bytes) -> str:
    """Return bytes as text: what is no UTF-8 is written in hexadecimal, after a backslash and an x."""
    return raw.decode(errors="backslashreplace")


def _plain(value: object) -> object:
    """Return what JSON can carry."""
    match value:
        case dict():
            return {str(name): _plain(inner) for name, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
        case float() if value - value != 0.0:
            return str(value)
        case Decimal():
            return str(value)
        case bytes():
            return readable(value)
        case _:
            return value


def _read_table(data: bytes, at: int, end: int, into: dict[str, object], depth: int) -> None:
    while at < end:
        start = at + 1
        stop = start + data[at]
        name = readable(data[start:stop])
        into[name], at = _read_value(data, stop, end, depth)


def _read_value(data: bytes, at: int, end: int, depth: int) -> tuple[object, int]:
    kind = data[at : at + 1]
    at += 1
    if kind in _NUMBERS:
        number = _NUMBERS[kind]
        stop = at + number.size
        (value,) = number.unpack_from(data, at)
    elif kind in _SIZED:
        start = at + 4
        stop = start + _LENGTH.unpack_from(data, at)[0]
        if stop > end:
            raise Broken
        value = _SIZED[kind](data, start, stop, depth)
    elif kind == b"D":
        scale, unscaled = struct.unpack_from(">Bi", data, at)
        value, stop = Decimal(unscaled).scaleb(-scale), at + 5
    elif kind == b"V":
        value, stop = None, at
    else:
        raise Broken
    if stop > end:
        raise Broken
    return value, stop


def _read_text(data: bytes, start: int, stop: int, _depth: int) -> object:
    raw = data[start:stop]
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _read_bytes(data: bytes, start: int, stop: int, _depth: int) -> object:
    return data[start:stop]


def _read_inner(data: bytes, start: int, stop: int, depth: int) -> object:
    inner: dict[str, object] = {}
    if depth < _DEPTH:
        _read_table(data, start, stop, inner, depth + 1)
    return inner


def _read_array(data: bytes, at: int, stop: int, depth: int) -> object:
    inner: list[object] = []
    while at < stop and depth < _DEPTH:
        value, at = _read_value(data, at, stop, depth + 1)
        inner.append(value)
    return inner


_NUMBERS: Final = {
    kind: struct.Struct(f">{code}")
    for kind, code in {
        b"t": "?",
        b"b": "b",
        b"B": "B",
        b"s": "h",
        b"u": "H",
        b"I": "i",
        b"i": "I",
        b"l": "q",
        b"L": "Q",
        b"f": "f",
        b"d": "d",
        b"T": "Q",
    }.items()
}
"""The types of RabbitMQ that have one size; T is a time in seconds."""
_SIZED: Final[dict[bytes, Callable[[bytes, int, int, int], Any]]] = {
    b"S": _read_text,
    b"x": _read_bytes,
    b"F": _read_inner,
    b"A": _read_array,
}
