"""Frames of AMQP 0-9-1 in bulk: messages to publish -> bytes, and bytes -> what came. Pure.

Written here: basic.publish with its content, basic.ack, basic.nack. Read here: basic.deliver and basic.return with
their content, basic.ack and basic.nack; every other frame is handed on whole, for pika. Bytes come in pieces of any
size; what is no frame raises `BrokenStream`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

_HEAD: Final = struct.Struct(">BHI")
_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")
_CONTENT: Final = struct.Struct(">BHIHHQ")
_SETTLE: Final = struct.Struct(">BHIIQBB")
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END: Final = 0xCE
_END: Final = b"\xce"
_BASIC: Final = 60
PUBLISH: Final = 60 << 16 | 40
RETURN: Final = 60 << 16 | 50
DELIVER: Final = 60 << 16 | 60
ACK: Final = 60 << 16 | 80
NACK: Final = 60 << 16 | 120
OVERHEAD: Final = 8
"""Bytes of a frame beside its payload."""
LEAST_FRAME_MAX: Final = 4096


class BrokenStream(Exception):
    """What came is no AMQP."""


class Confirmed(msgspec.Struct):
    """The broker has taken, or refused, a published message, or all up to it."""

    channel: int
    tag: int
    multiple: bool
    taken: bool


class Arrived(msgspec.Struct):
    """A message, delivered to a consumer or returned to its sender."""

    channel: int
    returned: bool
    method: bytes
    """The arguments of basic.deliver or basic.return."""
    header: bytes
    """Its flags and properties."""
    body: bytes


class Other(msgspec.Struct):
    """A frame for pika."""

    frame: bytes


Event = Confirmed | Arrived | Other


class _Partial:
    """A message whose content is still coming."""

    __slots__ = ("header", "left", "method", "pieces", "returned")

    def __init__(self, method: bytes, *, returned: bool) -> None:
        self.method = method
        self.returned = returned
        self.header: bytes | None = None
        self.left = 0
        self.pieces: list[bytes] = []


class Reader:
    """Cut a stream of bytes into events. Holds one frame, and the content that is coming, at most."""

    def __init__(self, frame_max: int) -> None:
        self.frame_max = frame_max
        self._rest = b""
        self._partial: dict[int, _Partial] = {}

    def forget(self, channel: int) -> None:
        """Drop what was coming on a channel that has closed."""
        self._partial.pop(channel, None)

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes and return what is complete with them. Raises BrokenStream."""
        buffer = self._rest + data if self._rest else data
        events: list[Event] = []
        at, end = 0, len(buffer)
        while end - at >= OVERHEAD:
            kind, channel, size = _HEAD.unpack_from(buffer, at)
            start = at + 7
            stop = start + size
            if size > self.frame_max or kind not in {METHOD, HEADER, BODY, HEARTBEAT}:
                raise BrokenStream(f"a frame of type {kind} with {size:,} bytes: the other side speaks no AMQP 0-9-1")
            if stop >= end:
                break
            if buffer[stop] != END:
                raise BrokenStream("a frame without its end: the stream is corrupted")
            if kind == BODY:
                self._body(channel, buffer[start:stop], events)
            elif kind == HEADER:
                self._header(channel, buffer[start:stop], events)
            elif kind == METHOD and size >= 4 and _U32.unpack_from(buffer, start)[0] in _OURS:  # noqa: PLR2004 -- class and method
                self._method(channel, buffer[start:stop], events)
            else:
                events.append(Other(buffer[at : stop + 1]))
            at = stop + 1
        self._rest = buffer[at:]
        return events

    def _method(self, channel: int, payload: bytes, events: list[Event]) -> None:
        (method,) = _U32.unpack_from(payload, 0)
        if method in {DELIVER, RETURN}:
            self._partial[channel] = _Partial(payload[4:], returned=method == RETURN)
        elif len(payload) < 13:  # noqa: PLR2004 -- class, method, tag and bits
            raise BrokenStream("a confirm that is cut off")
        else:
            (tag,) = _U64.unpack_from(payload, 4)
            events.append(Confirmed(channel, tag, bool(payload[12] & 1), method == ACK))

    def _header(self, channel: int, payload: bytes, events: list[Event]) -> None:
        partial = self._partial.get(channel)
        if partial is None or partial.header is not None or len(payload) < 14:  # noqa: PLR2004 -- with the flags
            raise BrokenStream("a content header that belongs to nothing")
        (partial.left,) = _U64.unpack_from(payload, 4)
        partial.header = payload[12:]
        if not partial.left:
            self._complete(channel, partial, events)

    def _body(self, channel: int, payload: bytes, events: list[Event]) -> None:
        partial = self._partial.get(channel)
        if partial is None or partial.header is None or len(payload) > partial.left:
            raise BrokenStream("a content body that belongs to nothing")
        partial.pieces.append(payload)
        partial.left -= len(payload)
        if not partial.left:
            self._complete(channel, partial, events)

    def _complete(self, channel: int, partial: _Partial, events: list[Event]) -> None:
        del self._partial[channel]
        pieces = partial.pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        events.append(Arrived(channel, partial.returned, partial.method, partial.header or b"", body))


