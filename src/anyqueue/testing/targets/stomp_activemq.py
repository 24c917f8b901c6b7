"""stomp:// on ActiveMQ Classic: the witness asks the broker's own statistics."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, ClassVar

from anyqueue import URL, ConfigError, Feature, Limits
from anyqueue.testing.harness import Count, Expected, Failure, Forbidden
from anyqueue.testing.stopwatch import LATE
from anyqueue.testing.targets.activemq_witness import ActivemqWitness
from anyqueue.testing.targets.stomp import DAY, LOOKS, MAX_BODY, PAUSE, StompForeign, StompHarness
from anyqueue.testing.targets.stomp_client import RubyStomp, StompPy

if TYPE_CHECKING:
    from collections.abc import Sequence


def active_name(queue: str) -> str:
    """Return a queue's name on ActiveMQ."""

    def encoded(found: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in found[0].encode())

    return re.sub(r"[%,?*>:]|^\s+|\s+$", encoded, queue)


class ActivemqForeign(StompForeign):
    """ActiveMQ."""

    def __init__(self, program: StompPy, witness: ActivemqWitness) -> None:
        super().__init__(program, active_name)
        self._witness = witness

    async def count(self, queue: str) -> Count:
        """Ask the broker, and its scheduler, which forgets a message when its queue has it already."""
        name = self.on_broker(queue)
        before = None
        for _ in range(LOOKS):
            found = await asyncio.to_thread(self._witness.count, name)
            if found == before or (found.ready and not found.delayed):
                break
            before = found
            await asyncio.sleep(PAUSE)
        return Count(waiting=found.ready + found.delayed, unacked=found.unacked)

    async def queues(self) -> set[str]:
        """Ask the witness."""
        return self.of_user(await asyncio.to_thread(self._witness.queues))

    async def delete(self, queue: str) -> None:
        """Have the witness delete it."""
        await asyncio.to_thread(self._witness.delete, self.on_broker(queue) if queue not in self._names else queue)


class StompActivemqHarness(StompHarness):
    """The target stomp@activemq."""

    name: ClassVar[str] = "stomp@activemq"
    count_lag: ClassVar[float] = LATE
    """The scheduler forgets a message some time after it has let it go, and counts it until then."""
    deletion_window: ClassVar[float | None] = None
    broker_name: ClassVar[str] = "activemq"
    expected: ClassVar[Expected] = Expected(
        features=Feature.CONFIRM
        | Feature.REDELIVER
        | Feature.DEAD_LETTER
        | Feature.DELAY
        | Feature.DURABLE
        | Feature.COMPETING
        | Feature.FANOUT,
        limits=Limits(
            max_body=MAX_BODY,
            max_batch=200,
            max_sends=8,
            max_unsettled=None,
            delay_step=1.0,
            max_delay=366 * DAY,
            lease=None,
        ),
        released="at the end",
        unheard="dropped",
        unknown="created",
    )

    def witness(self) -> None:
        """Start the one that asks ActiveMQ."""
        login = self.login(lambda queue: f"/queue/{active_name(queue)}", {}, {"activemq.prefetchSize": "1"})
        self._witness = ActivemqWitness(login, self.launched.described.ports["openwire"])
        self._witness.start()
        self.foreign = ActivemqForeign(StompPy(login), self._witness)
        self.foreign_programs = [RubyStomp(login)]

    def stop(self) -> None:
        """End the witness; the broker goes on."""
        self._witness.close()

    async def connections(self) -> int:
        """Ask the broker."""
        return await asyncio.to_thread(self._witness.connections)

    async def forbidden(self) -> Forbidden | None:
        """Return the user who may use queues that begin with `limited.` alone."""
        described = self.launched.described
        (host,) = URL.parse(described.urls["stomp"]).hosts
        url = f"stomp://limited:{described.users['limited']}@{host}/"
        return Forbidden(url=url, queue=self.fresh(), allowed=f"limited.{self.fresh()}")

    def more_failures(self, *, host: str, at: str) -> Sequence[Failure]:
        """Return what ActiveMQ has and RabbitMQ has not."""
        del host
        return [
            Failure(sentence="a queue type", url=f"{at}?server=activemq&queue_type=quorum", error=ConfigError),
        ]
