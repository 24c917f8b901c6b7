"""Redrive: dead letters sent back to where they came from. Of the group Dead letters."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from anyqueue import Feature, Retry
from anyqueue.testing.acts import bury, is_empty, running
from anyqueue.testing.case import case
from anyqueue.testing.cases.dead_letters import GROUP
from anyqueue.testing.children import Script
from anyqueue.testing.faults import between

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyqueue import Client, Message
    from anyqueue.testing.trial import Trial


@case("D5", "redrive brings back the original, with its attempts from 1", group=GROUP)
async def d5(t: Trial) -> None:
    """D5: redrive brings back the original: id, body, headers, metadata; attempts from 1, no trace of its death."""
    text = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)
    names = text.filter(lambda name: not name.lower().startswith("aq-"))
    fields = st.fixed_dictionaries(
        {"headers": st.dictionaries(names, text, max_size=3)},
        optional={"correlation_id": text, "reply_to": text, "content_type": st.just("image/png")},
    )
    many = st.lists(st.tuples(st.binary(max_size=100), fields), min_size=1, max_size=8)
    queue = t.queue()
    async with t.connect() as client:

        async def check(messages: list[tuple[bytes, dict[str, Any]]]) -> None:
            sent = {await client.send(queue, body, **given): (body, given) for body, given in messages}
            await fail_all(t, client, queue)
            assert await client.redrive(f"{queue}.dead") == len(sent)
            await t.counts(f"{queue}.dead", total=0)
            back = await t.drain(client, queue)
            assert sorted(message.id for message in back) == sorted(sent)
            for message in back:
                body, given = sent[message.id]
                assert (message.body, message.headers) == (body, given["headers"])
                assert message.content_type == given.get("content_type", "application/octet-stream")
                assert message.correlation_id == given.get("correlation_id")
                assert message.reply_to == given.get("reply_to")
                assert (message.attempt, message.redelivered, message.death) == (1, False, None)
                assert message.first_failure is None

        await t.for_all(many, check, examples=10 if t.has(Feature.INSPECT) else 2)


async def fail_all(t: Trial, client: Client, queue: str) -> None:
    """Let every message of a queue fail twice, and so die."""

    async def fail(message: Message) -> None:
        raise ValueError(message.id)

    async with running(client, queue, fail, retry=Retry(attempts=2, initial=0)):
        await t.eventually(is_empty(t, queue))


@case("D6", "a partial or interrupted redrive loses nothing", group=GROUP, tier="fault")
async def d6(t: Trial) -> None:
    """D6: a partial or interrupted redrive loses nothing: with a limit, cancelled at a drawn point, or killed.

    Extras are at most what was under way. A kill needs a broker that redelivers.
    """
    async with t.connect() as client:
        queue = t.queue()
        sent = await bury(t, client, queue, 12)
        assert await client.redrive(f"{queue}.dead", limit=5) == 5
        await t.counts(queue, total=5)
        await t.counts(f"{queue}.dead", total=7)
        await cancelled(t, queue, sent)
        await redriven(t, client, queue, sent)
        for number, point in enumerate(("after send", "before settle") if t.has(Feature.REDELIVER) else ()):
            queue = t.queue()
            sent = await bury(t, client, queue, 12)
            script = Script(role="redriver", queue=queue, die_at=f"{point} {t.random.randint(1, 2)}")
            child = t.child(f"redriver {number}", script)
            await child.wait()
            await redriven(t, client, queue, sent)


async def cancelled(t: Trial, queue: str, sent: Sequence[str]) -> None:
    """Begin a redrive, and cancel it when it is at a drawn point."""
    point, reached = t.random.choice(["before send", "after send", "before settle"]), asyncio.Event()

    async def hold(here: str, batch: Sequence[object]) -> None:
        del batch
        if here == point and not reached.is_set():
            reached.set()
            await asyncio.sleep(0.05)  # the cancellation comes meanwhile

    async with between(t.connect(), hold) as client:
        task = asyncio.create_task(client.redrive(f"{queue}.dead"))
        await reached.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert await t.total(queue) + await t.total(f"{queue}.dead") >= len(sent)


async def redriven(t: Trial, client: Client, queue: str, sent: Sequence[str]) -> None:
    """Redrive until nothing is left, and prove that everything is back."""

    async def all_gone() -> bool:
        await client.redrive(f"{queue}.dead")
        return await t.total(f"{queue}.dead") == 0

    await t.eventually(all_gone, timeout=60)
    back = [message.id for message in await t.drain(client, queue)]
    assert set(back) == set(sent)
    assert len(back) <= 2 * len(sent)


@case(
    "D6a", "a redriver that is killed again and again loses nothing", group=GROUP, tier="fault", needs=Feature.REDELIVER
)
async def d6a(t: Trial) -> None:
    """D6a: a redriver that is killed again and again loses nothing.

    Four times, so that whoever counts deliveries has every reason to give the dead letters up.
    """
    queue = t.queue()
    async with t.connect() as client:
        sent = await bury(t, client, queue, 4)
        for number in range(4):
            child = t.child(f"redriver {number}", Script(role="redriver", queue=queue, die_at="before send 1"))
            await child.wait()
            await t.counts(f"{queue}.dead", total=4)
            if t.has(Feature.COUNT):  # a lease ends in its time; elsewhere they are back with the connection's end
                await t.eventually(lambda: all_ready(client, f"{queue}.dead", 4))
        await redriven(t, client, queue, sent)


async def all_ready(client: Client, queue: str, count: int) -> bool:
    """Say whether nobody holds any of so many messages."""
    return (await client.depth(queue)).ready == count


@case("D9", "redrive with match moves what matches, and leaves the others as they are", group=GROUP)
async def d9(t: Trial) -> None:
    """D9: redrive with match moves what matches, and leaves the others as they are, record and all."""
    queue = t.queue()
    chosen = set(t.random.sample(range(12), 5))
    async with t.connect() as client:
        sent = await bury(t, client, queue, 12)
        matching = {sent[number] for number in chosen}
        assert await client.redrive(f"{queue}.dead", match=lambda message: message.id in matching) == 5
        await t.counts(queue, total=5)
        await t.counts(f"{queue}.dead", total=7)
        assert {message.id for message in await t.drain(client, queue)} == matching
        left = await t.drain(client, f"{queue}.dead")
    assert {message.id for message in left} == set(sent) - matching
    for message in left:
        assert message.death is not None
        assert (message.death.origin, message.death.reason) == (queue, "buried")
