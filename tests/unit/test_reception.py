"""What a reception asks of its subscription, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyqueue
from anyqueue.backends.memory import MemorySubscription

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from anyqueue import Message
    from anyqueue.driver import Delivery


async def test_handlers_begin_before_more_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking takes a write to the broker, for which a message that is here would wait."""
    happened: list[str] = []
    receive = MemorySubscription.receive

    async def told(subscription: MemorySubscription, limit: int) -> Sequence[Delivery]:
        happened.append("ask")
        return await receive(subscription, limit)

    monkeypatch.setattr(MemorySubscription, "receive", told)
    async with anyqueue.connect("memory://reception") as client:
        await client.producer("q").send_many([b"x"] * 3)
        consumer = client.consumer("q", concurrency=3, prefetch=10)

        async def handle(message: Message) -> None:
            happened.append("handle")
            if happened.count("handle") == 3:
                consumer.stop()
            await message.ack()

        await consumer.run(handle)
    assert happened[:4] == ["ask", "handle", "handle", "handle"]
