"""M2 behind a network: drivers and a broker that are broken in one way each, and the network cases that notice.

On wire://, a small broker of our own (see wire): each failing case takes seconds there, not a broker's start.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import msgspec
import pytest

from anyqueue import ConnectFailed, ConnectionLost
from anyqueue.driver import ACCEPT
from anyqueue.testing.case import all_cases
from anyqueue.testing.runner import Probed, probe, run_case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

HERE: Final = Path(__file__).parent
PATIENCE: Final = 8.0
"""Seconds after which a case on a mutant has failed."""
pytestmark = [
    pytest.mark.fault,
    pytest.mark.usefixtures("swept"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def gracious(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is broken may take every deadline of a client that closes; the watchdog would end this process."""
    monkeypatch.setattr("anyqueue.testing.runner.GRACE", 60.0)


@pytest.fixture(scope="module")
def scheme(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Install wire:// for this process and its children, as a package with an entry point would."""
    folder = tmp_path_factory.mktemp("installed")
    info = folder / "wire-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wire\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[anyqueue.backends]\nwire = wire:WireDriver\n")
    with pytest.MonkeyPatch.context() as patched:
        for path in (str(HERE), str(folder)):
            patched.syspath_prepend(path)
        patched.setenv("PYTHONPATH", f"{HERE}:{folder}", prepend=":")
        yield
    for name in ("wire", "wire_broker"):
        sys.modules.pop(name, None)


@contextlib.contextmanager
def started(folder: Path) -> Iterator[tuple[Any, Probed]]:
    """Start the target."""
    from wire_broker import WireHarness  # noqa: PLC0415 -- once its folder is on the path

    harness = WireHarness()
    harness.start(folder)
    try:
        yield harness, probe(harness)
    finally:
        harness.stop()


@pytest.fixture(scope="module")
def wire(scheme: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Probed]]:
    del scheme
    with started(tmp_path_factory.mktemp("wire")) as target:
        yield target


def replaced(where: str, method: str, broken: Callable[..., Any]) -> Callable[[], AbstractContextManager[object]]:
    """Return what replaces a method; the replacement gets the original first."""

    def apply() -> AbstractContextManager[object]:
        module, _, name = where.partition(":")
        owner = getattr(__import__(module, fromlist=[name]), name)
        original = getattr(owner, method)

        def replacement(*arguments: Any, **keywords: Any) -> Any:
            return broken(original, *arguments, **keywords)

        return patch.object(owner, method, replacement)

    return apply


async def never(_: object, *__: object) -> None:
    """A lost connection is never replaced."""
    await asyncio.Event().wait()


async def deaf(subscribe: Any, driver: Any, spec: Any) -> Any:
    """A consumer that subscribes for the second time hears nothing."""
    subscription = await subscribe(driver, spec)
    if spec.address.name in deaf.known:
        subscription.receive = lambda _: asyncio.Event().wait()
    deaf.known.add(spec.address.name)
    return subscription


deaf.known = set()


async def confirm_early(_: object, driver: Any, address: Any, batch: Any) -> None:
    """A send returns once it is written."""
    driver.begin("send", type(address).__name__, address.name, list(batch)).add_done_callback(seen)


def seen(answer: asyncio.Future[Any]) -> None:
    """Look at an answer that nobody waits for."""
    if not answer.cancelled():
        answer.exception()


async def drop_on_loss(send: Any, driver: Any, address: Any, batch: Any) -> None:
    """A send whose connection is lost is told to have worked."""
    with contextlib.suppress(ConnectionLost):
        await send(driver, address, batch)


async def another_id(send: Any, driver: Any, address: Any, batch: Any) -> None:
    """What is sent again has another id."""
    known = another_id.known
    renamed = [
        msgspec.structs.replace(one, id=f"{one.id}-again") if known.setdefault(one.id, driver) is not driver else one
        for one in batch
    ]
    await send(driver, address, renamed)


another_id.known = {}


async def ack_on_receive(receive: Any, subscription: Any, limit: int) -> Any:
    """What is handed over is accepted at once."""
    deliveries = await receive(subscription, limit)
    subscription.settle = done
    await type(subscription).settle(subscription, [(one, ACCEPT) for one in deliveries])
    return deliveries


async def done(_: object) -> None:
    """It is settled already."""


async def trust_the_socket(_: object, driver: Any) -> None:
    """Nobody looks whether the other side is still there."""
    del driver


async def leak(open_: Any, driver: Any) -> None:
    """A driver that is thrown away leaves its socket."""
    await open_(driver)
    leak.kept.append(os.dup(driver._frames.writer.get_extra_info("socket").fileno()))


leak.kept = []


async def try_again(open_: Any, driver: Any) -> None:
    """A refused password is taken for a connection that failed."""
    try:
        await open_(driver)
    except Exception as error:
        raise ConnectFailed(str(error), url=driver._url) from error


async def know_one_host(open_: Any, driver: Any) -> None:
    """Only the first host of a URL is tried."""
    with patch.object(driver, "_url", dataclasses.replace(driver._url, hosts=driver._url.hosts[:1])):
        await open_(driver)


async def let_through(open_: Any, driver: Any) -> None:
    """What a library raises is raised as it is."""
    try:
        await open_(driver)
    except ConnectFailed as error:
        raise error.__cause__ or error from None


DRIVER, SUBSCRIPTION = "wire:WireDriver", "wire:WireSubscription"
MUTANTS: Final = {
    "never reconnects": ("N1", replaced("anyqueue._link:Link", "_reopen", never)),
    "deaf after a reconnect": ("N5", replaced(DRIVER, "subscribe", deaf)),
    "confirms early": ("N2", replaced(DRIVER, "send", confirm_early)),
    "drops what a cut takes": ("N6", replaced(DRIVER, "send", drop_on_loss)),
    "sends again under another id": ("N2", replaced(DRIVER, "send", another_id)),
    "accepts on receive": ("N1", replaced(SUBSCRIPTION, "receive", ack_on_receive)),
    "trusts its socket": ("N3", replaced(DRIVER, "_beat", trust_the_socket)),
    "leaks connections": ("N6", replaced(DRIVER, "open", leak)),
    "tries a refused password again": ("Y1", replaced(DRIVER, "_open", try_again)),
    "knows one host": ("C6", replaced(DRIVER, "open", know_one_host)),
    "lets foreign errors through": ("C3", replaced(DRIVER, "open", let_through)),
    "does not rest": ("N7", lambda: patch("anyqueue._link.backoff", lambda _tries, _chance: 0.0)),
}
"""Sentence -> the case that must fail, and what breaks the driver."""


@pytest.mark.parametrize("sentence", MUTANTS)
def test_a_driver_that(sentence: str, wire: tuple[Any, Probed]) -> None:
    """M2."""
    killer, apply = MUTANTS[sentence]
    with apply():
        ran = run_case(all_cases()[killer], *wire, timeout=PATIENCE)
    while leak.kept:
        os.close(leak.kept.pop())
    assert ran.result.result == "failed", f"a driver that {sentence} passed {killer}"


def test_a_broker_that_confirms_before_it_has_a_message(
    scheme: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M2."""
    del scheme
    monkeypatch.setenv("ANYQUEUE_WIRE_LAZY", "1")
    with started(tmp_path) as target:
        ran = run_case(all_cases()["X1"], *target)
        assert "lost" in ran.result.error, ran.result.error
