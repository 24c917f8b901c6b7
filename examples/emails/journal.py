"""What happened, one JSON line an event, in a file a process. A line is one write: it outlives a SIGKILL."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from anyqueue import hooks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Journal:
    """The journal of one process. `journal.hook` is a hook for `anyqueue.connect`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def write(self, event: str, message_id: str) -> None:
        """Add one line."""
        self._file.write(json.dumps([event, message_id]).encode() + b"\n")

    def hook(self, event: hooks.Event) -> None:
        """Note what the library says about messages."""
        match event:
            case hooks.Sent(ids=ids):
                for each in ids:
                    self.write("sent", each)
            case hooks.Received(ids=ids):
                for each in ids:
                    self.write("received", each)
            case hooks.Retried(id=each):
                self.write("retried", each)
            case hooks.Settled(id=each):
                self.write("settled", each)
            case _:
                pass


def read(folder: Path, pattern: str = "*.jsonl") -> Iterator[tuple[str, str]]:
    """Yield (event, message id) of every journal in the folder."""
    for path in sorted(folder.glob(pattern)):
        for line in path.read_bytes().splitlines():
            event, message_id = json.loads(line)
            yield event, message_id
