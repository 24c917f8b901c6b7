"""Frames of STOMP 1.2: bytes out, and bytes in to frames, however the network cut them. Pure.

What is sent in bulk (SEND, ACK) is put together by the dialects; the rest is written by stomp.py, which escapes nothing
in names and not everything in values, so it is given what is escaped already. What arrives is taken apart here:
stomp.py takes 23 µs for a MESSAGE's headers, replaces bytes that are no UTF-8, and reads a body with a NUL in it again
for each 16 KiB that arrive.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from anyqueue.backends.stomp import headers
from anyqueue.backends.stomp.library import Frame, convert_frame
from anyqueue.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_HEAD: Final = 2 * 1024 * 1024
"""Bytes above a body: many times what anyqueue sends."""
MAX_LENGTH: Final = 512 * 1024 * 1024
"""Bytes of a body: what RabbitMQ takes at most."""
NUL: Final = 0
_COMMANDS: Final = (b"MESSAGE", b"RECEIPT", b"ERROR", b"CONNECTED")
_BLANK: Final = re.compile(rb"[\r\n]*")
_END: Final = re.compile(rb"\n\r?\n")
_LENGTH: Final = re.compile(rb"\ncontent-length:[ ]*([0-9]{1,12})[ ]*\r?(?:\n|\Z)")

Raw = tuple[bytes, bytes]
"""A frame: all above the body, without the blank line; and the body."""


def control(command: str, given: Mapping[str, str]) -> bytes:
    """Return a frame without a body, its headers escaped."""
    escaped = {headers.escape(name): headers.escape(value) for name, value in given.items()}
    return b"".join(convert_frame(Frame(command, escaped)))


def connect(given: Mapping[str, str], *, escapes: bool) -> bytes:
    """Return the frame that logs in. STOMP escapes nothing in it; RabbitMQ and ActiveMQ unescape it all the same."""
    told = {name: value.replace("\\", "\\\\") if escapes else value for name, value in given.items()}
    return b"".join(convert_frame(Frame("CONNECT", told)))


class Splitter:
    """Take apart what arrives. Raises ProtocolError for what is no STOMP; it is used up then."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._wanted = 0
        """Bytes that must be here before it is worth looking again."""

    @property
    def begun(self) -> bool:
        """Say whether there is part of a frame."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> list[Raw]:
        """Return the frames that are complete now. Beats of the heart are none."""
        buffer = self._buffer
        buffer += data
        if len(buffer) < self._wanted:
            return []
        found: list[Raw] = []
        at = 0
        while (frame := self._next(at)) is not None:
            found.append(frame[0])
            at = frame[1]
        done = self._blank(at)
        del buffer[:done]
        self._wanted = max(0, self._wanted - done)
        return found

    def _blank(self, at: int) -> int:
        match = _BLANK.match(self._buffer, at)
        return match.end() if match else at

    def _next(self, at: int) -> tuple[Raw, int] | None:
        """Return the frame that begins at or after `at`, and where it ends; None where there is not all of one."""
        buffer = self._buffer
        self._wanted = 0
        start = self._blank(at)
        ending = _END.search(buffer, start)
        if ending is None:
            self._check_begun(start)
            return None
        head = bytes(buffer[start : ending.start()]).removesuffix(b"\r")
        if not head.startswith(_COMMANDS):
            raise ProtocolError(f"the peer does not speak STOMP: it says {head[:40]!r}")
        length = _LENGTH.search(head)
        if length is None:
            end = buffer.find(NUL, ending.end())
            self._check_length(len(buffer) - ending.end())
        else:
            end = ending.end() + self._check_length(int(length[1]))
        if end < 0 or end >= len(buffer):
            self._wanted = max(end + 1, 0)
            return None
        if buffer[end] != NUL:
            raise ProtocolError("the peer sent a frame that is longer than it says")
        return (head, bytes(buffer[ending.end() : end])), end + 1

    def _check_begun(self, start: int) -> None:
        """Refuse early what can become no frame."""
        begun = bytes(self._buffer[start : start + 9])
        known = any(command.startswith(begun) or begun.startswith(command) for command in _COMMANDS)
        if not known or len(self._buffer) - start > MAX_HEAD:
            raise ProtocolError(f"the peer does not speak STOMP: it says {begun!r}")

    def _check_length(self, length: int) -> int:
        if length > MAX_LENGTH:
            raise ProtocolError(f"the peer sends a body of {length:,} bytes, over the limit of {MAX_LENGTH:,}")
        return length
