"""The fixtures of the worker's tests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from places import ACROSS, ANYWHERE, Place, Shop
from postgres import Postgres

from anyqueue.testing.targets import load_harness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anyqueue.testing.harness import Harness


@pytest.fixture(scope="session")
def brokers() -> Iterator[dict[str, Harness]]:
    """The harnesses of targets that are reached over a network: started once, when the first test needs one."""
    started: dict[str, Harness] = {}
    yield started
    for harness in started.values():
        harness.stop()


def place(request: pytest.FixtureRequest, folder: Path) -> Iterator[Place]:
    name = request.param
    running: dict[str, Harness] = request.getfixturevalue("brokers")
    harness = running.get(name) or load_harness(name)
    if name not in running:
        reason = harness.missing()
        if reason is not None:
            if os.environ.get("CI"):
                pytest.fail(f"{name} cannot be tested here: {reason}", pytrace=False)
            pytest.skip(f"{name} cannot be tested here: {reason}")
        harness.start(folder)
        if harness.network:
            running[name] = harness
    found = Place(harness)
    yield found
    if harness.network:
        found.leave()
    else:
        harness.stop()


def each(names: tuple[str, ...]) -> list[Any]:
    """Make a parameter of each target; what needs a broker runs in the process that has it for the contract suite."""
    marks = {name: [pytest.mark.xdist_group(name)] if load_harness(name).network else [] for name in names}
    return [pytest.param(name, marks=marks[name]) for name in names]


@pytest.fixture(params=each(ANYWHERE))
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    yield from place(request, tmp_path)


@pytest.fixture(params=each(ACROSS))
def across(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    yield from place(request, tmp_path)


@pytest.fixture
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    found = Shop(tmp_path_factory.mktemp("shop"))
    yield found
    for program in found.programs:
        program.end()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.remove()


def fresh(kind: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """Return the URL of a fresh database for SQLAlchemy; of kind `file`, a path."""
    if kind == "file":
        return str(folder / "file.db")
    if kind == "sqlite":
        return f"sqlite:///{folder / 'data.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return fresh(request.param, request, tmp_path)


@pytest.fixture(params=["file", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database, or the path of a SQLite file for what needs no SQLAlchemy."""
    return fresh(request.param, request, tmp_path)


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Another broker than those of `across` and `anywhere`: a file."""
    harness = load_harness("sqlite")
    harness.start(tmp_path_factory.mktemp("elsewhere"))
    yield Place(harness)
    harness.stop()
