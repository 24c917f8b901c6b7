"""Batches: by hand, by a consumer's handler, by a worker's; full, partial, failed in part, drained, killed."""

from __future__ import annotations

import asyncio
import functools
import operator
import threading
import time
from typing import TYPE_CHECKING

import pytest

import anyqueue
from anyqueue import Batch, ConfigError, Rejected, Retry, RetryLater, sync
from anyqueue.worker import Ended, Limits, Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from places import Place

OFF = Limits(until_empty=True)
ONCE = Retry(attempts=2, initial=0, jitter=0)


async def test_a_batch_is_full_at_once_and_partial_after_the_wait(anywhere: Place) -> None:
    async with anyqueue.connect(anywhere.url) as client:
        await client.producer(anywhere.queue).send_many(range(10))
        async with client.consumer(anywhere.queue, prefetch=8).batches(4, 0.2) as batches:
            sizes, start = [], time.monotonic()
            async for batch in batches:
                async with batch:
                    sizes.append([message.payload for message in batch])
                if sum(map(len, sizes)) == 10:
                    break
            assert sizes == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
            assert time.monotonic() - start >= 0.2
        anywhere.counts(anywhere.queue, total=0)


async def test_each_message_of_a_batch_is_settled_on_its_own(anywhere: Place) -> None:
    async with anyqueue.connect(anywhere.url) as client:
        await client.producer(anywhere.queue).send_many(["ack", "reject", "retry", "rest"])
        async with client.consumer(anywhere.queue, retry=ONCE).batches(4, 0.2) as batches:
            async with await batches.receive() as batch:
                by = {message.payload: message for message in batch}
                await by["ack"].ack()
                await by["reject"].reject("no good")
                await by["retry"].retry(0)
                raise ValueError("all the rest failed")
            again = await batches.receive()
            async with again:
                assert sorted(message.payload for message in again) == ["rest", "retry"]
                assert {message.attempt for message in again} == {2}
        (dead,) = await client.dead_letters(f"{anywhere.queue}.dead")
        assert (dead.payload, anywhere.depth(anywhere.queue).total) == ("reject", 0)


async def test_cancelling_a_gathering_loses_nothing(anywhere: Place) -> None:
    async with anyqueue.connect(anywhere.url) as client:
        await client.producer(anywhere.queue).send_many([1, 2])
        async with client.consumer(anywhere.queue).batches(5, 0.5) as batches:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await batches.receive()
            assert [message.payload for message in await batches.receive()] == [1, 2]
        anywhere.counts(anywhere.queue, ready=2)  # what was not settled went back


async def test_more_than_the_consumer_holds_is_refused(anywhere: Place) -> None:
    async with anyqueue.connect(anywhere.url) as client:
        consumer = client.consumer(anywhere.queue, prefetch=10)
        with pytest.raises(ConfigError, match="its prefetch is 10"):
            await consumer.run_batches(print, max_size=11, max_wait=1)
        for size, wait in ((0, 1.0), (1, -1.0), (1, float("inf"))):
            with pytest.raises(ConfigError):
                await consumer.run_batches(print, max_size=size, max_wait=wait)
        with pytest.raises(TypeError):
            await consumer.run_batches(print, max_size=1.5, max_wait=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "async"])
async def test_a_worker_handles_batches(anywhere: Place, plain: bool) -> None:  # noqa: FBT001 -- a parameter
    worker, seen = Worker(anywhere.url), []

    def judge(batch: Batch | sync.Batch) -> None:
        payloads = [message.payload for message in batch]
        seen.append(payloads)
        if payloads == ["bad"] or batch[0].attempt > 1:
            raise Rejected("the whole batch")
        if "later" in payloads:
            raise RetryLater(0)

    async def handle(batch: Batch) -> None:
        await batch[0].ack()
        judge(batch)

    def block(batch: sync.Batch) -> None:
        assert threading.current_thread() is not threading.main_thread()
        batch[0].ack()
        judge(batch)

    worker.batch_handler(anywhere.queue, max_size=3, max_wait=0.1, type=str, retry=ONCE)(block if plain else handle)
    async with anyqueue.connect(anywhere.url) as client:
        await client.producer(anywhere.queue).send_many(["a", "b", "c", "x", "later", 5, "y"])
        assert await worker.run(OFF) is Ended.EMPTY
        dead = [message.payload for message in await client.dead_letters(f"{anywhere.queue}.dead")]
        anywhere.counts(anywhere.queue, total=0)
    assert seen[0] == ["a", "b", "c"]
    assert seen[1] == ["x", "later"], "what does not validate is in no batch"
    assert 5 in dead
    assert "a" not in dead
    assert "x" not in dead


