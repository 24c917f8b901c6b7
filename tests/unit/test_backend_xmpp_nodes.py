"""What a session remembers of nodes has an end, and senders at once let no more in than a node has room for."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from anyqueue.backends.xmpp import nodes, stanzas
from anyqueue.backends.xmpp.nodes import Nodes
from anyqueue.backends.xmpp.stanzas import Answer
from anyqueue.errors import QueueFull

if TYPE_CHECKING:
    import pytest


class Service:
    """Has every node, and has room for a hundred items in each."""

    url = "xmpp://model"
    target = SimpleNamespace(options=SimpleNamespace(max_items=100, declare="never"))

    def __init__(self) -> None:
        self.asked = self.counted = self.there = 0

    async def ask_all(self, requests: list[tuple[str, str]]) -> list[Answer]:
        """List what is there, after a while."""
        self.counted += 1
        there = self.there
        await asyncio.sleep(0)
        ready = ET.Element("query")
        for number in range(there):
            ET.SubElement(ready, f"{{{stanzas.ITEMS}}}item", name=f"item-{number}")
        return [Answer(ready), *(Answer(ET.Element("query")) for _ in requests[1:])]

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


async def test_senders_at_once_count_one_after_another_and_let_no_more_in_than_there_is_room() -> None:
    service: Any = Service()
    seen = Nodes(service)
    full = 0

    async def sender() -> None:
        nonlocal full
        await seen.reach("node", "q")
        try:
            async with seen.admitted("node", "q", 20):
                await asyncio.sleep(0)  # while it waits for its place on the stream
                service.there += 20
        except QueueFull:
            full += 1

    await asyncio.gather(*(sender() for _ in range(12)))
    assert (service.there, full) == (80, 8)  # of a hundred, a tenth of them spare
    assert service.counted == 4  # who waited while a count found it full needs none of its own
    service.there = 0
    await sender()
    assert (service.there, service.counted) == (20, 5)


async def test_one_count_serves_all_that_wait_for_it() -> None:
    service: Any = Service()
    seen = Nodes(service)

    async def sender() -> None:
        await seen.reach("node", "q")
        async with seen.admitted("node", "q", 1):
            service.there += 1

    await asyncio.gather(*(sender() for _ in range(10)))
    assert (service.there, service.counted) == (10, 1)
