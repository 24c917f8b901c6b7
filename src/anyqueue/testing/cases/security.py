"""Security: passwords stay secret, nothing that is sent can be made into something else, and nothing of it is run."""

from __future__ import annotations

import asyncio
import copy
import functools
import logging
import pickle
import traceback
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec
from hypothesis import strategies as st

import anyqueue
from anyqueue import URL, Error
from anyqueue.testing.case import case

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from anyqueue import Client, Message
    from anyqueue.testing.trial import Trial

GROUP: Final = "Security"


class Ears(logging.Handler):
    """Hear everything that is logged anywhere."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Note a record."""
        self.heard.append(f"{record.getMessage()} {record.args!r} {record.exc_info!r}")

    def __enter__(self) -> Self:
        root = logging.getLogger()
        self._level = root.level
        root.setLevel(logging.DEBUG)
        root.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        root = logging.getLogger()
        root.removeHandler(self)
        root.setLevel(self._level)


class Holder:
    """An object of a user's that keeps a URL."""

    def __init__(self, url: URL) -> None:
        self.url = url


@case("Y2", "a password never shows in a repr, a log, an event or an error", group=GROUP)
async def y2(t: Trial) -> None:
    """Y2: a password never shows in a repr, a log, an event or an error, wherever in the URL it got to."""
    odd = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=6)
    secrets = st.builds(lambda before, after: f"{before}s3cr3t{after}", odd, odd)

    async def check(secret: str) -> None:
        seen: list[str] = []
        with Ears() as ears:
            await use(t, secret, seen)
        for text in (*seen, *ears.heard):
            assert "s3cr3t" not in text, f"the password shows in {text[:500]}"

    await t.for_all(secrets, check, examples=40)


async def use(t: Trial, secret: str, seen: list[str]) -> None:
    """Give the target a password in every way there is, and collect everything that says something."""
    url = URL.parse(t.url()).with_credentials("ada", secret)
    assert url.password is not None
    assert url.password.reveal() == secret
    seen += [str(url), repr(url), f"{url}", f"{url.password:>20}", repr(vars(Holder(url)))]
    for act in (pickle.dumps, copy.deepcopy, asdict, msgspec.json.encode, msgspec.to_builtins):
        await told(seen, functools.partial(show, seen, act, url))
    quoted = quote(secret, safe="")
    rest = t.url().partition("://")[2]
    scheme = t.url().partition("://")[0]
    texts = [
        url.reveal(),
        f"{scheme}://ada:{quoted}@{rest}{'&' if '?' in rest else '?'}nonsense=1",
        f"{scheme}://ada:{quoted}@host:99999/{rest}",
        f"{scheme}://ada:{secret}@{rest}",
        f"{scheme}://ada:{quoted}@[::1/{rest}",
        f"{scheme}:/ada:{quoted}@{rest}",
        f"nonsense://ada:{quoted}@{rest}",
        f"ada:{quoted}@{rest}",
    ]
    hooks = [lambda event: seen.append(repr(event))]
    for text in texts:
        await told(seen, lambda: opened(seen, anyqueue.connect(text, hooks=hooks)))  # noqa: B023 -- called at once
    await told(seen, lambda: opened(seen, t.connect(credentials=lambda: ("ada", secret), hooks=hooks)))


def show(seen: list[str], act: Callable[[URL], object], url: URL) -> None:
    """Collect what something that copies or writes out a URL makes of it."""
    seen.append(repr(act(url)))


async def opened(seen: list[str], client: Client) -> None:
    """Open a client that may or may not take the password, and collect what it says."""
    seen += [repr(client), str(client.url), repr(client.url)]
    async with asyncio.timeout(30), client:
        seen.append(repr(client))


async def told(seen: list[str], act: Callable[[], Any]) -> BaseException | None:
    """Act, and collect what it raises: the text, the trace and the causes."""
    try:
        result = act()
        if asyncio.iscoroutine(result):
            await result
    except Exception as error:  # noqa: BLE001 -- every one must be silent
        causes: list[BaseException | None] = [error]
        while causes[-1] is not None:
            causes.append(causes[-1].__cause__ or causes[-1].__context__)
        seen += [f"{one} {one!r} {one.args!r} {vars(one)!r}" for one in causes if one is not None]
        seen += traceback.format_exception_only(error)
        return error
    return None


@case("Y5", "line ends, NUL and markup in what is sent: exactly one message, or refused", group=GROUP)
async def y5(t: Trial) -> None:
    """Y5: line ends, NUL and markup in names, keys, values and ids: exactly one message as it was, or refused."""
    pieces = [
        "\r",
        "\n",
        "\0",
        "\r\n\r\n",
        "</item>",
        "<!--",
        "&amp;",
        "]]>",
        "\x1b",
        "'; DROP TABLE entry; --",
        "%00",
        "/",
    ]
    text = st.lists(st.sampled_from([*pieces, "a", "ö", "\u2028", "x" * 30]), min_size=1, max_size=4).map("".join)
    fields = st.fixed_dictionaries(
        {"body": text.map(str.encode)},
        optional={
            "name": text,
            "id": text,
            "correlation_id": text,
            "reply_to": text,
            "content_type": text,
            "headers": st.dictionaries(text, text, max_size=3),
        },
    )
    async with t.connect() as client:

        async def check(drawn: dict[str, Any]) -> None:
            queue = t.queue() + drawn.pop("name", "")
            body = drawn.pop("body")
            before = await t.foreign.queues()
            (outcome,) = await asyncio.gather(client.send(queue, body, **drawn), return_exceptions=True)
            new = await t.foreign.queues() - before
            if isinstance(outcome, ValueError):
                assert isinstance(outcome, Error)
                assert not new, f"what was refused left {new}"
                return
            assert isinstance(outcome, str), f"{drawn} ended with {outcome!r}"
            await t.counts(queue, total=1)
            async with client.consumer(queue) as messages:
                (message,) = await messages.receive()
                await message.ack()
            same(message, queue, body, drawn)
            await t.counts(queue, total=0)
            assert len(new) == 1, f"one message made {new}"
            await t.foreign.delete(queue)

        await t.for_all(fields, check, examples=60)


def same(message: Message, queue: str, body: bytes, sent: dict[str, Any]) -> None:
    """Prove that a message is what was sent."""
    assert (message.queue, message.body) == (queue, body)
    assert message.headers == sent.get("headers", {})
    for name in sent.keys() - {"headers"}:
        assert getattr(message, name) == sent[name], f"{name} was altered"
