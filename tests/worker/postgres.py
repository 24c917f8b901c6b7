"""A PostgreSQL of the tests' own: Debian's programs, a cluster in a temporary folder, a private port.

Where it is not installed, and this is root, apt-get installs it without starting the system's own service.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAMS: Final = Path("/usr/lib/postgresql")
POLICY: Final = Path("/usr/sbin/policy-rc.d")


def programs() -> Path:
    """Return the folder of the newest version's programs, installing them if need be."""
    if not any(PROGRAMS.glob("*/bin/postgres")):
        install()
    return max(PROGRAMS.glob("*/bin"), key=lambda path: float(path.parent.name))


def install() -> None:
    """Install Debian's package; its service does not start, and no cluster of the system's is made."""
    if os.geteuid() != 0:
        raise RuntimeError("PostgreSQL is needed for these tests: apt-get install postgresql")
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "-q", "update"], ["apt-get", "-qy", "install", "postgresql"]):
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603 -- ours
    finally:
        if ours:
            POLICY.unlink()


class Postgres:
    """A cluster: start, stop, kill."""

    def __init__(self) -> None:
        self._bin = programs()
        self._folder = Path(tempfile.mkdtemp(prefix="anyqueue-postgres-"))
        self._data = self._folder / "data"
        self._user = pwd.getpwnam("postgres").pw_uid if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(self._folder, self._user, -1)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._run("initdb", "-D", self._data, "-A", "trust", "-U", "postgres", "--no-sync")
        self._number = 0
        self.start()

    def start(self) -> None:
        """Start it, and return when it answers."""
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "-D", self._data, "-w", "-l", self._folder / "log", "-o", options, "start")

    def stop(self) -> None:
        """Stop it; connections are cut."""
        self._run("pg_ctl", "-D", self._data, "-w", "-m", "fast", "stop")

    def database(self) -> str:
        """Make a fresh database, and return its URL for SQLAlchemy."""
        self._number += 1
        name = f"test{self._number}"
        self._run("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", "postgres", name)
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"

    def remove(self) -> None:
        """End it at once, and remove its folder."""
        pid = self._data / "postmaster.pid"
        if pid.exists():
            os.kill(int(pid.read_text().splitlines()[0]), signal.SIGQUIT)
        while pid.exists():
            pass
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: object) -> None:
        command: Sequence[str] = [str(self._bin / program), *map(str, arguments)]
        done = subprocess.run(  # noqa: S603 -- ours
            command, user=self._user, cwd=self._folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        assert done.returncode == 0, done.stdout.decode()
