"""The witness of RabbitMQ's queues: what it counts is so at once, on both kinds of queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pika
import pytest

from anyqueue.testing.harness import Count
from launcher.place import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from launching import Launch
    from pika.adapters.blocking_connection import BlockingChannel

    from anyqueue.testing.targets.rabbitmq_witness import RabbitmqWitness

pytestmark = [pytest.mark.fault, pytest.mark.timeout(900), pytest.mark.xdist_group("rabbitmq-launched")]

ROUNDS = 50
STRANGE = "  очередь/'\"\\ {}\u0301 "


@pytest.fixture
def channel(rabbitmq: Launch) -> Iterator[BlockingChannel]:
    credentials = pika.PlainCredentials("anyqueue", "anyqueue")
    with pika.BlockingConnection(pika.ConnectionParameters(LOOPBACK, rabbitmq.place.base, "/", credentials)) as made:
        channel = made.channel()
        channel.confirm_delivery()
        yield channel


@pytest.mark.parametrize("kind", ["quorum", "classic"])
async def test_a_count_is_exact_at_once(channel: BlockingChannel, witness: RabbitmqWitness, kind: str) -> None:
    """After a confirm, a delivery, a nack and an ack (a round trip on the channel after them): no count is late."""
    channel.queue_declare(kind, durable=True, arguments={"x-queue-type": kind})
    for _ in range(ROUNDS):
        channel.basic_publish("", kind, b"x", pika.BasicProperties(delivery_mode=2))
        assert await witness.count(kind) == Count(waiting=1, unacked=0)
        tag = channel.basic_get(kind)[0].delivery_tag
        assert await witness.count(kind) == Count(waiting=0, unacked=1)
        channel.basic_nack(tag)
        channel.basic_qos(prefetch_count=1)
        assert await witness.count(kind) == Count(waiting=1, unacked=0)
        channel.basic_ack(channel.basic_get(kind)[0].delivery_tag)
        channel.basic_qos(prefetch_count=1)
        assert await witness.count(kind) == Count(waiting=0, unacked=0)


async def test_any_name(channel: BlockingChannel, witness: RabbitmqWitness) -> None:
    channel.queue_declare(STRANGE, durable=True)
    channel.exchange_declare(STRANGE)
    assert STRANGE in await witness.queues()
    assert STRANGE in await witness.exchanges()
    assert await witness.delete(STRANGE)
    assert await witness.delete_exchange(STRANGE)
    assert STRANGE not in await witness.queues() | await witness.exchanges()


async def test_what_is_not_there(rabbitmq: Launch, witness: RabbitmqWitness) -> None:
    del rabbitmq
    assert await witness.count("nowhere") == Count(waiting=0, unacked=0)
    assert await witness.leader("nowhere") is None
    assert not await witness.delete("nowhere")
    assert not await witness.delete_exchange("nowhere")


async def test_connections_are_seen_and_closed(channel: BlockingChannel, witness: RabbitmqWitness) -> None:
    (seen,) = await witness.connections()
    assert (seen.protocol, seen.user, seen.properties["product"]) == ("AMQP", "anyqueue", "Pika Python Client Library")
    assert await witness.close_connections() == 1
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match="closed by the witness"):
        channel.queue_declare("late")
