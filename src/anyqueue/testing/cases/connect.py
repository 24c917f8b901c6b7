"""Connect: opening and closing, URLs, and what goes wrong before the first message."""

from __future__ import annotations

import asyncio
import inspect
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

import anyqueue
from anyqueue import URL, Closed, ConfigError, Feature, MissingBackend, QueueNotFound, Unroutable
from anyqueue.testing.audit import quiet
from anyqueue.testing.case import case
from anyqueue.testing.raising import raises
from anyqueue.testing.residue import residue, snapshot
from anyqueue.testing.stopwatch import Stopwatch
from anyqueue.url import Host, Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyqueue.testing.trial import Trial

GROUP: Final = "Connect"
CYCLES: Final = 200


@case("C1", "200 cycles of opening and closing leak no thread, descriptor or broker connection", group=GROUP)
async def c1(t: Trial) -> None:
    """C1: 200 cycles of opening and closing leak no thread, descriptor or broker connection."""
    queue = t.queue()
    connections = await t.harness.connections()
    async with t.connect() as client:
        await client.send(queue, b"first")
        async with client.consumer(queue) as messages:
            (message,) = await messages.receive()
            await message.ack()
    before = snapshot()
    for cycle in range(CYCLES):
        async with t.connect() as client:
            if cycle % 10 == 0:
                async with client.consumer(queue):
                    pass
    assert residue(before) == []
    assert len(asyncio.all_tasks()) <= 2

    async def gone() -> bool:
        return await t.harness.connections() <= connections

    await t.eventually(gone)


@case("C2", "constructing does no I/O", group=GROUP)
async def c2(t: Trial) -> None:
    """C2: constructing does no I/O."""
    t.connect()  # what is imported is imported now
    with quiet():
        client = t.connect(require=t.expected.features, connect_timeout=1, send_timeout=2)
        assert repr(client.url)
    with raises(Closed, "a consumer of a client that is not open"):
        client.consumer(t.queue())


TEXT: Final = st.text(st.characters(codec="utf-8"), max_size=15)
HOSTS: Final = st.builds(
    Host,
    st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,10}[a-z0-9])?", fullmatch=True)
    | st.sampled_from(["::1", "fe80::1:2", "ü.example"]),
    st.none() | st.integers(1, 65535),
)
URLS: Final = st.builds(
    lambda scheme, user, password, hosts, path, options: URL(
        scheme=scheme,
        username=user,
        password=None if user is None or password is None else Secret(password),
        hosts=tuple(hosts),
        path=path and f"/{path}",
        options=tuple(options),
    ),
    st.from_regex(r"[a-z][a-z0-9+.-]{0,8}", fullmatch=True),
    st.none() | TEXT,
    st.none() | TEXT,
    st.lists(HOSTS, max_size=3),
    TEXT,
    st.lists(st.tuples(TEXT.filter(bool), TEXT), max_size=4),
)


@case("C4", "parsing what a URL prints as gives the URL back", group=GROUP)
async def c4(t: Trial) -> None:
    """C4: parsing what a URL prints as gives the URL back."""

    async def check(url: URL) -> None:
        assert URL.parse(url.reveal()) == url
        assert str(URL.parse(str(url))) == str(url)

    await t.for_all(URLS, check, examples=200)
    mine = URL.parse(t.url(connect_timeout=3))
    await check(mine)
    assert mine.options[-1] == ("connect_timeout", "3")


WRONG: Final = (
    ("surely_not=1", "surely_not"),
    ("connect_timeout=1&connect_timeout=2", "connect_timeout"),
    ("connect_timeout=soon", "connect_timeout"),
    ("send_timeout=nan", "send_timeout"),
    ("settle_timeout=-1", "settle_timeout"),
    ("drain_timeout=inf", "drain_timeout"),
    ("connect_timeout=0", "connect_timeout"),
    ("Connect_Timeout=1", "Connect_Timeout"),
)


@case("C5", "a wrong URL is refused before I/O, and the error names the culprit and what is known", group=GROUP)
async def c5(t: Trial) -> None:
    """C5: a wrong URL is refused before I/O, and the error names the culprit and what is known."""
    base = t.url()
    for options, culprit in WRONG:
        error = refused(f"{base}{'&' if '?' in base else '?'}{options}", ConfigError)
        assert culprit in str(error)
        if "unknown option" in str(error):
            assert "drain_timeout" in str(error)
    known = str(refused("surely-not://", ConfigError))
    assert "surely-not" in known
    assert URL.parse(base).scheme in known
    for text in ("", "no url", "://", f"{base}#fragment", "amqp://host:99999", "amqp://%zz@host"):
        refused(text, ConfigError)
    for other in (None, 5, b"memory://", Path("memory:")):
        refused(other, TypeError)
    missing()

    async def check(name: str) -> None:
        error = refused(f"{base}{'&' if '?' in base else '?'}x{name}=1", ConfigError)
        assert f"x{name}" in str(error)

    await t.for_all(st.from_regex(r"[a-z_]{1,10}", fullmatch=True), check)


