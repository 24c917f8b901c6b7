"""Sending: envelopes to the queue, exchange or delay queue that they are for, and what the broker said of each.

* Each exchange has a channel of its own: what the broker refuses there is nobody else's trouble.
* What finds no queue (it was deleted since it was declared) is declared and published once more.
* A quorum queue refuses messages in the moments in which it starts, after somebody else has declared it. So the first
  message to each queue goes alone, again if need be, and the others follow in their order.
* A channel whose first message to a quorum queue comes when the queue's leader has just died has every message to it
  refused until the dead node is back: it goes on asking that node. So what is refused again and again goes over a new
  channel.
* Calls for one address take turns as long as something is to be declared or started for it, so that their order holds;
  after that a call has no wait before it writes.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from anyqueue.backends.amqp import codec, frames, names
from anyqueue.backends.amqp.channel import NOT_FOUND, Refused, explain
from anyqueue.backends.amqp.lane import NACKED, Lane, Parcel
from anyqueue.driver import HEADER_RESERVED, Topic
from anyqueue.errors import BatchFailed, SendError, TooLarge, Unroutable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyqueue.backends.amqp.connection import Connection
    from anyqueue.backends.amqp.topology import Topology
    from anyqueue.driver import Address, Envelope

MAX_LANES: Final = 64
DELETED: Final = 0.2
"""Seconds until a queue that was deleted is made again. RabbitMQ tells the consumers of a quorum queue some 30 ms after
its deletion; one that is there again by then keeps them, and they hear nothing."""
HEADER_ROOM: Final = 16 * 1024
"""Bytes of a content header kept free for the headers that a retry or a dead letter adds."""
START_TIMEOUT: Final = 4.0
"""Seconds that a queue has to start, or to have a new leader."""
START_PAUSE: Final = 0.01
MAX_PAUSE: Final = 0.3


class Turn:
    """Calls for one address, one after another."""

    __slots__ = ("lock", "waiting")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0


class Sender:
    """Publish over one connection."""

    def __init__(self, connection: Connection, topology: Topology) -> None:
        self._connection = connection
        self._topology = topology
        self._lanes: dict[str, Lane] = {}
        self._retired: list[Lane] = []
        """Replaced, and perhaps still waited for."""
        self._turns: dict[Address, Turn] = {}

    async def send(self, address: Address, batch: Sequence[Envelope]) -> None:
        """Publish and wait for the confirms. Raises BatchFailed for those that were refused."""
        try:
            if self._ready(address, batch):
                refused = await self._send(address, batch)
            else:
                refused = await self._send_in_turn(address, batch)
        except Refused as error:
            if error.code == NOT_FOUND:
                self._topology.forget(address)
            what = "the broker refused the message"
            raise explain(error, what, queue=address.name, url=self._connection.url) from error
        if refused:
            raise self._failed(address, len(batch), refused)

    def _ready(self, address: Address, batch: Sequence[Envelope]) -> bool:
        """Say whether a batch can be written at once."""
        if address in self._turns or any(envelope.not_before is not None for envelope in batch):
            return False
        lane = self._lanes.get(_exchange(address))
        if lane is None or lane.broken is not None:
            return False
        started = isinstance(address, Topic) or names.wire_name(address.name) in lane.started
        return started and self._topology.has(address)

    async def _send_in_turn(self, address: Address, batch: Sequence[Envelope]) -> dict[int, str]:
        turn = self._turns.setdefault(address, Turn())
        turn.waiting += 1
        try:
            async with turn.lock:
                return await self._send(address, batch)
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                self._turns.pop(address, None)

    async def _send(self, address: Address, batch: Sequence[Envelope]) -> dict[int, str]:
        ways = await self._ways(address, batch)
        refused = await self._publish(address, batch, ways)
        returned = [index for index, why in refused.items() if why is not NACKED]
        if returned and self._topology.declares:
            refused = {index: why for index, why in refused.items() if why is NACKED}
            refused |= await self._again(address, batch, returned, ways)
        return refused

    async def _ways(self, address: Address, batch: Sequence[Envelope]) -> list[str]:
        """Declare where the envelopes go, and return the routing key of each."""
        await self._topology.address(address)
        target = names.wire_name(address.name)
        now = time.time()
        ways = []
        for envelope in batch:
            delay = 0.0 if envelope.not_before is None else envelope.not_before - now
            way = target
            if delay > 0:
                way = await self._topology.delay(address, target, names.delay_step(delay), now)
            ways.append(way)
        return ways

    def _parcels(self, lane: Lane, address: Address, batch: Sequence[Envelope], ways: Sequence[str]) -> list[Parcel]:
        """Write the messages. Raises TooLarge before anything is sent."""
        number, frame_max = lane.channel.number, lane.channel.frame_max
        target, topic = names.wire_name(address.name), isinstance(address, Topic)
        methods: dict[str, bytes] = {}
        parcels = []
        for envelope, way in zip(batch, ways, strict=True):
            if (method := methods.get(way)) is None:
                fans = topic and way == target
                method = frames.publish_method(number, target if fans else "", way, mandatory=not fans)
                methods[way] = method
            header = codec.encode(envelope)
            if len(header) > frame_max - HEADER_ROOM - frames.OVERHEAD:
                self._check_header(header, envelope, frame_max, address)
            parcels.append(Parcel(method, way, envelope.id, frames.content(number, header, envelope.body, frame_max)))
        return parcels

    async def _publish(self, address: Address, batch: Sequence[Envelope], ways: Sequence[str]) -> dict[int, str]:
        """Publish in order; the first to each queue alone, until the queue has started."""
        lane = await self._lane(_exchange(address))
        parcels = self._parcels(lane, address, batch, ways)
        if isinstance(address, Topic) or all(way in lane.started for way in ways):
            return await lane.publish(parcels)
        refused: dict[int, str] = {}
        at = 0
        while at < len(batch):
            if (now := await self._lane(_exchange(address))) is not lane:
                lane, parcels = now, self._parcels(now, address, batch, ways)
            new, upto = ways[at] not in lane.started, at + 1
            while not new and upto < len(ways) and ways[upto] in lane.started:
                upto += 1
            found = await (self._start(address, batch[at], ways[at]) if new else lane.publish(parcels[at:upto]))
            refused |= {at + index: why for index, why in found.items()}
            at = upto
        return refused

    async def _start(self, address: Address, envelope: Envelope, way: str) -> dict[int, str]:
        """Publish one message, again while its queue refuses it; from the second time on over new channels."""
        until = time.monotonic() + START_TIMEOUT
        pause = START_PAUSE
        while True:
            lane = await self._lane(_exchange(address))
            refused = await lane.publish(self._parcels(lane, address, [envelope], [way]))
            if refused != {0: NACKED} or time.monotonic() > until:
                break
            if pause > START_PAUSE:
                self._retire(_exchange(address), lane)
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE)
        lane.start(way)
        return refused

    def _retire(self, exchange: str, lane: Lane) -> None:
        """Publish over this one no more. It is closed when nobody waits for it."""
        if self._lanes.get(exchange) is lane:
            self._retired.append(self._lanes.pop(exchange))
        idle = [each for each in self._retired if not each.busy]
        self._retired = [each for each in self._retired if each.busy]
        for each in idle:
            each.channel.drop()

    async def _again(
        self, address: Address, batch: Sequence[Envelope], returned: Sequence[int], ways: Sequence[str]
    ) -> dict[int, str]:
        """Publish once more what found no queue: it was deleted since it was declared."""
        gone = {ways[index] for index in returned}
        self._topology.forget(address, *gone)
        (await self._lane(_exchange(address))).started -= gone
        await asyncio.sleep(DELETED)
        again = [batch[index] for index in returned]
        new_ways = await self._ways(address, again)
        left = await self._publish(address, again, new_ways)
        return {returned[position]: why for position, why in left.items()}

    async def _lane(self, exchange: str) -> Lane:
        lane = self._lanes.get(exchange)
        if lane is None or lane.broken is not None:
            if len(self._lanes) >= MAX_LANES:
                await self._drop_idle()
            lane = await Lane(self._connection).open()
            if (other := self._lanes.get(exchange)) is not None and other.broken is None:
                await lane.channel.close()  # another call was faster
                return other
            self._lanes[exchange] = lane
        return lane

    async def _drop_idle(self) -> None:
        idle = [exchange for exchange, lane in self._lanes.items() if exchange and not lane.busy]
        for exchange in idle:
            await self._lanes.pop(exchange).channel.close()

    def _check_header(self, header: bytes, envelope: Envelope, frame_max: int, address: Address) -> None:
        """Refuse headers that fit no frame, or that would leave no room for those of a dead letter."""
        room = frame_max - frames.OVERHEAD - 12
        ours = any(name.startswith(HEADER_RESERVED) for name in envelope.headers)
        if len(header) > (room if ours else room - HEADER_ROOM):
            what = f"the headers of this message take {len(header):,} bytes; AMQP has room for {room - HEADER_ROOM:,}"
            raise TooLarge(what, queue=address.name, url=self._connection.url, hint="put them into the body")

    def _failed(self, address: Address, count: int, refused: dict[int, str]) -> BatchFailed:
        queue, url = address.name, self._connection.url
        failures: dict[int, SendError] = {}
        for index, why in sorted(refused.items()):
            if why is NACKED:
                what = "the broker refused the message: its queue is full, or has failed"
                failures[index] = SendError(what, unknown=True, queue=queue, url=url, hint="see the broker's log")
            else:
                what, hint = f"no queue took the message: {why}", "declare the queue, or leave out declare=never"
                failures[index] = Unroutable(what, queue=queue, url=url, hint=hint)
        what = f"{len(failures)} of {count} messages were refused"
        return BatchFailed(what, failures=failures, queue=queue, url=url)


def _exchange(address: Address) -> str:
    return names.wire_name(address.name) if isinstance(address, Topic) else ""
