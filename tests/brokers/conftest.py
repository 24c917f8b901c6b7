"""Brokers of this session's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from launching import Launch, launching

from anyqueue.testing.targets.rabbitmq_witness import RabbitmqWitness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """Make the session's place."""
    with launching(tmp_path_factory.mktemp("brokers")) as made:
        yield made


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Launch]:
    """Make a place for one test."""
    with launching(tmp_path / "apart") as made:
        yield made


@pytest.fixture
def rabbitmq(launch: Launch) -> Launch:
    """Have RabbitMQ up, whatever the test before did to it."""
    launch("resume", "rabbitmq")
    launch.start("rabbitmq")
    return launch


@pytest.fixture
def witness(rabbitmq: Launch) -> Iterator[RabbitmqWitness]:
    """Have the witness of its queues."""
    made = RabbitmqWitness(rabbitmq.describe("rabbitmq")["witness"])
    yield made
    made.close()


@pytest.fixture
def cluster(launch: Launch) -> Launch:
    """Have the three nodes of RabbitMQ up."""
    launch.start("rabbitmq-cluster")
    return launch


@pytest.fixture
def gearmand(launch: Launch) -> Launch:
    """Have gearmand up."""
    launch("resume", "gearmand")
    launch.start("gearmand")
    return launch


@pytest.fixture(params=["prosody", "ejabberd"])
def xmpp(launch: Launch, request: pytest.FixtureRequest) -> str:
    """Have an XMPP server up; its URL."""
    name: str = request.param
    launch("resume", name)
    launch.start(name)
    return launch("url", name).strip()