def refused(url: Any, kind: type[Exception]) -> Exception:  # noqa: ANN401 -- wrong types too
    """Connect, which must raise `kind` without any I/O."""
    with raises(kind, f"connect({url!r})") as caught, quiet():
        anyqueue.connect(url)
    return caught.error


def missing() -> None:
    """Install, for a moment, a backend whose client library is not there."""
    with tempfile.TemporaryDirectory() as folder:
        info = Path(folder) / "broken-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
        (info / "entry_points.txt").write_text("[anyqueue.backends]\nbroken = no_such_library.driver:Driver\n")
        sys.path.insert(0, folder)
        try:
            with raises(MissingBackend, "a backend without its library") as caught:
                anyqueue.connect("broken://")
        finally:
            sys.path.remove(folder)
    assert "no_such_library" in str(caught)
    assert isinstance(caught.error, ImportError)
    assert caught.error.hint


@case("C7", "a destination nobody declared is created or refused, never silently nothing", group=GROUP)
async def c7(t: Trial) -> None:
    """C7: a destination nobody declared is created or refused, never silently nothing."""
    sending, receiving = t.queue(), t.queue()
    async with t.connect() as client:
        try:
            await client.send(sending, b"anybody there?")
        except (QueueNotFound, Unroutable):
            assert t.expected.unknown == "refused"
        else:
            assert t.expected.unknown == "created"
            await t.counts(sending, total=1)
        async with client.consumer(receiving) as messages:
            assert await messages.receive(timeout=0.05) == []
            await client.send(receiving, b"now there is")
            (message,) = await messages.receive(timeout=5)
            await message.ack()
        if t.has(Feature.COUNT):
            assert (await client.depth(t.queue())).total == 0


@case("C8", "each way to fail raises its documented class, by its deadline, naming what and what to do", group=GROUP)
async def c8(t: Trial) -> None:
    """C8: each way to fail raises its documented class, by its deadline, naming what and what to do."""
    failures = t.harness.failures()
    assert failures, "a backend that cannot fail has not been looked at"
    for failure in failures:
        watch = Stopwatch()
        with failure.arrange():
            error = await failing(failure.url)
        assert type(error) is failure.error, f"{failure.sentence}: {error!r}"
        assert isinstance(error, ConfigError) or error.__cause__ is not None or str(error)
        watch.within(5.0, failure.sentence)


async def failing(url: str) -> Exception | None:
    """Open a client, and return what it raises."""
    try:
        async with anyqueue.connect(url, connect_timeout=3):
            return None
    except Exception as error:  # noqa: BLE001 -- which one is what the case is about
        return error


ARGUMENTS: Final[dict[str, Any]] = {
    "address": "queue",
    "queue": "queue",
    "payload": b"",
    "payloads": [b""],
    "feature": Feature.CONFIRM,
    "handler": print,
    "message": None,
    "identity": "1",
    "max_size": 5,
    "max_wait": 1.0,
}
"""What each parameter without a default is given."""
STILL_OPEN: Final = {"close", "stop", "url"}


@case("C9", "every public method raises Closed after close; closing twice is a no-op", group=GROUP)
async def c9(t: Trial) -> None:
    """C9: every public method raises Closed after close; closing twice is a no-op."""
    queue = t.queue()
    client = t.connect()
    for name in sorted(public(client) - {"open"}):
        await expect_closed(client, name, "before open")
    await client.open()
    producer = client.producer(queue)
    consumer, unused = client.consumer(queue), client.consumer(queue)
    async with consumer as messages:
        await client.send(queue, b"one")
    await producer.close()
    await producer.close()
    for part in (producer, consumer, messages):
        for name in sorted(public(part)):
            await expect_closed(part, name, "after its own close")
    await client.close()
    await client.close()
    for thing in (client, producer, consumer, messages):
        for name in sorted(public(thing)):
            await expect_closed(thing, name, "after the client's close")
    await expect_closed(unused, "run", "after the client's close")


def public(thing: object) -> set[str]:
    """Name what a user may use of an object."""
    return {name for name in dir(type(thing)) if not name.startswith("_")} - STILL_OPEN


async def expect_closed(thing: object, name: str, when: str) -> None:
    """Use it; it must raise Closed, and say something."""
    what = f"{type(thing).__name__}.{name} {when}"
    with raises(Closed, what) as caught:
        member = getattr(thing, name)
        found = member(**arguments(member)) if callable(member) else member
        if inspect.isawaitable(found):
            async with asyncio.timeout(30):
                await found
    assert str(caught)


def arguments(member: Callable[..., object]) -> dict[str, Any]:
    """Return an argument for every parameter that needs one; KeyError for one that nobody thought of."""
    needed = [one for one in inspect.signature(member).parameters.values() if one.default is inspect.Parameter.empty]
    return {one.name: ARGUMENTS[one.name] for one in needed if one.kind is not inspect.Parameter.VAR_KEYWORD}
