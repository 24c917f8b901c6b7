"""xmpp:// on Prosody and on ejabberd, both with SQL storage: the witness is raw slixmpp on the same account."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from typing import TYPE_CHECKING, ClassVar, Final, Literal
from urllib.parse import quote

import anyqueue
from anyqueue import URL, AuthFailed, ConfigError, ConnectFailed, Feature, Limits
from anyqueue.testing.children import ProcessChild
from anyqueue.testing.harness import Expected, Failure, Forbidden, Harness, query
from anyqueue.testing.launched import LaunchedBroker
from anyqueue.testing.targets.xmpp_witness import XmppForeign, held_of, node_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from anyqueue.testing.children import Child, Script
    from anyqueue.testing.harness import Certificate
    from anyqueue.testing.proxy import Proxy

WRONG: Final = "not-the-password"
SERVICE: Final = "pubsub.localhost"
LEASE: Final = 3.0
"""Seconds after which what a consumer holds that is not heard of comes back: short, so that the suite is."""


class ProsodyHarness(Harness):
    """The target xmpp@prosody."""

    name: ClassVar[str] = "xmpp@prosody"
    broker_name: ClassVar[str] = "prosody"
    crosses_processes: ClassVar[bool] = True
    network: ClassVar[bool] = True
    backlog: ClassVar[int] = 250
    examples: ClassVar[float] = 0.4
    expected: ClassVar[Expected] = Expected(
        features=Feature.CONFIRM
        | Feature.REDELIVER
        | Feature.RELEASE
        | Feature.RELEASE_DELAY
        | Feature.ATTEMPTS
        | Feature.DELAY
        | Feature.DURABLE
        | Feature.LEASE
        | Feature.COMPETING
        | Feature.FANOUT
        | Feature.DELETE,
        limits=Limits(max_body=128 * 1024, max_batch=100, max_sends=8, lease=LEASE),
        released="in place",
        unheard="dropped",
        unknown="created",
    )

    def __init__(self) -> None:
        super().__init__()
        self.launched = LaunchedBroker(self.broker_name)
        self.broker = self.launched

    def missing(self) -> str | None:
        """Ask the launcher for the server."""
        return self.launched.missing()

    def start(self, folder: Path) -> None:
        """Start the server and the witness."""
        self._folder = folder
        self._children = itertools.count(1)
        self.launched.start()
        self._witness = XmppForeign(self.launched.described.ports["xmpp"], "anyqueue", "anyqueue", SERVICE)
        self._witness.start()
        self.foreign = self._witness
        asyncio.run(self._look())

    async def _look(self) -> None:
        """Open a client: once a process a driver races a session of its own, which no case is to count."""
        async with anyqueue.connect(self.url()):
            pass

    def stop(self) -> None:
        """Remove the nodes of the run, and end the witness; the server goes on."""
        asyncio.run(self._witness.sweep(self._token))
        self._witness.close()

    def url(
        self,
        *,
        through: Proxy | None = None,
        credentials: Literal["good", "wrong"] = "good",
        tls: bool = False,
        **options: object,
    ) -> str:
        """Return the server's URL."""
        described = self.launched.described
        base = URL.parse(described.urls["xmpps" if tls else "xmpp"])
        assert base.password is not None
        (host,) = base.hosts
        place = str(host) if through is None else f"{host.name}:{through.port}"
        password = base.password.reveal() if credentials == "good" else WRONG
        trust: dict[str, object] = {"ca": described.ca} if tls else {"insecure": "true"}
        asked = {"domain": "localhost", "service": SERVICE, "lease": LEASE, **trust, **options}
        return f"{base.scheme}://{base.username}:{password}@{place}/{query(asked)}"

    def heartbeat(self, seconds: float) -> dict[str, object]:
        """Return it as it is."""
        return {"heartbeat": seconds}

    def certificates(self) -> Mapping[str, Certificate]:
        """Return what the launcher made."""
        return self.launched.described.certificates

    async def forbidden(self) -> Forbidden | None:
        """Give another account a queue of its own; what it may not use is ours."""
        allowed, queue = f"limited-{self.fresh()}", self.fresh()
        for node in (node_of(allowed), held_of(allowed), node_of(queue)):
            await self._witness.act(lambda client, node=node: client.create(node))  # type: ignore[misc]
        for node in (node_of(allowed), held_of(allowed)):
            await self._witness.act(lambda client, node=node: client.own(node, "limited@localhost"))  # type: ignore[misc]
        described = self.launched.described
        (host,) = URL.parse(described.urls["xmpp"]).hosts
        options = query({"domain": "localhost", "service": SERVICE, "lease": LEASE, "insecure": "true"})
        return Forbidden(
            url=f"xmpp://limited:{described.users['limited']}@{host}/{options}", queue=queue, allowed=allowed
        )

    async def mismatched(self, queue: str) -> str | None:
        """Make a node that keeps its newest five items."""
        settings = {"persist_items": "1", "max_items": "5", "access_model": "whitelist"}
        await self._witness.act(lambda client: client.create(node_of(queue), settings))
        return "max_items"

    def failures(self) -> Sequence[Failure]:
        """Return what can be wrong with a URL and what is behind it."""
        described = self.launched.described
        (host,) = URL.parse(described.urls["xmpp"]).hosts
        (secure,) = URL.parse(described.urls["xmpps"]).hosts
        user, clear = "anyqueue:anyqueue", f"?domain=localhost&service={SERVICE}&insecure=true"
        at = f"xmpp://{user}@{host}/{clear}"
        return [
            Failure(sentence="the wrong password", url=self.url(credentials="wrong"), error=AuthFailed),
            Failure(sentence="no such user", url=f"xmpp://nobody:x@{host}/{clear}", error=AuthFailed),
            Failure(
                sentence="no such domain",
                url=at.replace("domain=localhost", "domain=elsewhere.invalid"),
                error=ConnectFailed,
            ),
            Failure(
                sentence="no such service",
                url=f"xmpp://{user}@{host}/?domain=localhost&insecure=true&service={secrets.token_hex(4)}.localhost",
                error=ConfigError,
            ),
            Failure(sentence="nobody listens", url=f"xmpp://{user}@{host.name}:1/{clear}", error=ConnectFailed),
            Failure(sentence="no such host", url=f"xmpp://{user}@no-such-host.invalid/", error=ConnectFailed),
            Failure(sentence="plain text to the TLS port", url=f"xmpp://{user}@{secure}/{clear}", error=ConnectFailed),
            Failure(sentence="TLS to the plain port", url=f"xmpps://{user}@{host}/", error=ConnectFailed),
            Failure(sentence="an authority nobody knows", url=f"xmpps://{user}@{secure}/", error=ConnectFailed),
            Failure(
                sentence="STARTTLS, and an authority nobody knows", url=f"xmpp://{user}@{host}/", error=ConnectFailed
            ),
            Failure(sentence="no authority's file", url=f"xmpps://{user}@{secure}/?ca=/no/file", error=ConfigError),
            Failure(sentence="a user without a password", url=f"xmpp://ada@{host}/{clear}", error=ConfigError),
            Failure(sentence="no user", url=f"xmpp://{host}/{clear}", error=ConfigError),
            Failure(sentence="in clear to elsewhere", url="xmpp://a:b@example.org/?insecure=true", error=ConfigError),
            Failure(sentence="TLS options without TLS", url=f"{at}&ca={quote('/ca.pem')}", error=ConfigError),
            Failure(sentence="a lease of no time", url=f"{at}&lease=0", error=ConfigError),
            Failure(sentence="a heartbeat of no time", url=f"{at}&heartbeat=-1", error=ConfigError),
            Failure(sentence="a path", url=f"xmpp://{user}@{host}/path", error=ConfigError),
        ]

    @contextlib.contextmanager
    def blocked(self) -> Iterator[None]:
        """Freeze the server: it cannot be told to be short of anything."""
        self.launched.pause()
        try:
            yield
        finally:
            self.launched.resume()

    def child(self, name: str, script: Script, *, url: str | None = None) -> Child:
        """Start a process."""
        journal = self._folder / f"child-{next(self._children)}.jsonl"
        return ProcessChild(name, journal, url or self.url(), script)


class EjabberdHarness(ProsodyHarness):
    """The target xmpp@ejabberd."""

    name: ClassVar[str] = "xmpp@ejabberd"
    broker_name: ClassVar[str] = "ejabberd"
