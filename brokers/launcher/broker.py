"""What a broker is to the launcher: its node or nodes, their ports, how one starts and when it answers."""

from __future__ import annotations

import contextlib
import string
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from launcher import certificates
from launcher.place import ROOM, LaunchError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from launcher.place import Place
    from launcher.processes import Command

USERS: Final = {"anyqueue": "anyqueue", "limited": "limited"}
"""User -> password. `limited` may touch only what begins with `limited-`, where the broker knows users."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One process of a broker, with its folder and its ports."""

    name: str
    """As on the command line: the broker's name, with `:NUMBER` where it has several nodes."""
    place: Place
    ports: Mapping[str, int]
    """Listener -> port."""

    @property
    def folder(self) -> Path:
        """Return where everything of it is."""
        return self.place.folder / self.name.replace(":", "-")

    @property
    def data(self) -> Path:
        """Return where its messages are."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """Return what it prints."""
        return self.folder / "log.txt"

    @property
    def mark(self) -> str:
        """Return what its processes are known by."""
        return f"{self.name}@{self.place.folder.resolve()}"


class Broker(ABC):
    """A kind of broker; the launcher asks it, and does everything itself."""

    name: str
    packages: Sequence[str]
    """Debian's packages that bring it."""
    programs: Sequence[str]
    """Files (globs) of the packages: all is installed where each exists."""
    offsets: Sequence[Mapping[str, int]]
    """For each node: listener -> offset from the first port."""
    configuration: str = ""
    """Its folder in `brokers/`, where that is not its name."""
    main: str
    """The listener that `url` names."""
    users: Mapping[str, str] = USERS
    """User -> password; none where the broker knows no users."""
    tls: bool = False
    """Some listener needs certificates."""

    def nodes(self, place: Place) -> list[Node]:
        """Return its nodes."""
        several = len(self.offsets) > 1
        return [
            Node(
                name=f"{self.name}:{number}" if several else self.name,
                place=place,
                ports={listener: place.base + offset for listener, offset in offsets.items()},
            )
            for number, offsets in enumerate(self.offsets, 1)
        ]

    @property
    def source(self) -> Path:
        """Return the folder of its configuration."""
        return ROOM / (self.configuration or self.name)

    def prepare(self, node: Node) -> None:
        """Write what the node reads; nothing where it reads the source."""
        del node

    def support(self, node: Node) -> AbstractContextManager[None]:
        """Start what the node needs beside it; the node is started inside."""
        del node
        return contextlib.nullcontext()

    def withdraw(self, place: Place) -> None:
        """End what `support` started, where no node needs it any longer."""
        del place

    @abstractmethod
    def command(self, node: Node) -> Command:
        """Say how the node starts."""

    @abstractmethod
    def probe(self, node: Node) -> None:
        """Return if the node answers, raise OSError if not."""

    @abstractmethod
    def urls(self, node: Node) -> dict[str, str]:
        """Return listener -> URL of the node."""

    def url(self, nodes: Sequence[Node], listener: str | None = None) -> str:
        """Return the URL to connect to: one of all these nodes."""
        first, *others = (self.urls(node)[listener or self.main] for node in nodes)
        hosts = [urlsplit(other).netloc.rpartition("@")[2] for other in others]
        netloc = urlsplit(first).netloc
        return first.replace(netloc, ",".join([netloc, *hosts]), 1)

    def alarm(self, node: Node, *, on: bool) -> None:
        """Raise or clear the memory alarm."""
        del on
        raise LaunchError(f"{node.name} has no memory alarm")

    def describe(self, nodes: Sequence[Node]) -> dict[str, object]:
        """Say what only this kind has, of one node or of all together."""
        del nodes
        return {}

    def render(self, node: Node, file: str, **more: object) -> Path:
        """Fill in a file of the source, and write it where the node finds it."""
        known = {
            **node.ports,
            "host": node.place.host,
            "folder": node.folder,
            "data": node.data,
            "configuration": self.source,
            "tls": certificates.folder(node.place),
            **more,
        }
        target = node.folder / file
        target.write_text(string.Template((self.source / file).read_text()).substitute(known))
        return target
