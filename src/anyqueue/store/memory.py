"""The store in memory. It hands out the very envelopes it was given: they are immutable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyqueue.driver import REPLIES, Accept, Delivery, Depth, Envelope, Queue, Release, Settlement
from anyqueue.errors import QueueNotFound
from anyqueue.store.contract import FOREVER, NO_MORE, OWNED, TOO_LATE, Holder, Store, bury, expiry_headers
from anyqueue.store.lane import GONE, HELD, Entry, Lane

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anyqueue.driver import Address, Reject


class MemoryStore(Store):
    """Queues in memory. With `expiry` False an expired message is as good as any."""

    def __init__(self, *, expiry: bool = True) -> None:
        self._expiry = expiry
        self._lanes: dict[str, Lane] = {}
        self._topics: dict[str, dict[str, Lane]] = {}
        self._sequence = 0
        self._receipt = 0
        self._now = 0.0
        self._stirred: set[str] = set()

    def put(self, address: Address, batch: Sequence[Envelope], now: float) -> None:
        """Add messages, in order."""
        now = self._tick(now)
        lanes = [self._declare(address.name)] if isinstance(address, Queue) else self._groups(address.name, now)
        for lane in lanes:
            self._put(lane, batch, now)

    def claim(self, holder: Holder, limit: int, now: float) -> list[Delivery]:
        """Hold up to `limit` ready messages."""
        now = self._tick(now)
        lane = self._find(holder.queue)
        lane.promote(now, expires=self._expiry)
        for entry in lane.take_expired(now):
            self._bury(entry, holder, expiry_headers(lane.name), now)
        owner, receipt, held = holder.owner, self._receipt, lane.held
        claimed = []
        for entry in lane.ready.take(limit):
            receipt += 1
            entry.state = HELD
            entry.owner = owner
            entry.claims += 1
            entry.attempts += 1
            held[receipt] = entry
            claimed.append(
                Delivery(
                    envelope=entry.envelope,
                    receipt=receipt,
                    attempt=entry.attempts,
                    redelivered=entry.claims > 1,
                    first_failure=entry.first_failure,
                )
            )
        if holder.lease is not None:
            for number in range(self._receipt + 1, receipt + 1):
                lane.hold(held[number], number, now + holder.lease)
        self._receipt = receipt
        return claimed

    def settle(self, holder: Holder, batch: Sequence[tuple[object, Settlement]], now: float) -> Mapping[int, str]:
        """Settle by receipt."""
        now = self._tick(now)
        lane = self._lanes.get(holder.queue)
        if lane is None:
            return dict.fromkeys(range(len(batch)), TOO_LATE)
        lane.promote(now, expires=self._expiry)
        held: dict[object, Entry] = lane.held  # type: ignore[assignment]  # looked up by whatever is given
        failures: dict[int, str] = {}
        for index, (receipt, settlement) in enumerate(batch):
            entry = held.pop(receipt, None)
            if entry is None:
                failures[index] = TOO_LATE
            elif isinstance(settlement, Accept):
                entry.state = GONE
            else:
                self._settle(lane, entry, settlement, holder, now)
        return failures

    def extend(self, holder: Holder, receipts: Sequence[object], now: float) -> list[int]:
        """Hold these for another lease from now."""
        now = self._tick(now)
        lane = self._lanes.get(holder.queue)
        if lane is None:
            return list(range(len(receipts)))
        lane.promote(now, expires=self._expiry)
        lost = []
        for index, receipt in enumerate(receipts):
            if not isinstance(receipt, int) or receipt not in lane.held:
                lost.append(index)
            elif holder.lease is not None:
                lane.hold(lane.held[receipt], receipt, now + holder.lease)
        return lost

    def release_all(self, holder: Holder, now: float, *, counted: bool = False) -> int:
        """Give back everything this owner holds."""
        now = self._tick(now)
        lane = self._lanes.get(holder.queue)
        if lane is None:
            return 0
        lane.promote(now, expires=self._expiry)
        mine = [receipt for receipt, entry in lane.held.items() if entry.owner == holder.owner]
        for receipt in mine:
            entry = lane.held.pop(receipt)
            entry.attempts -= not counted
            lane.give_back(entry, now, now, expires=self._expiry)
        self._stirred.add(holder.queue)
        return len(mine)

    def drop_all(self, holder: Holder) -> None:
        """Forget everything this owner holds, as a broker without redelivery does."""
        lane = self._lanes.get(holder.queue)
        if lane is not None:
            for receipt in [receipt for receipt, entry in lane.held.items() if entry.owner == holder.owner]:
                lane.held.pop(receipt).state = GONE

    def next_due(self, queue: str, now: float) -> float | None:
        """Return when a claim is worth trying again."""
        return self._find(queue).next_due(self._tick(now))

    def declare(self, queue: str) -> None:
        """Make a queue, if it is not there."""
        self._groups(REPLIES, self._now)
        self._declare(queue)

    def join(self, topic: str, queue: str, now: float, lease: float | None) -> None:
        """Make `queue` a group of the topic, if it is not one."""
        now = self._tick(now)
        self._groups(topic, now)
        if queue not in self._lanes:
            lane = Lane(queue, topic, FOREVER if lease is None else now + lease)
            self._lanes[queue] = self._topics.setdefault(topic, {})[queue] = lane

    def renew(self, queues: Sequence[str], now: float, lease: float) -> None:
        """Let these groups live until `now + lease`."""
        now = self._tick(now)
        for queue in queues:
            if queue in self._lanes:
                self._lanes[queue].until = now + lease

    def queues(self, now: float) -> list[tuple[str, Depth]]:
        """List the queues by name."""
        return [(name, self.depth(name, now)) for name in sorted(self._lanes)]

    def depth(self, queue: str, now: float) -> Depth:
        """Count its messages."""
        now = self._tick(now)
        lane = self._lanes.get(queue)
        if lane is None:
            return Depth(ready=0, delayed=0, held=0)
        lane.promote(now, expires=self._expiry)
        return lane.depth(now)

    def browse(self, queue: str, limit: int, now: float) -> list[Envelope]:
        """Return the ready messages in order, then the delayed ones."""
        now = self._tick(now)
        lane = self._lanes.get(queue)
        if lane is None:
            return []
        lane.promote(now, expires=self._expiry)
        return lane.browse(limit, now)

    def purge(self, queue: str, now: float) -> int:
        """Delete what nobody holds."""
        depth = self.depth(queue, now)
        if queue in self._lanes:
            self._lanes[queue].purge()
        return depth.ready + depth.delayed

    def delete(self, queue: str) -> None:
        """Delete a queue with all its messages."""
        lane = self._lanes.pop(queue, None)
        if lane is None:
            return
        if lane.topic is not None:
            del self._topics[lane.topic][queue]
            if not self._topics[lane.topic]:
                del self._topics[lane.topic]
        self._stirred.add(queue)

    def take_stirred(self) -> set[str]:
        """Return, once, the queues to look at again."""
        stirred = self._stirred
        if stirred:
            self._stirred = set()
        return stirred

    def _tick(self, now: float) -> float:
        self._now = max(self._now, now)
        return self._now

    def _find(self, queue: str) -> Lane:
        try:
            return self._lanes[queue]
        except KeyError:
            raise QueueNotFound("the queue does not exist, or was deleted", queue=queue) from None

    def _declare(self, queue: str) -> Lane:
        lane = self._lanes.get(queue)
        if lane is None or lane.until <= self._now:
            if queue.startswith(OWNED):
                raise QueueNotFound(NO_MORE, queue=queue)
            lane = self._lanes[queue] = Lane(queue)
        return lane

    def _groups(self, topic: str, now: float) -> list[Lane]:
        lanes = list(self._topics.get(topic, {}).values())
        for lane in lanes:
            if lane.until <= now:
                self.delete(lane.name)
        return [lane for lane in lanes if lane.until > now]

    def _put(self, lane: Lane, batch: Sequence[Envelope], now: float) -> None:
        sequence, add, expiry = self._sequence, lane.ready.add, self._expiry
        for envelope in batch:
            sequence += 1
            entry = Entry(envelope, sequence)
            if envelope.priority is None and envelope.not_before is None and envelope.expires_at is None:
                add(entry)
            else:
                lane.put(entry, now, expires=expiry)
        self._sequence = sequence
        self._stirred.add(lane.name)

    def _settle(self, lane: Lane, entry: Entry, settlement: Release | Reject, holder: Holder, now: float) -> None:
        if not isinstance(settlement, Release):
            entry.state = GONE
            self._bury(entry, holder, settlement.headers, now)
            return
        if settlement.failed_at is None:
            entry.attempts -= 1
        elif entry.first_failure is None:
            entry.first_failure = settlement.failed_at
        lane.give_back(entry, now + settlement.delay, now, expires=self._expiry)
        self._stirred.add(lane.name)

    def _bury(self, entry: Entry, holder: Holder, headers: Mapping[str, str], now: float) -> None:
        if holder.dead_letter is not None:
            self._put(self._declare(holder.dead_letter), [bury(entry.envelope, headers)], now)
