"""amqp:// on RabbitMQ: the witness counts from inside the broker, and puts and gets through raw pika.

Delayed messages wait in queues of their own, `aq.delay.STEP.DAY.NAME`: the witness counts them to NAME.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal
from urllib.parse import quote

import pika

from anyqueue import URL, AuthFailed, ConfigError, ConnectFailed, Feature, Limits
from anyqueue.testing.children import ProcessChild
from anyqueue.testing.harness import Count, Expected, Failure, Forbidden, Foreign, Harness, Seen, query, settled
from anyqueue.testing.launched import LaunchedBroker
from anyqueue.testing.targets.amqp_tools import AmqpTools
from anyqueue.testing.targets.rabbitmq_junk import junk
from anyqueue.testing.targets.rabbitmq_witness import RabbitmqWitness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from anyqueue.testing.children import Child, Script
    from anyqueue.testing.harness import Certificate
    from anyqueue.testing.proxy import Proxy

DAY: Final = 86400.0
WRONG: Final = "not-the-password"


class RabbitmqForeign(Foreign):
    """Raw pika, a connection for each act, and the witness. `arguments` are those that a queue needs."""

    def __init__(self, url: str, witness: RabbitmqWitness, arguments: Mapping[str, object]) -> None:
        self._parameters = pika.URLParameters(url)
        self._witness = witness
        self._arguments = dict(arguments)

    async def put(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Declare the queue, publish to it, and wait for the confirm."""
        properties = pika.BasicProperties(headers=dict(headers), delivery_mode=2)
        await self.act(lambda channel: self._put(channel, queue, body, properties))

    async def junk(self, queue: str) -> int:
        """Put everything that this broker takes."""
        oddities = junk()

        def put(channel: Any) -> None:  # noqa: ANN401 -- pika is untyped
            channel.confirm_delivery()
            channel.queue_declare(queue, durable=True, arguments=self._arguments)
            for body, properties in oddities:
                channel.basic_publish("", queue, body, properties, mandatory=True)

        await self.act(put)
        return len(oddities)

    async def declare(self, queue: str) -> None:
        """Make a queue that anyqueue takes as its own."""
        await self.act(lambda channel: channel.queue_declare(queue, durable=True, arguments=self._arguments))

    async def get(self, queue: str) -> Seen | None:
        """Get one, acknowledged at once."""
        if queue not in await self.queues():
            return None

        def take(channel: Any) -> tuple[Any, Any, bytes]:  # noqa: ANN401 -- pika is untyped
            found: tuple[Any, Any, bytes] = channel.basic_get(queue, auto_ack=True)
            return found

        method, properties, body = await self.act(take)
        if method is None:
            return None
        given = {name: str(value) for name, value in (properties.headers or {}).items()}
        headers = {name: text for name, text in given.items() if name != "x-delivery-count"}  # a quorum queue's own
        return Seen(body=body, headers=headers, id=properties.message_id)

    async def count(self, queue: str) -> Count:
        """Count the queue, and what waits for it elsewhere."""
        return await settled(lambda: self._count(queue))

    async def _count(self, queue: str) -> Count:
        names = [name for name in await self.queues() if name.startswith("aq.delay.") and name.endswith(f".{queue}")]
        counts = [await self._witness.count(name) for name in (*names, queue)]
        return Count(waiting=sum(each.waiting for each in counts), unacked=sum(each.unacked for each in counts))

    async def queues(self) -> set[str]:
        """Ask the witness."""
        return await self._witness.queues()

    async def delete(self, queue: str) -> None:
        """Have the witness delete it."""
        await self._witness.delete(queue)

    async def act(self, work: Callable[[Any], Any]) -> Any:  # noqa: ANN401 -- pika is untyped
        """Do it on a channel of a connection of its own, in a thread."""

        def run() -> Any:  # noqa: ANN401 -- as above
            connection = pika.BlockingConnection(self._parameters)
            with contextlib.closing(connection):
                return work(connection.channel())

        return await asyncio.to_thread(run)

    def _put(self, channel: Any, queue: str, body: bytes, properties: pika.BasicProperties) -> None:  # noqa: ANN401 -- as above
        channel.confirm_delivery()
        with contextlib.suppress(pika.exceptions.ChannelClosedByBroker):  # it exists, with arguments of its owner's
            channel.queue_declare(queue, durable=True, arguments=self._arguments)
            channel.basic_publish("", queue, body, properties, mandatory=True)
            return
        other = channel.connection.channel()
        other.confirm_delivery()
        other.basic_publish("", queue, body, properties, mandatory=True)


