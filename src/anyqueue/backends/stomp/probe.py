"""Does this ActiveMQ have its scheduler on? Its answer is not in CONNECTED, and without one a delay is ignored.

A message with a delay and then one without are sent to a topic. Whoever has a scheduler brings the second first; the
first reaches nobody, seconds later. A selector keeps the probes of others apart.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final

from anyqueue.backends.stomp import frames, headers
from anyqueue.backends.stomp.receipts import Refused
from anyqueue.driver import Inbox
from anyqueue.errors import ConnectionLost, Error

if TYPE_CHECKING:
    from anyqueue.backends.stomp.connection import Connection
    from anyqueue.backends.stomp.frames import Raw
    from anyqueue.backends.stomp.refusals import Refusal

TOPIC: Final = "/topic/aq.scheduler"
DELAY: Final = 10_000
"""Milliseconds: longer than any pause between two frames of one write."""
PATIENCE: Final = 5.0


class _Ear:
    """Who takes the first of the two."""

    def __init__(self) -> None:
        self.inbox: Inbox[Raw] = Inbox()

    def arrived(self, raw: Raw) -> None:
        self.inbox.put(raw)

    def refused(self, refusal: Refusal) -> None:
        self.failed(refusal.of_connection(None))

    def failed(self, error: Error) -> None:
        self.inbox.fail(error)


async def has_scheduler(connection: Connection) -> bool:
    """Ask; False where the broker lets us ask nothing. Raises ConnectionLost."""
    mark, ear = secrets.token_hex(8), _Ear()
    connection.consumer = ear
    identity = f"probe-{mark}"
    try:
        subscribe = {"id": identity, "destination": TOPIC, "ack": "auto", "selector": f"aqprobe = '{mark}'"}
        await connection.ask("SUBSCRIBE", subscribe)
        sent = {"destination": TOPIC, "aqprobe": mark, "persistent": "false"}
        delayed = frames.control("SEND", {**sent, "AMQ_SCHEDULED_DELAY": str(DELAY), "which": "delayed"})
        connection.write(delayed + frames.control("SEND", {**sent, "which": "prompt"}))
        async with asyncio.timeout(PATIENCE):
            ((head, _),) = await ear.inbox.get(1)
        await connection.ask("UNSUBSCRIBE", {"id": identity})
    except (Refused, TimeoutError):
        if connection.lost is not None:
            raise ConnectionLost("the connection was lost while it was probed") from None
        return False
    finally:
        connection.consumer = None
    return ("which", "prompt") in headers.pairs(head)
