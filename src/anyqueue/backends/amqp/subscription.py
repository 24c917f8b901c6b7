"""A consumer: a channel of its own, from which deliveries flow into an inbox.

* Settlements are written together, as one acknowledgement up to the last where nothing older is unsettled. Then the
  queue is asked for: AMQP does not answer an acknowledgement, but the answer comes after the broker has taken all that
  came before it, and says whether the queue is still there.
* A message that is given back unhandled is given back by a consumer that ends. Where nobody receives any more, nothing
  is consumed from then on, and what waits here goes back too; the next receive() would begin again.
* A Reject, which comes where no dead letters are wanted, is an acknowledgement: the broker's own dead-lettering is for
  what it gives up itself.
* RabbitMQ counts what it brings back (quorum queues), but keeps no time. When a handler first failed is remembered
  here, for as long as this consumer lives; and on the queue of a group without a name, so is the count.
* Its count is believed where it is the broker's: of a quorum queue, and on what was delivered before. On a first
  delivery, and on a classic queue, the header of that name is a stranger's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from anyqueue.backends.amqp import codec, frames, table
from anyqueue.backends.amqp.channel import Channel, Refused, explain
from anyqueue.backends.amqp.properties import properties
from anyqueue.driver import BatchSettleFailed, Delivery, Inbox, Queue, Release, Subscription
from anyqueue.errors import Closed, ConnectionLost, Error, QueueNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyqueue.backends.amqp.connection import Connection
    from anyqueue.backends.amqp.frames import Arrived, Confirmed
    from anyqueue.driver import Settlement

MAX_REMEMBERED: Final = 10_000
CONSUMER_TAG: Final = "anyqueue"
Counts = Literal["broker", "here", "nobody"]


class Native:
    """A delivery as it came: `Message.native`."""

    __slots__ = ("_header", "_method")

    def __init__(self, method: bytes, header: bytes) -> None:
        self._method = method
        self._header = header

    @property
    def delivery(self) -> frames.Delivered:
        """The arguments of basic.deliver."""
        return frames.delivered(self._method)

    @property
    def properties(self) -> dict[str, object]:
        """The properties that were set, under their names in AMQP; `headers` with the types they came with."""
        found = properties(self._header)
        shown: dict[str, object] = {name: table.readable(raw) for name, raw in found.items()}
        for name in shown.keys() & {"priority", "delivery_mode", "timestamp"}:
            shown[name] = int.from_bytes(found[name], "big")
        if "headers" in found:
            shown["headers"] = table.decode(found["headers"])
        return shown


class Failed(msgspec.Struct):
    """What is remembered of a message that was released because its handler failed."""

    times: int
    first: float


class AmqpSubscription(Subscription):
    """A hold on one queue."""

    def __init__(
        self, connection: Connection, queue: Queue, name: str, *, counts: Counts, gone: Callable[[], None]
    ) -> None:
        """Make one that has not begun; `gone` is called when its queue is not there any more.

        `counts`: who counts attempts; "here" where nobody else consumes.
        """
        self.home = queue
        self.dead_letters = False
        self._connection = connection
        self._name = name
        self._counts = counts
        self._gone = gone
        self._channel = Channel(connection)
        self._inbox: Inbox[Arrived] = Inbox()
        self._failure: Error | None = None
        self._closed = False
        self._consuming = self._receiving = False
        self._unsettled: dict[int, None] = {}
        """The tags of all that was handed over on this channel, oldest first."""
        self._failed: dict[str, Failed] = {}

    async def begin(self, prefetch: int) -> None:
        """Open the channel and consume. Raises QueueNotFound or QueueError; leaves nothing behind then."""
        channel = self._channel
        try:
            await channel.open(self)
            channel.on_closed = self._on_closed
            channel.on_cancelled(self._on_cancelled)
            await channel.call("basic_qos", prefetch_count=prefetch)
            await self._consume()
        except Refused as refused:
            raise self._explain(refused) from refused
        except BaseException:
            channel.drop()
            raise

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """Take what has come, or wait for it."""
        self._check()
        self._receiving = True
        try:
            if not self._consuming:
                await self._consume()
            arrived = await self._inbox.get(limit)
        finally:
            self._receiving = False
        self._check()
        return [self._delivery(event) for event in arrived]

    async def settle(self, batch: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Write the settlements, and wait until the broker has taken them."""
        self._check()
        accepted: list[int] = []
        released: list[int] = []
        late: dict[int, str] = {}
        for index, (delivery, settlement) in enumerate(batch):
            tag: int = delivery.receipt  # type: ignore[assignment]  # ours
            if tag not in self._unsettled:
                late[index] = "it was settled before"
            elif isinstance(settlement, Release):
                released.append(tag)
                self._remember(delivery.envelope.id, settlement)
            else:
                accepted.append(tag)
                self._failed.pop(delivery.envelope.id, None)
        if any(isinstance(settlement, Release) and settlement.failed_at is None for _, settlement in batch):
            released += await self._pause()
        await self._write(accepted, released)
        if late:
            raise BatchSettleFailed(late)

    async def close(self) -> None:
        """End the consumer and its channel: what is unsettled goes back."""
        if self._closed:
            return
        self._closed = True
        self._failure = self._failure or Closed("this subscription is closed", queue=self.queue)
        self._inbox.fail(ConnectionLost("the subscription was closed while it waited", queue=self.queue))
        channel = self._channel
        try:
            if channel.closed is None and self._consuming:  # cancelled by the broker, it is not any more
                await channel.call("basic_cancel", consumer_tag=CONSUMER_TAG)
            await channel.close()
        except (Refused, ConnectionLost):
            return
        finally:
            channel.drop()

    @property
    def queue(self) -> str:
        """Name it as the user does."""
        return self.home.name if self.home is not None else self._name

    def arrived(self, event: Arrived) -> None:
        """Take a delivery."""
        self._inbox.put(event)

    def confirmed(self, event: Confirmed) -> None:
        """Take a confirm: there are none on this channel."""

    async def _consume(self) -> None:
        arguments = {"on_message_callback": _unused, "consumer_tag": CONSUMER_TAG}
        self._consuming = True
        try:
            await self._channel.call("basic_consume", queue=self._name, **arguments)
        except Refused as refused:
            raise self._explain(refused) from refused

    async def _pause(self) -> list[int]:
        """Consume no more, where nobody receives; return the tags of what was not handed out."""
        if self._receiving or not self._consuming:
            return []
        self._consuming = False
        try:
            await self._channel.call("basic_cancel", consumer_tag=CONSUMER_TAG)
        except Refused as refused:
            raise self._failure or self._explain(refused) from refused
        waiting = await self._inbox.get(len(self._inbox)) if self._inbox else []
        return [frames.tag_of(event.method)[0] for event in waiting]

    def _delivery(self, event: Arrived) -> Delivery:
        tag, redelivered = frames.tag_of(event.method)
        self._unsettled[tag] = None
        decoded = codec.decode(event.header, event.body, self._name)
        envelope = decoded.envelope
        failed = self._failed.get(envelope.id) if redelivered and self._failed else None
        attempt: int | None = 1
        if redelivered and self._counts == "here":
            attempt = 1 + (failed.times if failed else 1)
        elif redelivered:
            attempt = 1 + decoded.count if self._counts == "broker" and decoded.count is not None else None
        return Delivery(
            envelope=envelope,
            receipt=tag,
            attempt=attempt,
            redelivered=redelivered,
            first_failure=failed.first if failed else None,
            native=Native(event.method, event.header),
        )

    def _remember(self, identity: str, release: Release) -> None:
        if release.failed_at is None and self._counts != "here":
            return
        if len(self._failed) >= MAX_REMEMBERED:
            self._failed.pop(next(iter(self._failed)))
        known = self._failed.setdefault(identity, Failed(0, release.failed_at or 0.0))
        known.times += 1
        known.first = known.first or release.failed_at or 0.0

    async def _write(self, accepted: list[int], released: list[int]) -> None:
        number = self._channel.number
        pieces = [frames.release(number, released)] if released else []
        for tag in released:
            self._unsettled.pop(tag, None)
        pieces += self._acks(number, accepted)
        try:
            self._channel.emit(b"".join(pieces))
            await self._channel.call("queue_declare", queue=self._name, passive=True)
        except Refused as refused:
            raise self._failure or self._explain(refused) from refused
        self._check()

    def _acks(self, number: int, accepted: list[int]) -> list[bytes]:
        """Acknowledge the oldest unsettled up to the first that stays in one frame, the others one by one."""
        done = set(accepted)
        upto = 0
        for tag in self._unsettled:
            if tag not in done:
                break
            upto = tag
        for tag in accepted:
            self._unsettled.pop(tag, None)
        singles = [frames.ack(number, tag, multiple=False) for tag in accepted if tag > upto]
        return [frames.ack(number, upto, multiple=True), *singles] if upto else singles

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure.with_traceback(None)

    def _explain(self, refused: Refused) -> Error:
        return explain(refused, "the broker ended this consumer", queue=self.queue, url=self._connection.url)

    def _on_cancelled(self, _frame: object) -> None:
        """Take the broker's word that the queue is gone, or that its node is."""
        self._consuming = False
        what = "the queue was deleted, or its node is gone"
        self._fail(QueueNotFound(what, queue=self.queue, url=self._connection.url))

    def _on_closed(self, reason: Refused | ConnectionLost) -> None:
        self._fail(reason if isinstance(reason, ConnectionLost) else self._explain(reason))

    def _fail(self, error: Error) -> None:
        if isinstance(error, QueueNotFound):
            self._gone()
        if self._failure is None:
            self._failure = error
            self._inbox.fail(error)


def _unused(*_arguments: object) -> None:
    """Take pika's own deliveries, of which there are none: they are read in bulk."""
