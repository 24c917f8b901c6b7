"""A content header as it lies on the wire: flags, then the properties that they name, raw. Pure."""

from __future__ import annotations

import struct
from typing import Final

CONTENT_TYPE: Final = 1 << 15
ENCODING: Final = 1 << 14
HEADERS: Final = 1 << 13
DELIVERY_MODE: Final = 1 << 12
PRIORITY: Final = 1 << 11
CORRELATION: Final = 1 << 10
REPLY_TO: Final = 1 << 9
EXPIRATION: Final = 1 << 8
MESSAGE_ID: Final = 1 << 7
TIME: Final = 1 << 6
KIND: Final = 1 << 5
USER: Final = 1 << 4
APPLICATION: Final = 1 << 3
CLUSTER: Final = 1 << 2
_NAMES: Final = {
    CONTENT_TYPE: "content_type",
    ENCODING: "content_encoding",
    HEADERS: "headers",
    DELIVERY_MODE: "delivery_mode",
    PRIORITY: "priority",
    CORRELATION: "correlation_id",
    REPLY_TO: "reply_to",
    EXPIRATION: "expiration",
    MESSAGE_ID: "message_id",
    TIME: "timestamp",
    KIND: "type",
    USER: "user_id",
    APPLICATION: "app_id",
    CLUSTER: "cluster_id",
}
"""The properties in the order in which they are written."""
_U16: Final = struct.Struct(">H")


def properties(header: bytes) -> dict[str, bytes]:
    """Take a content header apart, as far as it goes: name -> its bytes, without a length in front."""
    found: dict[str, bytes] = {}
    (flags,) = _U16.unpack_from(header, 0)
    at = 2
    for flag, name in _NAMES.items():
        if not flags & flag:
            continue
        start, stop = _extent(flag, header, at)
        if stop > len(header):
            break
        found[name] = header[start:stop]
        at = stop
    return found


def _extent(flag: int, header: bytes, at: int) -> tuple[int, int]:
    if flag == HEADERS:
        start = at + 4
        return start, start + int.from_bytes(header[at:start], "big")
    if flag in {DELIVERY_MODE, PRIORITY}:
        return at, at + 1
    if flag == TIME:
        return at, at + 8
    return at + 1, at + 1 + (header[at] if at < len(header) else 0)
