"""A lock and a memory in PostgreSQL, for processes on several machines. Needs SQLAlchemy and a driver of PostgreSQL.

The lock is a session's advisory lock: the server frees it when the leader's connection ends, which it notices at once
when the process is killed, and by TCP keepalive when its machine is gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from typing import TYPE_CHECKING, Final

from anyqueue import ConfigError
from anyqueue.leader.lock import Lock

try:
    import sqlalchemy as sa
    from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
    from sqlalchemy.pool import NullPool
except ModuleNotFoundError as error:
    raise ConfigError(f"a lock in a database needs {error.name}", hint="pip install 'anyqueue[outbox]'") from error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_log = logging.getLogger(__name__)
_metadata: Final = sa.MetaData()
MEMORY: Final = sa.Table(
    "anyqueue_schedule",
    _metadata,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("at", sa.Float(53), nullable=False),
)


class DatabaseLock(Lock):
    """A lock in a PostgreSQL database. Who gives the same names contends for the same one."""

    def __init__(self, url: str, names: Iterable[str]) -> None:
        try:
            self._engine = sa.create_engine(url, poolclass=NullPool)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            raise ConfigError(f"the lock's database cannot be used: {error}") from error
        if self._engine.dialect.name != "postgresql":
            what = f"a lock is a path or a PostgreSQL database, not {self._engine.dialect.name}"
            raise ConfigError(what, hint="on one machine, name a file")
        digest = hashlib.sha256("\0".join(sorted(names)).encode()).digest()
        self._key = int.from_bytes(digest[:8], "big", signed=True)
        self._connection: sa.Connection | None = None
        self._away = False

    def acquire(self) -> bool:
        """Ask for the lock on a connection of its own. A database that is away is one whose lock we do not get."""
        connection = None
        try:
            connection = self._engine.connect()
            if connection.scalar(sa.select(sa.func.pg_try_advisory_lock(self._key))):
                connection.commit()
                _metadata.create_all(connection)
                connection.commit()
                self._connection = connection
        except DBAPIError as error:
            if not self._away:
                _log.warning("the lock's database cannot be reached: %s", str(error.orig).strip().splitlines()[0])
            self._away = True
        else:
            self._away = False
        if connection is not None and connection is not self._connection:
            _close(connection)
        return self._connection is not None

    def held(self) -> bool:
        """Say whether the connection still lives: with it lives the lock."""
        try:
            return self._connection is not None and self._live().scalar(sa.select(1)) == 1
        except DBAPIError:
            return False

    def read(self) -> dict[str, float]:
        """Read the table."""
        rows = self._live().execute(sa.select(MEMORY.c.name, MEMORY.c.at)).all()
        self._live().commit()
        return {str(name): float(at) for name, at in rows}

    def write(self, memory: Mapping[str, float]) -> None:
        """Write the rows that changed. Raises OSError."""
        connection = self._live()
        try:
            for name, at in memory.items():
                if not connection.execute(sa.update(MEMORY).where(MEMORY.c.name == name).values(at=at)).rowcount:
                    connection.execute(sa.insert(MEMORY).values(name=name, at=at))
            connection.commit()
        except DBAPIError as error:
            raise OSError(str(error.orig).strip()) from error

    def release(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            _close(self._connection)
            self._connection = None

    def _live(self) -> sa.Connection:
        if self._connection is None:
            raise OSError("the lock is not held")
        return self._connection


def _close(connection: sa.Connection) -> None:
    with contextlib.suppress(DBAPIError):
        connection.close()
