"""ejabberd, with mod_pubsub on SQL storage.

Debian's ejabberdctl changes user and starts Erlang's distribution, so erl runs the application: no node name, no port
mapper. The tables, which this version does not make itself, and the accounts are put into its SQLite file here.
"""

from __future__ import annotations

import base64
import contextlib
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Final

from launcher import certificates, probes, scram
from launcher.broker import USERS, Broker
from launcher.place import LOOPBACK
from launcher.processes import Command
from launcher.prosody import DOMAIN, urls_of

if TYPE_CHECKING:
    from launcher.broker import Node

SCHEMA: Final = Path("/usr/share/ejabberd/sql/lite.sql")
ADD_ACCOUNT: Final = (
    "INSERT OR REPLACE INTO users (username, password, serverkey, salt, iterationcount) VALUES (?, ?, ?, ?, ?)"
)
ERLANG: Final = ("+K", "true", "+S", "2:2", "+SDio", "4", "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none")
"""Small: two schedulers that do not spin."""


class Ejabberd(Broker):
    """One server."""

    name = "ejabberd"
    packages = ("ejabberd", "erlang-p1-sqlite3", "openssl")
    programs = (
        str(SCHEMA),
        "/usr/lib/*/ejabberd-*/ebin/ejabberd.beam",
        "/usr/lib/erlang/lib/p1_sqlite3-*/ebin/sqlite3.beam",
        "/usr/bin/openssl",
    )
    offsets = ({"xmpp": 70, "xmpps": 71},)
    main = "xmpp"
    tls = True

    def prepare(self, node: Node) -> None:
        """Write its configuration, its certificate with the key in one file, and its database."""
        tls = certificates.folder(node.place)
        pair = node.folder / "server.pem"
        pair.touch(mode=0o600)
        pair.write_text((tls / "server.pem").read_text() + (tls / "server.key").read_text())
        self.render(node, "ejabberd.yml")
        with contextlib.closing(sqlite3.connect(node.data / "ejabberd.sqlite")) as database:
            _fill(database)

    def command(self, node: Node) -> Command:
        """Run the application."""
        libraries = next(Path("/usr/lib").glob("*/ejabberd-*/ebin/ejabberd.beam")).parents[2]
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LANG": "C.UTF-8",
            "HOME": str(node.folder),
            "ERL_LIBS": str(libraries),
            "ERL_CRASH_DUMP": str(node.folder / "erl_crash.dump"),
            "EJABBERD_CONFIG_PATH": str(node.folder / "ejabberd.yml"),
            "EJABBERD_LOG_PATH": str(node.folder / "ejabberd.log"),
        }
        mnesia = ["-mnesia", "dir", f'"{node.data / "mnesia"}"']
        return Command(argv=["erl", *ERLANG, "-noinput", *mnesia, "-s", "ejabberd"], environment=environment)

    def probe(self, node: Node) -> None:
        """Log in."""
        probes.xmpp(LOOPBACK, node.ports, DOMAIN, certificates.folder(node.place) / "ca.pem")

    def urls(self, node: Node) -> dict[str, str]:
        """Return both listeners'."""
        return urls_of(node)


def _fill(database: sqlite3.Connection) -> None:
    """Make the tables and accounts where there are none."""
    database.execute("PRAGMA journal_mode = WAL")
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'users'").fetchall():
        database.executescript(SCHEMA.read_text())
    accounts = [(user, *_fields(scram.keep(user, password)), scram.ITERATIONS) for user, password in USERS.items()]
    database.executemany(ADD_ACCOUNT, accounts)
    database.commit()


def _fields(kept: scram.Kept) -> tuple[str, str, str]:
    stored, server, salt = (base64.b64encode(field).decode() for field in (kept.stored, kept.server, kept.salt))
    return stored, server, salt
