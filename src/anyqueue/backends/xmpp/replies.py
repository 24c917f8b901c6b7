"""The reply queues of an account: each ends, with its nodes, some time after its requester.

No server ends a node by itself, so clients do. A requester writes down until when its queue lasts, and writes that anew
for as long as it consumes; any client of the account that begins to consume deletes the queues that have lasted.

The records are items of a node of the account's own, and their ids say all: NODE:UNTIL. A record is there before the
nodes that it names, and goes after them, so whoever is killed in between leaves no node that nobody would delete. A
record is never changed: a later one stands beside it, so nobody strikes out what he has not seen.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from anyqueue.backends.xmpp import codec, names, stanzas
from anyqueue.driver import reply_lasts

if TYPE_CHECKING:
    from anyqueue.backends.xmpp.nodes import Nodes
    from anyqueue.backends.xmpp.session import Session

_log = logging.getLogger(__name__)


class Tenure:
    """How long one reply queue lasts, for the one that consumes from it."""

    def __init__(self, session: Session, nodes: Nodes, queue: str, lasts: int) -> None:
        self.pause = lasts / 2
        """Seconds after which it is renewed: at any time it lasts as long as it must, and at most twice that."""
        self._session = session
        self._nodes = nodes
        self._queue = queue
        self._lasts = lasts
        self._record: str | None = None
        self._renewed = 0.0

    async def renew(self) -> None:
        """Write down until when it lasts, unless that was done a moment ago."""
        now = time.monotonic()
        if self._record is not None and now < self._renewed + self.pause * 0.9:
            return
        node = names.requesters_node(self._session.account)
        await self._nodes.ensure(node, self._queue)
        record = names.tenure_id(names.ready_node(self._queue), time.time() + 2 * self._lasts)
        requests = [self._nodes.publish(node, record, f"<requester xmlns='{codec.NAMESPACE}'/>")]
        if self._record is not None:
            requests.append(("set", stanzas.retract(node, self._record)))
        refusal = (await self._session.ask_all(requests))[0].refusal
        if refusal is not None:
            self._nodes.forget(node)
            raise self._nodes.explain(refusal, "the reply queue cannot be written down", self._queue)
        self._record, self._renewed = record, now


class ReplyQueues:
    """The reply queues of the account of a session."""

    def __init__(self, session: Session, nodes: Nodes) -> None:
        self._session = session
        self._nodes = nodes

    def tenure(self, queue: str) -> Tenure | None:
        """Return how long a queue lasts, if it is a reply queue."""
        lasts = reply_lasts(queue)
        return None if lasts is None else Tenure(self._session, self._nodes, queue, lasts)

    async def sweep(self) -> None:
        """Delete those that have lasted. What the service refuses is logged: it is no matter of whoever consumes."""
        records = names.requesters_node(self._session.account)
        listed = await self._session.ask("get", stanzas.list_ids(records))
        if listed.refusal is not None:
            if listed.refusal.condition != stanzas.NOT_FOUND:
                _log.warning("the reply queues at %s cannot be listed: %s", self._session.url, listed.refusal)
            return
        over = names.tenures_over(stanzas.read_ids(listed.content), time.time())
        for identity, node in over.items():
            if node is None or await self._delete(node):
                await self._session.ask("set", stanzas.retract(records, identity))

    async def _delete(self, ready: str) -> bool:
        """Delete both nodes of a queue; say whether they are gone."""
        nodes = (ready, names.held_beside(ready))
        answers = await self._session.ask_all([("set", stanzas.delete(node)) for node in nodes])
        for node, answer in zip(nodes, answers, strict=True):
            self._nodes.forget(node)
            if answer.refusal is not None and answer.refusal.condition != stanzas.NOT_FOUND:
                _log.warning("node %r at %s cannot be deleted: %s", node, self._session.url, answer.refusal)
                return False
        return True
