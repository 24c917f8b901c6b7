"""stomp:// on an ActiveMQ whose scheduler is off, as Debian packages it: it would deliver delayed messages at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import launching
import pytest
from launching import altered

import anyqueue
from anyqueue import Feature, Retry, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from launching import Launch

    from anyqueue import Message

pytestmark = [pytest.mark.fault, pytest.mark.timeout(900), pytest.mark.xdist_group("brokers-launched")]


@pytest.fixture
def unscheduled(apart: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Have an ActiveMQ without a scheduler; give its URL."""
    on, off = (f'schedulerSupport="{state}"' for state in ("true", "false"))
    brokers = altered(tmp_path, "activemq/activemq.xml", lambda text: text.replace(on, off))
    monkeypatch.setattr(launching, "LAUNCH", brokers / "launch.py")
    apart.start("activemq")
    yield apart.describe("activemq")["urls"]["stomp"]
    apart("purge", "activemq")


async def test_nothing_is_delivered_early(unscheduled: str) -> None:
    """A delay is refused, and what is retried later is held by its consumer."""
    handled: list[tuple[float, int]] = []
    async with anyqueue.connect(unscheduled) as client:
        assert Feature.DELAY not in client.features
        with pytest.raises(Unsupported, match="DELAY"):
            await client.send("q", b"later", delay=60)
        await client.send("q", b"now")
        consumer = client.consumer("q", retry=Retry(attempts=3, initial=0.5, jitter=0))

        async def handle(message: Message) -> None:
            handled.append((time.time(), message.attempt))
            if message.attempt == 1:
                raise ValueError("not yet")
            consumer.stop()

        await consumer.run(handle)
    assert [attempt for _, attempt in handled] == [1, 2]
    assert handled[1][0] - handled[0][0] >= 0.5
