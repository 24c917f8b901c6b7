"""The tools for dead letters that work on every backend: listing and discarding. Of the group Dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyqueue import SettleError
from anyqueue.testing.acts import bury
from anyqueue.testing.case import case
from anyqueue.testing.cases.dead_letters import GROUP
from anyqueue.testing.raising import raises

if TYPE_CHECKING:
    from anyqueue.testing.trial import Trial


@case("D10", "dead letters are listed on every backend, with or without INSPECT, and stay", group=GROUP)
async def d10(t: Trial) -> None:
    """D10: dead letters are listed on every backend, with or without INSPECT, and stay with their whole record."""
    queue = t.queue()
    dead = f"{queue}.dead"
    async with t.connect() as client:
        sent = await bury(t, client, queue, 7, headers={"kept": "yes"})
        chosen = set(sent[2:5])
        assert {message.id for message in await client.dead_letters(dead)} == set(sent)
        some = await client.dead_letters(dead, match=lambda message: message.id in chosen)
        assert {message.id for message in some} == chosen
        few = await client.dead_letters(dead, limit=3)
        assert len(few) == 3
        with raises(SettleError, "a message that was only looked at was settled"):
            await few[0].ack()
        await t.counts(dead, total=7)
        drained = {message.id: message for message in await t.drain(client, dead)}
    assert set(drained) == set(sent)
    for seen in some:
        assert (seen.body, seen.headers, seen.death) == (drained[seen.id].body, {"kept": "yes"}, drained[seen.id].death)
        assert seen.death is not None
        assert (seen.death.origin, seen.death.reason) == (queue, "buried")


@case("D11", "discard throws away what matches, up to its limit, on every backend", group=GROUP)
async def d11(t: Trial) -> None:
    """D11: discard throws away what matches, up to its limit, on every backend; the others are as they were."""
    queue = t.queue()
    dead = f"{queue}.dead"
    async with t.connect() as client:
        sent = await bury(t, client, queue, 9)
        chosen = set(sent[:4])
        assert await client.discard(dead, match=lambda message: message.id in chosen) == 4
        assert {message.id for message in await client.dead_letters(dead)} == set(sent) - chosen
        assert await client.discard(dead, limit=2) == 2
        await t.counts(dead, total=3)
        assert await client.discard(dead) == 3
        await t.counts(dead, total=0)
        assert await client.discard(dead) == 0
        assert await client.dead_letters(dead) == []
