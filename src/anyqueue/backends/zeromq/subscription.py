"""What the hub hands to one consumer, and what becomes of it.

receive() gives the hub credit for as many as it may return, and takes it back when it is cancelled: what the hub handed
out meanwhile is what the next receive() returns.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from anyqueue.backends.zeromq import protocol as p
from anyqueue.driver import Accept, BatchSettleFailed, Delivery, Inbox, Queue, Reject, Release, Settlement, Subscription
from anyqueue.errors import Closed, ConnectionLost, Error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anyqueue.backends.zeromq.session import Answer, Session

_LATE = "it was no longer held"


class ZeromqSubscription(Subscription):
    """A hold on one queue of a hub."""

    def __init__(self, session: Session, number: int, *, dead_letters: bool) -> None:
        self.dead_letters = dead_letters
        self._session = session
        self._number = number
        self._inbox: Inbox[Delivery] = Inbox()
        self._credit = 0
        """How many more the hub may hand out."""
        self._over: Error | None = None
        """Why nothing comes any more; what is still in the inbox is no longer ours."""

    def begin(self, home: str) -> None:
        """The hub has it."""
        self.home = Queue(home)

    def put(self, handed: Sequence[p.Handed]) -> None:
        """Take deliveries from the hub."""
        self._credit = max(self._credit - len(handed), 0)
        put = self._inbox.put
        for number, attempt, redelivered, first_failure, envelope in handed:
            put(
                Delivery(
                    envelope=envelope,
                    receipt=number,
                    attempt=attempt,
                    redelivered=redelivered,
                    first_failure=first_failure,
                )
            )

    def end(self, error: Error) -> None:
        """Nothing comes any more, for this reason."""
        self._over = self._over or error
        self._inbox.fail(self._over)

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """Take what is here, or wait for it."""
        self._check()
        if not self._inbox and not (limit + 1) // 2 <= self._credit <= limit:
            self._give(limit)  # half of it is enough until then: one message for the credit of several
        try:
            deliveries = await self._inbox.get(limit)
        except asyncio.CancelledError:
            self._give(0)
            raise
        self._check()
        return deliveries

    async def settle(self, batch: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Settle by number; return once the hub has stored it.

        Should the hub be unable to, the connection is given up, so that all it held goes back.
        """
        self._check()
        places = {delivery.receipt: index for index, (delivery, _) in enumerate(batch)}
        asked = [self._ask(accepted, others) for accepted, others in _parts(batch)]
        late = [number for answer in asked for number in self._late(await answer)]
        if late:
            raise BatchSettleFailed({places[number]: _LATE for number in late})

    async def close(self) -> None:
        """Give back what is unsettled, uncounted."""
        self.end(Closed("this subscription is closed", queue=self.home.name if self.home else None))
        left = self.abandon()
        if left is not None:
            await left

    def abandon(self) -> asyncio.Future[Answer] | None:
        """Have the hub forget it, and return its answer; None where it need not know."""
        if self._session.subscriptions.pop(self._number, None) is None:
            return None
        return self._session.ask(lambda request: p.Unsubscribe(request, self._number))

    def _give(self, credit: int) -> None:
        self._credit = credit
        self._session.tell(p.Credit(self._number, credit))

    def _ask(self, accepted: list[int], others: list[p.Settlement]) -> asyncio.Future[Answer]:
        return self._session.ask(lambda request: p.Settle(request, self._number, accepted, others))

    def _late(self, answer: Answer) -> list[int]:
        if isinstance(answer, Error):
            raise answer
        reply, _ = answer
        if isinstance(reply, p.Settled):
            return reply.late
        why = reply.text if isinstance(reply, p.Refused) else "it does not say why"
        raise self._session.lose(ConnectionLost(f"the hub could not settle: {why}"))

    def _check(self) -> None:
        if self._over is not None:
            raise self._over


def _parts(batch: Sequence[tuple[Delivery, Settlement]]) -> Iterator[tuple[list[int], list[p.Settlement]]]:
    """Yield a batch as what one message holds: numbers that are accepted, and other settlements.

    A message has at most MAX_BATCH of them, and about CHUNK bytes of headers.
    """
    accepted: list[int] = []
    others: list[p.Settlement] = []
    size = 0
    for delivery, settlement in batch:
        number: int = delivery.receipt  # type: ignore[assignment]  # put() made it
        if isinstance(settlement, Accept):
            accepted.append(number)
        else:
            others.append(_settlement(number, settlement))
            size += sum(len(name) + len(value) for name, value in others[-1].headers.items())
        if size > p.CHUNK or len(accepted) + len(others) >= p.MAX_BATCH:
            yield accepted, others
            accepted, others, size = [], [], 0
    if accepted or others:
        yield accepted, others


def _settlement(number: int, settlement: Release | Reject) -> p.Settlement:
    if isinstance(settlement, Release):
        return p.Settlement(number, "release", settlement.delay, settlement.failed_at)
    return p.Settlement(number, "reject", reason=settlement.reason, headers=dict(settlement.headers))
