"""A tracker in any database of SQLAlchemy: for several machines."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from anyqueue.driver import Progress
from anyqueue.errors import ConfigError
from anyqueue.progress.contract import Tracker

try:
    import sqlalchemy as sa
    from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError
except ModuleNotFoundError as error:
    raise ConfigError(f"progress in a database needs {error.name}", hint="pip install 'anyqueue[outbox]'") from error

if TYPE_CHECKING:
    from collections.abc import Iterator

metadata: Final = sa.MetaData()
PROGRESS: Final = sa.Table(
    "anyqueue_progress",
    metadata,
    sa.Column("id", sa.String(200), primary_key=True),
    sa.Column("done", sa.Float(53), nullable=False),
    sa.Column("total", sa.Float(53)),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("time", sa.Float(53), nullable=False, index=True),
)


class SqlTracker(Tracker):
    """A table `anyqueue_progress`; made when it is first used."""

    def __init__(self, url: str) -> None:
        super().__init__()
        try:
            self._engine = sa.create_engine(url, pool_pre_ping=True)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            raise ConfigError(f"the progress tracker's database cannot be used: {error}") from error
        self._made = False

    def report(self, identity: str, progress: Progress) -> None:
        """Update the row, or insert it; once more where somebody inserted it in between."""
        try:
            self._write(identity, progress)
        except IntegrityError:
            self._write(identity, progress)

    def read(self, identity: str) -> Progress | None:
        """Select the row."""
        with self._begin() as connection:
            row = connection.execute(sa.select(PROGRESS).where(PROGRESS.c.id == identity)).first()
        return None if row is None else Progress(done=row.done, total=row.total, note=row.note, time=row.time)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _write(self, identity: str, progress: Progress) -> None:
        row = {"done": progress.done, "total": progress.total, "note": progress.note, "time": progress.time}
        with self._begin() as connection:
            updated = connection.execute(sa.update(PROGRESS).where(PROGRESS.c.id == identity).values(**row))
            if not updated.rowcount:
                connection.execute(sa.insert(PROGRESS).values(id=identity, **row))
            if (before := self._overdue(progress.time)) is not None:
                connection.execute(sa.delete(PROGRESS).where(PROGRESS.c.time < before))

    @contextlib.contextmanager
    def _begin(self) -> Iterator[sa.Connection]:
        try:
            if not self._made:
                metadata.create_all(self._engine)
                self._made = True
            with self._engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise OSError(f"the progress tracker's database: {str(cause).strip().splitlines()[0]}") from error
