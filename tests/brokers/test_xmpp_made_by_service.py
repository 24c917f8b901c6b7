"""xmpp:// where the service makes nodes: ejabberd does of whatever is published to, open to all, with 1,000 items."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from slixmpp.exceptions import IqError
from xmpp_accounts import SERVICE, delete, raw

import anyqueue
from anyqueue import BatchFailed, QueueFull, QueueMismatch, Topic
from anyqueue.backends.xmpp import names
from anyqueue.testing.targets.xmpp_witness import node_of

if TYPE_CHECKING:
    from anyqueue import Producer
    from anyqueue.testing.targets.xmpp_raw import Client

pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(900),  # the first of them may have to install packages
    pytest.mark.xdist_group("brokers-launched"),
]


async def turned_away(client: Client, node: str) -> None:
    """Neither is a stranger told of what comes, nor may it read what is there."""
    pubsub = client.plugin["xep_0060"]
    for asked in (pubsub.subscribe(SERVICE, node, timeout=5), pubsub.get_items(SERVICE, node, timeout=5)):
        with pytest.raises(IqError) as refused:
            await asked
        assert refused.value.condition in {"not-allowed", "forbidden", "item-not-found", "not-authorized"}


async def sent_or_full(producer: Producer) -> int:
    """Send a hundred; return how many were confirmed: all, or none, for the queue was full."""
    bodies = [b"%d" % number for number in range(100)]
    outcome = (await asyncio.gather(producer.send_many(bodies), return_exceptions=True))[0]
    if isinstance(outcome, BatchFailed):
        assert {type(each.__cause__) for each in outcome.failures.values()} == {QueueFull}
        return len(bodies) - len(outcome.failures)
    assert not isinstance(outcome, BaseException)
    return len(bodies)


async def test_what_is_sent_before_anybody_listens_is_read_by_nobody_else(xmpp: str) -> None:
    """And it is no news for whoever subscribes later."""
    topic, node = Topic("early"), names.topic_node("early")
    async with raw(xmpp) as witness, raw(xmpp, "limited") as stranger:
        await witness.delete(node)
        async with anyqueue.connect(xmpp) as client:
            await client.send(topic, b"to nobody")
            await turned_away(stranger, node)
            async with client.consumer(topic) as messages:
                await client.send(topic, b"to us")
                heard = await messages.receive(timeout=20)
        assert [each.body for each in heard] == [b"to us"]


async def test_a_queue_that_is_deleted_under_its_sender_drops_nothing_and_opens_to_nobody(xmpp: str) -> None:
    """A sender sees that the new node has less room before it has put so much there."""
    node = node_of("undermined")
    async with raw(xmpp) as witness, raw(xmpp, "limited") as stranger:
        await delete(witness, "undermined")
        async with anyqueue.connect(f"{xmpp}&max_items=4000") as client:
            producer = client.producer("undermined")
            await producer.send(b"lost with the queue")
            await witness.delete(node)
            sent = await asyncio.gather(*map(sent_or_full, [producer] * 15))
            confirmed = sum(sent)
        assert len(await witness.ids(node)) == confirmed
        await turned_away(stranger, node)
        await delete(witness, "undermined")
        assert confirmed >= 900


async def test_a_topic_that_remembers_its_last_message_is_refused(xmpp: str) -> None:
    topic, node = Topic("remembers"), names.topic_node("remembers")
    settings = {"persist_items": "1", "max_items": "20", "send_last_published_item": "on_sub"}
    async with raw(xmpp) as witness, anyqueue.connect(xmpp) as client:
        await witness.delete(node)
        await witness.create(node, settings)
        with pytest.raises(QueueMismatch, match="keeps its last message for whoever comes later"):
            async with client.consumer(topic):
                pass
        await witness.delete(node)


async def test_a_queue_that_its_owner_opens_takes_messages_as_before(xmpp: str) -> None:
    """What is published says that the node must be closed, as long as it was; what is refused for it is sent again."""
    node = node_of("opened")
    async with raw(xmpp) as witness, anyqueue.connect(xmpp) as client:
        await delete(witness, "opened")
        await client.send("opened", b"before")
        form = witness.plugin["xep_0004"].make_form("submit")
        form.add_field("FORM_TYPE", "hidden", value="http://jabber.org/protocol/pubsub#node_config")
        form.add_field("pubsub#access_model", value="open")
        await witness.plugin["xep_0060"].set_node_config(SERVICE, node, form, timeout=5)
        await client.send("opened", b"after")
        async with client.consumer("opened", prefetch=2) as messages:
            both = await messages.receive(2, timeout=20)
            for each in both:
                await each.ack()
        assert [each.body for each in both] == [b"before", b"after"]
