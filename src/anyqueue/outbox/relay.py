"""The relay: rows of an outbox become messages, in the order of the rows.

One relay leads, the others wait: for PostgreSQL by a lock in the database, for SQLite by a file beside it. Rows are
read, sent, and removed once the broker has confirmed them; no transaction is open meanwhile. A row that can never be
sent is marked with the reason and left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from anyqueue import ConfigError, Error, Queue, Topic, Unroutable, Unsupported
from anyqueue.leader import FileLock, Lock, open_lock
from anyqueue.outbox.table import OUTBOX, metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyqueue import Client

    Row = sa.Row[Any]

T = TypeVar("T")
_log = logging.getLogger(__name__)
BATCH: Final = 200
POLL: Final = 0.2
"""Seconds between two looks at an outbox that was empty."""
AGAIN: Final = 1.0
"""Seconds between two tries when the database or the broker is away."""
NEVER: Final = (ValueError, TypeError, Unroutable, Unsupported)
"""What no second try mends."""


class Relay:
    """Moves an outbox into a broker. `database`: an engine, or the URL of one; the client is open."""

    def __init__(self, database: str | sa.Engine, client: Client, *, poll: float = POLL) -> None:
        self._engine = _engine(database)
        self._ours = not isinstance(database, sa.Engine)
        self._client = client
        self._poll = poll
        self._stopping = asyncio.Event()
        self._lock = _lock(self._engine)
        self._told = ""
        self.sent = 0

    def stop(self) -> None:
        """Begin no more rows; run() returns once those begun are sent and removed."""
        self._stopping.set()

    async def run(self, *, until_empty: bool = False) -> int:
        """Relay until stop(), or once until nothing is left; return how many were sent."""
        try:
            await self._lead()
            while not self._stopping.is_set():
                rows = await self._patiently(self._read)
                if rows:
                    await self._relay(rows)
                elif until_empty:
                    break
                else:
                    await self._pause(self._poll)
        finally:
            if self._lock is not None:
                self._lock.release()
            if self._ours:
                self._engine.dispose()
        return self.sent

    async def _lead(self) -> None:
        await self._patiently(self._create)
        while self._lock is not None and not self._stopping.is_set():
            if await _in_thread(self._lock.acquire):
                _log.info("leading the relays")
                return
            await self._pause(AGAIN / 2)

    async def _relay(self, rows: Sequence[Row]) -> None:
        """Send rows, remove those that are confirmed, mark those that never will be, leave the others for later."""
        if self._lock is not None and not await _in_thread(self._lock.held):
            self._tell("the lock of the relays is lost")
            await self._lead()
            return
        outcomes = await asyncio.gather(*map(self._send, rows), return_exceptions=True)
        pairs = list(zip(rows, outcomes, strict=True))
        done = [row.sequence for row, outcome in pairs if outcome is None]
        bad = {row.sequence: str(outcome) for row, outcome in pairs if isinstance(outcome, NEVER)}
        later = [
            outcome for outcome in outcomes if isinstance(outcome, BaseException) and not isinstance(outcome, NEVER)
        ]
        await self._patiently(lambda: self._settle(done, bad))
        self.sent += len(done)
        for row, outcome in pairs:
            if isinstance(outcome, NEVER):
                _log.error("a row of the outbox cannot be sent: %s", outcome, extra={"id": row.id})
        if later:
            self._tell(f"rows of the outbox wait: {later[0]}")
            await self._pause(AGAIN)
        elif done:
            self._told = ""
        for outcome in later:
            if not isinstance(outcome, Error):
                raise outcome

    async def _send(self, row: Row) -> None:
        now = time.time()
        address = Topic(row.address) if row.kind == "topic" else Queue(row.address)
        await self._client.send(
            address,
            row.body,
            id=row.id,
            headers=msgspec.json.decode(row.headers, type=dict[str, str]),
            content_type=row.content_type,
            correlation_id=row.correlation_id,
            reply_to=row.reply_to,
            delay=None if row.not_before is None or row.not_before <= now else row.not_before - now,
            expires=None if row.expires_at is None else max(0.0, row.expires_at - now),
            priority=row.priority,
        )

    def _create(self) -> None:
        metadata.create_all(self._engine)

    def _read(self) -> Sequence[Row]:
        query = sa.select(OUTBOX).where(OUTBOX.c.failure.is_(None)).order_by(OUTBOX.c.sequence).limit(BATCH)
        with self._engine.connect() as connection:
            return connection.execute(query).all()

    def _settle(self, done: Sequence[int], bad: dict[int, str]) -> None:
        with self._engine.begin() as connection:
            if done:
                connection.execute(sa.delete(OUTBOX).where(OUTBOX.c.sequence.in_(done)))
            for sequence, why in bad.items():
                connection.execute(sa.update(OUTBOX).where(OUTBOX.c.sequence == sequence).values(failure=why))

    async def _patiently(self, call: Callable[[], T]) -> T:
        """Ask the database in a thread, for as long as it is away. Cancelling loses nothing: rows stay."""
        while True:
            try:
                return await _in_thread(call)
            except SQLAlchemyError as error:
                cause = getattr(error, "orig", None) or error
                self._tell(f"the outbox's database cannot be used: {str(cause).strip().splitlines()[0]}")
                await asyncio.sleep(AGAIN)

    def _tell(self, what: str) -> None:
        """Warn once of what lasts."""
        if self._told != what:
            _log.warning("%s", what)
        self._told = what

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


def _engine(database: str | sa.Engine) -> sa.Engine:
    if isinstance(database, sa.Engine):
        return database
    try:
        return sa.create_engine(database, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise ConfigError(f"the outbox's database cannot be used: {error}") from error


def _lock(engine: sa.Engine) -> Lock | None:
    """Return what makes one relay the leader; None where there is no such thing: run one relay there."""
    if engine.dialect.name == "postgresql":
        return open_lock(engine.url.render_as_string(hide_password=False), ["outbox"])
    if engine.dialect.name == "sqlite" and engine.url.database:
        return FileLock(Path(f"{engine.url.database}.relay"))
    return None


async def _in_thread(call: Callable[[], T]) -> T:
    """Call in a thread, and see it end also when cancelled."""
    task = asyncio.create_task(asyncio.to_thread(call))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
