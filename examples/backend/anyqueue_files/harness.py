"""What the contract suite of anyqueue must know of files://. The witness reads and writes the files themselves."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import time
from typing import TYPE_CHECKING, ClassVar

import msgspec

from anyqueue import ConfigError, Feature, Limits
from anyqueue.testing.children import ProcessChild
from anyqueue.testing.harness import Count, Expected, Failure, Foreign, Harness, Seen, query

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from anyqueue.testing.children import Child, Script


class FilesForeign(Foreign):
    """A program that knows the folders, but not anyqueue."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._number = itertools.count(1)

    async def put(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Write a file: a version byte, then id, body and headers as a MessagePack array."""
        folder = self._folder(queue)
        for part in ("ready", "held", "new", "owners"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "name").write_text(queue)
        number = next(self._number)
        record = b"\x01" + msgspec.msgpack.encode([f"foreign-{number}", body, dict(headers)])
        path = folder / "new" / f"{time.time_ns():020}-{number:010}-foreign.0.0.0"
        path.write_bytes(record)
        path.rename(folder / "ready" / path.name)

    async def get(self, queue: str) -> Seen | None:
        """Read the first file and delete it."""
        for path in sorted((self._folder(queue) / "ready").glob("*")):
            identity, body, *rest = msgspec.msgpack.decode(path.read_bytes()[1:])
            path.unlink()
            return Seen(body=body, headers=rest[0] if rest else {}, id=identity)
        return None

    async def count(self, queue: str) -> Count:
        """Count the files. One that moves may be seen twice or not at all: look until two looks agree."""
        folder, seen = self._folder(queue), None
        while seen != (now := (sorted(folder.glob("ready/*")), sorted(folder.glob("held/*")))):
            seen = now
        return Count(waiting=len(now[0]), unacked=len(now[1]))

    async def queues(self) -> set[str]:
        """Read the names."""
        return {path.read_text() for path in self._root.glob("*/name")}

    async def delete(self, queue: str) -> None:
        """Delete the folder."""
        shutil.rmtree(self._folder(queue), ignore_errors=True)

    def _folder(self, queue: str) -> Path:
        return self._root / hashlib.sha256(queue.encode()).hexdigest()


class FilesHarness(Harness):
    """The target files://."""

    name: ClassVar[str] = "files"
    crosses_processes: ClassVar[bool] = True
    backlog = 3000  # a message is a file
    expected: ClassVar[Expected] = Expected(
        features=Feature.CONFIRM
        | Feature.REDELIVER
        | Feature.RELEASE
        | Feature.ATTEMPTS
        | Feature.COMPETING
        | Feature.DURABLE
        | Feature.DELETE
        | Feature.INSPECT
        | Feature.COUNT,
        limits=Limits(
            max_body=16 * 1024 * 1024,
            max_batch=100,
            max_sends=1,
            max_unsettled=None,
            delay_step=0.0,
            max_delay=None,
            lease=None,
        ),
        released="in place",
        unheard="refused",
        unknown="created",
    )

    def start(self, folder: Path) -> None:
        """Name a directory."""
        self._folder = folder
        self._children = itertools.count(1)
        self.foreign = FilesForeign(folder / "queues")

    def stop(self) -> None:
        """Leave the directory to the folder."""

    def url(self, **options: object) -> str:
        """Return files:///PATH."""
        return f"files://{self._folder / 'queues'}{query(options)}"

    def failures(self) -> Sequence[Failure]:
        """Return what can be wrong with a path."""
        (self._folder / "file").write_text("no directory")
        return [
            Failure(sentence="it is a file", url=f"files://{self._folder / 'file'}", error=ConfigError),
            Failure(sentence="a host", url="files://host/path", error=ConfigError),
            Failure(sentence="no path", url="files://", error=ConfigError),
            Failure(sentence="an option", url="files:///tmp?fast=1", error=ConfigError),
        ]

    def child(self, name: str, script: Script, *, url: str | None = None) -> Child:
        """Start a process."""
        return ProcessChild(name, self._folder / f"child-{next(self._children)}.jsonl", url or self.url(), script)
