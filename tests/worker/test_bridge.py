"""The bridge: from any broker to any other, whatever is killed."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from typing import TYPE_CHECKING, Any

import pytest
from places import Place, eventually, until

import anyqueue
from anyqueue import ConfigError, Message, Retry
from anyqueue.bridge import Bridge

if TYPE_CHECKING:
    from pathlib import Path

    from places import Shop


@pytest.fixture(params=["there", "back"])
def pair(request: pytest.FixtureRequest, across: Place, elsewhere: Place) -> tuple[Place, Place]:
    return (across, elsewhere) if request.param == "there" else (elsewhere, across)


async def test_a_message_arrives_as_it_was(anywhere: Place, elsewhere: Place) -> None:
    queue = anywhere.queue
    async with anyqueue.connect(anywhere.url) as here, anyqueue.connect(elsewhere.url) as there:
        sent = await here.send(
            queue, {"n": 1}, headers={"tenant": "eu", "ü": "\r\n"}, correlation_id="c", reply_to="r", expires=60
        )
        await here.send(queue, b"\xff", content_type="image/png", id="mine")
        assert (
            await Bridge(here, anyqueue.Queue(queue), there, anyqueue.Queue(queue)).run(until_empty=True)
        ).moved == 2
        first, second = await there.dead_letters(queue)
        anywhere.counts(queue, total=0)
    assert (first.id, first.payload, first.headers) == (sent, {"n": 1}, {"tenant": "eu", "ü": "\r\n"})
    assert (first.correlation_id, first.reply_to, first.attempt) == ("c", "r", 1)
    assert first.expires_at is not None
    assert first.timestamp is not None
    assert (second.id, second.body, second.content_type) == ("mine", b"\xff", "image/png")


async def test_dead_letters_keep_their_record_and_can_be_redriven_there(anywhere: Place, elsewhere: Place) -> None:
    queue, dead = anywhere.queue, anyqueue.Queue(f"{anywhere.queue}.dead")
    async with anyqueue.connect(anywhere.url) as here, anyqueue.connect(elsewhere.url) as there:
        await here.send(queue, "x")
        async with here.consumer(queue, retry=None) as messages:
            await (await messages.receive())[0].reject("no good")
        assert (await Bridge(here, dead, there, dead).run(until_empty=True)).moved == 1
        (message,) = await there.dead_letters(dead)
        assert message.death is not None
        assert (message.death.reason, message.death.origin) == ("no good", queue)
        assert await there.redrive(dead) == 1
        elsewhere.counts(queue, total=1)


async def test_a_group_of_a_topic_is_moved(anywhere: Place, elsewhere: Place) -> None:
    topic = anyqueue.Topic(anywhere.queue)
    async with anyqueue.connect(anywhere.url) as here, anyqueue.connect(elsewhere.url) as there:
        moving = Bridge(here, topic, there, topic, group="bridge")
        running = asyncio.create_task(moving.run())
        async with there.consumer(topic, group="g") as messages:
            sent: set[str] = set()

            async def keep_sending() -> None:
                while True:  # the group is there once the bridge has begun
                    sent.add(await here.send(topic, "news"))
                    await asyncio.sleep(0.05)

            sending = asyncio.create_task(keep_sending())
            (message,) = await messages.receive(timeout=10)
            await message.ack()
            sending.cancel()
            moving.stop()
            await running
        assert message.id in sent


def test_the_command_moves_and_says_how_many(pair: tuple[Place, Place], shop: Shop) -> None:
    source, target = pair
    with source.client() as client:
        client.producer(source.queue).send_many(range(700))
    out = shop.run("bridge", source.url, target.url, "--queue", source.queue, "--to", "arrivals", "--until-empty")
    assert f"moved 700 messages from {source.queue} to arrivals" in out
    source.counts(source.queue, total=0)
    target.counts("arrivals", total=700)
    target.delete("arrivals")


def test_a_bridge_that_is_killed_again_and_again_loses_nothing(pair: tuple[Place, Place], shop: Shop) -> None:
    source, target = pair
    queue = source.queue
    chance = random.Random(7)  # noqa: S311 -- a time to kill
    with source.client() as client:
        sent = client.producer(queue).send_many(f"{number}" * 50 for number in range(1500))
        for _ in range(4):
            before = target.depth(queue).total
            program = shop.start("bridge", source.url, target.url, "--queue", queue)
            program.ready()
            wanted = chance.randint(1, 150)
            eventually(lambda before=before, wanted=wanted: target.depth(queue).total >= before + wanted)
            program.end()
        out = shop.run("bridge", source.url, target.url, "--queue", queue, "--until-empty")
        assert "moved" in out
        eventually(lambda: source.depth(queue).total == 0)
        source.counts(f"{queue}.dead", total=0)
    with target.client() as client, client.consumer(queue, prefetch=2000) as messages:
        arrived = []
        while batch := messages.receive(1000, timeout=1):
            arrived += [message.id for message in batch]
            for message in batch:
                message.ack()
    assert set(arrived) == set(sent)
    assert len(arrived) - len(sent) <= 4 * 500, "only what was on its way at a kill is there twice"
    target.delete(queue)


def test_a_signal_lets_what_is_on_its_way_arrive(pair: tuple[Place, Place], shop: Shop) -> None:
    source, target = pair
    with source.client() as client:
        client.producer(source.queue).send_many(range(3000))
    program = shop.start("bridge", source.url, target.url, "--queue", source.queue)
    eventually(lambda: target.depth(source.queue).total > 0)
    program.send(signal.SIGTERM)
    assert program.wait() == 0
    moved = json.loads(program.log().splitlines()[-1].split()[1])
    target.counts(source.queue, total=moved)
    eventually(lambda: source.depth(source.queue).held == 0)
    source.counts(source.queue, total=3000 - moved)  # nothing was moved twice
    target.delete(source.queue)


async def test_while_the_target_is_away_messages_stay(anywhere: Place, elsewhere: Place, caplog: Any) -> None:
    async with (
        anyqueue.connect(anywhere.url) as here,
        anyqueue.connect(elsewhere.url, send_timeout=0.3) as there,
    ):
        moving = Bridge(here, anyqueue.Queue(anywhere.queue), there, anyqueue.Queue("arrivals"))
        with elsewhere.harness.blocked():
            running = asyncio.create_task(moving.run())
            sent = await here.producer(anywhere.queue).send_many(range(20))
            await until(lambda: "messages wait for their target" in caplog.text)
            anywhere.counts(anywhere.queue, total=20)
        await until(lambda: moving.moved.moved == 20)
        moving.stop()
        await running
        arrived = [message.id for message in await there.dead_letters("arrivals")]
    assert set(arrived) == set(sent)


async def test_a_bridge_stopped_while_the_target_is_away_gives_back(anywhere: Place, elsewhere: Place) -> None:
    async with (
        anyqueue.connect(anywhere.url) as here,
        anyqueue.connect(elsewhere.url, send_timeout=0.3) as there,
    ):
        moving = Bridge(here, anyqueue.Queue(anywhere.queue), there, anyqueue.Queue("arrivals"))
        await here.producer(anywhere.queue).send_many(range(20))
        with elsewhere.harness.blocked():
            running = asyncio.create_task(moving.run())
            await until(lambda: anywhere.depth(anywhere.queue).held == 20)
            moving.stop()
            assert (await running).moved == 0
        anywhere.counts(anywhere.queue, ready=20, held=0)


def test_a_source_that_dies_and_comes_back_loses_nothing(across: Place, elsewhere: Place, shop: Shop) -> None:
    """Where the broker has a process: kill -9 of it under the bridge."""
    broker = across.harness.broker
    with across.client() as client:
        sent = client.producer(across.queue).send_many(range(2000))
    program = shop.start("bridge", across.url, elsewhere.url, "--queue", across.queue)
    eventually(lambda: elsewhere.depth(across.queue).total >= 100)
    if broker is not None:
        broker.kill()
        broker.start()
    eventually(lambda: across.depth(across.queue).total == 0)
    program.send(signal.SIGTERM)
    assert program.wait() == 0
    with elsewhere.client() as client:
        arrived = {message.id for message in client.browse(across.queue, limit=5000)}
    assert arrived == set(sent)


async def test_what_the_target_cannot_take_is_a_dead_letter_of_the_source(elsewhere: Place, tmp_path: Path) -> None:
    """Here: a limit that a driver has lowered. The others are moved."""
    async with (
        anyqueue.connect(elsewhere.url) as here,
        anyqueue.connect(f"sqlite:///{tmp_path / 'small.db'}") as there,
    ):
        assert there._driver is not None
        there._driver.limits = anyqueue.Limits(max_body=100, max_batch=100)
        await here.send("q", "x" * 200)
        await here.send("q", "small")
        moved = await Bridge(here, anyqueue.Queue("q"), there, anyqueue.Queue("q")).run(until_empty=True)
        assert (moved.moved, moved.rejected) == (1, 1)
        (dead,) = await here.dead_letters("q.dead")
        assert dead.death is not None
        assert "over the limit of 100" in dead.death.reason


async def test_priorities_are_left_out_where_there_are_none_and_that_is_said(caplog: Any) -> None:
    async with (
        anyqueue.connect("memory://strong") as here,
        anyqueue.connect("memory://weak?as=weak") as there,
    ):
        await here.send("q", "x", priority=7)
        await Bridge(here, anyqueue.Queue("q"), there, anyqueue.Queue("q")).run(limit=1)
        (message,) = await there.dead_letters("q")
        assert (message.payload, message.priority) == ("x", None)
    assert "priorities are left out" in caplog.text


def test_bad_input_is_one_clear_line(across: Place, shop: Shop) -> None:
    assert "to itself" in shop.fails("bridge", across.url, across.url, "--queue", "q")
    assert "unknown scheme" in shop.fails("bridge", across.url, "carrier-pigeon://x", "--queue", "q")
    assert "anyqueue's own" in shop.fails("bridge", across.url, across.url, "--queue", "aq.q", "--to", "x")


async def test_a_bridge_to_itself_is_refused() -> None:
    async with anyqueue.connect("memory://loop") as client:
        with pytest.raises(ConfigError, match="to itself"):
            Bridge(client, anyqueue.Queue("q"), client, anyqueue.Queue("q"))


async def test_forward_keeps_attempts_that_were_used_up(anywhere: Place) -> None:
    """A message that has failed before is not young again because it was moved."""
    async with anyqueue.connect(anywhere.url) as here, anyqueue.connect("memory://forward") as there:
        await here.send(anywhere.queue, "x")
        async with here.consumer(anywhere.queue, retry=Retry(attempts=5, initial=0)) as messages:
            (message,) = await messages.receive()
            await there.producer("q").forward(message)
            await message.ack()
        async with there.consumer("q") as moved:
            (arrived,) = await moved.receive()
            assert isinstance(arrived, Message)
            assert (arrived.id, arrived.attempt) == (message.id, 1)
            await arrived.ack()
