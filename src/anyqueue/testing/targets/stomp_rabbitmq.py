"""stomp:// on RabbitMQ: the witness counts from inside the broker."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

import pika
from msgspec import structs

from anyqueue import URL, AuthFailed, ConfigError, Feature, Limits
from anyqueue.testing.harness import Count, Expected, Failure, Forbidden, Seen
from anyqueue.testing.targets.rabbitmq_junk import junk
from anyqueue.testing.targets.rabbitmq_witness import RabbitmqWitness
from anyqueue.testing.targets.stomp import DAY, LOOKS, MAX_BODY, PAUSE, StompForeign, StompHarness
from anyqueue.testing.targets.stomp_client import Login, RubyStomp, StompPy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

QUORUM: Final = {"x-queue-type": "quorum", "durable": "true", "auto-delete": "false"}


def rabbit_name(queue: str) -> str:
    """Return a queue's name on RabbitMQ."""
    odd = queue.startswith("amq.") or "%2F" in queue or queue.strip(" ") != queue or len(queue.encode()) > 255
    return f"aq.name.{sha256(queue.encode()).hexdigest()}" if odd else queue


class RabbitmqForeign(StompForeign):
    """RabbitMQ, with what waits in delay queues counted to where it goes. A queue that exists is used as it is."""

    def __init__(self, login: Login, witness: RabbitmqWitness, amqp: str) -> None:
        super().__init__(StompPy(login), rabbit_name)
        self._witness = witness
        self._login = login
        self._amqp = pika.URLParameters(amqp)

    async def put(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send, declaring the queue where there is none."""
        await (await self._user(queue)).put(queue, body, headers)

    async def get(self, queue: str) -> Seen | None:
        """Take one, where there is one."""
        return await (await self._user(queue)).get(queue) if (await self.count(queue)).waiting else None

    async def junk(self, queue: str) -> int:
        """Put over AMQP what no client of STOMP can send."""
        await self.declare(queue, {})
        oddities = junk()
        await asyncio.to_thread(self._put_over_amqp, queue, oddities)
        return await super().junk(queue) + len(oddities)

    def _put_over_amqp(self, queue: str, messages: Sequence[tuple[bytes, pika.BasicProperties]]) -> None:
        with contextlib.closing(pika.BlockingConnection(self._amqp)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            for body, properties in messages:
                channel.basic_publish("", queue, body, properties, mandatory=True)

    async def declare(self, queue: str, arguments: Mapping[str, str]) -> None:
        """Make a queue with more arguments, and leave it empty."""
        login = self._login
        wanted = structs.replace(
            login, sending={**login.sending, **arguments}, consuming={**login.consuming, **arguments}
        )
        await StompPy(wanted).put(queue, b"", {})
        await StompPy(wanted).get(queue)

    async def _user(self, queue: str) -> StompPy:
        if self.on_broker(queue) not in await self._witness.queues():
            return self.program
        return StompPy(
            structs.replace(
                self._login,
                destination=lambda name: f"/amq/queue/{rabbit_name(name).replace('/', '%2F')}",
                sending={},
                consuming={"prefetch-count": "1"},
            )
        )

    async def count(self, queue: str) -> Count:
        """Count the queue, and what waits for it elsewhere, when the queue has heard of all that its channels have.

        A message may go from where it waits to its queue and back meanwhile: nothing is looked at twice.
        """
        name = self.on_broker(queue)
        before: Count | None = None
        for _ in range(LOOKS):
            found = await self._count(name)
            if await self._witness.held(name) == found.unacked and (found.total or found == before):
                break
            before = found
            await asyncio.sleep(PAUSE)
        return found

    async def _count(self, name: str) -> Count:
        there = await self._witness.queues()
        waiting = [each for each in there if each.startswith("aq.stomp.delay.") and each.endswith(f".{name}")]
        counts = [await self._witness.count(each) for each in (*waiting, name)]
        return Count(waiting=sum(each.waiting for each in counts), unacked=sum(each.unacked for each in counts))

    async def queues(self) -> set[str]:
        """Ask the witness; without the seals, which are gone in some seconds (see docs/backends/stomp.md)."""
        return {name for name in self.of_user(await self._witness.queues()) if ".aq-seal-" not in name}

    async def delete(self, queue: str) -> None:
        """Have the witness delete it."""
        await self._witness.delete(self.on_broker(queue))


class StompRabbitmqHarness(StompHarness):
    """The target stomp@rabbitmq."""

    name: ClassVar[str] = "stomp@rabbitmq"
    deletion_window: ClassVar[float | None] = 1.0
    ack_window: ClassVar[float] = 1.0
    """The adapter gives a receipt for an acknowledgement that its channel has, and its queue has not yet."""
    broker_name: ClassVar[str] = "rabbitmq"
    options: ClassVar[Mapping[str, object]] = MappingProxyType({"delay_policy": 1})
    expected: ClassVar[Expected] = Expected(
        features=Feature.CONFIRM
        | Feature.REDELIVER
        | Feature.ATTEMPTS
        | Feature.DELAY
        | Feature.DURABLE
        | Feature.COMPETING
        | Feature.FANOUT
        | Feature.DELETE,
        limits=Limits(
            max_body=MAX_BODY,
            max_batch=200,
            max_sends=4,
            max_unsettled=None,
            delay_step=0.01,
            max_delay=40 * DAY,
            lease=None,
        ),
        released="at the end",
        unheard="dropped",
        unknown="created",
    )

    def witness(self) -> None:
        """Start the one that looks into RabbitMQ."""
        self._witness = RabbitmqWitness(self.launched.described.witness)
        self._witness.start()
        login = self.login(
            lambda queue: f"/queue/{rabbit_name(queue).replace('/', '%2F')}", QUORUM, {**QUORUM, "prefetch-count": "1"}
        )
        self.foreign = RabbitmqForeign(login, self._witness, self.launched.described.urls["amqp"] + "%2F")
        self.foreign_programs = [RubyStomp(login)]

    def stop(self) -> None:
        """End the witness; the broker goes on."""
        self._witness.close()

    async def connections(self) -> int:
        """Count those of STOMP."""
        return sum(each.protocol.startswith("STOMP") for each in await self._witness.connections())

    async def forbidden(self) -> Forbidden | None:
        """Return the user who may use queues that begin with `limited-` alone."""
        described = self.launched.described
        (host,) = URL.parse(described.urls["stomp"]).hosts
        url = f"stomp://limited:{described.users['limited']}@{host}/"
        return Forbidden(url=url, queue=self.fresh(), allowed=f"limited-{self.fresh()}")

    async def mismatched(self, queue: str) -> str | None:
        """Declare a queue that drops its oldest message when there are five."""
        assert isinstance(self.foreign, RabbitmqForeign)
        await self.foreign.declare(queue, {"x-max-length": "5"})
        return "x-max-length"

    def more_failures(self, *, host: str, at: str) -> Sequence[Failure]:
        """Return what RabbitMQ has and ActiveMQ has not."""
        del host
        return [
            Failure(sentence="no such virtual host", url=f"{at}{secrets.token_hex(4)}", error=AuthFailed),
            Failure(sentence="a forbidden virtual host", url=f"{at}forbidden", error=AuthFailed),
            Failure(sentence="an unknown queue type", url=f"{at}?queue_type=stream", error=ConfigError),
        ]
