"""Crash: whoever is killed, at whatever point, nothing confirmed is lost and nothing accepted comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from anyqueue import Feature, Retry
from anyqueue.policy import SUSPECT_SLACK
from anyqueue.testing.acts import is_empty, kill, sendings, written
from anyqueue.testing.case import case
from anyqueue.testing.children import Script

if TYPE_CHECKING:
    from anyqueue.testing.children import Child
    from anyqueue.testing.trial import Trial

GROUP = "Crash"


@case(
    "K1",
    "a consumer killed at any point loses nothing, and nothing accepted comes back",
    group=GROUP,
    needs=Feature.REDELIVER,
    tier="fault",
)
async def k1(t: Trial) -> None:
    """K1: a consumer killed at any point loses nothing, and nothing accepted comes back.

    Three consumers in turn, each killed when it has written a drawn number of records: in a handler, in a settlement,
    or between two.
    """
    queue = t.queue()
    async with t.connect() as client:
        await sendings(t, client, queue, 60)
        for number in range(3):
            script = Script(role="consumer", queue=queue, concurrency=3, pace=0.002)
            worker = t.child(f"worker {number}", script)
            await written(t, worker, t.random.randint(1, 20))
            await kill(t, worker)
        await t.drain(client, queue)
    t.history.prove()


@case(
    "K3",
    "a producer killed at any point: everything confirmed is delivered",
    group=GROUP,
    needs=Feature.CONFIRM,
    tier="fault",
)
async def k3(t: Trial) -> None:
    """K3: a producer killed at any point: everything confirmed is delivered."""
    queue = t.queue()
    for number in range(3):
        sender = t.child(f"sender {number}", Script(role="producer", queue=queue, count=100_000))
        await written(t, sender, t.random.randint(2, 60))
        await kill(t, sender)
    async with t.connect() as client:
        drained = await t.drain(client, queue)
    assert len(drained) >= 3
    t.history.prove()


@case(
    "K4",
    "each attempt counts once, and a message given back unhandled at most as one",
    group=GROUP,
    needs=Feature.ATTEMPTS,
)
async def k4(t: Trial) -> None:
    """K4: each attempt counts once, and a message given back unhandled at most as one.

    `left`: its consumer ended without settling it. A broker that can does not count that. One that counts whatever it
    brings back may do so after a retry too: the consumer that ends may have been handed the message again.
    """
    counts_all = Feature.RELEASE_DELAY not in t.expected.features
    async with t.connect() as client:

        async def check(steps: list[str]) -> None:
            queue = t.queue()
            identity = await t.history.send(client, queue, b"counted")
            least = most = 1
            for step in [*steps, "done"]:
                async with client.consumer(queue, retry=Retry(attempts=100)) as messages:
                    (message,) = await messages.receive()
                    t.history.took(message, "consumer")
                    assert message.id == identity
                    assert least <= message.attempt <= most
                    assert message.redelivered or most == 1
                    least = message.attempt + (step == "retried")
                    most = message.attempt + 1 + (step == "retried" and counts_all)
                    if step == "retried":
                        await t.history.retry(message, delay=0)
                    elif step == "done":
                        await t.history.ack(message)
                    else:
                        t.history.ended("consumer")
            await t.counts(queue, total=0)

        await t.for_all(st.lists(st.sampled_from(["retried", "left"]), max_size=5), check)
    t.history.prove()


@case(
    "K4a",
    "a delivery whose consumer was killed counts, where the broker counts",
    group=GROUP,
    tier="fault",
    needs=Feature.ATTEMPTS | Feature.REDELIVER,
)
async def k4a(t: Trial) -> None:
    """K4a: a delivery whose consumer was killed counts, where the broker counts."""
    queue = t.queue()
    counted = Feature.ATTEMPTS in t.expected.features
    async with t.connect() as client:
        await t.history.send(client, queue, b"counted")
        for number in range(2):
            worker = t.child(f"worker {number}", Script(role="consumer", queue=queue, handler="hold"))
            await t.eventually(lambda worker=worker: worker.count("receive") == 1)  # type: ignore[misc]
            await kill(t, worker)
            attempts = [record.attempt for record in worker.journal() if record.kind == "receive"]
            assert attempts == ([number + 1] if counted else [min(number + 1, 2)])
        (message,) = await t.drain(client, queue)
    assert message.attempt == (3 if counted else 2)
    assert message.redelivered
    t.history.prove()


async def until_dead(t: Trial, queue: str, *, prefetch: int | None = None, unseen: bool = False) -> tuple[Child, int]:
    """Start consumers that die of a killer, one after another, until it is dead-lettered; return the last, and deaths.

    One attempt is allowed, and SUSPECT_SLACK more to find out that it is the killer.
    """
    deaths = 0
    while True:
        script = Script(
            role="consumer", queue=queue, prefetch=prefetch, attempts=1, die_on=b"killer", die_unseen=unseen
        )
        child = t.child(f"worker {deaths}", script)

        async def decided(child: Child = child) -> bool:
            return not child.alive() or await t.total(f"{queue}.dead") > 0

        await t.eventually(decided, timeout=90)
        if child.alive():
            return child, deaths
        t.history.ended(child.name)
        t.history.merge(child.journal())
        deaths += 1
        assert deaths <= 1 + SUSPECT_SLACK, f"it has killed {deaths} consumers, and is not dead-lettered"


async def ended(t: Trial, child: Child, queue: str) -> None:
    """Wait until a surviving consumer has emptied the queue, and end it."""
    await t.eventually(is_empty(t, queue), timeout=120)
    await child.terminate()
    t.history.merge(child.journal())


@case(
    "K5",
    "a message that kills its process reaches the dead letters, where the broker counts",
    group=GROUP,
    needs=Feature.ATTEMPTS | Feature.REDELIVER,
    tier="fault",
)
async def k5(t: Trial) -> None:
    """K5: a message that kills its process reaches the dead letters, where the broker counts.

    Where the broker only flags redelivery it goes on killing, and is never lost.
    """
    queue = t.queue()
    async with t.connect() as client:
        await t.history.send(client, queue, b"killer")
        if Feature.ATTEMPTS not in t.expected.features:
            for number in range(3):
                worker = t.child(f"worker {number}", Script(role="consumer", queue=queue, die_on=b"killer"))
                await worker.wait()
                t.history.merge(worker.journal())
            await t.counts(queue, total=1)
            await t.drain(client, queue)
        else:
            worker, _ = await until_dead(t, queue)
            await ended(t, worker, queue)
            (message,) = await t.drain(client, f"{queue}.dead")
            assert message.death is not None
            assert message.death.origin == queue
            assert "kill" in message.death.reason
            assert message.death.exception is None
    t.history.prove(dead=[f"{queue}.dead"])


@case(
    "K6",
    "what was prefetched beside a message that kills its consumer is handled, not dead-lettered with it",
    group=GROUP,
    needs=Feature.ATTEMPTS | Feature.REDELIVER,
    tier="fault",
)
async def k6(t: Trial) -> None:
    """K6: what was prefetched beside a message that kills its consumer is handled, not dead-lettered with it.

    All 50 are handed over at once, so every death counts one against the neighbours too; see SUSPECT_SLACK. The killer
    kills as soon as its handler begins.
    """
    queue, counted = t.queue(), Feature.ATTEMPTS in t.expected.features
    dead, place = f"{queue}.dead", t.random.randint(40, 46)
    async with t.connect() as client:
        await sendings(t, client, queue, place)
        if counted:
            await client.send(queue, b"killer")  # its end is the witness's to see, not the history's
        else:
            await t.history.send(client, queue, b"killer")
        await sendings(t, client, queue, 49 - place)
        if counted:
            worker, _ = await until_dead(t, queue, prefetch=50, unseen=True)
            await ended(t, worker, queue)
            await t.counts(dead, total=1)
            seen = await t.foreign.get(dead)
            assert seen is not None
            assert seen.body == b"killer"
        else:
            script = Script(role="consumer", queue=queue, prefetch=50, die_on=b"killer")
            worker = t.child("worker", script)
            await worker.wait()
            t.history.merge(worker.journal())
            assert len(await t.drain(client, queue)) == 50 - place
            await t.counts(dead, total=0)
    t.history.prove()
