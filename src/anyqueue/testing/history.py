"""What happened to messages, as records: who invoked what on which message, and how it ended.

A record is written *before* a call (`invoked`) and after it (`ok`, `failed`, `indeterminate`), so that a process that
is killed in between leaves an invoked record without an end: its outcome is indeterminate. Times are Unix seconds of
one machine's clock. Bodies and headers are kept as hashes.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

Kind = Literal["send", "receive", "settle", "end"]
State = Literal["invoked", "ok", "failed", "indeterminate"]
Outcome = Literal["accept", "release", "reject"]
EVERYBODY = "*"
"""In an `end` record: not one consumer or producer ended, but the broker or the way to it."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a journal.

    An `end` record says that `who` was killed, cut off or closed at `at`: what it held may come again, and what it
    was sending may have arrived.
    """

    kind: Kind
    state: State = "ok"
    at: float
    who: str
    id: str = ""
    queue: str = ""
    body: str = ""
    headers: str = ""
    number: int = 0
    """Of a send: its place among the sends of `who` to this queue; of a receive and its settlement: the same number."""
    outcome: Outcome | None = None
    not_before: float | None = None
    """Of a send: when it may first be delivered; of a release: when it may be delivered again."""
    expires_at: float | None = None
    priority: int | None = None
    attempt: int | None = None
    redelivered: bool = False
    note: str = ""


def body_hash(body: bytes) -> str:
    """Return a short hash of a body."""
    return hashlib.blake2b(body, digest_size=12).hexdigest()


def header_hash(headers: Mapping[str, str]) -> str:
    """Return a short hash of headers, whatever their order."""
    return hashlib.blake2b(msgspec.json.encode(sorted(headers.items())), digest_size=12).hexdigest()


class Journal:
    """A file of records as JSON lines, each on the disk before write() returns. For one writing process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)
        self._encode = msgspec.json.Encoder().encode

    def write(self, record: Record) -> None:
        """Append a record and wait until the disk has it."""
        self._file.write(self._encode(record) + b"\n")
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_journal(path: Path) -> list[Record]:
    """Return the records of a journal; a last line that a kill cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    decode = msgspec.json.Decoder(Record).decode
    return [decode(line) for line in lines]
