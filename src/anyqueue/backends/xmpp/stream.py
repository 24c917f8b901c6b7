"""slixmpp's stream: it logs in, and then carries requests and answers, written and read here.

* Requests are text, written together once a turn of the event loop; their answers come in any order. At most WINDOW
  are under way, so nothing piles up in the transport.
* slixmpp queues what is sent without a session for the next one, where a claim would be executed long after it was
  given up. Here nothing is sent without a session, and all that is under way fails with the stream.
* Of what others send, only notifications of the service and pings are looked at.
* slixmpp logs what it sends, passwords and bodies too, at DEBUG. Here it does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import ssl
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from slixmpp.xmlstream.xmlstream import NotConnectedError

from anyqueue.backends.xmpp import stanzas
from anyqueue.backends.xmpp.reading import Reading
from anyqueue.errors import ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from xml.etree.ElementTree import Element

    from anyqueue.backends.xmpp.options import Target
    from anyqueue.backends.xmpp.stanzas import Answer

WINDOW: Final = 128
_IQ: Final = "{jabber:client}iq"
_MESSAGE: Final = "{jabber:client}message"
_CHALLENGE: Final = "{urn:ietf:params:xml:ns:xmpp-sasl}challenge"
_PRESENCE: Final = "{jabber:client}presence"
_ANSWERS: Final = frozenset({"result", "error"})
_REFUSING: Final = frozenset({"not-authorized", "account-disabled", "credentials-expired", "encryption-required"})

News = tuple[str, str, "Element | None"]


class Stream(Reading):
    """One stream, used once. `opened` is its login; `ended` is set when it is gone."""

    def __init__(self, target: Target, context: ssl.SSLContext | None, resource: str) -> None:
        context = context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # not used; slixmpp's own takes 60 ms to make
        super().__init__(f"{target.username}@{target.domain}/{resource}", target.password, ssl_context=context)
        self.enable_direct_tls = target.tls == "direct"
        self.enable_starttls = target.tls == "starttls"
        self.enable_plaintext = target.tls == "none"
        self.plugin["feature_mechanisms"].unencrypted_scram = target.tls == "none"
        self.whitespace_keepalive = False
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.news: Callable[[list[News]], None] = lambda _: None
        self._target = target
        self._numbers = itertools.count(1)
        self._waiting: dict[str, tuple[str, asyncio.Future[Answer]]] = {}
        self._slots = asyncio.Semaphore(WINDOW)
        self._outgoing: list[str] = []
        self._tasks: set[asyncio.Future[None]] = set()
        self.failure: Exception | None = None
        for event, act in (
            ("session_start", self._on_start),
            ("connection_failed", self._on_failed),
            ("failed_auth", self._on_refused),
            ("no_auth", self._on_no_way),
            ("ssl_invalid_chain", self._on_failed),
            ("disconnected", self._on_ended),
        ):
            self.add_event_handler(event, act)

    @property
    def encrypted(self) -> bool:
        """Say whether the transport is TLS."""
        return self.transport is not None and self.transport.get_extra_info("ssl_object") is not None

    async def ask(self, kind: str, content: str, to: str | None = None) -> Answer:
        """Make one request of the service (or of `to`), and wait for its answer."""
        (answer,) = await self.ask_all([(kind, content)], to)
        return answer

    async def ask_all(self, requests: Iterable[tuple[str, str]], to: str | None = None) -> list[Answer]:
        """Make requests in this order, without waiting in between, and return their answers in the same order."""
        return [await future for future in await self.write_all(requests, to)]

    async def write_all(
        self, requests: Iterable[tuple[str, str]], to: str | None = None
    ) -> list[asyncio.Future[Answer]]:
        """Make requests in this order, and return when all are on their way; their answers come into the futures."""
        futures: list[asyncio.Future[Answer]] = []
        for kind, content in requests:
            await self._slots.acquire()
            futures.append(self._write(kind, content, to))
        return futures

    def _write(self, kind: str, content: str, to: str | None) -> asyncio.Future[Answer]:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        future.add_done_callback(self._answered)
        if not self._living:
            future.set_exception(self.lost())
            return future
        identity, address = f"aq{next(self._numbers)}", self._target.service if to is None else to
        self._waiting[identity] = (address, future)
        self.write(f"<iq type='{kind}' id='{identity}' to='{stanzas.attribute(address)}'>{content}</iq>")
        return future

    def _answered(self, future: asyncio.Future[Answer]) -> None:
        """Make room for another request. Who asked may have been cancelled: a failure is nobody's then."""
        self._slots.release()
        if not future.cancelled():
            future.exception()

    def write(self, text: str) -> None:
        """Send a stanza of this session with all that is sent in this turn."""
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(text)

    def ping(self) -> None:
        """Ask the server for a sign of life; whatever comes is one."""
        self.write(f"<iq type='get' id='ping{next(self._numbers)}'>{stanzas.ping()}</iq>")

    def _flush(self) -> None:
        texts, self._outgoing = self._outgoing, []
        if self._living:
            self.send_raw("".join(texts))

    def lost(self) -> ConnectionLost:
        """Return the error of whoever used this stream when it went."""
        what = "the stream was closed" if self.failure is None else f"the stream was lost: {self.failure}"
        error = ConnectionLost(what)
        error.__cause__ = self.failure
        return error

    def cut(self, why: Exception | None = None) -> None:
        """End it at once."""
        self.failure = self.failure or why
        self.cancel_connection_attempt()
        if self.transport is not None:
            self.transport.abort()
        else:
            self._on_ended(None)

    async def leave(self, patience: float) -> None:
        """Say goodbye and wait until the server has, so that it knows that this session is over; or end it."""
        try:
            self._flush()
            if self._living:
                self.send_raw(self.stream_footer)
                if self.transport.can_write_eof():
                    self.transport.write_eof()  # ejabberd takes a tenth of a second for the end of a stream, else
                async with asyncio.timeout(patience):
                    await asyncio.shield(self.ended)
        except (TimeoutError, NotConnectedError):
            pass
        finally:
            self.cut()
            tasks, self._tasks = self._tasks, set()
            if self._run_out_filters is not None:
                tasks.add(self._run_out_filters)
            for task in tasks:
                task.cancel()
        await asyncio.wait([self.ended, *tasks])

    def send_raw(self, data: str | bytes) -> None:
        """Write, and log nothing of it."""
        if self.transport is None:
            raise NotConnectedError
        self.transport.write(data.encode() if isinstance(data, str) else data)

    def take(self, stanza: Element) -> None:
        """Sort a stanza; before the session begins, and for what is rare, slixmpp does."""
        if not self._living:
            self._log_in(stanza)
        elif stanza.tag == _IQ and stanza.get("type") in _ANSWERS:
            self._answer(stanza)
        elif stanza.tag == _MESSAGE:
            if stanza.get("from") == self._target.service and (news := stanzas.read_news(stanza)):
                self.news(list(news))
        elif stanza.tag == _IQ and stanza.find(f"{{{stanzas.PING}}}ping") is not None:
            self._pong(stanza)
        elif stanza.tag != _PRESENCE:
            self._spawn_event(stanza)

    def _log_in(self, stanza: Element) -> None:
        """Leave a stanza of the login to slixmpp; note the tasks that it makes, which nobody ends with the stream."""
        if stanza.tag == _CHALLENGE:
            self._hasten()
        before = asyncio.all_tasks()
        self._spawn_event(stanza)
        self._tasks |= asyncio.all_tasks() - before

    def _hasten(self) -> None:
        """Derive the key of SCRAM in C, once: slixmpp's own loop holds the event loop up for fifty milliseconds."""
        way = self.plugin["feature_mechanisms"].mech
        if hasattr(way, "Hi"):
            way.Hi = lambda text, salt, count: _derived(way.hash_name, bytes(text), bytes(salt), count)

    def _answer(self, stanza: Element) -> None:
        """Hand an answer to who waits for it, if it comes from whom it was asked of."""
        identity = stanza.get("id", "")
        asked, future = self._waiting.get(identity, ("", None))
        if future is not None and stanza.get("from") == asked:
            del self._waiting[identity]
            if not future.done():
                future.set_result(stanzas.read_answer(stanza))

    def _pong(self, stanza: Element) -> None:
        if stanza.get("type") == "get" and stanza.get("from") and stanza.get("id"):
            to, identity = (stanzas.attribute(stanza.get(name, "")) for name in ("from", "id"))
            self.write(f"<iq type='result' id='{identity}' to='{to}'/>")

    def _on_start(self, _: Any) -> None:  # noqa: ANN401 -- slixmpp's events
        self._living = True
        if not self.opened.done():
            self.opened.set_result(None)

    def _on_failed(self, error: Any) -> None:  # noqa: ANN401 -- as above
        self._fail(error if isinstance(error, Exception) else ConnectionError(str(error)))

    def _on_refused(self, stanza: Any) -> None:  # noqa: ANN401 -- as above
        condition = str(stanza["condition"])
        if condition in _REFUSING:
            self._fail(PermissionError(condition))

    def _on_no_way(self, _: Any) -> None:  # noqa: ANN401 -- as above
        self._fail(LookupError("the server offers no way of logging in that may be used here"))

    def _fail(self, error: Exception) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)
        self.cut(error)

    def _on_ended(self, reason: Any) -> None:  # noqa: ANN401 -- as above
        self._living = False
        if self.failure is None and isinstance(reason, Exception):
            self.failure = reason
        waiting, self._waiting = self._waiting, {}
        for _, future in waiting.values():
            if not future.done():
                future.set_exception(self.lost())
        if not self.opened.done():
            self.opened.set_exception(self.failure or ConnectionError("it ended the stream during the login"))
        with contextlib.suppress(asyncio.InvalidStateError):
            self.ended.set_result(None)


@lru_cache(maxsize=8)
def _derived(name: str, password: bytes, salt: bytes, count: int) -> bytes:
    """Return the key of a password; kept, as a server that keeps keys has always the same salt (RFC 5802, 5.1)."""
    return hashlib.pbkdf2_hmac(_digest(name), password, salt, count)


def _digest(name: str) -> str:
    """Return hashlib's name for a digest of SASL's: sha1 for SHA-1."""
    return name.lower().replace("-", "", 1)
