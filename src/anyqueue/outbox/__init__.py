"""An outbox: messages that are sent if and only if a database transaction commits. Needs SQLAlchemy.

    with Session(engine) as session, session.begin():
        session.add(order)
        outbox.send(session, "orders", {"id": order.id})

The message is a row of the same transaction; a relay (`anyqueue relay DATABASE-URL BROKER-URL`) sends it after the
commit and removes it. A relay that is killed in between sends it again, with the same id.
"""

from __future__ import annotations

from anyqueue import ConfigError

try:
    from anyqueue.outbox.relay import Relay
    from anyqueue.outbox.table import Event, Outbox, OutboxProducer, metadata
except ModuleNotFoundError as error:
    raise ConfigError(f"an outbox needs {error.name}", hint="pip install 'anyqueue[outbox]'") from error

__all__ = ["Event", "Outbox", "OutboxProducer", "Relay", "metadata"]
