"""Mutants: the memory backend, broken in one way each. The suite must notice every one (M2).

A mutant patches a method of the store, the driver or the core for as long as it is entered. Its killers are the cases
that should notice; at least one must fail. A mutant that survives means that a sentence of the contract is not proved.
"""
# ruff: noqa: ANN401, SLF001 -- a mutant passes on whatever it gets, and reaches into what it breaks

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import msgspec

from anyqueue import Client, ConnectionLost, Message
from anyqueue.backends.memory import MemoryDriver, MemorySubscription
from anyqueue.driver import Accept, Reject, Release
from anyqueue.store.lane import Lane
from anyqueue.store.memory import MemoryStore

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

Original = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One way to be broken."""

    name: str
    sentence: str
    killers: tuple[str, ...]
    """Cases of the fast tier that should notice."""
    apply: Callable[[], AbstractContextManager[object]]


MUTANTS: Final[list[Mutant]] = []


def mutant(owner: type, method: str, *killers: str) -> Callable[[Original], Original]:
    """Register a function as the replacement of a method; it is called with the original first."""

    def register(broken: Original) -> Original:
        def apply() -> AbstractContextManager[object]:
            original = getattr(owner, method)

            @functools.wraps(original)
            def replacement(*arguments: Any, **keywords: Any) -> Any:
                return broken(original, *arguments, **keywords)

            return patch.object(owner, method, replacement)

        sentence = (broken.__doc__ or "").strip()
        MUTANTS.append(Mutant(name=broken.__name__.replace("_", " "), sentence=sentence, killers=killers, apply=apply))
        return broken

    return register


_counter = itertools.count(1)


def _every(number: int) -> bool:
    return next(_counter) % number == 0


@mutant(MemoryStore, "put", "O1", "W1")
def drop_1_in_100(put: Original, store: Any, address: Any, batch: Any, now: float) -> None:
    """A confirmed message is not there, one time in a hundred."""
    put(store, address, [envelope for envelope in batch if not _every(100)], now)


@mutant(MemoryStore, "put", "O1", "W1")
def duplicate_1_in_100(put: Original, store: Any, address: Any, batch: Any, now: float) -> None:
    """A message is there twice, one time in a hundred."""
    put(store, address, [copy for envelope in batch for copy in [envelope] * (2 if _every(100) else 1)], now)


@mutant(MemoryStore, "claim", "A5", "A2")
def ack_on_receive(claim: Original, store: Any, holder: Any, limit: int, now: float) -> Any:
    """What is handed over is forgotten at once."""
    claimed = claim(store, holder, limit, now)
    store._lanes[holder.queue].held.clear()
    return claimed


@mutant(MemoryStore, "claim", "O1", "O2")
def swap_neighbours(claim: Original, store: Any, holder: Any, limit: int, now: float) -> Any:
    """Two messages that are next to each other change places."""
    claimed = claim(store, holder, limit, now)
    return [*claimed[1:2], *claimed[:1], *claimed[2:]]


@mutant(MemoryStore, "release_all", "A5", "A1", "W3")
def lose_on_close(release_all: Original, store: Any, holder: Any, now: float, *, counted: bool = False) -> int:
    """What a consumer held is gone when it closes."""
    del release_all, now, counted
    store.drop_all(holder)
    return 0


@mutant(MemoryStore, "claim", "A3")
def forget_redelivered(claim: Original, store: Any, holder: Any, limit: int, now: float) -> Any:
    """A redelivery looks like a first delivery."""
    claimed = claim(store, holder, limit, now)
    return [msgspec.structs.replace(delivery, redelivered=False, attempt=1) for delivery in claimed]


@mutant(MemoryDriver, "send", "R3", "A3")
async def strip_a_header(send: Original, driver: Any, address: Any, batch: Any) -> None:
    """A header with a capital letter in its name is lost."""
    await send(
        driver,
        address,
        [
            msgspec.structs.replace(
                envelope, headers={name: text for name, text in envelope.headers.items() if name.lower() == name}
            )
            for envelope in batch
        ],
    )


@mutant(MemoryDriver, "send", "R1", "R9")
async def cut_at_a_nul(send: Original, driver: Any, address: Any, batch: Any) -> None:
    """A body ends at its first NUL byte."""
    await send(driver, address, [msgspec.structs.replace(one, body=one.body.partition(b"\0")[0]) for one in batch])


@mutant(MemoryDriver, "send", "E3")
async def ignore_expiry(send: Original, driver: Any, address: Any, batch: Any) -> None:
    """Messages never expire."""
    await send(driver, address, [msgspec.structs.replace(envelope, expires_at=None) for envelope in batch])


@mutant(MemoryDriver, "send", "E1", "E2")
async def deliver_early(send: Original, driver: Any, address: Any, batch: Any) -> None:
    """A delay ends a tenth of a second too soon."""
    await send(
        driver,
        address,
        [
            msgspec.structs.replace(envelope, not_before=envelope.not_before and envelope.not_before - 0.1)
            for envelope in batch
        ],
    )


@mutant(MemoryDriver, "send", "E5")
async def ignore_priority(send: Original, driver: Any, address: Any, batch: Any) -> None:
    """Every message is as urgent as any."""
    await send(driver, address, [msgspec.structs.replace(envelope, priority=None) for envelope in batch])


@mutant(MemoryStore, "claim", "T1", "A8", "D1")
def requeue_for_ever(claim: Original, store: Any, holder: Any, limit: int, now: float) -> Any:
    """Attempts are not counted, so a message that always fails is tried for ever."""
    claimed = claim(store, holder, limit, now)
    return [msgspec.structs.replace(delivery, attempt=1) for delivery in claimed]


@mutant(MemoryDriver, "send", "O1", "W1")
async def swallow_a_send_error(send: Original, driver: Any, address: Any, batch: Any) -> None:
    """One send in fifty fails and looks as if it had worked."""
    with contextlib.suppress(ConnectionLost):
        if _every(50):
            raise ConnectionLost("cut while sending")
        await send(driver, address, batch)


@mutant(MemorySubscription, "close", "W3", "A1", "A7")
async def leak_a_consumer(close: Original, subscription: Any) -> None:
    """A consumer that has closed is still there, and keeps what it held."""
    del close
    subscription._closed = True


@mutant(MemoryDriver, "close", "C1")
async def leak_a_task(close: Original, driver: Any) -> None:
    """Closing a connection leaves a task behind."""
    driver.leaked = asyncio.create_task(asyncio.sleep(3600))
    await close(driver)


@mutant(MemoryStore, "_bury", "A4", "D1", "D2")
def dead_letter_loses_the_body(bury: Original, store: Any, entry: Any, *rest: Any) -> None:
    """A dead letter has no body."""
    entry.envelope = msgspec.structs.replace(entry.envelope, body=b"")
    bury(store, entry, *rest)


@mutant(MemoryStore, "_bury", "A4", "D1")
def no_dead_letter(bury: Original, store: Any, *rest: Any) -> None:
    """What is rejected is gone."""
    del bury, store, rest


@mutant(Client, "redrive", "D5", "D6")
async def redrive_copies(redrive: Original, client: Any, queue: Any, **keywords: Any) -> int:
    """A redrive leaves the dead letters where they are."""

    async def not_now(message: Message) -> None:
        del message

    with patch.object(Message, "ack", not_now):
        return int(await redrive(client, queue, **keywords))


@mutant(MemoryStore, "settle", "A7b")
def too_late_is_fine(settle: Original, store: Any, holder: Any, batch: Any, now: float) -> Any:
    """A settlement that came too late is accepted."""
    settle(store, holder, batch, now)
    return {}


@mutant(MemoryStore, "settle", "A1", "A5")
def forget_acks(settle: Original, store: Any, holder: Any, batch: Any, now: float) -> Any:
    """One accepted message in ten comes again."""
    changed = [(receipt, Release() if isinstance(how, Accept) and _every(10) else how) for receipt, how in batch]
    return settle(store, holder, changed, now)


@mutant(MemoryStore, "settle", "A3", "O3", "A9")
def accept_releases(settle: Original, store: Any, holder: Any, batch: Any, now: float) -> Any:
    """A released message is gone."""
    changed = [(receipt, Accept() if isinstance(how, Release) and how.failed_at else how) for receipt, how in batch]
    return settle(store, holder, changed, now)


@mutant(MemoryStore, "settle", "T2", "T1")
def ignore_the_backoff(settle: Original, store: Any, holder: Any, batch: Any, now: float) -> Any:
    """A release with a delay comes back at once."""
    changed = [
        (receipt, msgspec.structs.replace(how, delay=0.0) if isinstance(how, Release) else how)
        for receipt, how in batch
    ]
    return settle(store, holder, changed, now)


@mutant(MemoryStore, "settle", "D2", "A4")
def forget_why(settle: Original, store: Any, holder: Any, batch: Any, now: float) -> Any:
    """A dead letter does not say why it is one."""
    changed = [(receipt, Reject(how.reason) if isinstance(how, Reject) else how) for receipt, how in batch]
    return settle(store, holder, changed, now)


@mutant(Lane, "give_back", "O3")
def release_to_the_end(give_back: Original, lane: Any, entry: Any, due: float, now: float, *, expires: bool) -> None:
    """A released message comes back behind all others."""
    entry.sequence += 1_000_000
    give_back(lane, entry, due, now, expires=expires)


@mutant(MemoryStore, "_groups", "F1", "F5")
def one_group_starves(groups: Original, store: Any, topic: str, now: float) -> Any:
    """A topic hands its messages to its first two groups only."""
    return groups(store, topic, now)[:2]


@mutant(MemoryStore, "delete", "F4")
def keep_for_the_gone(delete: Original, store: Any, queue: str) -> None:
    """The queue of a subscriber that has gone stays."""
    if not queue.startswith("aq."):
        delete(store, queue)


@mutant(MemoryDriver, "delete", "I7")
async def delete_what_waits(delete: Original, driver: Any, queue: Any) -> None:
    """A queue that is deleted keeps what consumers hold, and what is delayed."""
    del delete
    await driver.purge(queue)


@mutant(MemoryStore, "_declare", "R8")
def fold_names(declare: Original, store: Any, queue: str) -> Any:
    """Names that differ in case are one queue."""
    return declare(store, queue.lower())


@mutant(MemorySubscription, "receive", "W2", "Q1")
async def ignore_prefetch(receive: Original, subscription: Any, limit: int) -> Any:
    """A consumer takes more than it asked for."""
    return await receive(subscription, limit + 5)