_OURS: Final = frozenset({DELIVER, RETURN, ACK, NACK})


class Delivered(msgspec.Struct):
    """The arguments of basic.deliver."""

    consumer: bytes
    tag: int
    redelivered: bool
    exchange: bytes
    routing_key: bytes


def delivered(method: bytes) -> Delivered:
    """Read the arguments of basic.deliver; BrokenStream where they are none."""
    try:
        at = 1 + method[0]
        (tag,) = _U64.unpack_from(method, at)
        exchange = at + 9
        key = exchange + 1 + method[exchange]
        return Delivered(
            consumer=method[1:at],
            tag=tag,
            redelivered=bool(method[at + 8] & 1),
            exchange=method[exchange + 1 : key],
            routing_key=method[key + 1 : key + 1 + method[key]],
        )
    except (IndexError, struct.error):
        raise BrokenStream("a delivery that is cut off") from None


def tag_of(method: bytes) -> tuple[int, bool]:
    """Return the tag of a delivery, and whether it was delivered before."""
    at = 1 + method[0]
    return _U64.unpack_from(method, at)[0], bool(method[at + 8] & 1)


class Returned(msgspec.Struct):
    """The arguments of basic.return."""

    code: int
    text: str
    routing_key: bytes


def returned(method: bytes) -> Returned:
    """Read the arguments of basic.return; BrokenStream where they are none."""
    try:
        exchange = 3 + method[2]
        key = exchange + 1 + method[exchange]
        return Returned(
            code=int.from_bytes(method[:2], "big"),
            text=method[3:exchange].decode(errors="replace"),
            routing_key=method[key + 1 : key + 1 + method[key]],
        )
    except IndexError:
        raise BrokenStream("a return that is cut off") from None


def publish_method(channel: int, exchange: str, routing_key: str, *, mandatory: bool) -> bytes:
    """Write the frame of basic.publish, which is the same for all messages with the same way."""
    to, key = exchange.encode(), routing_key.encode()
    payload = b"%b\0\0%c%b%c%b%c" % (_U32.pack(PUBLISH), len(to), to, len(key), key, mandatory)
    return b"%b%b\xce" % (_HEAD.pack(METHOD, channel, len(payload)), payload)


def content(channel: int, header: bytes, body: bytes, frame_max: int) -> bytes:
    """Write the frames of a message's content. `header` is its flags and properties."""
    size = len(body)
    head = _CONTENT.pack(HEADER, channel, 12 + len(header), _BASIC, 0, size)
    room = frame_max - OVERHEAD
    if size <= room:
        if not size:
            return b"%b%b\xce" % (head, header)
        return b"%b%b\xce%b%b\xce" % (head, header, _HEAD.pack(BODY, channel, size), body)
    pieces = [head, header, _END]
    for start in range(0, size, room):
        piece = body[start : start + room]
        pieces += (_HEAD.pack(BODY, channel, len(piece)), piece, _END)
    return b"".join(pieces)


def ack(channel: int, tag: int, *, multiple: bool) -> bytes:
    """Write a basic.ack."""
    return _SETTLE.pack(METHOD, channel, 13, ACK, tag, multiple, END)


def release(channel: int, tags: Iterable[int]) -> bytes:
    """Write a basic.nack that requeues, for each tag."""
    return b"".join(_SETTLE.pack(METHOD, channel, 13, NACK, tag, 2, END) for tag in tags)
