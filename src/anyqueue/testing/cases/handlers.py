"""Settle: what a handler does decides what becomes of its message."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from anyqueue import Client, Feature, Message, Rejected, Retry, RetryLater
from anyqueue.testing.case import case

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyqueue.testing.trial import Trial

GROUP: Final = "Settle"
SOON: Final = Retry(attempts=3, initial=0.001, factor=1.0, jitter=0.0)


class UnprintableError(Exception):
    """An exception whose text cannot be had."""

    def __str__(self) -> str:
        raise ValueError("not me")

    __repr__ = __str__


def returns() -> object:
    """End well, with a value that nobody wants."""
    return "ignored"


def fails() -> object:
    """Raise what any program may raise."""
    raise OSError("broken")


def later() -> object:
    """Ask for it again."""
    raise RetryLater(0)


def rejects() -> object:
    """Give it up."""
    raise Rejected("never")


def is_cancelled() -> object:
    """Let something inside the handler be cancelled: no cancellation of the consumer's, and always worth a retry."""
    raise asyncio.CancelledError


def is_unprintable() -> object:
    """Raise what cannot be shown."""
    raise UnprintableError


OUTCOMES: Final = {
    "returns": (returns, "acked"),
    "fails": (fails, "retried"),
    "later": (later, "retried"),
    "rejects": (rejects, "dead"),
    "is cancelled": (is_cancelled, "retried"),
    "is unprintable": (is_unprintable, "retried"),
}


@case("A8", "what a handler does decides: it returns, raises, asks for later, rejects, is cancelled", group=GROUP)
async def a8(t: Trial) -> None:
    """A8: what a handler does decides: it returns, raises, asks for later, rejects, is cancelled."""
    queue = t.queue()
    outcomes = st.lists(st.sampled_from(sorted(OUTCOMES)), min_size=1, max_size=6)
    async with t.connect() as client:

        async def check(example: tuple[list[str], bool]) -> None:
            names, plain = example
            wanted = Counter[str]()
            for name in names:
                await client.send(queue, name)
                wanted[name] += 3 if OUTCOMES[name][1] == "retried" else 1
            seen = await handle_until(t, client, queue, plain=plain, count=wanted.total())
            assert seen == wanted
            died = sorted(name for name in names if OUTCOMES[name][1] != "acked")
            async with client.consumer(f"{queue}.dead", dead_letter=None) as messages:
                dead = await messages.receive(len(died), timeout=5) if died else []
                dead += await messages.receive(1, timeout=0.05)
                assert sorted(message.payload for message in dead) == died
                for message in dead:
                    assert message.death is not None
                    assert message.death.attempts == (3 if OUTCOMES[message.payload][1] == "retried" else 1)
                    await message.ack()

        await t.for_all(st.tuples(outcomes, st.booleans()), check, examples=15)


async def handle_until(t: Trial, client: Client, queue: str, *, plain: bool, count: int) -> Counter[str]:
    """Run handlers, in threads where `plain`, until `count` calls were made and nothing is left in the queue."""
    seen = Counter[str]()

    def act(message: Message) -> object:
        seen[message.payload] += 1
        return OUTCOMES[message.payload][0]()

    async def handler(message: Message) -> object:
        return act(message)

    consumer = client.consumer(queue, retry=SOON, concurrency=2)
    running = asyncio.create_task(consumer.run(act if plain else handler))

    async def done() -> bool:
        assert not running.done(), f"the consumer ended by itself: {running}"
        return seen.total() >= count and await t.total(queue) == 0

    await t.eventually(done)
    consumer.stop()
    await running
    return seen


@case(
    "A8b",
    "KeyboardInterrupt and SystemExit in a handler end the program's loop, and the message is not lost",
    group=GROUP,
    needs=Feature.REDELIVER,
)
async def a8b(t: Trial) -> None:
    """A8b: KeyboardInterrupt and SystemExit in a handler end the program's loop, and the message is not lost."""
    queue = t.queue()
    async with t.connect() as client:
        for error in (KeyboardInterrupt, SystemExit):
            for plain in (True, False):
                await t.history.send(client, queue, b"unfinished")
                ended = await ending(t, queue, error, plain=plain)
                assert isinstance(ended, error), f"the program's loop ended with {ended!r}"
                t.history.ended("program")
                assert [message.body for message in await t.drain(client, queue)] == [b"unfinished"]
    t.history.prove()


async def ending(t: Trial, queue: str, error: type[BaseException], *, plain: bool) -> BaseException | None:
    """Run a program (a thread with a loop) whose handler raises `error`; return what ended its loop."""

    def handler(message: Message) -> None:
        t.history.took(message, "program")
        raise error

    async def handler_on_loop(message: Message) -> None:
        handler(message)

    async def program() -> None:
        async with t.connect() as client:
            await client.consumer(queue).run(handler if plain else handler_on_loop)

    def run() -> BaseException | None:
        try:
            asyncio.run(program())
        except BaseException as caught:  # noqa: BLE001 -- it is what the case is about
            return caught
        return None

    return await in_thread(run)


async def in_thread(work: Callable[[], BaseException | None]) -> BaseException | None:
    """Run `work` in a thread of its own and return what it returns."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[BaseException | None] = loop.create_future()
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(result.set_result, work()), name="program")
    thread.start()
    found = await result
    thread.join()
    return found
