"""amqp:// on a cluster of three nodes: whichever dies under load, nothing is lost and everybody goes on."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import pytest

from anyqueue import Feature
from anyqueue.testing.case import Case
from anyqueue.testing.load import loaded
from anyqueue.testing.runner import probe, run_case
from anyqueue.testing.targets.rabbitmq_cluster import ClusterHarness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from launching import Launch

    from anyqueue.testing.load import Load
    from anyqueue.testing.trial import Trial

pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(900),  # the first of them may have to install packages
    pytest.mark.xdist_group("rabbitmq-launched"),
]
GOES_ON: Final = 15.0
"""Seconds after a node's death in which everybody sends and receives again."""
MESSAGES: Final = 25
"""What must go through every client between two deaths."""


@pytest.fixture
def harness(cluster: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterHarness]:
    """Have the harness of this session's cluster."""
    monkeypatch.setenv("ANYQUEUE_BROKERS_DIR", str(cluster.place.folder))
    monkeypatch.setenv("ANYQUEUE_BROKERS_PORT", str(cluster.place.base))
    made = ClusterHarness()
    made.start(tmp_path)
    yield made
    made.stop()


async def a_node_dies(t: Trial) -> None:
    """N9: any node of a cluster dies under load: nothing confirmed is lost, and everybody goes on.

    A client on each node sends and receives through one quorum queue. The node that leads the queue is killed, then the
    two others in a drawn order, each after the one before it has come back.
    """
    harness, queue = t.harness, t.queue()
    assert isinstance(harness, ClusterHarness)
    nodes = harness.nodes()
    async with contextlib.AsyncExitStack() as stack:
        loads = [await stack.enter_async_context(loaded(t, queue, url, senders=1)) for url in harness.urls()]
        await all_move(loads)
        first = await harness.leader(queue)
        others = [name for name in nodes if name != first]
        t.random.shuffle(others)
        assert first is not None
        for name in (first, *others):
            t.history.ended()
            await asyncio.to_thread(nodes[name].kill)
            await all_move(loads)
            assert await harness.leader(queue) not in {name, None}
            t.history.ended()
            await asyncio.to_thread(nodes[name].start)
        await all_move(loads)
        for load in loads:
            load.stop()
    assert not [error for load in loads for error in load.failed], "a send failed"
    assert all(load.ways.lost for load in loads), "the death of its node was lost on a client"
    t.history.prove()


async def all_move(loads: list[Load]) -> None:
    """Wait until messages have gone through every client."""
    await asyncio.gather(*(load.moved(MESSAGES, GOES_ON) for load in loads))


def test_any_node_may_die(harness: ClusterHarness, pytestconfig: pytest.Config) -> None:
    needs = Feature.CONFIRM | Feature.REDELIVER | Feature.DURABLE
    sentence = "any node of a cluster dies under load: nothing confirmed is lost, and everybody goes on"
    case = Case(
        id="N9", sentence=sentence, group="Reconnect", needs=needs, tier="fault", timeout=90, run=a_node_dies, twin=None
    )
    ran = run_case(case, harness, probe(harness), seed=pytestconfig.getoption("--anyqueue-seed"))
    if ran.error is not None:
        raise ran.error
