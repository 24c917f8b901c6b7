"""Progress: reported by handlers, read by anybody, kept in a file or a database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import anyqueue
from anyqueue import Feature, SettleError, sync
from anyqueue.worker import Limits, Worker

if TYPE_CHECKING:
    from places import Place, Shop


async def test_a_report_is_read_by_its_id(
    anywhere: Place, store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ANYQUEUE_PROGRESS", store)
    worker = Worker(anywhere.url)

    @worker.handler(anywhere.queue)
    def handle(message: sync.Message) -> None:
        for done in range(1, 4):
            message.progress(done, 3, f"step {done}")

    async with anyqueue.connect(anywhere.url, progress=store) as client:
        identity = await client.send(anywhere.queue, "x")
        assert await client.progress(identity) is None
        await worker.run(Limits(until_empty=True))
        found = await client.progress(identity)
        assert found is not None
        assert (found.done, found.total, found.note) == (3, 3, "step 3")
        assert client.support(Feature.PROGRESS).kind in {"native", "emulated"}
    assert "was not kept" not in caplog.text


async def test_what_is_not_being_handled_has_no_progress(anywhere: Place, store: str) -> None:
    async with anyqueue.connect(anywhere.url, progress=store) as client:
        await client.send(anywhere.queue, "x")
        async with client.consumer(anywhere.queue) as messages:
            (message,) = await messages.receive()
            await message.progress(0.5)
            await message.ack()
            with pytest.raises(SettleError):
                await message.progress(1)


async def test_a_report_that_cannot_be_kept_fails_no_handler(
    anywhere: Place, tmp_path: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with anyqueue.connect(anywhere.url, progress=str(tmp_path)) as client:
        await client.send(anywhere.queue, "x")
        async with client.consumer(anywhere.queue) as messages:
            (message,) = await messages.receive()
            await message.progress(1, 2)
            await message.ack()
    assert "was not kept" in caplog.text


def test_the_command_shows_and_follows(across: Place, shop: Shop, store: str) -> None:
    shop.environment["ANYQUEUE_PROGRESS"] = store
    with sync.connect(across.url, progress=store) as client:
        identity = client.send(across.queue, "x")
        assert "nothing is known" in shop.fails("progress", across.url, identity)
        with client.consumer(across.queue) as messages:
            (message,) = messages.receive()
            message.progress(1, 2, "half")
            assert json.loads(shop.run("progress", across.url, identity))["note"] == "half"
            message.progress(2, 2, "all")
            out = shop.run("progress", across.url, identity, "--follow", "--tracker", store, "--timeout", "20")
            assert json.loads(out.splitlines()[-1])["done"] == 2
            message.ack()
