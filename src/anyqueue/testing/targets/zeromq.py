"""zmq:// on a hub in a process of its own: `anyqueue hub`, in memory, and on a SQLite file with keys.

The witness is a client of the hub that speaks its protocol from its page alone (`raw_hub`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeVar
from urllib.parse import quote

import zmq
from zmq import auth

from anyqueue import AuthFailed, ConfigError, ConnectFailed, Feature, Limits
from anyqueue.hub import make_keys
from anyqueue.testing.children import ProcessChild
from anyqueue.testing.harness import Count, Expected, Failure, Foreign, Harness, Seen, query
from anyqueue.testing.targets.hub_process import HubProcess, free_port
from anyqueue.testing.targets.raw_hub import Keys, RawHub, RawPeer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from anyqueue.testing.children import Child, Script
    from anyqueue.testing.proxy import Proxy

T = TypeVar("T")
DRAIN: Final = 1.0


class HubForeign(Foreign):
    """A raw client, a connection for each act, in a thread that is there before any case begins."""

    def __init__(self, hub: RawHub) -> None:
        self._hub = hub
        self._thread = ThreadPoolExecutor(1, "foreign")
        self._thread.submit(self._once, RawPeer.queues).result()  # the context begins its threads with its first socket

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    async def put(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send it without an id."""
        await self.act(lambda peer: peer.put(queue, body, dict(headers)))

    async def get(self, queue: str) -> Seen | None:
        """Take the next, accepted."""
        found = await self.act(lambda peer: peer.get(queue))
        return None if found is None else Seen(id=found[0], body=found[1], headers=found[2])

    async def count(self, queue: str) -> Count:
        """Count by state."""
        ready, delayed, held = await self.act(lambda peer: peer.depth(queue))
        return Count(waiting=ready + delayed, unacked=held)

    async def queues(self) -> set[str]:
        """Name the queues."""
        return await self.act(lambda peer: peer.queues())

    async def delete(self, queue: str) -> None:
        """Delete a queue."""
        await self.act(lambda peer: peer.delete(queue))

    async def act(self, work: Callable[[RawPeer], T]) -> T:
        """Do it on a connection of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._once, work)

    def _once(self, work: Callable[[RawPeer], T]) -> T:
        with self._hub.connected() as peer:
            return work(peer)


class HubHarness(Harness):
    """The target zmq@hub: in memory, without keys."""

    name: ClassVar[str] = "zmq@hub"
    crosses_processes: ClassVar[bool] = True
    network: ClassVar[bool] = True
    expected: ClassVar[Expected] = Expected(
        features=Feature.CONFIRM
        | Feature.REDELIVER
        | Feature.RELEASE
        | Feature.RELEASE_DELAY
        | Feature.ATTEMPTS
        | Feature.DEAD_LETTER
        | Feature.DELAY
        | Feature.PRIORITY
        | Feature.EXPIRY
        | Feature.COMPETING
        | Feature.FANOUT
        | Feature.COUNT
        | Feature.DELETE
        | Feature.INSPECT,
        limits=Limits(
            max_body=16 * 1024 * 1024,
            max_batch=1000,
            max_sends=64,
            max_unsettled=None,
            delay_step=0.0,
            max_delay=None,
            lease=None,
        ),
        released="in place",
        unheard="dropped",
        unknown="created",
    )

    def start(self, folder: Path) -> None:
        """Start a hub."""
        self._folder = folder
        self._children = itertools.count(1)
        self._port = free_port()
        self._context = zmq.Context()
        self._hub = HubProcess(self._port, [*self.arguments(), "--drain", str(DRAIN)], folder / "hub.log")
        self.broker = self._hub
        self._hub.start()
        self._witness = HubForeign(RawHub(self._context, f"tcp://127.0.0.1:{self._port}", self.keys()))
        self.foreign = self._witness

    def stop(self) -> None:
        """End the hub."""
        self._hub.resume()
        self._hub.stop()
        self._witness.close()
        self._context.destroy(linger=0)

    def arguments(self) -> list[str]:
        """Return how the hub is run."""
        return ["--store", "memory:"]

    def keys(self) -> Keys | None:
        """Return the keys of the raw client."""
        return None

    def url(
        self,
        *,
        through: Proxy | None = None,
        credentials: Literal["good", "wrong"] = "good",
        tls: bool = False,
        **options: object,
    ) -> str:
        """Return zmq://127.0.0.1:PORT. A hub knows keys and no passwords: a user is refused."""
        assert not tls, "a hub has no TLS: it has keys"
        port = self._port if through is None else through.port
        user = "" if credentials == "good" else "ada:wrong@"
        return f"zmq://{user}127.0.0.1:{port}{query({**self.options('client'), **options})}"

    def options(self, who: str) -> dict[str, object]:
        """Return the options that every URL of this client has."""
        del who
        return {}

    def heartbeat(self, seconds: float) -> dict[str, object]:
        """Return the option."""
        return {"heartbeat": seconds}

    def failures(self) -> Sequence[Failure]:
        """Return what can be wrong with a URL and what is behind it."""
        good = self.url()
        more = "&" if "?" in good else "?"
        rest = good.partition("?")[2]
        missing = quote(str(self._folder / "missing"))
        return [
            Failure(sentence="nobody listens", url=f"zmq://127.0.0.1:1?{rest}", error=ConnectFailed),
            Failure(
                sentence="no such host", url=f"zmq://no-such-host.invalid:5555?{rest}&insecure=1", error=ConnectFailed
            ),
            Failure(sentence="no port", url=f"zmq://127.0.0.1?{rest}", error=ConfigError),
            Failure(sentence="no host", url="zmq://", error=ConfigError),
            Failure(sentence="a user", url=f"zmq://ada@127.0.0.1:{self._port}?{rest}", error=ConfigError),
            Failure(sentence="a path", url=f"zmq://127.0.0.1:{self._port}/path?{rest}", error=ConfigError),
            Failure(sentence="beyond this machine without keys", url="zmq://192.0.2.1:5555", error=ConfigError),
            Failure(sentence="a heartbeat of no time", url=f"{good}{more}heartbeat=0", error=ConfigError),
            Failure(sentence="a key without the hub's", url="zmq://127.0.0.1:5555?key=/some/key", error=ConfigError),
            Failure(
                sentence="no such key file",
                url=f"zmq://127.0.0.1:{self._port}?key={missing}&hub_key={missing}",
                error=ConfigError,
            ),
            Failure(sentence="a store without serve", url=f"{good}{more}store=memory:", error=ConfigError),
            Failure(sentence="an unknown store", url="zmq://127.0.0.1:1?serve=1&store=redis://host", error=ConfigError),
        ]

    def child(self, name: str, script: Script, *, url: str | None = None) -> Child:
        """Start a process."""
        journal = self._folder / f"child-{next(self._children)}.jsonl"
        return ProcessChild(name, journal, url or self.url(), script)

    async def connections(self) -> int:
        """Ask the hub, not counting the one that asks."""
        return await self._witness.act(lambda peer: peer.peers())

    @contextlib.contextmanager
    def blocked(self) -> Iterator[None]:
        """Freeze the hub."""
        self._hub.pause()
        try:
            yield
        finally:
            self._hub.resume()


