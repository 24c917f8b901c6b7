"""gearman://: background jobs as messages, foreground jobs as requests.

* send() returns once the server answered JOB_CREATED for every message: with a persistent queue it has stored them.
* A job stays in its worker's hand until it is settled; a worker whose connection ends gives it back.
* A message is never reported as failed (WORK_FAIL, WORK_EXCEPTION): that deletes the job. A request may be.
* The connection of send() is the driver's own; each subscription has two, to the same server.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, ClassVar, Final

from anyqueue.backends.declared import DECLARED
from anyqueue.backends.gearman import status
from anyqueue.backends.gearman.connection import CREATED, Answers, Connection
from anyqueue.backends.gearman.jobs import Uniques, job_of
from anyqueue.backends.gearman.names import delayed_of, function_of
from anyqueue.backends.gearman.options import Place, place_of
from anyqueue.backends.gearman.protocol import BACKGROUND, JOB_CREATED, SUBMIT_JOB_EPOCH, level_of, submission
from anyqueue.backends.gearman.requests import Requests
from anyqueue.backends.gearman.subscription import GearmanSubscription
from anyqueue.driver import Driver, Feature, Limits, Queue, Spec
from anyqueue.errors import BatchFailed, Closed, ConnectFailed, ConnectionLost, QueueFull, SendError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from anyqueue.driver import Address, Depth, Envelope, Progress
    from anyqueue.errors import Error
    from anyqueue.url import URL

WINDOW: Final = 1024 * 1024
"""Bytes written before the socket is waited for."""
SECOND: Final = 1.0
"""The grain of gearmand's clock."""
SHORT: Final = 0.25
"""Seconds: a shorter delay is too fine for that clock, so its message waits in a consumer's hand."""
MAX_DELAY: Final = 100 * 365 * 86400.0
PATIENCE: Final = 3.0
"""Seconds that one of several servers has to answer, so that the next has its turn."""


FULL: Final = "QUEUE_ERROR"
"""How the server's refusal begins where a queue, or the store behind it, takes no more."""


