"""A session: a stream to one of the hosts of the URL, that is noticed when it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
import time
from typing import TYPE_CHECKING, Final

from anyqueue.backends.xmpp.options import tls_context
from anyqueue.backends.xmpp.stream import Stream
from anyqueue.errors import AuthFailed, ConnectFailed, ConnectionLost, Error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from xml.etree.ElementTree import Element

    from anyqueue.backends.xmpp.options import Target
    from anyqueue.backends.xmpp.stanzas import Answer
    from anyqueue.backends.xmpp.stream import News
    from anyqueue.url import Host

HOST_TIMEOUT: Final = 2.0
"""Seconds in which a host must answer while there are others to try."""
LEAVE: Final = 0.05
"""Seconds that saying goodbye may take: over TLS ejabberd takes longer, but has heard it then."""


class Session:
    """One session of an account. Opened once."""

    def __init__(self, target: Target, url: object) -> None:
        self.target = target
        self.url = url
        self.account = f"{target.username}@{target.domain}"
        self.address = ""
        self._stream: Stream | None = None
        self._listeners: dict[str, set[Callable[[str, Element | None], None]]] = {}
        self._watchers: set[Callable[[ConnectionLost], None]] = set()
        self._present = False
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Log in at the first host that takes us."""
        context = tls_context(self.target, self.url)
        for number, host in enumerate(self.target.hosts, 1):
            last = number == len(self.target.hosts)
            try:
                async with asyncio.timeout(None if last else HOST_TIMEOUT):
                    self._stream = await self._opened(host, context)
                    break
            except (ConnectFailed, TimeoutError):
                if last:
                    raise
        assert self._stream is not None, "a URL has at least one host"  # noqa: S101 -- by options.target_of()
        self._stream.news = self._on_news
        self._stream.ended.add_done_callback(lambda _: self._on_lost())
        self._keeper = asyncio.create_task(self._keep())

    async def _opened(self, host: Host, context: ssl.SSLContext | None) -> Stream:
        stream = Stream(self.target, context, f"anyqueue-{secrets.token_hex(8)}")
        try:
            stream.connect(host.name, host.port)
            await stream.opened
        except asyncio.CancelledError:
            await stream.leave(0)
            raise
        except Exception as error:
            await stream.leave(0)
            raise self._explain(host, error) from error
        self.address = str(stream.boundjid)
        return stream

    def _explain(self, host: Host, error: Exception) -> Error:
        """Return the error for a connection that did not come to a session."""
        if isinstance(error, PermissionError):
            what = f"{host} refused the credentials: {error}"
            return AuthFailed(what, url=self.url, hint="check user, password and domain")
        if isinstance(error, ssl.SSLError):
            hint = "the certificate must be the domain's (domain=), and its authority known (ca=)"
            return ConnectFailed(f"{host} did not come to TLS: {error}", url=self.url, hint=hint)
        if isinstance(error, LookupError) and self.target.tls == "starttls":
            hint = "if it has a port for TLS from the first byte, write xmpps://"
            return ConnectFailed(f"{host} offers no TLS, so nobody logs in there", url=self.url, hint=hint)
        return ConnectFailed(f"{host} did not take the connection: {error}", url=self.url)

    async def ask(self, kind: str, content: str, to: str | None = None) -> Answer:
        """Make one request of the service (or of `to`), and wait for its answer."""
        with self._told():
            return await self.stream.ask(kind, content, to)

    async def ask_all(self, requests: Iterable[tuple[str, str]]) -> list[Answer]:
        """Make requests of the service in this order, and return their answers in the same order."""
        with self._told():
            return await self.stream.ask_all(requests)

    async def write_all(self, requests: Iterable[tuple[str, str]]) -> list[asyncio.Future[Answer]]:
        """Make requests of the service in this order, and return when all are on their way. See answers()."""
        with self._told():
            return await self.stream.write_all(requests)

    async def answers(self, written: Iterable[asyncio.Future[Answer]]) -> list[Answer]:
        """Wait for what comes back for write_all()."""
        with self._told():
            return [await future for future in written]

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except ConnectionLost as error:
            error.url = error.url or self.url
            raise

    @property
    def stream(self) -> Stream:
        """The stream, or ConnectionLost."""
        if self._stream is None:
            raise ConnectionLost("the session is closed", url=self.url)
        return self._stream

    def listen(self, node: str, listener: Callable[[str, Element | None], None]) -> None:
        """Have the items that are published to a node told: their id, and their payload if the node sends it."""
        self._listeners.setdefault(node, set()).add(listener)
        if not self._present:
            self._present = True
            self.stream.write("<presence><priority>0</priority></presence>")

    def ignore(self, node: str, listener: Callable[[str, Element | None], None]) -> None:
        """Have them told no more."""
        self._listeners.get(node, set()).discard(listener)

    def watch(self, lost: Callable[[ConnectionLost], None]) -> None:
        """Have it called when the session is lost or closed."""
        self._watchers.add(lost)

    def unwatch(self, lost: Callable[[ConnectionLost], None]) -> None:
        """Have it called no more."""
        self._watchers.discard(lost)

    async def close(self) -> None:
        """Leave. Never raises; closing twice is a no-op."""
        stream, self._stream = self._stream, None
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
        if stream is not None:
            await stream.leave(LEAVE)
            self._tell(ConnectionLost("the connection was closed", url=self.url))
        if keeper is not None:
            await asyncio.wait([keeper])

    def _on_news(self, news: list[News]) -> None:
        for node, identity, payload in news:
            for listener in list(self._listeners.get(node, ())):
                listener(identity, payload)

    def _on_lost(self) -> None:
        if self._stream is not None:
            error = self._stream.lost()
            error.url = self.url
            self._tell(error)

    def _tell(self, error: ConnectionLost) -> None:
        watchers, self._watchers = self._watchers, set()
        for watcher in watchers:
            watcher(error)

    async def _keep(self) -> None:
        """Ask a server that says nothing whether it is there; give it up if it goes on saying nothing."""
        pause = self.target.options.heartbeat / 2
        with contextlib.suppress(ConnectionLost):
            while True:
                await asyncio.sleep(pause)
                silent = time.monotonic() - self.stream.heard
                if silent >= 3 * pause:
                    self.stream.cut(TimeoutError(f"the server said nothing for {silent:.1f} s"))
                elif silent >= pause * 0.9:
                    self.stream.ping()
