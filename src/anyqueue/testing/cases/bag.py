"""Settle: a queue is a bag. Whatever is done to it, a model says what is where."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from anyqueue import Client, Consumer, Feature, Message, Retry
from anyqueue.testing.case import case
from anyqueue.testing.cases.settle import SETTLEMENTS

if TYPE_CHECKING:
    from anyqueue import Messages
    from anyqueue.testing.trial import Trial

GROUP: Final = "Settle"
STEPS: Final = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 3)),
    st.tuples(st.sampled_from(["receive", "ack", "retry", "reject", "leave"]), st.integers(0, 9)),
)


class Bag:
    """The model: where each message is. Order is not its business."""

    def __init__(self, t: Trial, client: Client, queue: str) -> None:
        self.waiting = Counter[str]()
        self.dead = Counter[str]()
        self.held: list[Message] = []
        self._t = t
        self._client = client
        self._queue = queue
        self._consumer: Consumer | None = None
        self._messages: Messages | None = None

    async def step(self, name: str, number: int) -> None:
        """Do it to the queue and to the model."""
        if name == "send":
            for index in range(number + 1):
                self.waiting[await self._client.send(self._queue, f"{index}")] += 1
        elif name == "receive":
            await self._receive(number + 1)
        elif name == "leave":
            if self._t.has(Feature.REDELIVER) or not self.held:
                await self.leave()
        elif self.held:
            await self._settle(name, self.held.pop(number % len(self.held)))

    async def leave(self) -> None:
        """End the consumer: what it holds goes back."""
        if self._consumer is not None:
            await self._consumer.__aexit__(None, None, None)
        self._consumer = self._messages = None
        self.waiting.update(message.id for message in self.held)
        self.held = []

    async def _receive(self, limit: int) -> None:
        if self._messages is None:
            self._consumer = self._client.consumer(self._queue, prefetch=10, retry=Retry(attempts=10_000))
            self._messages = await self._consumer.__aenter__()
        room = 10 - len(self.held)
        wanted = min(limit, room, self.waiting.total())
        if not wanted:
            return
        batch = await self._messages.receive(wanted, timeout=5)
        assert len(batch) == wanted, f"{len(batch)} of {wanted} came; {self.waiting.total()} are waiting"
        for message in batch:
            assert self.waiting[message.id] > 0, f"{message.id} is not waiting"
            self.waiting[message.id] -= 1
            self.held.append(message)

    async def _settle(self, name: str, message: Message) -> None:
        await SETTLEMENTS[name](message)
        if name == "retry":
            self.waiting[message.id] += 1
        elif name == "reject":
            self.dead[message.id] += 1


@case("A9", "a queue is a bag: whatever is done to it, what is where is what a model says", group=GROUP)
async def a9(t: Trial) -> None:
    """A9: a queue is a bag: whatever is done to it, what is where is what a model says."""
    async with t.connect() as client:

        async def check(steps: list[tuple[str, int]]) -> None:
            queue = t.queue()
            bag = Bag(t, client, queue)
            try:
                for name, number in steps:
                    await bag.step(name, number)
                for message in bag.held:
                    await message.ack()
                bag.held = []
            finally:
                await bag.leave()
            for name, model in ((queue, bag.waiting), (f"{queue}.dead", bag.dead)):
                drained = Counter(message.id for message in await t.drain(client, name))
                assert drained == +model

        await t.for_all(st.lists(STEPS, max_size=30), check)
