"""Worker in a process of the test's own: validation, middleware, lifespan, plain handlers, what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec
import pydantic
import pytest

import anyqueue
from anyqueue import Closed, ConfigError, Message, Retry, Topic
from anyqueue.worker import Ended, Limits, Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from places import Place

    from anyqueue import sync

OFF = Limits(until_empty=True)


@dataclass
class AsDataclass:
    to: str
    count: int = 1


class AsStruct(msgspec.Struct):
    to: str
    count: int = 1


class AsTypedDict(TypedDict):
    to: str
    count: int


class AsModel(pydantic.BaseModel):
    to: str
    count: int = pydantic.Field(default=1, gt=0)


@pydantic.dataclasses.dataclass
class AsPydanticDataclass:
    to: str
    count: int = pydantic.Field(default=1, gt=0)


@pytest.mark.parametrize(
    "kind", [AsDataclass, AsStruct, AsTypedDict, AsModel, AsPydanticDataclass, list[AsModel]], ids=str
)
async def test_payloads_are_validated_and_what_fails_is_dead_lettered(anywhere: Place, kind: Any) -> None:
    good, bad = {"to": "ada", "count": 2}, {"to": "ada", "count": "swordfish"}
    if kind == list[AsModel]:
        good, bad = [good], [bad]
    worker, seen = Worker(anywhere.url), []

    @worker.handler(anywhere.queue, type=kind)
    async def handle(message: Message) -> None:
        seen.append(message.payload)

    async with anyqueue.connect(anywhere.url) as client:
        identity = await client.send(anywhere.queue, bad)
        await client.send(anywhere.queue, good)
        await client.send(anywhere.queue, b"{", content_type="application/json")
        assert await worker.run(OFF) is Ended.EMPTY
        dead = {message.id: message for message in await client.dead_letters(f"{anywhere.queue}.dead")}
        anywhere.counts(anywhere.queue, total=0)
    (one,) = seen
    first = one[0] if isinstance(one, list) else one
    found = (first["to"], first["count"]) if isinstance(first, dict) else (first.to, first.count)
    assert found == ("ada", 2)
    assert len(dead) == 2
    death = dead[identity].death
    assert death is not None
    assert death.reason.startswith("undecodable: the payload does not validate: ")
    assert "count" in death.reason
    assert "swordfish" not in death.reason
    assert msgspec.json.decode(dead[identity].body) == bad


async def test_a_pydantic_model_is_sent_as_pydantic_writes_it(anywhere: Place) -> None:
    class Alias(pydantic.BaseModel):
        sender: str = pydantic.Field(serialization_alias="from")

    async with anyqueue.connect(anywhere.url) as client:
        await client.send(anywhere.queue, Alias(sender="ada"))
        (message,) = await client.dead_letters(anywhere.queue)
        assert (message.body, message.content_type) == (b'{"from":"ada"}', "application/json")


async def test_several_queues_topics_and_plain_handlers_in_one_worker(anywhere: Place) -> None:
    worker, seen = Worker(anywhere.url), []
    topic, other = Topic(anywhere.harness.fresh()), anywhere.harness.fresh()

    @worker.handler(anywhere.queue)
    async def first(message: Message) -> None:
        seen.append(("first", message.payload))
        await worker.client.send(other, "from the first")

    @worker.handler(other, concurrency=2)
    def second(message: sync.Message) -> None:
        assert threading.current_thread() is not threading.main_thread()
        seen.append(("second", message.payload))
        worker.blocking.send(topic, "from the second")
        message.ack()

    @worker.handler(topic, group="billing")
    async def third(message: Message) -> None:
        seen.append(("third", message.payload))
        worker.stop()

    async with anyqueue.connect(anywhere.url) as client:
        await client.send(anywhere.queue, "go")
        assert await worker.run() is Ended.ASKED
        assert anywhere.depth(anywhere.queue).total == anywhere.depth(other).total == 0
    assert seen == [("first", "go"), ("second", "from the first"), ("third", "from the second")]
    with pytest.raises(Closed, match="does not run"):
        worker.client  # noqa: B018 -- it raises


async def test_a_plain_handler_settles_by_hand(anywhere: Place) -> None:
    worker = Worker(anywhere.url)

    @worker.handler(anywhere.queue, retry=Retry(initial=0, jitter=0))
    def handle(message: sync.Message) -> None:
        if message.attempt == 1:
            message.retry(0)
        else:
            message.reject("seen twice")

    async with anyqueue.connect(anywhere.url) as client:
        await client.send(anywhere.queue, "x")
        await worker.run(OFF)
        (dead,) = await client.dead_letters(f"{anywhere.queue}.dead")
    assert dead.death is not None
    assert (dead.death.reason, dead.death.attempts) == ("seen twice", 2)


async def test_middleware_goes_around_every_handler_the_first_outermost(anywhere: Place) -> None:
    worker, seen = Worker(anywhere.url), []

    @worker.middleware
    async def outer(message: Message, call_next: Any) -> None:
        seen.append(f"outer {message.payload}")
        try:
            await call_next(message)
        except ValueError as error:
            seen.append(f"outer saw {error}")
            raise

    @worker.middleware
    async def inner(message: Message, call_next: Any) -> None:
        seen.append("inner")
        await call_next(message)
        seen.append("inner after")

    @worker.handler(anywhere.queue, retry=None)
    async def handle(message: Message) -> None:
        seen.append("handler")
        if message.payload == "bad":
            raise ValueError("no good")

    async with anyqueue.connect(anywhere.url) as client:
        await client.send(anywhere.queue, "good")
        await client.send(anywhere.queue, "bad")
        await worker.run(OFF)
        anywhere.counts(f"{anywhere.queue}.dead", total=1)
    good = ["outer good", "inner", "handler", "inner after"]
    assert seen == [*good, "outer bad", "inner", "handler", "outer saw no good"]


@pytest.mark.parametrize("plain", [True, False])
async def test_the_lifespan_is_around_all_messages(anywhere: Place, plain: bool) -> None:  # noqa: FBT001 -- a parameter
    seen: list[str] = []

    @contextlib.asynccontextmanager
    async def life(worker: Worker) -> AsyncIterator[str]:
        await worker.client.send(anywhere.queue, "from the lifespan")
        seen.append("set up")
        yield "a database"
        seen.append("torn down")

    @contextlib.contextmanager
    def plain_life(worker: Worker) -> Iterator[str]:
        seen.append("set up")
        yield "a database"
        seen.append("torn down")
        assert worker.client is not None

    worker = Worker(anywhere.url, lifespan=plain_life if plain else life)

    @worker.handler(anywhere.queue)
    async def handle(message: Message) -> None:
        worker.stop()
        await asyncio.sleep(0.05)
        seen.append(f"{message.payload} with {worker.state}")

    async with anyqueue.connect(anywhere.url) as client:
        if plain:
            await client.send(anywhere.queue, "from outside")
        await worker.run()
    said = "from outside" if plain else "from the lifespan"
    assert seen == ["set up", f"{said} with a database", "torn down"]
    assert worker.state is None


async def test_a_lifespan_that_fails_ends_the_worker_before_a_message_is_taken(anywhere: Place) -> None:
    @contextlib.asynccontextmanager
    async def life(worker: Worker) -> AsyncIterator[None]:  # noqa: ARG001 -- as a lifespan is called
        raise OSError("the database is down")
        yield

    worker = Worker(anywhere.url, lifespan=life)
    worker.handler(anywhere.queue)(print)
    async with anyqueue.connect(anywhere.url) as client:
        await client.send(anywhere.queue, "x")
        with pytest.raises(OSError, match="the database is down"):
            await worker.run()
        (message,) = await client.dead_letters(anywhere.queue)
        assert message.attempt == 1


async def test_a_cancelled_worker_drains(anywhere: Place) -> None:
    worker, seen = Worker(anywhere.url), asyncio.Event()

    @worker.handler(anywhere.queue)
    async def handle(message: Message) -> None:  # noqa: ARG001 -- it only takes its time
        seen.set()
        await asyncio.sleep(0.1)

    async with anyqueue.connect(anywhere.url) as client:
        await client.send(anywhere.queue, "x")
        task = asyncio.create_task(worker.run())
        await seen.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        anywhere.counts(anywhere.queue, total=0)


async def test_stop_begins_no_more_whatever_waits(anywhere: Place) -> None:
    """A consumer that is stopped in a handler handles no message that was ready beside it."""
    seen: list[Any] = []
    async with anyqueue.connect(anywhere.url) as client:
        await client.producer(anywhere.queue).send_many(range(50))
        consumer = client.consumer(anywhere.queue, concurrency=4, prefetch=50)

        async def handle(message: Message) -> None:
            seen.append(message.payload)
            if len(seen) == 3:
                consumer.stop()

        await consumer.run(handle)
        assert len(seen) == 3
        anywhere.counts(anywhere.queue, ready=47)


async def not_a_middleware(message: Message) -> None: ...


def generator(message: Message) -> Iterator[Message]:
    yield message


@pytest.mark.parametrize(
    ("register", "error", "says"),
    [
        (lambda worker: worker.handler("q")(lambda: None), ConfigError, "its signature is ()"),
        (lambda worker: worker.handler("q")(lambda a, b: None), ConfigError, "(a, b)"),
        (lambda worker: worker.handler("q")(lambda *, a: None), ConfigError, "(*, a)"),
        (lambda worker: worker.handler("q")(generator), ConfigError, "is a generator"),
        (lambda worker: worker.handler("q")("handle"), TypeError, "not str"),
        (lambda worker: worker.handler(7)(print), TypeError, "an address is"),
        (lambda worker: worker.handler("q", group="g")(print), ConfigError, "only a topic"),
        (lambda worker: worker.handler("q", retry=3)(print), TypeError, "retry is a Retry"),
        (lambda worker: worker.handler("q", concurrency=0)(print), ConfigError, "concurrency is at least 1"),
        (lambda worker: worker.handler("q", prefetch=True)(print), TypeError, "prefetch is an int"),
        (lambda worker: worker.middleware(not_a_middleware), ConfigError, "(message"),
        (lambda worker: worker.middleware(lambda message, call: None), ConfigError, "is not async"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_it_is_registered(register: Any, error: type, says: str) -> None:
    worker = Worker("memory://refused")
    with pytest.raises(error) as caught:
        register(worker)
    assert says in str(caught.value)
    assert worker.handlers == []


async def test_a_worker_runs_once_at_a_time_and_not_without_handlers(anywhere: Place) -> None:
    worker = Worker(anywhere.url)
    with pytest.raises(ConfigError, match="no handler"):
        await worker.run()
    worker.handler(anywhere.queue)(print)
    task = asyncio.create_task(worker.run())
    await asyncio.sleep(0)
    with pytest.raises(ConfigError, match="runs already"):
        await worker.run()
    worker.stop()
    assert await task is Ended.ASKED
    assert await worker.run(OFF) is Ended.EMPTY, "it may run again"
