"""The outbox and its relay: sent if and only if committed; whatever is killed, nothing is lost and nothing invented."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from places import eventually, until
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

import anyqueue
from anyqueue import ConfigError, Topic
from anyqueue.outbox import Outbox, Relay, metadata
from anyqueue.outbox.table import OUTBOX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from places import Place, Shop
    from postgres import Postgres


@pytest.fixture
def engine(database: str) -> Iterator[sa.Engine]:
    made = sa.create_engine(database)
    Outbox().create(made)
    yield made
    made.dispose()


def left(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(OUTBOX)) or 0)


async def test_everything_of_a_message_goes_along(anywhere: Place, engine: sa.Engine) -> None:
    outbox, queue = Outbox(), anywhere.queue
    with Session(engine) as session, session.begin():
        first = outbox.send(
            session, queue, {"n": 1}, headers={"tenant": "eu"}, correlation_id="c", reply_to="r", expires=60
        )
        outbox.send(session, queue, b"\xff\x00", id="mine", content_type="image/png")
        outbox.send(session, queue, "later", delay=3600)
    with engine.begin() as connection:
        outbox.send(connection, queue, "by a connection")
    async with anyqueue.connect(anywhere.url) as client:
        assert await Relay(engine, client).run(until_empty=True) == 4
        found = {message.id: message for message in await client.dead_letters(queue)}
    assert left(engine) == 0
    assert found[first].payload == {"n": 1}
    assert (found[first].headers, found[first].correlation_id, found[first].reply_to) == ({"tenant": "eu"}, "c", "r")
    assert 50 < found[first].expires_at - time.time() < 61
    assert (found["mine"].body, found["mine"].content_type) == (b"\xff\x00", "image/png")
    anywhere.counts(queue, total=4)


async def test_an_async_session(anywhere: Place, postgres: Postgres) -> None:
    """Committed and rolled back."""
    url = postgres.database()
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    async with AsyncSession(engine) as session, session.begin():
        Outbox().send(session, anywhere.queue, "committed")
    async with AsyncSession(engine) as session:
        Outbox().send(session, anywhere.queue, "rolled back")
        await session.flush()
        await session.rollback()
    await engine.dispose()
    async with anyqueue.connect(anywhere.url) as client:
        assert await Relay(url, client).run(until_empty=True) == 1
        assert [message.payload for message in await client.dead_letters(anywhere.queue)] == ["committed"]


async def test_in_order_and_to_topics(anywhere: Place, engine: sa.Engine) -> None:
    outbox, topic = Outbox(), Topic(f"{anywhere.queue}-topic")
    async with anyqueue.connect(anywhere.url) as client, client.consumer(topic, group="g", prefetch=600) as messages:
        with Session(engine) as session, session.begin():
            for number in range(500):
                outbox.send(session, topic, number)
        assert await Relay(engine, client).run(until_empty=True) == 500
        received: list[int] = []
        while len(received) < 500:
            for message in await messages.receive(500, timeout=5):
                received.append(message.payload)
                await message.ack()
    assert received == list(range(500))


async def test_a_row_that_can_never_be_sent_is_marked_and_holds_up_nobody(
    anywhere: Place, engine: sa.Engine, caplog: Any
) -> None:
    outbox = Outbox()
    with Session(engine) as session, session.begin():
        outbox.send(session, "aq.reserved", "x")
        outbox.send(session, anywhere.queue, "too urgent", priority=99)
        outbox.send(session, anywhere.queue, "good")
    async with anyqueue.connect(anywhere.url) as client:
        assert await Relay(engine, client).run(until_empty=True) == 1
    assert left(engine) == 2
    with engine.connect() as connection:
        reasons = sorted(connection.scalars(sa.select(OUTBOX.c.failure)))
    assert "anyqueue's own" in reasons[1]
    assert "priority is 0" in reasons[0]
    assert caplog.text.count("cannot be sent") == 2


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"payload": object()}, TypeError),
        ({"payload": float("nan")}, ValueError),
        ({"payload": "x", "headers": {"a": 1}}, TypeError),
        ({"payload": "x", "headers": {"aq-x": "1"}}, ConfigError),
    ],
)
def test_what_cannot_be_a_message_is_refused_before_the_commit(engine: sa.Engine, arguments: Any, error: type) -> None:
    with Session(engine) as session, session.begin(), pytest.raises(error):
        Outbox().send(session, "q", **arguments)
    assert left(engine) == 0


PRODUCER = """
import os, random, sys
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from anyqueue.outbox import Outbox

