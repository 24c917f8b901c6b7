"""The requests of one client, and the replies they wait for.

Where the broker has requests (Feature.REPLY), it is asked. Elsewhere the first request makes a reply queue, which all
later ones share: it outlives a lost connection, and ends by itself some time after its client. A request is sent over
reconnects with the same id, so it may be handled twice; the first reply counts, the others are dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from anyqueue._replies import read_report
from anyqueue.driver import Feature, Progress, Queue, Spec, reply_queue
from anyqueue.errors import Closed, ConnectionLost, Error, NoReply

if TYPE_CHECKING:
    from anyqueue._link import Link
    from anyqueue._message import Message
    from anyqueue._reception import Reception
    from anyqueue._sending import Outbox
    from anyqueue.driver import Envelope

_log = logging.getLogger(__name__)
PREFETCH: Final = 1000
"""Replies that are held: each for a moment."""
Report = Callable[[Progress], object]


def ignore(progress: Progress) -> None:
    """Be told of progress, and do nothing."""
    del progress


class Requests:
    """For one event loop. `receive` makes a reception; `outbox` is the client's."""

    def __init__(
        self, link: Link, *, receive: Callable[[Spec], Reception], outbox: Callable[[Queue], Outbox], lasts: int
    ) -> None:
        self.queue = Queue(reply_queue(secrets.token_hex(8), lasts))
        """Where the replies come to."""
        self._listening = False
        self._link = link
        self._receive = receive
        self._outbox = outbox
        self._waiting: dict[str, tuple[asyncio.Future[Envelope], Report]] = {}
        self._starting: asyncio.Task[None] | None = None
        self._pump: asyncio.Task[None] | None = None

    async def ask(self, queue: Queue, envelope: Envelope, report: Report, seconds: float) -> Envelope:
        """Send a request and return its reply. Raises NoReply, SendError, and what ends the connection."""
        told = _guarded(report)
        driver = await self._link.driver()
        native = Feature.REPLY in driver.features
        try:
            async with asyncio.timeout(seconds):
                return await (self._native if native else self._at_queue)(queue, envelope, told)
        except TimeoutError as error:
            what = f"no reply to the request within {seconds:g} s"
            hint = "it may have been handled, or may still be: ask again only for what may happen twice"
            raise NoReply(what, queue=queue.name, url=self._outbox(queue).terms.url, hint=hint) from error

    async def close(self) -> None:
        """Let those who wait have Closed. The reception is the client's to close."""
        for task in (self._starting, self._pump):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        self._fail(Closed("the client was closed before the reply came"))

    async def leave(self) -> None:
        """Delete the reply queue, where the broker lets us; elsewhere it ends by itself."""
        if self._listening:
            driver = await self._link.driver()
            if Feature.DELETE in driver.features:
                with contextlib.suppress(Error):
                    await driver.delete(self.queue)

    async def _native(self, queue: Queue, envelope: Envelope, report: Callable[[Progress], None]) -> Envelope:
        while True:
            driver = await self._link.driver()
            try:
                return await driver.request(queue, envelope, report)
            except ConnectionLost as error:
                self._link.lost(driver, error)

    async def _at_queue(self, queue: Queue, envelope: Envelope, report: Report) -> Envelope:
        while self._pump is None or self._pump.done():
            self._starting = self._starting or asyncio.create_task(self._start())
            await asyncio.shield(self._starting)
        reply: asyncio.Future[Envelope] = asyncio.get_running_loop().create_future()
        identity = envelope.correlation_id or envelope.id
        self._waiting[identity] = reply, report
        sending = asyncio.create_task(self._outbox(queue).send([envelope]))
        try:
            sending.add_done_callback(lambda sent: _tell_failure(sent, reply))
            return await reply
        finally:
            del self._waiting[identity]
            await _end(sending)

    async def _start(self) -> None:
        try:
            reception = self._receive(Spec(address=self.queue, prefetch=PREFETCH))
            self._listening = True
            await reception.start()
            self._pump = asyncio.create_task(self._take(reception))
        finally:
            self._starting = None

    async def _take(self, reception: Reception) -> None:
        try:
            while (message := await reception.next()) is not None:
                self._arrived(message)
        except Exception as error:  # noqa: BLE001 -- whatever ends the reception is told to those who wait
            self._fail(error)

    def _arrived(self, message: Message) -> None:
        message.claim().accept_soon(message)
        reply, report = self._waiting.get(message.correlation_id or "", (None, ignore))
        if reply is None or reply.done():
            _log.debug("reply %s came twice or too late", message.id)
        elif (progress := read_report(message.envelope)) is not None:
            report(progress)
        else:
            reply.set_result(message.envelope)

    def _fail(self, error: Exception) -> None:
        for reply, _ in self._waiting.values():
            if not reply.done():
                reply.set_exception(error)


def _guarded(report: Report) -> Callable[[Progress], None]:
    """Return a report whose failures are logged: it is the user's code."""

    def told(progress: Progress) -> None:
        try:
            report(progress)
        except Exception:  # noqa: BLE001 -- as it says
            _log.exception("what was to hear of a request's progress failed")

    return told


def _tell_failure(sent: asyncio.Task[None], reply: asyncio.Future[Envelope]) -> None:
    """Let the one who waits have the error of a request that was not sent."""
    if not sent.cancelled() and (error := sent.exception()) is not None and not reply.done():
        reply.set_exception(error)


async def _end(sending: asyncio.Task[None]) -> None:
    """Wait no more for a confirm that nobody needs."""
    sending.cancel()
    await asyncio.wait([sending])
