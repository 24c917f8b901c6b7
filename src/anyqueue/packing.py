"""Envelope <-> bytes, for stores and for brokers without headers.

A record is one version byte, then the envelope as a MessagePack array (https://msgpack.org) in the order of its
fields, trailing defaults left out. Records of every released version stay readable: a new field is added at the end
with a default; anything else takes a new version byte.
"""

from __future__ import annotations

from typing import Final

import msgspec

from anyqueue.driver import Envelope
from anyqueue.errors import Undecodable

VERSION: Final = b"\x01"
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Envelope).decode


def pack(envelope: Envelope) -> bytes:
    """Return the record of an envelope."""
    return VERSION + _encode(envelope)


def unpack(record: bytes) -> Envelope:
    """Return the envelope of a record, or raise Undecodable. No code of the sender's ever runs."""
    if record[:1] != VERSION:
        raise Undecodable(f"the record begins with {record[:1]!r}, not with a version this anyqueue reads")
    try:
        return _decode(memoryview(record)[1:])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Undecodable(f"the record is damaged: {error}") from error
