"""Inboxes: which messages were handled, so that one that comes again is acknowledged and not handled again.

Brokers deliver at least once: what a worker had handled when it was killed, and not acknowledged yet, comes again. An
inbox remembers the ids; `@worker.handler(..., deduplicate=inbox)` asks it before the handler, and tells it after.
Between the end of a handler and the inbox's commit a kill still makes it come again: to close that gap too, let the
handler note the message in its own transaction, by `SqlInbox.first(session, message)`.
"""

from __future__ import annotations

from pathlib import Path

from anyqueue.inbox.contract import KEEP, Inbox
from anyqueue.inbox.sqlite import SqliteInbox


def open_inbox(where: Inbox | str | Path, *, keep: float = KEEP) -> Inbox:
    """Return the inbox in a SQLite file, by its path, or in a database, by its SQLAlchemy URL. No I/O."""
    if isinstance(where, Inbox):
        return where
    if not isinstance(where, str | Path):
        raise TypeError(f"an inbox is a path, a database's URL or an Inbox, not {type(where).__name__}")
    if "://" not in str(where):
        return SqliteInbox(Path(where), keep=keep)
    from anyqueue.inbox.sql import SqlInbox  # noqa: PLC0415 -- needs SQLAlchemy, which may be missing

    return SqlInbox(str(where), keep=keep)


__all__ = ["KEEP", "Inbox", "SqliteInbox", "open_inbox"]
