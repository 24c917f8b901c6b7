"""Harness: everything the suite must know of one target. A third party writes one for its backend.

What is expected is given in full (`Expected` has no defaults), so that a feature nobody thought of is an error and no
silent hole. The foreign client must not use anyqueue's public API: it is the witness.

This file is longer than others because what a target is stands in one place.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal, get_args
from urllib.parse import quote

import msgspec

from anyqueue import URL, Feature, Limits, registry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from anyqueue import Error
    from anyqueue.driver import Address, Driver, Envelope
    from anyqueue.testing.children import Child, Script
    from anyqueue.testing.proxy import Proxy

NameKind = Literal["plain", "spaces", "unicode", "punctuation", "dots", "longest"]
NAME_KINDS: Final[tuple[NameKind, ...]] = get_args(NameKind)
"""Every kind is legal on every backend; all but `plain` are hostile to naive escaping."""
_HOSTILE: Final[dict[NameKind, str]] = {
    "plain": "contract-{}",
    "spaces": " contract {} with  spaces ",
    "unicode": "контракт-{}-キュー-🦉-e\u0301",
    "punctuation": "contract/{}?a=b&c=%41#*>'\";--|\\$@!:,<[{{}}]",
    "dots": "..contract.{}..dead.",
    "longest": "contract-{}-",
}


class Expected(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the target is expected to be. No defaults: whoever writes a harness says everything."""

    features: Feature
    """What the live broker does by itself; compared with what the driver declares."""
    limits: Limits
    released: Literal["in place", "at the end"]
    """Where a released message comes back."""
    unheard: Literal["dropped", "kept", "refused"]
    """What becomes of a message to a topic that has no group."""
    unknown: Literal["created", "refused"]
    """What sending to a queue that nobody declared does."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A message as the foreign client sees it."""

    body: bytes
    headers: Mapping[str, str]
    id: str | None = None


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """A queue by the broker's own count."""

    waiting: int
    """Ready or delayed."""
    unacked: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.waiting + self.unacked


async def settled(count: Callable[[], Awaitable[Count]]) -> Count:
    """Count, and once more where nothing was found: a message may go from where it waits to its queue and back."""
    found = await count()
    return found if found.total else await count()


