"""Prosody, with a pubsub component on SQL storage.

Its SQLite file is made here, in WAL mode, which the file keeps: each commit then is one fsync, and not four. Accounts
are files of its own kind; of our names nothing needs escaping. The tests send with go-sendxmpp.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, Final

from launcher import certificates, probes, scram
from launcher.broker import USERS, Broker
from launcher.place import LOOPBACK
from launcher.processes import Command

if TYPE_CHECKING:
    from launcher.broker import Node

PROGRAM: Final = "/usr/bin/prosody"
DOMAIN: Final = "localhost"
SERVICE: Final = "pubsub.localhost"


class Prosody(Broker):
    """One server."""

    name = "prosody"
    packages = ("prosody", "lua-dbi-sqlite3", "go-sendxmpp", "openssl")
    programs = (PROGRAM, "/usr/lib/*/lua/5.*/dbd/sqlite3.so", "/usr/bin/go-sendxmpp", "/usr/bin/openssl")
    offsets = ({"xmpp": 60, "xmpps": 61},)
    main = "xmpp"
    tls = True

    def prepare(self, node: Node) -> None:
        """Write its configuration, its accounts and an empty database."""
        self.render(node, "prosody.cfg.lua")
        accounts = node.data / DOMAIN / "accounts"
        accounts.mkdir(parents=True, exist_ok=True)
        for user, password in USERS.items():
            (accounts / f"{user}.dat").write_text(_account(scram.keep(user, password)))
        with contextlib.closing(sqlite3.connect(node.data / "prosody.sqlite")) as database:
            database.execute("PRAGMA journal_mode = WAL")

    def command(self, node: Node) -> Command:
        """Stay in the foreground: -F."""
        environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8", "HOME": str(node.folder)}
        return Command(argv=[PROGRAM, "-F", "--config", str(node.folder / "prosody.cfg.lua")], environment=environment)

    def probe(self, node: Node) -> None:
        """Log in."""
        probes.xmpp(LOOPBACK, node.ports, DOMAIN, certificates.folder(node.place) / "ca.pem")

    def urls(self, node: Node) -> dict[str, str]:
        """Return both listeners'."""
        return urls_of(node)


def _account(kept: scram.Kept) -> str:
    """Return an account as internal_hashed has it."""
    keys = f'["salt"] = "{kept.salt.decode()}"; ["iteration_count"] = {scram.ITERATIONS};'
    return f'return {{ {keys} ["stored_key"] = "{kept.stored.hex()}"; ["server_key"] = "{kept.server.hex()}"; }};\n'


def urls_of(node: Node) -> dict[str, str]:
    """Return a server's URLs: in clear on this machine, and encrypted from the first byte."""
    options = {"xmpp": "&insecure=true", "xmpps": ""}
    return {
        name: f"{name}://anyqueue:anyqueue@{LOOPBACK}:{port}/?domain={DOMAIN}&service={SERVICE}{options[name]}"
        for name, port in node.ports.items()
    }
