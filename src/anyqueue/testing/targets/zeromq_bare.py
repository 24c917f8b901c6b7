"""zmq+push:// and zmq+pub://: nothing keeps a message, so only what is refused and what is one client's is proved here.

The witness is a raw socket that listens for whatever leaves.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn

import zmq

from anyqueue import ConfigError, Feature, Limits
from anyqueue.testing.harness import Count, Expected, Failure, Foreign, Harness, Seen, query
from anyqueue.testing.targets.hub_process import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from anyqueue.testing.children import Child, Script

MOMENT: Final = 20
"""Milliseconds in which what was sent would have come."""
LIMITS: Final = Limits(
    max_body=16 * 1024 * 1024,
    max_batch=1000,
    max_sends=1,
    max_unsettled=None,
    delay_step=0.0,
    max_delay=None,
    lease=None,
)


class BareForeign(Foreign):
    """A raw socket that takes whatever is sent."""

    def __init__(self, kind: int, port: int) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(kind)
        if kind == zmq.SUB:
            self._socket.subscribe(b"")
        self._socket.connect(f"tcp://127.0.0.1:{port}")
        self._seen = 0

    def close(self) -> None:
        """Close it."""
        self._context.destroy(linger=0)

    async def put(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Refuse: there is nothing to put it in."""
        self._nothing_keeps(queue, body, headers)

    async def get(self, queue: str) -> Seen | None:
        """Refuse: there is nothing to take it from."""
        self._nothing_keeps(queue)

    async def count(self, queue: str) -> Count:
        """Count what was ever sent, to whichever queue."""
        del queue
        while self._socket.poll(MOMENT):
            self._socket.recv_multipart()
            self._seen += 1
        return Count(waiting=self._seen, unacked=0)

    async def queues(self) -> set[str]:
        """Nothing keeps one."""
        return set()

    async def delete(self, queue: str) -> None:
        """Nothing keeps it."""

    def _nothing_keeps(self, *_: object) -> NoReturn:
        raise AssertionError("a bare pattern keeps nothing: this case cannot be about it")


class BareHarness(Harness):
    """A bare pattern on a port of its own, the sender listening."""

    crosses_processes: ClassVar[bool] = True
    keeps: ClassVar[bool] = False
    socket: ClassVar[int]

    def start(self, folder: Path) -> None:
        """Wait for whatever leaves."""
        del folder
        self._port = free_port()
        self._witness = self.foreign = BareForeign(self.socket, self._port)

    def stop(self) -> None:
        """Wait no more."""
        self._witness.close()

    def failures(self) -> Sequence[Failure]:
        """Return what can be wrong with a URL."""
        good, more = self.url(), "&" if "?" in self.url() else "?"
        beyond = good.replace("127.0.0.1", "192.0.2.1")
        return [
            Failure(sentence="no port", url=good.replace(f":{self._port}", ""), error=ConfigError),
            Failure(sentence="a user", url=good.replace("://", "://ada@"), error=ConfigError),
            Failure(sentence="two hosts", url=good.replace("://", "://127.0.0.1:1,"), error=ConfigError),
            Failure(sentence="beyond this machine", url=beyond, error=ConfigError),
            Failure(sentence="less than no time", url=f"{good}{more}linger=-1", error=ConfigError),
            Failure(sentence="the wrong path", url=self.astray(), error=ConfigError),
        ]

    @abstractmethod
    def astray(self) -> str:
        """Return a URL whose path is none."""

    def child(self, name: str, script: Script, *, url: str | None = None) -> Child:
        """Refuse: no case that is proved here has one."""
        raise AssertionError(f"{name}: {script} at {url}: a bare pattern keeps nothing between processes")


class PushHarness(BareHarness):
    """The target zmq+push://, the sender listening, so that several may share a queue."""

    name: ClassVar[str] = "zmq+push"
    socket: ClassVar[int] = zmq.PULL
    expected: ClassVar[Expected] = Expected(
        features=Feature.COMPETING,
        limits=LIMITS,
        released="at the end",
        unheard="refused",
        unknown="refused",
    )

    def url(self, **options: object) -> str:
        """Return zmq+push://127.0.0.1:PORT/contract."""
        return f"zmq+push://127.0.0.1:{self._port}/contract{query({'bind': 'sender', **options})}"

    def astray(self) -> str:
        """Name no queue."""
        return f"zmq+push://127.0.0.1:{self._port}"


class PubHarness(BareHarness):
    """The target zmq+pub://."""

    name: ClassVar[str] = "zmq+pub"
    socket: ClassVar[int] = zmq.SUB
    expected: ClassVar[Expected] = Expected(
        features=Feature.FANOUT,
        limits=LIMITS,
        released="at the end",
        unheard="dropped",
        unknown="refused",
    )

    def url(self, **options: object) -> str:
        """Return zmq+pub://127.0.0.1:PORT."""
        return f"zmq+pub://127.0.0.1:{self._port}{query(options)}"

    def astray(self) -> str:
        """Name a queue."""
        return f"zmq+pub://127.0.0.1:{self._port}/queue"