class Program(ABC):
    """Another program that uses the same queues, and knows nothing of anyqueue."""

    carries_headers: ClassVar[bool] = True
    """It can send and show headers and ids."""

    @abstractmethod
    async def put(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send as any other program would, without an id or anything of anyqueue's."""

    @abstractmethod
    async def get(self, queue: str) -> Seen | None:
        """Take the next ready message for good; None where there is none."""


class Foreign(Program):
    """A raw client of the broker: the witness that is not anyqueue. Unknown queues are empty."""

    @abstractmethod
    async def count(self, queue: str) -> Count:
        """Count a queue's messages."""

    @abstractmethod
    async def queues(self) -> set[str]:
        """Name all queues there are."""

    @abstractmethod
    async def delete(self, queue: str) -> None:
        """Delete a queue with all that is in it."""

    async def junk(self, queue: str) -> int:
        """Put messages that are as odd as this broker lets any client send them; return how many.

        Headers of every type there is (NaN, a time in the year 55840, nested tables), none at all, broken text.
        """
        bodies = (b"", b"\0" * 100, b"\xff\xfe", b"{", b"[" * 1000, bytes(range(256)))
        for body in bodies:
            await self.put(queue, body, {})
        return len(bodies)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A way in which connecting fails, and how that is documented."""

    sentence: str
    url: str
    error: type[Error]
    arrange: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext
    """Brings it about, for as long as it is entered."""


class Forbidden(msgspec.Struct, frozen=True, kw_only=True):
    """A user who may use some queues and not others."""

    url: str
    queue: str
    """May neither be sent to nor consumed from by this user."""
    allowed: str
    """May be used; never used before."""


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """A server's certificate and its key, PEM files."""

    certificate: str
    key: str


class Broker(ABC):
    """Control of the broker's process, where it has one of its own."""

    @abstractmethod
    def start(self) -> None:
        """Start it on the same data, and return once it takes connections."""

    @abstractmethod
    def stop(self) -> None:
        """Ask it to end (SIGTERM), and wait."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once (SIGKILL)."""

    @abstractmethod
    def pause(self) -> None:
        """Freeze it (SIGSTOP)."""

    @abstractmethod
    def resume(self) -> None:
        """Let it go on (SIGCONT)."""

    def log(self) -> str:
        """Return the end of its log, for whoever looks for what went wrong."""
        return ""


class Harness(ABC):
    """One target of the suite."""

    name: ClassVar[str]
    """As it stands in the report."""
    expected: ClassVar[Expected]
    crosses_processes: ClassVar[bool]
    """Other processes reach the same queues."""
    network: ClassVar[bool] = False
    """Reached over TCP: the network cases run on it."""
    keeps: ClassVar[bool] = True
    """Something keeps a message until somebody takes it, and can be asked.

    Where nothing does, the cases about that mean nothing: what is left are the refusal twins, and `brokerless`.
    """
    brokerless: ClassVar[frozenset[str]] = frozenset({"C2", "C4", "C5", "C8", "M3"})
    """Cases about a client alone."""
    backlog: ClassVar[int] = 100_000
    """How many messages a queue of this target is made to hold: cases that want many leave no more in one."""
    examples: ClassVar[float] = 1.0
    """Which part of a property's examples this target is asked: fewer where a broker is so slow that they take long."""
    ack_window: ClassVar[float] = 0.0
    """Seconds for which an ack that returned may be lost with the connection or the broker; 0: acks are confirmed."""
    count_lag: ClassVar[float] = 0.0
    """Seconds within which the broker's own count follows what it did; 0: it is right at once."""
    deletion_window: ClassVar[float | None] = 0.0
    """Seconds until everybody has noticed that another program deleted a queue; 0: whoever uses it does at once.

    Until then a send to it may be told to have worked. None: sends make it again at once, but the broker tells nobody,
    and takes the ack of a message that was deleted with it.
    """
    broker: Broker | None = None
    """None: the target is embedded, there is no broker's process."""
    foreign: Foreign
    foreign_programs: Sequence[Program] = ()
    """More programs of other people's, such as a broker's own command-line tools."""

    def __init__(self) -> None:
        self._number = itertools.count()
        self._token = secrets.token_hex(3)

    def missing(self) -> str | None:
        """Say why this target cannot be tested here (no broker installed); None where it can."""
        return None

    @abstractmethod
    def start(self, folder: Path) -> None:
        """Begin a run; `folder` is for the target's files."""

    @abstractmethod
    def stop(self) -> None:
        """End it and leave nothing."""

    @abstractmethod
    def url(
        self,
        *,
        through: Proxy | None = None,
        credentials: Literal["good", "wrong"] = "good",
        tls: bool = False,
        **options: object,
    ) -> str:
        """Return a URL of the target, with these options of the URL added (`query()` writes them).

        The other three are for network targets, and query() refuses them for the rest. `through`: by way of this proxy
        on 127.0.0.1; `credentials` "wrong": the user's name with another password; `tls`: encrypted, trusting the
        broker's own authority.
        """

    def endpoint(self, *, tls: bool = False) -> tuple[str, int]:
        """Return the host and port that a proxy is to forward to."""
        host = URL.parse(self.url(tls=tls)).hosts[0]
        assert host.port is not None, "the URL of a network target names its port"
        return host.name, host.port

    def heartbeat(self, seconds: float) -> dict[str, object]:
        """Return the options of the URL that let both sides look for each other this often."""
        del seconds
        return {}

    def certificates(self) -> Mapping[str, Certificate]:
        """Return server certificates that `url(tls=True)` must take (`server`) or refuse; empty: it has no TLS.

        To be refused: `expired`, `wrong-host`, `untrusted` (signed by another authority).
        """
        return {}

    async def forbidden(self) -> Forbidden | None:
        """Return a user and a queue that this user may not use; None: the broker has no such permissions."""
        return None

    async def mismatched(self, queue: str) -> str | None:
        """Declare a queue with arguments on which anyqueue's promises cannot stand; return the argument's name.

        None: a queue of this broker has no such arguments.
        """
        del queue
        return None

    @abstractmethod
    def failures(self) -> Sequence[Failure]:
        """Return every way to fail that the backend documents (C8)."""

    async def connections(self) -> int:
        """Count anyqueue's connections as the broker sees them; 0 where it has none to count."""
        return 0

    def fresh(self, kind: NameKind = "plain") -> str:
        """Return a legal name of a queue or topic that was never used."""
        name = _HOSTILE[kind].format(f"{self._token}-{next(self._number)}")
        return name + "x" * (195 - len(name)) if kind == "longest" else name

    @abstractmethod
    def child(self, name: str, script: Script, *, url: str | None = None) -> Child:
        """Start a producer or consumer that can be killed. `url`: it connects there, not to `self.url()`."""

    @contextlib.contextmanager
    def blocked(self) -> Iterator[None]:
        """Let the broker take no message meanwhile, as one does that is short of memory or disk.

        A harness whose broker can really be blocked does that. Here, for a broker inside this process that nothing can
        block, what is told to the driver does not reach it: send() of the driver does not return.
        """
        kind = registry.load(URL.parse(self.url()).scheme)
        taken = kind.send

        async def stuck(driver: Driver, address: Address, batch: Sequence[Envelope]) -> None:
            del driver, address, batch
            await asyncio.Event().wait()

        kind.send = stuck  # type: ignore[method-assign,assignment]
        try:
            yield
        finally:
            kind.send = taken  # type: ignore[method-assign]


def query(options: Mapping[str, object]) -> str:
    """Return options as the end of a URL, `?name=value&...`; empty without any. TypeError for a network's arguments."""
    if wrong := options.keys() & {"through", "credentials", "tls"}:
        raise TypeError(f"this target has no network, and so no {', '.join(sorted(wrong))}")
    pairs = [f"{name}={quote(str(value), safe='')}" for name, value in options.items()]
    return f"?{'&'.join(pairs)}" if pairs else ""
