r"""Gearman's binary packets: bytes in, packets out, and back. Pure; tested a byte at a time.

A packet is a magic (`\0REQ` to the server, `\0RES` from it), a command and a size, four bytes each, then its
arguments with a NUL between them; only the last may hold one (https://gearman.org/protocol/). A reply to a line of the
admin protocol has neither magic nor size: it is one line that begins with OK or ERR, or lines up to one of a dot alone.

The announced size is looked at before anything of the packet is kept: over the limit, the stream is given up.
"""

from __future__ import annotations

import struct
from typing import Final

from anyqueue.errors import ConfigError

CAN_DO: Final = 1
CANT_DO: Final = 2
PRE_SLEEP: Final = 4
NOOP: Final = 6
SUBMIT_JOB: Final = 7
JOB_CREATED: Final = 8
NO_JOB: Final = 10
WORK_STATUS: Final = 12
WORK_COMPLETE: Final = 13
WORK_FAIL: Final = 14
ECHO_REQ: Final = 16
ECHO_RES: Final = 17
SUBMIT_JOB_BG: Final = 18
ERROR: Final = 19
SET_CLIENT_ID: Final = 22
WORK_EXCEPTION: Final = 25
OPTION_REQ: Final = 26
OPTION_RES: Final = 27
WORK_DATA: Final = 28
WORK_WARNING: Final = 29
GRAB_JOB_UNIQ: Final = 30
JOB_ASSIGN_UNIQ: Final = 31
SUBMIT_JOB_HIGH: Final = 21
SUBMIT_JOB_HIGH_BG: Final = 32
SUBMIT_JOB_LOW: Final = 33
SUBMIT_JOB_LOW_BG: Final = 34
SUBMIT_JOB_EPOCH: Final = 36
GET_STATUS_UNIQUE: Final = 41
STATUS_RES_UNIQUE: Final = 42
TEXT: Final = -1
"""A reply of the admin protocol, which has no number of its own."""

HEADER: Final = struct.Struct(">4sII")
MAX_UNIQUE: Final = 63
"""Bytes. Of one with 64, gearmand cuts the last off and shifts what follows (1.1.20)."""
_REQUEST: Final = b"\0REQ"
_RESPONSE: Final = b"\0RES"
_END: Final = b"\n.\n"
Packet = tuple[int, bytes]
"""A command, and its arguments as they came."""


BACKGROUND: Final = (SUBMIT_JOB_LOW_BG, SUBMIT_JOB_BG, SUBMIT_JOB_HIGH_BG)
FOREGROUND: Final = (SUBMIT_JOB_LOW, SUBMIT_JOB, SUBMIT_JOB_HIGH)
"""By level."""
MIDDLE: Final = 1


def level_of(priority: int | None) -> int:
    """Return the level of a priority from 0 to 9: 0 to 3 are low, 4 to 6 normal, 7 to 9 high."""
    return MIDDLE if priority is None else min(max(priority, 0), 9) * len(BACKGROUND) // 10


class Malformed(Exception):
    """The server sent something that the protocol does not allow, or more than is taken."""


def pack(command: int, *arguments: bytes) -> bytes:
    """Return a request. Raises ConfigError for a NUL in an argument that is not the last."""
    if any(b"\0" in argument for argument in arguments[:-1]):
        raise ConfigError("an argument of a Gearman packet holds a NUL byte, which would end it")
    body = b"\0".join(arguments)
    return HEADER.pack(_REQUEST, command, len(body)) + body


def submission(command: int, function: bytes, unique: bytes, data: bytes) -> bytes:
    """Return the request that submits a job: pack() without its checks, for what is known to hold no NUL."""
    body = b"%b\0%b\0%b" % (function, unique, data)
    return HEADER.pack(_REQUEST, command, len(body)) + body


def completion(handle: bytes, data: bytes = b"") -> bytes:
    """Return the report that a job is done, as submission() does."""
    return HEADER.pack(_REQUEST, WORK_COMPLETE, len(handle) + 1 + len(data)) + handle + b"\0" + data


GRAB: Final = pack(GRAB_JOB_UNIQ)
SLEEP: Final = pack(PRE_SLEEP)
ECHO: Final = pack(ECHO_REQ, b"anyqueue")


class Reader:
    """The stream from one server, cut into packets. `texts` counts the replies of the admin protocol still due."""

    def __init__(self, most: int) -> None:
        self.texts = 0
        self._most = most
        self._chunks: list[bytes] = []
        self._size = 0
        self._wanted = 1

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets that these bytes complete. Raises Malformed."""
        self._chunks.append(data)
        self._size += len(data)
        if self._size < self._wanted:
            return []
        buffer = b"".join(self._chunks) if len(self._chunks) > 1 else data
        packets: list[Packet] = []
        position = self._cut(buffer, packets)
        self._chunks = [buffer[position:]]
        self._size -= position
        return packets

    def _cut(self, buffer: bytes, packets: list[Packet]) -> int:
        """Append the whole packets in the buffer; return where they end, and know how much the next one needs."""
        position, end = 0, len(buffer)
        while position < end:
            if self.texts and buffer[position]:
                stop = self._text_end(buffer, position)
                start, kind = position, TEXT
            else:
                start, kind, stop = self._frame(buffer, position)
            if stop > end:
                self._wanted = stop - position
                return position
            packets.append((kind, buffer[start:stop]))
            position = stop
        self._wanted = 1
        return position

    def _frame(self, buffer: bytes, position: int) -> tuple[int, int, int]:
        """Return where the arguments of a packet begin, its command, and where it ends."""
        start = position + HEADER.size
        if len(buffer) < start:
            begun = buffer[position : position + len(_RESPONSE)]
            if not _RESPONSE.startswith(begun):
                raise Malformed(f"a packet begins with {begun!r}: this is no Gearman server")
            return start, 0, start
        magic, command, size = HEADER.unpack_from(buffer, position)
        if magic != _RESPONSE:
            raise Malformed(f"a packet begins with {magic!r}: this is no Gearman server")
        if size > self._most:
            raise Malformed(f"a packet of {size:,} bytes is announced, over the limit of {self._most:,}")
        return start, command, start + size

    def _text_end(self, buffer: bytes, position: int) -> int:
        """Return where a reply of the admin protocol ends; beyond the buffer where it is not whole yet."""
        if buffer.startswith((b"OK", b"ERR"), position):
            found = buffer.find(b"\n", position) + 1
        elif buffer.startswith(_END[1:], position):
            found = position + len(_END) - 1
        else:
            found = buffer.find(_END, position)
            found = found + len(_END) if found >= 0 else 0
        if found:
            self.texts -= 1
            return found
        if len(buffer) - position > self._most:
            raise Malformed(f"a reply of over {self._most:,} bytes to an admin command")
        return len(buffer) + 1
