"""What an address, a subscription and a delay need on the broker, declared; or looked for, with `declare=never`."""

from __future__ import annotations

import secrets
from collections import defaultdict
from typing import TYPE_CHECKING

from anyqueue.backends.amqp import names
from anyqueue.backends.amqp.declare import Declarer
from anyqueue.driver import Queue, Topic, reply_lasts

if TYPE_CHECKING:
    from anyqueue.backends.amqp.connection import Connection
    from anyqueue.backends.amqp.options import Options
    from anyqueue.driver import Address, Spec


class Topology:
    """The queues and exchanges that one connection uses."""

    def __init__(self, connection: Connection, options: Options) -> None:
        self._options = options
        self._declares = options.declare == "always"
        self._declarer = Declarer(connection)
        self._delays: defaultdict[str, set[str]] = defaultdict(set)
        """A queue on the broker -> the delay queues that lead to it, as far as this connection made them."""

    @property
    def declares(self) -> bool:
        """Say whether what is missing is made."""
        return self._declares

    def has(self, address: Address) -> bool:
        """Say whether there is nothing left to declare for an address."""
        name = names.wire_name(address.name)
        if isinstance(address, Topic):
            return not self._declares or self._declarer.knows(("exchange", name))
        return self._declarer.knows(name) or names.is_passing(name)

    async def address(self, address: Address) -> None:
        """Have somewhere to send to. The queue of a group without a name is its own connection's to declare."""
        if not self.has(address):
            await (self._topic(address.name) if isinstance(address, Topic) else self._queue(address.name))

    async def delay(self, address: Address, target: str, step: int, now: float) -> str:
        """Have a queue in which a message waits `step` milliseconds; return its name."""
        topic = isinstance(address, Topic)
        queue = names.delay_queue(target, step, now, topic=topic)
        if not self._declarer.knows(queue):
            arguments = names.delay_arguments(target, step, topic=topic)
            await self._declarer.queue(queue, arguments, user=address.name)
            if not topic:
                self._delays[target].add(queue)
        return queue

    async def subscription(self, spec: Spec) -> Queue:
        """Have what a consumer needs; return the queue it consumes from."""
        if isinstance(spec.address, Topic) and spec.group is None:
            return await self._passing(spec.address.name)
        home = spec.address.name
        if isinstance(spec.address, Topic):
            home = names.group_queue(spec.address.name, spec.group or "")
        await self._queue(home, spec.dead_letter)
        if isinstance(spec.address, Topic) and self._declares:
            await self._bind(names.wire_name(home), spec.address.name)
        if spec.dead_letter is not None:
            await self._queue(spec.dead_letter.name)
        return Queue(home)

    async def delete(self, queue: Queue) -> None:
        """Delete a queue, and what leads to it."""
        name = names.wire_name(queue.name)
        for each in (name, *self._delays.pop(name, ())):
            await self._declarer.delete(each, user=queue.name)

    def forget(self, address: Address, *queues: str) -> None:
        """Declare an address, and these queues on the way to it, again when they are next needed."""
        name = names.wire_name(address.name)
        for thing in (name, ("exchange", name), *queues):
            self._declarer.forget(thing)

    async def _queue(self, user: str, dead: Queue | None = None) -> None:
        """Declare a queue; what the broker gives up there goes to `dead`, if it is this call that makes it."""
        name = names.wire_name(user)
        if not self._declares:
            await self._declarer.check(name, user)
            return
        await self._declarer.queue(name, self._arguments(user, dead), user=user)

    def _arguments(self, user: str, dead: Queue | None) -> names.Arguments:
        if lasts := reply_lasts(user):
            return names.reply_arguments(lasts)
        options = self._options
        return names.queue_arguments(
            names.wire_name(dead.name if dead is not None else names.dead_letters(user)),
            options.queue_type,
            delivery_limit=options.delivery_limit,
            max_priority=options.max_priority,
        )

    async def _topic(self, user: str) -> None:
        if self._declares:
            await self._declarer.exchange(names.wire_name(user), user)

    async def _passing(self, topic: str) -> Queue:
        """Declare the queue of a group without a name: it ends with its consumer."""
        name = names.passing_queue(topic, secrets.token_hex(8))
        priorities = self._options.max_priority if self._options.queue_type == "classic" else 0
        arguments = names.passing_arguments(max_priority=priorities)
        await self._declarer.queue(name, arguments, user=topic, durable=False, exclusive=True, auto_delete=True)
        self._declarer.forget(name)  # it is never declared again
        await self._bind(name, topic)
        return Queue(name)

    async def _bind(self, queue: str, topic: str) -> None:
        await self._topic(topic)
        await self._declarer.bind(queue, names.wire_name(topic), user=topic)
