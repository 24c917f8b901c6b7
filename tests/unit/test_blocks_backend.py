"""The page on writing a backend: its sketches have all that a driver and a harness must have, named as they name it."""

from __future__ import annotations

import inspect
import tomllib
from typing import Any

import pytest
from blocks import ROOT

from anyqueue import Feature, Limits
from anyqueue.driver import Driver
from anyqueue.testing.harness import Expected, Harness


def made(block: str, name: str) -> Any:
    """Run a block, which makes a class."""
    known = {kind.__name__: kind for kind in (Driver, Expected, Feature, Harness, Limits)}
    exec(compile(block, name, "exec"), known)  # noqa: S102 -- the pages are ours
    return known[name]


def sketched(kind: Any, base: type) -> set[str]:
    """Return what a class has of its own; every method of it is called as the base's is."""
    own = {name: each for name, each in vars(kind).items() if not name.startswith("_")}
    for name, each in own.items():
        if callable(each) or isinstance(each, classmethod):
            wanted = inspect.signature(getattr(base, name)).parameters
            given = inspect.signature(getattr(kind, name)).parameters
            assert [given[each].kind for each in given] == [wanted[each].kind for each in given], name
            assert {each for each, one in wanted.items() if one.default is one.empty} <= {*given}, name
            assert inspect.iscoroutinefunction(each) == inspect.iscoroutinefunction(getattr(base, name)), name
    return {*own}


@pytest.mark.block("docs/write-a-backend.md", "class FilesDriver")
def test_a_driver_has_what_the_page_shows(block: str) -> None:
    kind = made(block, "FilesDriver")
    assert sketched(kind, Driver) == {"backend", *Driver.__abstractmethods__}
    kind()


@pytest.mark.block("docs/write-a-backend.md", "class FilesHarness")
def test_a_harness_has_what_the_page_shows(block: str) -> None:
    kind = made(block, "FilesHarness")
    assert sketched(kind, Harness) == {"name", "crosses_processes", "expected", *Harness.__abstractmethods__}
    kind()


@pytest.mark.block("docs/write-a-backend.md", "entry-points")
def test_the_example_has_the_entry_point_of_the_page(block: str) -> None:
    """The whole of the example is in tests/contract/test_third_party.py."""
    theirs = tomllib.loads((ROOT / "examples/backend/pyproject.toml").read_text())
    told = tomllib.loads(block)["project"]["entry-points"]
    assert told == theirs["project"]["entry-points"]