engine, outbox = sa.create_engine(sys.argv[1]), Outbox()
orders = sa.Table("orders", sa.MetaData(), sa.Column("id", sa.String(100)))
chance = random.Random(int(sys.argv[3]))
number = 0
while True:
    with Session(engine) as session:
        for _ in range(chance.randint(1, 20)):
            number += 1
            name = f"{sys.argv[3]}-{number}"
            session.execute(sa.insert(orders).values(id=name))
            outbox.send(session, sys.argv[2], name, id=name)
        session.rollback() if chance.random() < 0.3 else session.commit()
"""


def test_sent_if_and_only_if_committed_whoever_is_killed(across: Place, shop: Shop, database: str) -> None:
    """Kill -9 of the service in its transactions and of the relay at any point: messages and orders are the same."""
    engine = sa.create_engine(database)
    orders = sa.Table("orders", sa.MetaData(), sa.Column("id", sa.String(100)))
    metadata.create_all(engine)
    orders.create(engine)
    (shop.folder / "producer.py").write_text(PRODUCER)
    chance = random.Random(11)  # noqa: S311 -- a time to kill
    for number in range(3):
        service = shop.python("producer.py", database, across.queue, str(number))
        relays = [shop.start("relay", database, across.url, "--poll", "0.01") for _ in range(2)]
        before = across.depth(across.queue).total
        wanted = before + chance.randint(20, 200)
        eventually(lambda wanted=wanted: across.depth(across.queue).total >= wanted)
        for program in (relays[0], service, relays[1]):
            program.end()
            time.sleep(chance.random() / 20)
    shop.run("relay", database, across.url, "--until-empty")
    with engine.connect() as connection:
        committed = set(connection.scalars(sa.select(orders.c.id)))
    assert left(engine) == 0
    engine.dispose()
    with across.client() as client, client.consumer(across.queue, prefetch=1000) as messages:
        arrived: list[str] = []
        while batch := messages.receive(1000, timeout=1):
            arrived += [message.payload for message in batch]
            for message in batch:
                message.ack()
    assert set(arrived) == committed
    assert len(arrived) - len(committed) <= 6 * 200, "only what a killed relay had sent and not removed is there twice"


def test_one_relay_leads_and_is_followed_when_it_is_killed(across: Place, shop: Shop, database: str) -> None:
    engine = sa.create_engine(database)
    metadata.create_all(engine)
    relays = [shop.start("relay", database, across.url) for _ in range(2)]
    leader = eventually(lambda: [one for one in relays if one.events("leading the relays")])[0]
    (other,) = [one for one in relays if one is not leader]
    other.ready()
    assert not other.events("leading the relays")
    leader.end()
    eventually(lambda: other.events("leading the relays"))
    with engine.begin() as connection:
        Outbox().send(connection, across.queue, "x")
    eventually(lambda: across.depth(across.queue).total == 1)
    other.send(signal.SIGTERM)
    assert other.wait() == 0
    assert "relayed 1 message" in other.log()
    engine.dispose()


async def test_the_database_and_the_broker_may_go_and_come_back(
    elsewhere: Place, postgres: Postgres, caplog: Any
) -> None:
    engine = sa.create_engine(postgres.database(), pool_pre_ping=True)
    metadata.create_all(engine)
    async with anyqueue.connect(elsewhere.url, send_timeout=0.3) as client:
        relay = Relay(engine, client, poll=0.01)
        running = asyncio.create_task(relay.run())
        with engine.begin() as connection:
            Outbox().send(connection, "q", 1)
        await until(lambda: relay.sent == 1)
        await asyncio.to_thread(postgres.stop)
        try:
            await until(lambda: "cannot be used" in caplog.text or "the lock of the relays is lost" in caplog.text)
        finally:
            await asyncio.to_thread(postgres.start)
        with engine.begin() as connection:
            Outbox().send(connection, "q", 2)
        await until(lambda: relay.sent == 2)
        with elsewhere.harness.blocked():
            with engine.begin() as connection:
                Outbox().send(connection, "q", 3)
            await until(lambda: "rows of the outbox wait" in caplog.text)
        await until(lambda: relay.sent == 3)
        relay.stop()
        await running
        found = {message.id: message.payload for message in await client.browse("q")}
        assert sorted(found.values()) == [1, 2, 3], "a send whose outcome was unknown came again, with its id"
    engine.dispose()


def test_bad_input_is_one_clear_line(across: Place, shop: Shop) -> None:
    assert "cannot be used" in shop.fails("relay", "oracle+nothing://x", across.url)
    assert "unknown scheme" in shop.fails("relay", "sqlite:///x.db", "carrier-pigeon://x")