async def test_a_worker_drains_batches_and_gives_back_what_it_gathered(anywhere: Place) -> None:
    worker, begun = Worker(anywhere.url), asyncio.Event()
    done: list[object] = []

    @worker.batch_handler(anywhere.queue, max_size=3, max_wait=60)
    async def handle(batch: Batch) -> None:
        begun.set()
        await asyncio.sleep(0.2)
        done.extend(message.payload for message in batch)

    async with anyqueue.connect(anywhere.url) as client:
        task = asyncio.create_task(worker.run())
        await client.producer(anywhere.queue).send_many(range(5))
        await begun.wait()
        worker.stop()
        await task
        assert done == [0, 1, 2]
        anywhere.counts(anywhere.queue, ready=2, held=0)
        (left, _) = await client.dead_letters(anywhere.queue)
        assert left.attempt == 1


async def test_max_messages_counts_messages_of_batches(anywhere: Place) -> None:
    worker, sizes = Worker(anywhere.url), list[int]()
    worker.batch_handler(anywhere.queue, max_size=4, max_wait=0.05)(lambda batch: sizes.append(len(batch)))
    async with anyqueue.connect(anywhere.url) as client:
        await client.producer(anywhere.queue).send_many(range(20))
        assert await worker.run(Limits(max_messages=6)) is Ended.FULL
        assert sizes == [4, 4]
        anywhere.counts(anywhere.queue, ready=12)


def test_blocking_batches(anywhere: Place) -> None:
    with anywhere.client() as client:
        client.producer(anywhere.queue).send_many(range(6))
        with client.consumer(anywhere.queue).batches(3, 0.1) as batches:
            for batch in batches:
                with batch:
                    assert [message.payload for message in batch] == [0, 1, 2]
                break
        consumer = client.consumer(anywhere.queue)

        def handle(batch: sync.Batch) -> None:
            assert [message.payload for message in batch] == [3, 4, 5]
            consumer.stop()

        consumer.run_batches(handle, max_size=3, max_wait=1)
        anywhere.counts(anywhere.queue, total=0)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"max_size": 0}, ConfigError),
        ({"max_size": "3"}, TypeError),
        ({"max_wait": -1}, ConfigError),
        ({"max_wait": None}, TypeError),
        ({"max_size": 20, "prefetch": 10}, ConfigError),
    ],
)
def test_batches_that_cannot_be_meant_are_refused(fields: dict[str, object], error: type[Exception]) -> None:
    worker = Worker("memory://refused")
    register: Callable[..., Callable[[object], object]] = worker.batch_handler
    with pytest.raises(error):
        register("q", **fields)(print)


async def test_a_suspect_is_a_batch_of_its_own(across: Place) -> None:
    """What was delivered too often may kill its consumer: its neighbours are not to be counted for it."""
    async with anyqueue.connect(across.url) as client:
        (first, *_) = await client.producer(across.queue).send_many(range(4))
        async with anyqueue.connect(across.url) as dying, dying.consumer(across.queue, prefetch=1) as messages:
            for _ in range(2):
                (message,) = await messages.receive()
                assert message.id == first
                await message.retry(0)
        worker, batches = Worker(across.url), list[list[int]]()

        @worker.batch_handler(across.queue, max_size=4, max_wait=0.2, retry=Retry(attempts=2))
        async def handle(batch: Batch) -> None:
            batches.append([message.payload for message in batch])

        await worker.run(OFF)
        assert [0] in batches
        assert sorted(functools.reduce(operator.iadd, batches, [])) == [0, 1, 2, 3]
