"""stomp:// on any broker: raw stomp.py puts and gets, and what both targets have in common.

How a queue is written to each broker is docs/backends/stomp.md's, and said in the targets once more: the witness takes
nobody's word.
"""

from __future__ import annotations

import contextlib
import itertools
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final, Literal
from urllib.parse import quote

from anyqueue import URL, AuthFailed, ConfigError, ConnectFailed
from anyqueue.testing.children import ProcessChild
from anyqueue.testing.harness import Failure, Foreign, Harness, Seen, query
from anyqueue.testing.launched import LaunchedBroker
from anyqueue.testing.targets.stomp_client import Login, RubyStomp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from anyqueue.testing.children import Child, Script
    from anyqueue.testing.harness import Certificate
    from anyqueue.testing.proxy import Proxy
    from anyqueue.testing.targets.stomp_client import StompPy

DAY: Final = 86400.0
MAX_BODY: Final = 16 * 1024 * 1024
LOOKS: Final = 50
PAUSE: Final = 0.005
"""Counts are asked for again, and so often, where something is on its way from one place to another."""
WRONG: Final = "not-the-password"


class StompForeign(Foreign):
    """Raw stomp.py, beside a witness that knows the queues by their names on the broker."""

    def __init__(self, program: StompPy, spelt: Callable[[str], str]) -> None:
        self.program = program
        self._spelt = spelt
        self._names: dict[str, str] = {}

    async def put(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send."""
        await self.program.put(queue, body, headers)

    async def get(self, queue: str) -> Seen | None:
        """Take one, where there is one."""
        return await self.program.get(queue) if (await self.count(queue)).waiting else None

    def on_broker(self, queue: str) -> str:
        """Return a queue's name on the broker, and remember whose it is."""
        name = self._spelt(queue)
        if name != queue:
            self._names[name] = queue
        return name

    def of_user(self, names: set[str]) -> set[str]:
        """Return the names that users have for queues."""
        return {self._names.get(name, name) for name in names}


class StompHarness(Harness):
    """What both targets have in common."""

    crosses_processes: ClassVar[bool] = True
    network: ClassVar[bool] = True
    broker_name: ClassVar[str]
    options: ClassVar[Mapping[str, object]] = MappingProxyType({})

    def __init__(self) -> None:
        super().__init__()
        self.launched = LaunchedBroker(self.broker_name)
        self.broker = self.launched

    def missing(self) -> str | None:
        """Ask the launcher for the broker, and Debian for ruby-stomp."""
        reason = self.launched.missing()
        if reason is None and RubyStomp.missing():
            reason = "ruby-stomp is not installed: apt-get install ruby-stomp"
        return reason

    def start(self, folder: Path) -> None:
        """Start the broker and the witness."""
        self._folder = folder
        self._children = itertools.count(1)
        self.launched.start()
        self.witness()

    def witness(self) -> None:
        """Start the witness."""
        raise NotImplementedError

    def login(self, spelt: Callable[[str], str], sending: Mapping[str, str], consuming: Mapping[str, str]) -> Login:
        """Return what the foreign programs need."""
        base = URL.parse(self.launched.described.urls["stomp"])
        (host,) = base.hosts
        assert base.password is not None
        return Login(
            host=host.name,
            port=host.port or 0,
            user=base.username or "",
            password=base.password.reveal(),
            destination=spelt,
            sending=sending,
            consuming=consuming,
        )

    def url(
        self,
        *,
        through: Proxy | None = None,
        credentials: Literal["good", "wrong"] = "good",
        tls: bool = False,
        **options: object,
    ) -> str:
        """Return the broker's URL."""
        described = self.launched.described
        base = URL.parse(described.urls["stomps" if tls else "stomp"])
        assert base.password is not None
        (host,) = base.hosts
        place = str(host) if through is None else f"{host.name if tls else '127.0.0.1'}:{through.port}"
        password = base.password.reveal() if credentials == "good" else WRONG
        trust = {"ca": described.ca} if tls else {}
        return f"{base.scheme}://{base.username}:{password}@{place}/{query({**self.options, **trust, **options})}"

    def heartbeat(self, seconds: float) -> dict[str, object]:
        """Return seconds, at least one."""
        return {"heartbeat": max(1.0, seconds)}

    def certificates(self) -> Mapping[str, Certificate]:
        """Return what the launcher made."""
        return self.launched.described.certificates

    def failures(self) -> Sequence[Failure]:
        """Return what can be wrong with a URL and what is behind it."""
        base = URL.parse(self.launched.described.urls["stomp"])
        (host,) = base.hosts
        user = f"{base.username}:{base.password.reveal() if base.password else ''}"
        at = f"stomp://{user}@{host}/"
        secure = URL.parse(self.launched.described.urls["stomps"]).hosts[0]
        return [
            Failure(sentence="the wrong password", url=self.url(credentials="wrong"), error=AuthFailed),
            Failure(sentence="no such user", url=f"stomp://nobody:x@{host}/", error=AuthFailed),
            Failure(sentence="nobody listens", url=f"stomp://{user}@{host.name}:1/", error=ConnectFailed),
            Failure(sentence="no such host", url=f"stomp://{user}@no-such-host.invalid/", error=ConnectFailed),
            Failure(sentence="plain text to the TLS port", url=f"stomp://{user}@{secure}/", error=ConnectFailed),
            Failure(sentence="TLS to the plain port", url=f"stomps://{user}@{host}/", error=ConnectFailed),
            Failure(sentence="an authority nobody knows", url=f"stomps://{user}@{secure}/", error=ConnectFailed),
            Failure(sentence="no authority's file", url=f"stomps://{user}@{secure}/?ca=/no/file", error=ConfigError),
            Failure(sentence="a user without a password", url=f"stomp://ada@{host}/", error=ConfigError),
            Failure(sentence="a line end in the password", url=f"stomp://ada:a%0Ab@{host}/", error=ConfigError),
            Failure(sentence="TLS options without TLS", url=f"{at}?ca={quote('/ca.pem')}", error=ConfigError),
            Failure(sentence="an unknown server", url=f"{at}?server=hornetq", error=ConfigError),
            Failure(sentence="no heartbeats", url=f"{at}?heartbeat=0", error=ConfigError),
            *self.more_failures(host=str(host), at=at),
        ]

    def more_failures(self, *, host: str, at: str) -> Sequence[Failure]:
        """Return the broker's own."""
        raise NotImplementedError

    def child(self, name: str, script: Script, *, url: str | None = None) -> Child:
        """Start a process."""
        journal = self._folder / f"child-{next(self._children)}.jsonl"
        return ProcessChild(name, journal, url or self.url(), script)

    @contextlib.contextmanager
    def blocked(self) -> Iterator[None]:
        """Let the broker stand still. One that is short of memory still takes one message over each connection."""
        self.launched.pause()
        try:
            yield
        finally:
            self.launched.resume()