class QuorumHarness(Harness):
    """The target amqp@rabbitmq-quorum."""

    name: ClassVar[str] = "amqp@rabbitmq-quorum"
    launches: ClassVar[str] = "rabbitmq"
    crosses_processes: ClassVar[bool] = True
    network: ClassVar[bool] = True
    expected: ClassVar[Expected] = Expected(
        features=Feature.CONFIRM
        | Feature.REDELIVER
        | Feature.RELEASE
        | Feature.ATTEMPTS
        | Feature.DELAY
        | Feature.DURABLE
        | Feature.COMPETING
        | Feature.FANOUT
        | Feature.DELETE,
        limits=Limits(
            max_body=16 * 1024 * 1024,
            max_batch=200,
            max_sends=16,
            max_unsettled=65535,
            delay_step=0.01,
            max_delay=40 * DAY,
            lease=None,
        ),
        released="in place",
        unheard="dropped",
        unknown="created",
    )
    options: ClassVar[Mapping[str, object]] = MappingProxyType({})
    arguments: ClassVar[Mapping[str, object]] = MappingProxyType({"x-queue-type": "quorum"})

    def __init__(self) -> None:
        super().__init__()
        self.launched = LaunchedBroker(self.launches)
        self.broker = self.launched

    def missing(self) -> str | None:
        """Ask the launcher for a RabbitMQ."""
        return self.launched.missing()

    def start(self, folder: Path) -> None:
        """Start the broker and the witness."""
        self._folder = folder
        self._children = itertools.count(1)
        self.launched.start()
        self._witness = RabbitmqWitness(self.launched.described.witness)
        self._witness.start()
        base = URL.parse(self.launched.described.urls["amqp"])
        url = replace(base, hosts=base.hosts[:1]).reveal() + "%2F"
        self.foreign = foreign = RabbitmqForeign(url, self._witness, self.arguments)
        self.foreign_programs = [AmqpTools(url, foreign.declare)]

    def stop(self) -> None:
        """Remove the exchanges of the run, and end the witness; the broker goes on."""
        asyncio.run(self._sweep())
        self._witness.close()

    async def _sweep(self) -> None:
        for exchange in await self._witness.exchanges():
            if self._token in exchange:
                await self._witness.delete_exchange(exchange)

    def url(
        self,
        *,
        through: Proxy | None = None,
        credentials: Literal["good", "wrong"] = "good",
        tls: bool = False,
        **options: object,
    ) -> str:
        """Return the broker's URL."""
        described = self.launched.described
        base = URL.parse(described.urls["amqps" if tls else "amqp"])
        assert base.password is not None
        near = base.hosts[0].name if tls else "127.0.0.1"
        place = ",".join(map(str, base.hosts)) if through is None else f"{near}:{through.port}"
        password = base.password.reveal() if credentials == "good" else WRONG
        trust = {"ca": described.ca} if tls else {}
        return f"{base.scheme}://{base.username}:{password}@{place}/{query({**self.options, **trust, **options})}"

    def heartbeat(self, seconds: float) -> dict[str, object]:
        """Return whole seconds, at least one."""
        return {"heartbeat": max(1, round(seconds))}

    def certificates(self) -> Mapping[str, Certificate]:
        """Return what the launcher made."""
        return self.launched.described.certificates

    async def forbidden(self) -> Forbidden | None:
        """Return the user who may use queues that begin with `limited-` alone."""
        described = self.launched.described
        host = URL.parse(described.urls["amqp"]).hosts[0]
        return Forbidden(
            url=f"amqp://limited:{described.users['limited']}@{host}/{query(self.options)}",
            queue=self.fresh(),
            allowed=f"limited-{self.fresh()}",
        )

    async def mismatched(self, queue: str) -> str | None:
        """Declare a queue that drops its oldest message when there are five."""
        await self.foreign.act(  # type: ignore[attr-defined]  # RabbitmqForeign's
            lambda channel: channel.queue_declare(queue, durable=True, arguments={**self.arguments, "x-max-length": 5})
        )
        return "x-max-length"

    def failures(self) -> Sequence[Failure]:
        """Return what can be wrong with a URL and what is behind it."""
        base = URL.parse(self.launched.described.urls["amqp"])
        host = base.hosts[0]
        user = f"{base.username}:{base.password.reveal() if base.password else ''}"
        at = f"amqp://{user}@{host}/"
        secure = URL.parse(self.launched.described.urls["amqps"]).hosts[0]
        return [
            Failure(sentence="the wrong password", url=self.url(credentials="wrong"), error=AuthFailed),
            Failure(sentence="no such user", url=f"amqp://nobody:x@{host}/", error=AuthFailed),
            Failure(sentence="no such virtual host", url=f"{at}{secrets.token_hex(4)}", error=ConfigError),
            Failure(sentence="a forbidden virtual host", url=f"{at}forbidden", error=AuthFailed),
            Failure(sentence="nobody listens", url=f"amqp://{user}@{host.name}:1/", error=ConnectFailed),
            Failure(sentence="no such host", url=f"amqp://{user}@no-such-host.invalid/", error=ConnectFailed),
            Failure(sentence="plain text to the TLS port", url=f"amqp://{user}@{secure}/", error=ConnectFailed),
            Failure(sentence="TLS to the plain port", url=f"amqps://{user}@{host}/", error=ConnectFailed),
            Failure(sentence="an authority nobody knows", url=f"amqps://{user}@{secure}/", error=ConnectFailed),
            Failure(sentence="no authority's file", url=f"amqps://{user}@{secure}/?ca=/no/file", error=ConfigError),
            Failure(sentence="a user without a password", url=f"amqp://ada@{host}/", error=ConfigError),
            Failure(sentence="TLS options without TLS", url=f"{at}?ca={quote('/ca.pem')}", error=ConfigError),
            Failure(sentence="an unknown queue type", url=f"{at}?queue_type=stream", error=ConfigError),
            Failure(sentence="priorities on quorum queues", url=f"{at}?max_priority=5", error=ConfigError),
            Failure(sentence="a heartbeat of no time", url=f"{at}?heartbeat=-1", error=ConfigError),
        ]

    def child(self, name: str, script: Script, *, url: str | None = None) -> Child:
        """Start a process."""
        journal = self._folder / f"child-{next(self._children)}.jsonl"
        return ProcessChild(name, journal, url or self.url(), script)

    async def connections(self) -> int:
        """Count those that say they are anyqueue's."""
        found = await self._witness.connections()
        return sum(each.properties.get("product") == "anyqueue" for each in found)

    @contextlib.contextmanager
    def blocked(self) -> Iterator[None]:
        """Let the broker be short of memory."""
        self.launched.alarm("on")
        try:
            yield
        finally:
            self.launched.alarm("off")


class ClassicHarness(QuorumHarness):
    """The target amqp@rabbitmq-classic."""

    name: ClassVar[str] = "amqp@rabbitmq-classic"
    expected: ClassVar[Expected] = Expected(
        features=(QuorumHarness.expected.features & ~Feature.ATTEMPTS) | Feature.PRIORITY,
        limits=QuorumHarness.expected.limits,
        released="at the end",
        unheard="dropped",
        unknown="created",
    )
    ack_window: ClassVar[float] = 1.0
    """A classic queue writes acknowledgements down some 200 ms later."""
    options: ClassVar[Mapping[str, object]] = MappingProxyType({"queue_type": "classic"})
    arguments: ClassVar[Mapping[str, object]] = MappingProxyType({"x-queue-type": "classic", "x-max-priority": 9})
