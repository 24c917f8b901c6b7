"""Bad input: a settlement that cannot be meant settles nothing; one that is hard to carry is carried."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from anyqueue.testing.case import case
from anyqueue.testing.cases.bad_input import BAD, outcome_of, short

if TYPE_CHECKING:
    from anyqueue import Message
    from anyqueue.testing.trial import Trial


@case("V1b", "what a handler or a settlement is given wrongly leaves its message as it was", group="Bad input")
async def v1b(t: Trial) -> None:
    """V1b: a settlement that was refused settles nothing: the message can still be settled, once, rightly."""
    queue = t.queue()
    async with t.connect() as client, client.consumer(queue) as messages:
        await t.history.send(client, queue, b"x")
        (message,) = await messages.receive()
        t.history.took(message, "consumer")
        for value, _ in BAD["Message.retry"]["delay"]:
            await refused(message, "retry", value)
        for value, _ in BAD["Message.reject"]["reason"]:
            await refused(message, "reject", value)
        await t.history.ack(message)
    await t.counts(queue, total=0)
    t.history.prove()


async def refused(message: Message, method: str, value: object) -> None:
    """Prove that a settlement is refused, and that the message is not settled."""
    outcome = await outcome_of(functools.partial(getattr(message, method), value))
    assert isinstance(outcome, TypeError | ValueError), f"{method}({short(value)}) ended with {outcome!r}"
    assert not message.settled


@case("V1c", "a reason that is hard to carry rejects its message all the same", group="Bad input")
async def v1c(t: Trial) -> None:
    """V1c: a reason that is hard to carry (long, no Unicode, control characters) rejects its message all the same."""
    queue = t.queue()
    async with t.connect() as client:
        for reason in ("x" * 1_000_000, "\ud800", "a\r\nb\0c", ""):
            await client.send(queue, b"x")
            async with client.consumer(queue) as messages:
                (message,) = await messages.receive()
                await message.reject(reason)
            await t.counts(queue, total=0)
            async with client.consumer(f"{queue}.dead") as messages:
                (dead,) = await messages.receive(timeout=5)
                assert dead.death is not None, f"no failure headers for the reason {short(reason)}"
                await dead.ack()
