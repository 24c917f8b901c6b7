"""What a session remembers of nodes has an end: a responder sees a new reply queue with each of its requesters."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from anyqueue.backends.xmpp import nodes, stanzas
from anyqueue.backends.xmpp.nodes import Nodes
from anyqueue.backends.xmpp.stanzas import Answer

if TYPE_CHECKING:
    import pytest


class Service:
    """Has every node, and holds a hundred items in each."""

    url = "xmpp://model"
    target = SimpleNamespace(options=SimpleNamespace(max_items=100, declare="never"))

    def __init__(self) -> None:
        self.asked = 0

    async def ask(self, _kind: str, _content: str) -> Answer:
        """Say what a node is set to."""
        self.asked += 1
        form = ET.Element("pubsub")
        field = ET.SubElement(form, f"{{{stanzas.DATA}}}field", var="pubsub#max_items")
        ET.SubElement(field, f"{{{stanzas.DATA}}}value").text = "100"
        return Answer(form)


async def test_the_first_nodes_are_forgotten_and_looked_at_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "KNOWN", 50)
    service: Any = Service()
    seen = Nodes(service)
    for number in range(120):
        await seen.reach(f"node-{number}", "q")
    assert [number for number in range(120) if seen.knows(f"node-{number}")] == list(range(70, 120))
    await seen.reach("node-119", "q")
    assert service.asked == 120
    await seen.reach("node-0", "q")
    assert service.asked == 121
    assert seen.most("node-0") == 100
