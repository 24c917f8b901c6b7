"""The program on each backend's page runs as it stands, but for the URL, and its message is there."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from typing import TYPE_CHECKING, Final

import pytest
from blocks import ROOT, only

from anyqueue import sync
from anyqueue.testing.plugin import RUN

if TYPE_CHECKING:
    from anyqueue.testing.plugin import Target

PAGES: Final = {
    "amqp@rabbitmq-quorum": "amqp",
    "gearman@gearmand": "gearman",
    "memory": "memory",
    "sqlite": "sqlite",
    "stomp@rabbitmq": "stomp",
    "xmpp@prosody": "xmpp",
    "zmq@hub": "zeromq",
}
URL: Final = re.compile(r'connect\("[a-z+]+://[^"]*"\)')


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of every page whose target is tested: all of a target are in one process."""
    if "page" in metafunc.fixturenames:
        chosen = [
            pytest.param(PAGES[name], target, id=name, marks=pytest.mark.xdist_group(name))
            for target in metafunc.config.stash[RUN].targets
            if (name := target.harness.name) in PAGES
        ]
        metafunc.parametrize(("page", "target"), chosen)


def test_every_backend_has_a_page_and_a_program() -> None:
    assert {path.stem for path in ROOT.glob("docs/backends/*.md")} == set(PAGES.values())
    for page in PAGES.values():
        assert URL.search(program(page)), page


def program(page: str) -> str:
    return only(f"docs/backends/{page}.md", "connect(").text


@pytest.mark.block("docs/backends/*.md", "connect(")
def test_the_program_of_the_page_runs(page: str, target: Target) -> None:
    target.open()
    url = target.harness.url()
    text = URL.sub(lambda _: f"connect({url!r})", program(page))
    code = compile(text, f"{page}.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    work = eval(code, {})  # noqa: S307 -- the pages are ours
    if inspect.isawaitable(work):

        async def wait() -> None:
            await work

        asyncio.run(wait())
    with sync.connect(url) as client, client.consumer("emails") as messages:
        message = next(messages)
        assert message.payload == {"to": "ada@example.com"}
        message.ack()
