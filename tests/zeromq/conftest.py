"""Fixtures for hubs: `run` runs one, `hub` is one in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import zmq
from hubs import Hub, Run, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    made: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def run(context: zmq.Context[zmq.Socket[bytes]]) -> Iterator[Run]:
    with running(context) as start:
        yield start


@pytest.fixture
def hub(run: Run) -> Hub:
    return run()
