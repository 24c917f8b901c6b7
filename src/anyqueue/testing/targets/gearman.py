"""gearman:// on gearmand, with its queue in SQLite."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from anyqueue import URL, ConfigError, ConnectFailed, Feature, Limits
from anyqueue.testing.children import ProcessChild
from anyqueue.testing.harness import Expected, Failure, Harness, query
from anyqueue.testing.launched import LaunchedBroker
from anyqueue.testing.targets.gearman_programs import GearmanCommand, Php
from anyqueue.testing.targets.gearman_witness import GearmanForeign

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anyqueue.testing.children import Child, Script
    from anyqueue.testing.proxy import Proxy

POLL: Final = 0.1
"""Seconds between looks for delayed messages: short, so that the suite is."""


class GearmanHarness(Harness):
    """The target gearman@gearmand."""

    name: ClassVar[str] = "gearman@gearmand"
    crosses_processes: ClassVar[bool] = True
    network: ClassVar[bool] = True
    expected: ClassVar[Expected] = Expected(
        features=Feature.CONFIRM
        | Feature.REDELIVER
        | Feature.ATTEMPTS
        | Feature.DELAY
        | Feature.DURABLE
        | Feature.COMPETING
        | Feature.PRIORITY
        | Feature.REPLY
        | Feature.COUNT,
        limits=Limits(
            max_body=16 * 1024 * 1024,
            max_batch=1000,
            max_sends=4,
            max_unsettled=None,
            delay_step=1.0 + POLL,
            max_delay=100 * 365 * 86400.0,
            priorities=3,
            lease=None,
        ),
        released="at the end",
        unheard="refused",
        unknown="created",
    )
    foreign: GearmanForeign

    def __init__(self) -> None:
        super().__init__()
        self.launched = LaunchedBroker("gearmand")
        self.broker = self.launched

    def missing(self) -> str | None:
        """Ask the launcher for a gearmand."""
        return self.launched.missing()

    def start(self, folder: Path) -> None:
        """Start it."""
        self._folder = folder
        self._children = itertools.count(1)
        self.launched.start()
        described = self.launched.described
        store = Path(described.data) / "queue.sqlite3"
        port = described.ports["gearman"]
        self.foreign = GearmanForeign(port, store, self.launched)
        self.foreign_programs = [GearmanCommand(port), Php(port)]

    def stop(self) -> None:
        """Let it go on."""

    def url(
        self,
        *,
        through: Proxy | None = None,
        credentials: Literal["good", "wrong"] = "good",
        tls: bool = False,
        **options: object,
    ) -> str:
        """Return gearman://127.0.0.1:PORT; with a user, of whom there are none, where they are to be wrong."""
        del tls  # Debian's server has none
        user = "ada:wrong@" if credentials == "wrong" else ""
        port = self.launched.described.ports["gearman"] if through is None else through.port
        return f"gearman://{user}127.0.0.1:{port}{query({'durable': 1, 'poll': POLL, **options})}"

    def heartbeat(self, seconds: float) -> dict[str, object]:
        """Return the option that has the client ask for an echo this often."""
        return {"heartbeat": seconds}

    def failures(self) -> Sequence[Failure]:
        """Return what can be wrong with a URL, a network and a server."""
        port = free_port()
        return [
            Failure(sentence="nobody listens", url=f"gearman://127.0.0.1:{port}", error=ConnectFailed),
            Failure(
                sentence="it speaks HTTP",
                url=f"gearman://127.0.0.1:{port}",
                error=ConnectFailed,
                arrange=lambda: answering(port, b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"),
            ),
            Failure(
                sentence="it announces a packet of 4 GiB",
                url=f"gearman://127.0.0.1:{port}",
                error=ConnectFailed,
                arrange=lambda: answering(port, b"\0RES\0\0\0\x11\xff\xff\xff\xff"),
            ),
            Failure(
                sentence="it speaks in clear where TLS is asked for",
                url=f"{URL.parse(self.url()).reveal()}&tls=1",
                error=ConnectFailed,
            ),
            Failure(sentence="in clear over a network", url="gearman://192.0.2.1", error=ConfigError),
            Failure(sentence="a user", url="gearman://ada@localhost", error=ConfigError),
            Failure(sentence="a path", url="gearman://localhost/queue", error=ConfigError),
            Failure(sentence="no time between looks", url="gearman://localhost?poll=0", error=ConfigError),
            Failure(sentence="an authority for no TLS", url="gearman://localhost?ca=ca.pem", error=ConfigError),
            Failure(sentence="no such authority", url="gearman://localhost?tls=1&ca=/none.pem", error=ConfigError),
        ]

    async def connections(self) -> int:
        """Ask the server."""
        return await self.foreign.connections()

    def child(self, name: str, script: Script, *, url: str | None = None) -> Child:
        """Start a process."""
        journal = self._folder / f"child-{next(self._children)}.jsonl"
        return ProcessChild(name, journal, url or self.url(), script)

    @contextlib.contextmanager
    def blocked(self) -> Iterator[None]:
        """Freeze it: it has no memory alarm."""
        self.launched.pause()
        try:
            yield
        finally:
            self.launched.resume()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@contextlib.contextmanager
def answering(port: int, answer: bytes) -> Iterator[None]:
    """Be a server that says this to whoever says something."""
    with socket.create_server(("127.0.0.1", port)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    with peer:
                        peer.recv(1024)
                        peer.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
