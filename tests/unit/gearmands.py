"""gearmand for tests that need one of their own, to kill or to fill. And servers that only say what they are told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import socket
import struct
import subprocess
import time
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

PROGRAM: Final = shutil.which("gearmand", path="/usr/sbin:/usr/local/sbin:/usr/bin")
NUMBERS: Final = itertools.count()


class Gearmand:
    """A process, with its queue in a file."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"gearman://127.0.0.1:{self.port}?durable=1&poll=0.1"

    def start(self) -> None:
        """Start it on its data, and return once it takes connections."""
        if PROGRAM is None:
            pytest.fail("gearmand is not installed: apt-get install gearman-job-server")
        arguments = [
            "--listen=127.0.0.1",
            f"--port={self.port}",
            "--threads=1",
            "--log-file=none",
            f"--pid-file={self._folder / 'pid'}",
            "--queue-type=libsqlite3",
            f"--libsqlite3-db={self._folder / 'queue.sqlite3'}",
        ]
        self._process = subprocess.Popen([PROGRAM, *arguments], stderr=subprocess.DEVNULL)  # noqa: S603 -- ours
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert time.monotonic() < deadline
                assert self._process.poll() is None, "gearmand has ended"
                time.sleep(0.01)
            else:
                return

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def admin(self, line: str) -> str:
        """Give a command of the admin protocol; return its answer."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as peer, peer.makefile("rwb") as file:
            file.write(f"{line}\n".encode())
            file.flush()
            answer = file.readline()
            while not answer.startswith((b"OK", b"ERR")) and not answer.endswith(b".\n"):
                answer += file.readline()
        return answer.decode()

    def raw(self) -> Raw:
        """Connect as another program."""
        return Raw(self.port)


class Raw:
    """Another program's connection, blocking."""

    def __init__(self, port: int) -> None:
        self._peer = socket.create_connection(("127.0.0.1", port), 5)
        self._file = self._peer.makefile("rwb")

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._peer.close()

    def write(self, command: int, *arguments: bytes) -> None:
        """Write a packet."""
        body = b"\0".join(arguments)
        self._file.write(struct.pack(">4sII", b"\0REQ", command, len(body)) + body)
        self._file.flush()

    def read(self) -> tuple[int, bytes]:
        """Read a packet."""
        _, command, size = struct.unpack(">4sII", self._file.read(12))
        return command, self._file.read(size)

    def ask(self, command: int, *arguments: bytes) -> tuple[int, bytes]:
        """Write a packet and read one."""
        self.write(command, *arguments)
        return self.read()

    def submit(self, queue: str, body: bytes, command: int = 18) -> bytes:
        """Submit a job; return its handle."""
        answer, handle = self.ask(command, queue.encode(), b"raw-%d" % next(NUMBERS), body)
        assert answer == 8
        return handle


@contextlib.asynccontextmanager
async def saying(talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[int]:
    """Be a server that says what `talk` says; give its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def asked(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read a request."""
    _, command, size = struct.unpack(">4sII", await reader.readexactly(12))
    return command, await reader.readexactly(size)


def reply(command: int, body: bytes = b"") -> bytes:
    return struct.pack(">4sII", b"\0RES", command, len(body)) + body
