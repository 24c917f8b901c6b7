"""The way of envelopes to one address: batches, each send told its own verdict.

* What is sent while a batch is in flight goes out with the next one, in order.
* A verdict is confirmed, refused or unknown. A lost connection makes the outcome unknown: the batch is sent again with
  the same ids on the next connection until its deadline, which may make duplicates; at the deadline the error says
  `unknown=True`. A send that never reached a driver fails with `unknown=False`.
* The buffer is bounded: past MAX_WAITING messages, send() waits for room.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from anyqueue import hooks
from anyqueue._batcher import Batcher
from anyqueue.errors import BatchFailed, ConnectionLost, Error, SendError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anyqueue._link import Link
    from anyqueue._outgoing import Terms
    from anyqueue.driver import Address, Driver, Envelope

MAX_WAITING: Final = 10_000


class Ticket:
    """Collect the verdicts on the messages of one call of send() or send_many(). `done` is called when all are in."""

    __slots__ = ("_done", "_open", "failures")

    def __init__(self, count: int, done: Callable[[], object]) -> None:
        self.failures: dict[int, SendError] = {}
        self._open = count
        self._done = done

    def tell(self, position: int, failure: SendError | None) -> None:
        """Take the verdict on one message: None is confirmed."""
        if failure is not None:
            self.failures[position] = failure
        self._open -= 1
        if not self._open:
            self._done()


Item = tuple["Envelope", Ticket, int, float]
"""An envelope, its ticket, its position there, and its deadline on the loop's clock."""


class Outbox:
    """The way of envelopes to one address, shared by all who send there: batches, deadlines, reconnects."""

    def __init__(self, link: Link, address: Address, *, terms: Terms, send_timeout: float, tell: hooks.Hooks) -> None:
        self.terms = terms
        self._link = link
        self._address = address
        self._send_timeout = send_timeout
        self._tell = tell
        limits = terms.limits
        self._batcher: Batcher[Item] = Batcher(self._carry, max_batch=limits.max_batch, max_calls=limits.max_sends)
        self._room = asyncio.Event()
        self._room.set()
        self.closed = False

    @property
    def busy(self) -> bool:
        """Say whether anything is under way."""
        return self._batcher.busy

    async def send(self, envelopes: list[Envelope]) -> None:
        """Send and wait for every verdict.

        Raises the SendError of a message sent alone, BatchFailed for several. Cancelling stops the waiting; what was
        already handed over may still be sent.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._send_timeout
        done: asyncio.Future[None] = loop.create_future()
        ticket = Ticket(len(envelopes), partial(_finish, done))
        await self._hand_over([(envelope, ticket, position, deadline) for position, envelope in enumerate(envelopes)])
        await done
        if ticket.failures:
            raise self._verdict(ticket.failures, len(envelopes))

    def post(self, envelope: Envelope, done: Callable[[], object]) -> Ticket:
        """Send one message and return at once; `done` is called when the ticket has its verdict.

        It does not wait for room: for callers that send one after the other, each in a thread of its own.
        """
        ticket = Ticket(1, done)
        if self.closed:
            ticket.tell(0, self._failure("it was never sent", unknown=False))
        else:
            deadline = asyncio.get_running_loop().time() + self._send_timeout
            self._batcher.add((envelope, ticket, 0, deadline))
        return ticket

    async def _hand_over(self, items: list[Item]) -> None:
        """Hand over what belongs together, as there is room; what has none by the deadline is told so."""
        now, at = asyncio.get_running_loop().time, 0
        while at < len(items):
            _, ticket, position, deadline = items[at]
            if len(self._batcher) >= MAX_WAITING:
                await self._wait_for_room(deadline)
            if self.closed or now() >= deadline:
                ticket.tell(position, self._failure("it was never sent", unknown=False))
                at += 1
            else:
                room = max(1, MAX_WAITING - len(self._batcher))
                self._batcher.add_all(items[at : at + room])
                at += room

    async def flush(self) -> None:
        """Wait until nothing is under way."""
        await self._batcher.flush()

    def close(self) -> None:
        """Fail what has not been sent."""
        self.closed = True
        for _, ticket, position, _ in self._batcher.abandon():
            ticket.tell(position, self._failure("the client was closed", unknown=False))

    async def _wait_for_room(self, deadline: float) -> None:
        self._room.clear()
        try:
            async with asyncio.timeout_at(deadline):
                await self._room.wait()
        except TimeoutError:
            return

    async def _carry(self, batch: list[Item]) -> None:
        try:
            failures = await self._deliver([item[0] for item in batch], batch[0][3])
        except BaseException:
            for _, ticket, position, _ in batch:
                ticket.tell(position, self._failure("the client was closed under it", unknown=True))
            raise
        for index, (_, ticket, position, _) in enumerate(batch):
            ticket.tell(position, failures.get(index))
        if len(self._batcher) < MAX_WAITING:
            self._room.set()
        if self._tell:
            ids = tuple(item[0].id for index, item in enumerate(batch) if index not in failures)
            self._tell(hooks.Sent(url=str(self.terms.url), queue=self._address.name, ids=ids))

    async def _deliver(self, envelopes: list[Envelope], deadline: float) -> Mapping[int, SendError]:
        """Send over as many connections as it takes; return what failed, by position."""
        unknown = False
        driver: Driver | None = None
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    driver = None
                    driver = await self._link.driver()
                    try:
                        await driver.send(self._address, envelopes)
                    except ConnectionLost as error:
                        unknown = True
                        self._link.lost(driver, error)
                    else:
                        return {}
        except TimeoutError as error:
            if driver is not None:
                self._link.lost(driver, ConnectionLost("no confirm by the deadline", url=self.terms.url))
            what = f"not confirmed within {self._send_timeout:g} s"
            return self._all(envelopes, what, error, unknown=unknown or driver is not None)
        except BatchFailed as error:
            return error.failures
        except Error as error:
            return self._all(envelopes, "the message was not sent", error, unknown=unknown)

    def _all(self, envelopes: list[Envelope], what: str, cause: Exception, *, unknown: bool) -> dict[int, SendError]:
        if isinstance(cause, SendError):
            return dict.fromkeys(range(len(envelopes)), cause)
        if isinstance(cause, Error):
            what = f"{what}: {cause.what}"
        failures = {}
        for index in range(len(envelopes)):
            failures[index] = self._failure(what, unknown=unknown, hint=getattr(cause, "hint", None))
            failures[index].__cause__ = cause
        return failures

    def _failure(self, what: str, *, unknown: bool, hint: str | None = None) -> SendError:
        hint = hint or ("the broker may have it: sending it again may make a duplicate" if unknown else None)
        return SendError(what, unknown=unknown, queue=self._address.name, url=self.terms.url, hint=hint)

    def _verdict(self, failures: dict[int, SendError], count: int) -> SendError:
        first = failures[min(failures)]
        if count == 1:
            return first
        error = BatchFailed(
            f"{len(failures)} of {count} messages were not confirmed; the first: {first.what}",
            failures=dict(sorted(failures.items())),
            queue=self._address.name,
            url=self.terms.url,
            hint=first.hint,
        )
        error.__cause__ = first
        return error


def _finish(done: asyncio.Future[None]) -> None:
    if not done.done():  # nobody waits any more, where it was cancelled
        done.set_result(None)