class GearmanDriver(Driver):
    """A driver on one server."""

    backend: ClassVar[str] = "gearman"

    def __init__(self, url: URL, place: Place) -> None:
        self.features = DECLARED["gearman"]
        if not place.options.durable:
            self.features &= ~Feature.DURABLE
        self.limits = Limits(
            max_sends=4, delay_step=SECOND + place.options.poll, max_delay=MAX_DELAY, priorities=len(BACKGROUND)
        )
        self._url = url
        self._place = place
        self._uniques = Uniques()
        self._connection: Connection | None = None
        self._requests: Requests | None = None
        self._server = place.servers[0]
        self._subscriptions: set[GearmanSubscription] = set()

    @classmethod
    def from_url(cls, url: URL) -> Self:
        """Make an unopened driver."""
        return cls(url, place_of(url))

    async def open(self) -> None:
        """Connect to the first server that answers."""
        several = len(self._place.servers) > 1
        failures: dict[str, Exception] = {}
        for server in self._place.servers:
            try:
                async with asyncio.timeout(PATIENCE if several else None):
                    self._connection = await self._connect(server)
            except (OSError, ConnectionLost, TimeoutError) as error:
                failures[f"{server[0]}:{server[1]}"] = error
            else:
                self._server = server
                return
        said = "; ".join(f"{where}: {_reason(error)}" for where, error in failures.items())
        hint = "is gearmand running, and is this its port?"
        raise ConnectFailed(f"no server answered: {said}", url=self._url, hint=hint) from next(iter(failures.values()))

    async def send(self, address: Address, batch: Sequence[Envelope]) -> None:
        """Submit background jobs, and wait until every one is created."""
        connection = self._live()
        if not isinstance(address, Queue):
            raise self._unsupported(Feature.FANOUT, address.name)
        names = function_of(address.name), delayed_of(address.name)
        answers = Answers(connection, len(batch))
        chunk: list[bytes] = []
        size, now = 0, time.time()
        for envelope in batch:
            chunk.append(self._submission(names, envelope, now))
            size += len(chunk[-1])
            if size >= WINDOW:
                answers.ask(b"".join(chunk), len(chunk), CREATED)
                chunk, size = [], 0
                await connection.drain()
        if chunk:
            answers.ask(b"".join(chunk), len(chunk), CREATED)
        replies = await answers.done
        refused = {index: body for index, (command, body) in enumerate(replies) if command != JOB_CREATED}
        if refused:
            raise self._refusal(refused, len(batch), address.name)

    async def subscribe(self, spec: Spec) -> GearmanSubscription:
        """Announce a worker for the queue, and one for its delayed messages."""
        self._live()
        if not isinstance(spec.address, Queue):
            raise self._unsupported(Feature.FANOUT, spec.address.name)
        connections: list[Connection] = []
        try:
            now = await self._connect(self._server)
            connections.append(now)
            later = await self._connect(self._server)
            connections.append(later)
            subscription = GearmanSubscription(spec.address, now, later, poll=self._place.options.poll)
            await subscription.begin()
        except BaseException as error:
            for connection in connections:
                connection.close()
            if isinstance(error, OSError):
                raise ConnectionLost(f"no connection for a consumer: {error}", url=self._url) from error
            raise
        self._subscriptions.add(subscription)
        subscription.ended = self._subscriptions.discard
        return subscription

    async def request(self, queue: Queue, envelope: Envelope, report: Callable[[Progress], None]) -> Envelope:
        """Submit a foreground job, and wait for its reply."""
        connection = self._live()
        if self._requests is None:
            self._requests = Requests(connection)
        return await self._requests.ask(function_of(queue.name), envelope, report)

    async def queues(self) -> Sequence[tuple[str, Depth]]:
        """Ask for the status of all functions."""
        connection = self._live()
        answers = Answers(connection, 1)
        answers.ask_text(status.QUESTION)
        ((_, reply),) = await answers.done
        return status.read(reply)

    async def depth(self, queue: Queue) -> Depth:
        """Count the messages of a queue."""
        return dict(await self.queues()).get(queue.name, status.NOTHING)

    async def close(self) -> None:
        """Hang up. What subscriptions held goes back, as when their process is killed."""
        for subscription in list(self._subscriptions):
            subscription.hang_up()
        if self._connection is not None:
            self._connection.close()

    async def _connect(self, server: tuple[str, int]) -> Connection:
        options = self._place.options
        host, port = server
        return await Connection.open(
            host, port, tls=self._place.context(), most=options.max_packet, heartbeat=options.heartbeat
        )

    def _live(self) -> Connection:
        if self._connection is None:
            raise Closed("this gearman driver is not open", url=self._url)
        if self._connection.lost is not None:
            raise self._connection.lost.with_traceback(None)
        return self._connection

    def _submission(self, names: tuple[bytes, bytes], envelope: Envelope, now: float) -> bytes:
        """Return the request for one message: at once, or delayed to a whole second of the server's clock."""
        function, delayed = names
        unique, data = job_of(envelope, self._uniques.next())
        due = envelope.not_before
        if due is None or due <= now:
            return submission(BACKGROUND[level_of(envelope.priority)], function, unique, data)
        when = math.floor(due) if due - now < SHORT else math.ceil(due)
        return submission(SUBMIT_JOB_EPOCH, delayed, unique, b"%d\0%b" % (when, data))

    def _refusal(self, refused: Mapping[int, bytes], count: int, queue: str) -> Error:
        """Return the error for what the server did not take."""
        said = {index: body.replace(b"\0", b": ").decode(errors="replace") for index, body in refused.items()}
        first = next(iter(said.values()))
        hint = "it or its store is full: raise `maxqueue`, make room, or let consumers catch up"
        if len(refused) == count and all(text.startswith(FULL) for text in said.values()):
            return QueueFull(f"the server takes no more: {first}", queue=queue, url=self._url, hint=hint)
        failures = {
            index: SendError(f"the server refused it: {text}", queue=queue, url=self._url, hint=hint)
            for index, text in said.items()
        }
        if count == 1:
            return failures[0]
        what = f"the server refused {len(refused)} of {count} messages; the first: {first}"
        return BatchFailed(what, failures=failures, queue=queue, url=self._url, hint=hint)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {PATIENCE:g} s"
    return str(error) or type(error).__name__
