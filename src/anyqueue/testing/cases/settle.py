"""Settle: an ack is final, what is held is nobody else's, and what is not settled comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from anyqueue import Feature, Message, Retry, SettleError
from anyqueue.testing.case import case
from anyqueue.testing.raising import raises

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyqueue.testing.trial import Trial

GROUP: Final = "Settle"
SOON: Final = Retry(attempts=3, initial=0.001, factor=1.0, jitter=0.0)
SETTLEMENTS: Final[dict[str, Callable[[Message], Awaitable[None]]]] = {
    "ack": lambda message: message.ack(),
    "retry": lambda message: message.retry(0),
    "reject": lambda message: message.reject("no"),
}


@case("A1", "an ack is final across reconnects", group=GROUP, needs=Feature.REDELIVER)
async def a1(t: Trial) -> None:
    """A1: an ack is final across reconnects."""
    queue = t.queue()
    async with t.connect() as client:
        for number in range(10):
            await t.history.send(client, queue, f"message {number}".encode())
        async with client.consumer(queue) as messages:
            for _ in range(5):
                (message,) = await messages.receive()
                t.history.took(message, "first")
                await t.history.ack(message)
            t.history.ended("first")
    async with t.connect() as client:
        assert len(await t.drain(client, queue)) == 5
    t.history.prove()


@case("A2", "a held message is invisible to others", group=GROUP, needs=Feature.COMPETING)
async def a2(t: Trial) -> None:
    """A2: a held message is invisible to others."""
    queue = t.queue()
    async with t.connect() as one, t.connect() as two, one.consumer(queue, prefetch=1) as first:
        await t.history.send(one, queue, b"held")
        (held,) = await first.receive()
        t.history.took(held, "first")
        await t.counts(queue, unacked=1)
        async with two.consumer(queue) as second:
            for number in range(5):
                await t.history.send(one, queue, f"free {number}".encode())
            for number in range(5):
                (message,) = await second.receive()
                t.history.took(message, "second")
                assert message.body == f"free {number}".encode()
                await t.history.ack(message)
            await t.counts(queue, total=1)
            await t.history.ack(held)
    await t.counts(queue, total=0)
    t.history.prove()


@case("A3", "a released message comes again: the same id, body and headers, redelivered", group=GROUP)
async def a3(t: Trial) -> None:
    """A3: a released message comes again: the same id, body and headers, redelivered."""
    queue = t.queue()
    async with t.connect() as client, client.consumer(queue) as messages:
        sent = await t.history.send(client, queue, b"again", headers={"Tenant": "eu", "tenant": "us"})
        for attempt in (1, 2, 3):
            (message,) = await messages.receive()
            t.history.took(message, "consumer")
            assert (message.id, message.attempt, message.redelivered) == (sent, attempt, attempt > 1)
            assert message.headers == {"Tenant": "eu", "tenant": "us"}
            await (t.history.retry(message, delay=0) if attempt < 3 else t.history.ack(message))
    await t.counts(queue, total=0)
    t.history.prove()


@case("A4", "a rejected message is dead-lettered, or gone where no dead letters are wanted", group=GROUP)
async def a4(t: Trial) -> None:
    """A4: a rejected message is dead-lettered, or gone where no dead letters are wanted."""
    queue = t.queue()
    dead = f"{queue}.dead"
    async with t.connect() as client:
        await t.history.send(client, queue, b"bury me", headers={"a": "b"})
        async with client.consumer(queue) as messages:
            (message,) = await messages.receive()
            await t.history.reject(t.history.took(message, "consumer"), "a reason")
        await t.counts(queue, total=0)
        await t.counts(dead, total=1)
        (buried,) = await t.drain(client, dead)
        assert buried.death is not None
        assert (buried.death.reason, buried.death.origin) == ("a reason", queue)
        t.history.prove(dead={dead})
        await client.send(queue, b"forget me")
        async with client.consumer(queue, dead_letter=None) as messages:
            (message,) = await messages.receive()
            await message.reject()
        await t.counts(queue, total=0)
        await t.counts(dead, total=0)


@case("A5", "of a batch, exactly what was not acked comes back", group=GROUP, needs=Feature.REDELIVER)
async def a5(t: Trial) -> None:
    """A5: of a batch, exactly what was not acked comes back."""
    queue = t.queue()
    async with t.connect() as client:

        async def check(acked: list[bool]) -> None:
            for number in range(len(acked)):
                await t.history.send(client, queue, f"message {number}".encode())
            async with client.consumer(queue, prefetch=20) as messages:
                batch = await messages.receive(len(acked), timeout=5)
                assert [message.body for message in batch] == [b"message %d" % n for n in range(len(acked))]
                for message in batch:
                    t.history.took(message, "first")
                for message, wanted in zip(batch, acked, strict=True):
                    if wanted:
                        await t.history.ack(message)
                t.history.ended("first")
            back = [message.body for message in await t.drain(client, queue)]
            assert sorted(back) == sorted(b"message %d" % n for n, wanted in enumerate(acked) if not wanted)

        await t.for_all(st.lists(st.booleans(), min_size=1, max_size=20), check)
    t.history.prove()


@case("A6", "the first settlement wins, a later one raises, and the connection lives", group=GROUP)
async def a6(t: Trial) -> None:
    """A6: the first settlement wins, a later one raises, and the connection lives."""
    queue = t.queue()
    async with t.connect() as client, client.consumer(queue, retry=SOON) as messages:

        async def check(names: list[str]) -> None:
            sent = await client.send(queue, b"once")
            (message,) = await messages.receive()
            assert (message.id, message.attempt) == (sent, 1)
            await SETTLEMENTS[names[0]](message)
            for name in names[1:]:
                with raises(SettleError, f"{name} after {names[0]}") as caught:
                    await SETTLEMENTS[name](message)
                assert sent in str(caught)
            if names[0] == "retry":
                (again,) = await messages.receive()
                assert (again.id, again.attempt) == (sent, 2)
                await again.ack()
            await t.counts(queue, total=0)
            dead = f"{queue}.dead"
            await t.counts(dead, total=(names[0] == "reject"))
            while await t.foreign.get(dead) is not None:
                pass

        await t.for_all(st.lists(st.sampled_from(sorted(SETTLEMENTS)), min_size=2, max_size=4), check)


@case("A7", "a stale ack settles no other message", group=GROUP, needs=Feature.REDELIVER)
async def a7(t: Trial) -> None:
    """A7: a stale ack settles no other message."""
    queue = t.queue()
    async with t.connect() as client:

        async def check(count: int) -> None:
            for number in range(count):
                await t.history.send(client, queue, f"message {number}".encode())
            async with client.consumer(queue) as messages:
                stale = await messages.receive(count, timeout=5)
                for message in stale:
                    t.history.took(message, "first")
                t.history.ended("first")
            async with client.consumer(queue) as messages:
                held = await messages.receive(count, timeout=5)
                assert sorted(one.id for one in held) == sorted(one.id for one in stale)
                for message in held:
                    t.history.took(message, "second")
                for message in stale:
                    await expect_too_late(message)
                await t.counts(queue, unacked=count)
                t.history.ended("second")
            assert len(await t.drain(client, queue)) == count

        await t.for_all(st.integers(1, 8), check, examples=8)
    t.history.prove()


@case("A7b", "the ack of a message whose queue was deleted says that it came too late", group=GROUP)
async def a7b(t: Trial) -> None:
    """A7b: the ack of a message whose queue was deleted says that it came too late, where the broker tells.

    Where it tells nobody, the message is gone all the same, and a new queue of the name is as good as any.
    """
    async with t.connect() as client:
        for prefetch in (100, 1):  # a consumer that asks for more may be told by that; one that does not, by its ack
            queue = t.queue()
            await client.send(queue, b"deleted while it is held")
            async with client.consumer(queue, prefetch=prefetch) as messages:
                (message,) = await messages.receive()
                await t.delete(queue)
                if t.harness.deletion_window is None:
                    await message.ack()
                else:
                    await expect_too_late(message)
            await t.history.send(client, queue, b"a new queue")
            assert len(await t.drain(client, queue)) == 1
    t.history.prove()


async def expect_too_late(message: Message) -> None:
    """Ack a message that is no longer held; it must say so."""
    with raises(SettleError, f"the ack of {message.id}, which is no longer held") as caught:
        await message.ack()
    assert message.id in str(caught)
