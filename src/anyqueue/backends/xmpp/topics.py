"""Who listens to a topic: whoever is subscribed to its node, and its named groups, which are queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyqueue.backends.xmpp import codec, names, stanzas

if TYPE_CHECKING:
    from anyqueue.backends.xmpp.nodes import Nodes
    from anyqueue.backends.xmpp.session import Session


class Topics:
    """The topics that one session uses."""

    def __init__(self, session: Session, nodes: Nodes) -> None:
        self._session = session
        self._nodes = nodes
        self._groups: dict[str, list[str]] = {}

    async def known(self, topic: str) -> list[str]:
        """Return the nodes of the named groups as they were seen last; look where they never were."""
        if topic not in self._groups:
            return self.read(topic, await self._session.ask(*self.listing(topic)))
        return self._groups[topic]

    def listing(self, topic: str) -> tuple[str, str]:
        """Return the request for the named groups."""
        return "get", stanzas.list_ids(names.groups_node(topic))

    def read(self, topic: str, answer: stanzas.Answer) -> list[str]:
        """Note what listing() brought, and return the nodes."""
        if answer.refusal is not None and answer.refusal.condition != stanzas.NOT_FOUND:
            raise self._nodes.explain(answer.refusal, "the groups of the topic cannot be read", topic)
        self._groups[topic] = stanzas.read_ids(answer.content)
        return self._groups[topic]

    async def join(self, topic: str, queue: str) -> None:
        """Write a named group down: from now on whoever sends sends to it."""
        node = names.groups_node(topic)
        await self._nodes.ensure(node, topic)
        record = f"<group xmlns='{codec.NAMESPACE}'/>"
        answer = await self._session.ask(*self._nodes.publish(node, names.ready_node(queue), record))
        if answer.refusal is not None:
            self._nodes.forget(node)
            raise self._nodes.explain(answer.refusal, "the group cannot be written down", topic)

    async def leave(self, topic: str, node: str) -> None:
        """Strike out a group whose queue was deleted."""
        await self._session.ask("set", stanzas.retract(names.groups_node(topic), node))
