"""The outbox's table, and how a message becomes a row of it."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import registry

from anyqueue import ConfigError, Queue, Topic, codecs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    Transaction = Session | AsyncSession | sa.Connection

metadata: Final = sa.MetaData()
OUTBOX: Final = sa.Table(
    "anyqueue_outbox",
    metadata,
    sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(200), nullable=False),
    sa.Column("kind", sa.String(5), nullable=False),
    sa.Column("address", sa.String(400), nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("content_type", sa.String(200)),
    sa.Column("headers", sa.Text, nullable=False),
    sa.Column("correlation_id", sa.String(200)),
    sa.Column("reply_to", sa.String(200)),
    sa.Column("priority", sa.Integer),
    sa.Column("not_before", sa.Float(53)),
    sa.Column("expires_at", sa.Float(53)),
    sa.Column("failure", sa.Text),
)
"""The table; made by Outbox.create(), or by your own migrations. `failure`: why the relay cannot send a row at all."""


class Event:
    """A row of the outbox."""

    def __init__(self, **columns: object) -> None:
        for name, value in columns.items():
            setattr(self, name, value)


registry(metadata=metadata).map_imperatively(Event, OUTBOX)


class Outbox:
    """Puts messages into a transaction."""

    def create(self, engine: sa.Engine) -> None:
        """Make the table, if it is not there."""
        metadata.create_all(engine)

    def send(  # noqa: PLR0913 -- each is its own, optional, keyword
        self,
        session: Transaction,
        address: str | Queue | Topic,
        payload: object,
        *,
        id: str | None = None,  # noqa: A002 -- the field's own word
        headers: Mapping[str, str] | None = None,
        content_type: str | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        delay: float | None = None,
        expires: float | None = None,
        priority: int | None = None,
    ) -> str:
        """Add a message to the transaction of a Session, AsyncSession or Connection; return its id.

        As Producer.send(): but nothing is sent before the commit, and never after a rollback. Raises TypeError or
        ValueError for what cannot be a message; what only the broker refuses, the relay finds out.
        """
        body, content = codecs.encode(payload, content_type)
        now = time.time()
        target = address if isinstance(address, Queue | Topic) else Queue(address)
        identity = id or uuid.uuid4().hex
        row = {
            "id": identity,
            "kind": "topic" if isinstance(target, Topic) else "queue",
            "address": target.name,
            "body": body,
            "content_type": content,
            "headers": msgspec.json.encode(_checked(headers or {})).decode(),
            "correlation_id": correlation_id,
            "reply_to": reply_to,
            "priority": priority,
            "not_before": None if delay is None else now + delay,
            "expires_at": None if expires is None else now + expires,
        }
        if isinstance(session, sa.Connection):
            session.execute(sa.insert(OUTBOX).values(**row))
        else:
            session.add(Event(**row))
        return identity

    def producer(self, address: str | Queue | Topic) -> OutboxProducer:
        """Return what sends to one address, each time in a transaction that it is given."""
        return OutboxProducer(self, address if isinstance(address, Queue | Topic) else Queue(address))


@dataclass(frozen=True, slots=True)
class OutboxProducer:
    """Sends to one queue or topic."""

    outbox: Outbox
    address: Queue | Topic

    def send(self, session: Transaction, payload: object, **fields: Any) -> str:  # noqa: ANN401 -- those of Outbox.send()
        """Add a message to a transaction, as Outbox.send()."""
        return self.outbox.send(session, self.address, payload, **fields)


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    for name, text in headers.items():
        if {type(name), type(text)} != {str}:
            raise TypeError(f"headers are str to str; {name!r} is {type(name).__name__} to {type(text).__name__}")
        if not name or name.lower().startswith("aq-"):
            raise ConfigError(f"a header's name is not empty and does not begin with 'aq-': {name!r}")
    return dict(headers)
