"""Messages as odd as RabbitMQ lets any client send them: header tables of every type, written by hand.

pika writes neither a double nor much else that others send, and raises on reading it (AMQP 0-9-1, 4.2.5.5; RabbitMQ's
errata for the types that it adds). A double that is NaN or infinite is not among them: RabbitMQ 3.10.8 closes its
sender's connection with INTERNAL_ERROR, so no consumer meets one.
"""

from __future__ import annotations

import struct
from typing import Final

import pika

HEADERS, DELIVERY_MODE, TIMESTAMP, PRIORITY, CONTENT_TYPE = 1 << 13, 1 << 12, 1 << 6, 1 << 11, 1 << 15
FAR: Final = 1_700_000_000_000
"""Milliseconds taken for seconds: the year 55840."""


def field(name: bytes, kind: bytes, value: bytes) -> bytes:
    """Write one field of a table."""
    return bytes([len(name)]) + name + kind + value


def long(value: bytes) -> bytes:
    """Write what has its length before it."""
    return struct.pack(">I", len(value)) + value


ODD: Final[dict[str, tuple[bytes, bytes]]] = {
    "double": (b"d", struct.pack(">d", -1.5e308)),
    "single": (b"f", struct.pack(">f", 1.5)),
    "far timestamp": (b"T", struct.pack(">Q", FAR)),
    "last timestamp": (b"T", struct.pack(">Q", 2**63)),
    "least integer": (b"l", struct.pack(">q", -(2**63))),
    "short": (b"s", struct.pack(">h", -1)),
    "octet": (b"b", b"\x80"),
    "truth": (b"t", b"\x01"),
    "decimal": (b"D", b"\xff" + struct.pack(">i", 5)),
    "void": (b"V", b""),
    "bytes": (b"x", long(b"\x00\xff")),
    "no UTF-8": (b"S", long(b"\xff\xfe\x80")),
    "NUL": (b"S", long(b"a\x00b")),
    "table": (b"F", long(field(b"inner", b"F", long(field(b"x", b"S", long(b"deep")))))),
    "array": (b"A", long(b"t\x00" + b"S" + long(b"text") + b"A" + long(b""))),
    "much": (b"S", long(b"x" * 30_000)),
}
"""Name -> the type and the bytes of a header's value."""


class Raw(pika.BasicProperties):  # type: ignore[misc]  # pika is untyped
    """Properties that are written already."""

    def __init__(self, flags: int, *pieces: bytes) -> None:
        super().__init__(delivery_mode=2)
        self._flags = flags
        self._pieces = pieces

    def encode(self) -> list[bytes]:
        """Return them."""
        return [struct.pack(">H", self._flags), *self._pieces]


def junk() -> list[tuple[bytes, pika.BasicProperties]]:
    """Return bodies and properties."""
    fields = [field(b"odd", kind, value) for kind, value in ODD.values()]
    ours = [b"aq-attempts", b"aq-id", b"aq-reason", b"x-delivery-count", b"x-death"]
    fields += [field(name, b"S", long(b"not what it should be")) for name in ours]
    fields += [field(name, b"S", long(b"nan")) for name in (b"aq-timestamp", b"aq-expires-at", b"aq-first-failure")]
    fields += [field(b"x-delivery-count", b"l", struct.pack(">q", number)) for number in (-7, 2**40)]
    fields += [field(b"", b"S", long(b"no name")), field(b"\xff", b"S", long(b"no text")), b"".join(fields[:12])]
    headers = [Raw(HEADERS | DELIVERY_MODE, long(one), b"\x02") for one in fields]
    others = [
        Raw(DELIVERY_MODE | TIMESTAMP, b"\x02", struct.pack(">Q", FAR)),
        Raw(DELIVERY_MODE | PRIORITY, b"\x02", b"\xff"),
        Raw(CONTENT_TYPE | DELIVERY_MODE, b"\x03\xff\xfe\xfd", b"\x02"),
        Raw(0),
        pika.BasicProperties(content_type="application/x-python-serialize", content_encoding="gzip"),
        pika.BasicProperties(message_id="", correlation_id="", reply_to="", type="", app_id=""),
        pika.BasicProperties(message_id="\x00\n" + "i" * 200),
    ]
    bodies = (b"", b"\x00" * 100, b"\xff\xfe", b"{", b"[" * 1000, bytes(range(256)))
    return [(bodies[number % len(bodies)], each) for number, each in enumerate([*headers, *others])]
