"""An inbox in any database of SQLAlchemy: for workers on several machines, or beside the handlers' own tables."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from anyqueue import ConfigError
from anyqueue.inbox.contract import KEEP, Inbox

try:
    import sqlalchemy as sa
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError
except ModuleNotFoundError as error:
    raise ConfigError(f"an inbox in a database needs {error.name}", hint="pip install 'anyqueue[outbox]'") from error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.orm import Session

    from anyqueue import Message, sync

metadata: Final = sa.MetaData()
INBOX: Final = sa.Table(
    "anyqueue_inbox",
    metadata,
    sa.Column("queue", sa.String(400), primary_key=True),
    sa.Column("id", sa.String(200), primary_key=True),
    sa.Column("at", sa.Float(53), nullable=False, index=True),
)
"""The table; made when it is first used, or by your own migrations."""


class SqlInbox(Inbox):
    """A table `anyqueue_inbox`. `where`: an engine, or the URL of one; `keep`: seconds to remember an id."""

    def __init__(self, where: str | sa.Engine, *, keep: float = KEEP) -> None:
        super().__init__(keep)
        self._engine = engine_of(where)
        self._ours = not isinstance(where, sa.Engine)
        self._made = False

    def seen(self, queue: str, ids: Sequence[str]) -> set[str]:
        """Look the ids up."""
        query = sa.select(INBOX.c.id).where(INBOX.c.queue == queue, INBOX.c.id.in_(ids))
        with self._begin() as connection:
            return {str(identity) for (identity,) in connection.execute(query)}

    def done(self, queue: str, ids: Sequence[str]) -> None:
        """Insert the ids, in one transaction."""
        now = time.time()
        with self._begin() as connection:
            for identity in ids:
                _insert(connection, queue, identity, now)
            if (before := self._overdue(now)) is not None:
                connection.execute(sa.delete(INBOX).where(INBOX.c.at < before))

    def first(
        self, session: Session | sa.Connection, message: Message | sync.Message, *, group: str | None = None
    ) -> bool:
        """Note a message in the handler's own transaction; False: it was handled before, and there is nothing to do.

        Of a topic, name the `group`: each handles the message once.

        What the handler writes in this transaction happens once, whoever is killed when. Two deliveries of one message
        at the same time wait for each other here, as the database has it.
        """
        queue = f"{message.queue} ({group})" if group else message.queue
        return _insert(session, queue, message.id, time.time())

    def create(self) -> None:
        """Make the table, if it is not there."""
        metadata.create_all(self._engine)

    def close(self) -> None:
        """Close the connections."""
        if self._ours:
            self._engine.dispose()

    @contextlib.contextmanager
    def _begin(self) -> Iterator[sa.Connection]:
        try:
            if not self._made:
                self.create()
                self._made = True
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise OSError(f"the inbox in {self._engine.url!r}: {_brief(error)}") from error


def engine_of(where: str | sa.Engine) -> sa.Engine:
    """Return the engine of a URL. Raises ConfigError for a URL that names none; no I/O."""
    if isinstance(where, sa.Engine):
        return where
    try:
        return sa.create_engine(where, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise ConfigError(f"this database cannot be used: {error}") from error


def _insert(session: Session | sa.Connection, queue: str, identity: str, now: float) -> bool:
    """Insert a row, and say whether it was not there.

    In one statement where the database has one: a savepoint would begin, and end, a transaction of sqlite3's own.
    """
    row: dict[str, Any] = {"queue": queue, "id": identity, "at": now}
    bind = session if isinstance(session, sa.Connection) else session.get_bind()
    upsert: Any = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}.get(bind.dialect.name)
    if upsert is not None:
        statement = upsert(INBOX).values(**row).on_conflict_do_nothing().returning(INBOX.c.id)
        return session.execute(statement).first() is not None
    try:
        with session.begin_nested():
            session.execute(sa.insert(INBOX).values(**row))
    except IntegrityError:
        return False
    return True


def _brief(error: SQLAlchemyError) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().split("\n", 1)[0]
