"""xmpp:// where a queue fills: what has no room is refused, and what was confirmed is there."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest
from launching import altered
from xmpp_accounts import delete, raw, unsent

import anyqueue
from anyqueue import BatchFailed, ConfigError, QueueFull, QueueMismatch, Topic
from anyqueue.testing.targets.xmpp_witness import node_of

if TYPE_CHECKING:
    from pathlib import Path

    from launching import Launch

pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(900),  # the first of them may have to install packages
    pytest.mark.xdist_group("brokers-launched"),
]


@pytest.mark.parametrize("room", [20, 18])
async def test_a_full_queue_takes_no_more_and_drops_nothing(xmpp: str, room: int) -> None:
    """Neither where messages are held, nor when they come back, nor in the queue of a topic's group.

    What anyqueue makes has room for more, so max_items= is the limit; of a node that has no more, a tenth stays free.
    """
    small = f"{xmpp}&max_items=20"
    topic, group = Topic("full-topic"), "aq.group.full-topic:g"
    async with raw(xmpp) as witness, anyqueue.connect(small) as client:
        await delete(witness, "full", group)
        if room < 20:
            settings = {"persist_items": "1", "max_items": "20", "access_model": "whitelist"}
            await witness.create(node_of("full"), settings)
            await witness.create(node_of(group), settings)
        sent = 0
        with unsent(QueueFull, "which keeps a tenth spare" if room < 20 else "raise max_items="):
            while sent < 25:
                await client.send("full", b"%d" % sent)
                sent += 1
        assert sent == room
        async with client.consumer("full", prefetch=10) as messages:
            held = await messages.receive(10, timeout=20)
            with unsent(QueueFull, f"holds {room} messages"):
                await client.send("full", b"no room while they may come back")
            for each in held:
                await each.retry(delay=0)
        async with client.consumer("full", prefetch=room, dead_letter=None) as messages:
            bodies: set[bytes] = set()
            while len(bodies) < sent:
                for each in await messages.receive(room):
                    bodies.add(each.body)
                    await each.ack()
        assert bodies == {b"%d" % number for number in range(sent)}
        async with client.consumer(topic, group="g", dead_letter=None):
            pass
        with unsent(QueueFull, f"holds {room} messages"):
            for number in range(25):
                await client.send(topic, b"%d" % number)
        assert len(await witness.ids(node_of(group))) == room


@pytest.mark.parametrize("clients", [1, 3])
@pytest.mark.parametrize("name", ["crowded", Topic("crowded-topic")])
async def test_batches_at_once_into_a_queue_that_fills_drop_nothing(xmpp: str, name: str | Topic, clients: int) -> None:
    """Each batch of a client counts what those before it put there; those of others have room beyond max_items=.

    A server drops the oldest beyond its own limit without a word.
    """
    node = node_of("aq.group.crowded-topic:g" if isinstance(name, Topic) else name)
    url = f"{xmpp}&max_items=300"

    async def confirmed() -> int:
        async with anyqueue.connect(url) as client:
            with pytest.raises(BatchFailed) as failed:
                await client.producer(name).send_many([b"%d" % number for number in range(1200)])
        assert all(isinstance(each.__cause__, QueueFull) for each in failed.value.failures.values())
        return 1200 - len(failed.value.failures)

    async with raw(xmpp) as witness, anyqueue.connect(url) as client:
        await delete(witness, "crowded", "aq.group.crowded-topic:g")
        async with client.consumer(name, group="g" if isinstance(name, Topic) else None, dead_letter=None):
            pass
        counted = sum(await asyncio.gather(*(confirmed() for _ in range(clients))))
        assert 100 <= counted <= 300 * clients
        assert len(await witness.ids(node)) == counted


async def test_what_a_full_group_refuses_no_subscriber_hears(xmpp: str) -> None:
    """Not even the first batches of a client that never sent to the topic: it asks for the groups before."""
    topic = Topic("crowded-topic")
    async with raw(xmpp) as witness, anyqueue.connect(f"{xmpp}&max_items=300") as client:
        await delete(witness, "aq.group.crowded-topic:g")
        async with client.consumer(topic, group="g", dead_letter=None):
            pass
        async with client.consumer(topic) as messages, anyqueue.connect(f"{xmpp}&max_items=300") as other:
            with pytest.raises(BatchFailed) as failed:
                await other.producer(topic).send_many([b"%d" % number for number in range(1200)])
            sent = {b"%d" % number for number in range(1200) if number not in failed.value.failures}
            heard: list[bytes] = []
            while batch := await messages.receive(300, timeout=20 if len(heard) < len(sent) else 1):
                heard += [each.body for each in batch]
                for each in batch:
                    await each.ack()
    assert Counter(heard) == Counter(sent)


@pytest.mark.parametrize("wrong", [{"persist_items": "0"}, {"max_items": "5"}])
async def test_a_node_with_other_settings_is_refused(xmpp: str, wrong: dict[str, str]) -> None:
    settings = {"persist_items": "1", "max_items": "1000", "access_model": "whitelist", **wrong}
    async with raw(xmpp) as witness, anyqueue.connect(xmpp) as client:
        await delete(witness, "other")
        await witness.create(node_of("other"), settings)
        with unsent(QueueMismatch, next(iter(wrong))):
            await client.send("other", b"x")


LIMITS: Final = {
    "prosody": ("prosody/prosody.cfg.lua", "pubsub_max_items = 100000", "pubsub_max_items = 300"),
    "ejabberd": ("ejabberd/ejabberd.yml", "max_items_node: 100000", "max_items_node: 300"),
}


@pytest.mark.parametrize("server", LIMITS)
async def test_a_server_that_lets_no_node_be_large_keeps_a_tenth_spare(
    apart: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    file, usual, small = LIMITS[server]
    copy = altered(tmp_path, file, lambda text: text.replace(usual, small))
    monkeypatch.setattr("launching.LAUNCH", copy / "launch.py")
    apart.start(server)
    url = apart("url", server).strip()
    async with anyqueue.connect(f"{url}&max_items=40") as client:
        with unsent(QueueFull, "holds 36 messages"):
            for number in range(40):
                await client.send("small", b"%d" % number)
    async with anyqueue.connect(f"{url}&max_items=400") as client:
        with unsent(ConfigError, "lets no node have max_items=400"):
            await client.send("too large", b"x")
        with unsent(QueueFull, "holds 36 messages"):
            await client.send("small", b"it is there, however small")
