"""One connection to one server: what is asked is matched with what is answered. Decides nothing else.

gearmand carries out the requests of a connection one after another and answers in that order; so the oldest question is
the one that a reply belongs to, and an ERROR too. Only NOOP and the reports on jobs come unasked. What a request
without an answer did (WORK_COMPLETE, CANT_DO) is known when an ECHO behind it comes back.

An ECHO is asked for every `heartbeat` seconds; a connection on which nothing came until the next one is lost.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from anyqueue.backends.gearman import protocol
from anyqueue.backends.gearman.protocol import ECHO, ERROR, Malformed, Packet, Reader
from anyqueue.backends.pulse import Pulse
from anyqueue.errors import ConnectionLost

if TYPE_CHECKING:
    import ssl

Kinds = frozenset[int]
"""The commands that answer a question. ERROR answers every one."""
CREATED: Final[Kinds] = frozenset({protocol.JOB_CREATED})
GRABBED: Final[Kinds] = frozenset({protocol.JOB_ASSIGN_UNIQ, protocol.NO_JOB})
OPTION: Final[Kinds] = frozenset({protocol.OPTION_RES})
STATUS: Final[Kinds] = frozenset({protocol.STATUS_RES_UNIQUE})
SAID: Final[Kinds] = frozenset({protocol.TEXT})
_ECHOED: Final[Kinds] = frozenset({protocol.ECHO_RES})
Then = Callable[[list[Packet] | None], None]
"""What takes the replies to a question; None: the connection was lost first."""
UNASKED: Final = frozenset(
    {
        protocol.NOOP,
        protocol.WORK_STATUS,
        protocol.WORK_COMPLETE,
        protocol.WORK_FAIL,
        protocol.WORK_EXCEPTION,
        protocol.WORK_DATA,
        protocol.WORK_WARNING,
    }
)


class _Question:
    """Something asked: so many replies of this kind, or errors, are due. An error before an ECHO is not its reply."""

    __slots__ = ("due", "kinds", "replies", "then")

    def __init__(self, due: int, kinds: Kinds, then: Then) -> None:
        self.due = due
        self.kinds = kinds
        self.then = then
        self.replies: list[Packet] = []


class Connection(asyncio.Protocol):
    """A connection, for one event loop. `unasked` is given what comes by itself; `on_lost` is called once."""

    def __init__(self, where: str, *, most: int, heartbeat: float) -> None:
        self.unasked: Callable[[int, bytes], None] = lambda _command, _body: None
        self.on_lost: Callable[[], None] = lambda: None
        self.where = where
        self.lost: ConnectionLost | None = None
        self._reader = Reader(most)
        self._heartbeat = heartbeat
        self._questions: deque[_Question] = deque()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._beat: asyncio.TimerHandle | None = None
        self._pulse = Pulse(self._loop.time())
        self._asked = 0.0

    @classmethod
    async def open(cls, host: str, port: int, *, tls: ssl.SSLContext | None, most: int, heartbeat: float) -> Connection:
        """Connect, and have an ECHO back. Raises OSError and ConnectionLost; leaves nothing behind when it raises."""
        connection = cls(f"{host}:{port}", most=most, heartbeat=heartbeat)
        try:
            await connection._loop.create_connection(lambda: connection, host, port, ssl=tls)
            await connection.barrier()
            connection._tick()
        except BaseException:
            connection.close()
            raise
        return connection

    def ask(self, data: bytes, due: int, kinds: Kinds, then: Then) -> None:
        """Write requests to which so many replies of these kinds are due. Raises ConnectionLost."""
        if self.lost is not None or self._transport is None:
            raise (self.lost or ConnectionLost("the connection is not open")).with_traceback(None)
        self._questions.append(_Question(due, kinds, then))
        if data:
            self._transport.write(data)

    def ask_text(self, line: bytes, then: Then) -> None:
        """Write a line of the admin protocol; empty: it was written with the last question. Raises ConnectionLost."""
        self.ask(line, 1, SAID, then)
        self._reader.texts += 1

    async def barrier(self, data: bytes = b"") -> int:
        """Write requests that are not answered; return, once they are carried out, how many were refused."""
        answers = Answers(self, 1)
        answers.ask(data + ECHO, 1, _ECHOED)
        return len(await answers.done) - 1

    def write(self, data: bytes) -> None:
        """Write requests that are not answered."""
        if self._transport is not None and self.lost is None:
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the socket takes more."""
        await self._writable.wait()

    def close(self) -> None:
        """Hang up. Closing twice is a no-op."""
        self._lose("it was closed")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)
        if self.lost is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Hand packets on."""
        try:
            packets = self._reader.feed(data)
            self._pulse.hear(self._loop.time(), len(data), whole=bool(packets))
            for command, body in packets:
                self._take(command, body)
        except Malformed as error:
            self._lose(str(error))

    def eof_received(self) -> None:
        """Close: a server that says nothing more will not answer."""

    def connection_lost(self, error: Exception | None) -> None:
        """Fail what is under way."""
        self._lose("the server closed it" if error is None else str(error), error)

    def pause_writing(self) -> None:
        """Let drain() wait."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let drain() return."""
        self._writable.set()

    def _take(self, command: int, body: bytes) -> None:
        if command in UNASKED:
            self.unasked(command, body)
            return
        question = self._questions[0] if self._questions else None
        if question is None or (command not in question.kinds and command != ERROR):
            raise Malformed(f"command {command} came, which nothing asked for")
        question.replies.append((command, body))
        if command == ERROR and question.kinds is _ECHOED:
            return
        question.due -= 1
        if not question.due:
            self._questions.popleft()
            question.then(question.replies)

    def _tick(self) -> None:
        self._asked = self._loop.time()
        self.ask(ECHO, 1, _ECHOED, lambda _: None)
        self._beat = self._loop.call_later(self._heartbeat, self._look)

    def _look(self) -> None:
        if self._pulse.at > self._asked:
            self._tick()
        else:
            self._lose(f"nothing came for {self._heartbeat:g} s")

    def _lose(self, why: str, cause: Exception | None = None) -> None:
        if self.lost is not None:
            return
        self.lost = ConnectionLost(f"the connection to {self.where} is lost: {why}")
        self.lost.__cause__ = cause
        self._writable.set()
        if self._beat is not None:
            self._beat.cancel()
        if self._transport is not None:
            self._transport.abort()
        questions, self._questions = self._questions, deque()
        for question in questions:
            question.then(None)
        self.on_lost()


class Answers:
    """The replies to one question, or to several that one call asks; `done` has them once so many are due no more.

    Raises ConnectionLost. Where nobody waits for it any longer, the replies are forgotten.
    """

    def __init__(self, connection: Connection, due: int) -> None:
        self.done: asyncio.Future[list[Packet]] = asyncio.get_running_loop().create_future()
        self._connection = connection
        self._due = due
        self._replies: list[Packet] = []

    def ask(self, data: bytes, due: int, kinds: Kinds) -> None:
        """Write requests. Raises ConnectionLost."""
        self._connection.ask(data, due, kinds, functools.partial(self._take, due))

    def ask_text(self, line: bytes) -> None:
        """Write a line of the admin protocol. Raises ConnectionLost."""
        self._connection.ask_text(line, functools.partial(self._take, 1))

    def _take(self, due: int, replies: list[Packet] | None) -> None:
        if self.done.done():
            return
        if replies is None:
            self.done.set_exception(self._connection.lost or ConnectionLost("the connection was closed"))
            self.done.exception()  # it counts as seen: whoever asked may have been cancelled
            return
        self._replies += replies
        self._due -= due
        if not self._due:
            self.done.set_result(self._replies)