class DurableHubHarness(HubHarness):
    """The target zmq@hub-durable: on a SQLite file, with keys."""

    name: ClassVar[str] = "zmq@hub-durable"
    expected: ClassVar[Expected] = Expected(
        features=HubHarness.expected.features | Feature.DURABLE,
        limits=HubHarness.expected.limits,
        released="in place",
        unheard="dropped",
        unknown="created",
    )

    def arguments(self) -> list[str]:
        """Make the keys, and let in one client's."""
        self._secret = self._folder / "keys"
        for name in ("hub", "client", "stranger"):
            make_keys(self._secret, name)
        allowed = self._folder / "allowed"
        allowed.mkdir()
        (allowed / "client.key").write_bytes((self._secret / "client.key").read_bytes())
        path = quote(str(self._folder / "hub queues.db"))
        key = str(self._secret / "hub.key_secret")
        return ["--store", f"sqlite:///{path}", "--key", key, "--allow", str(allowed)]

    def keys(self) -> Keys | None:
        """Return those of the client that is let in."""
        hub, _ = auth.load_certificate(self._secret / "hub.key")
        public, secret = auth.load_certificate(self._secret / "client.key_secret")
        assert secret is not None
        return hub, public, secret

    def options(self, who: str) -> dict[str, object]:
        """Name the keys."""
        return {"key": self._secret / f"{who}.key_secret", "hub_key": self._secret / "hub.key"}

    def failures(self) -> Sequence[Failure]:
        """Return what can be wrong with keys besides."""
        mine, hub = self.options("client").values()
        wrong = f"zmq://127.0.0.1:{self._port}?key={mine}&hub_key="
        public = self._secret / "client.key"
        return [
            *super().failures(),
            Failure(
                sentence="a key that is not let in",
                url=f"zmq://127.0.0.1:{self._port}{query(self.options('stranger'))}",
                error=AuthFailed,
            ),
            Failure(sentence="no keys", url=f"zmq://127.0.0.1:{self._port}", error=ConnectFailed),
            Failure(sentence="another hub's key", url=f"{wrong}{self._secret / 'stranger.key'}", error=ConnectFailed),
            Failure(sentence="no secret key", url=f"zmq://127.0.0.1:1?key={public}&hub_key={hub}", error=ConfigError),
        ]
