"""gearmand: alone, and as a pair of independent servers for failover. It knows no users.

Debian's is built without TLS: it takes --ssl, says nothing, and speaks in clear. So there is no TLS listener here.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, Final

from launcher import probes
from launcher.broker import Broker
from launcher.place import LOOPBACK
from launcher.processes import Command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from launcher.broker import Node


STORE: Final = "queue.sqlite3"


class Gearmand(Broker):
    """One server."""

    name = "gearmand"
    packages = ("gearman-job-server", "gearman-tools", "php-cli", "php-gearman", "sqlite3")
    """The last four are programs of others, for the tests."""
    programs = (
        "/usr/sbin/gearmand",
        "/usr/bin/gearman",
        "/usr/bin/php",
        "/usr/lib/php/*/gearman.so",
        "/usr/bin/sqlite3",
    )
    offsets: Sequence[Mapping[str, int]] = ({"gearman": 50},)
    configuration = "gearmand"
    main = "gearman"
    users: Mapping[str, str] = {}

    def prepare(self, node: Node) -> None:
        """Write its arguments, and let its store keep a write-ahead log: as safe, and three times as fast."""
        self.render(node, "arguments")
        file = node.data / STORE
        # What is wrong with the file, gearmand says itself.
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(file)) as store:
            store.execute("PRAGMA journal_mode = WAL")

    def command(self, node: Node) -> Command:
        """Pass the arguments on: gearmand's own configuration files allow no comments."""
        lines = (node.folder / "arguments").read_text().splitlines()
        arguments = [line for line in lines if line.startswith("--")]
        environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8"}
        return Command(argv=[self.programs[0], *arguments], environment=environment)

    def probe(self, node: Node) -> None:
        """Ask for an echo."""
        probes.gearman(LOOPBACK, node.ports[self.main])

    def urls(self, node: Node) -> dict[str, str]:
        """Return the listener's."""
        return {name: f"{name}://127.0.0.1:{port}" for name, port in node.ports.items()}


class GearmandPair(Gearmand):
    """Two servers that know nothing of each other."""

    name = "gearmand-pair"
    offsets = ({"gearman": 51}, {"gearman": 52})
