"""The hubs that the documents start, started as they say it."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Final

import pytest
from blocks import ROOT, filled, run, started

from anyqueue import ConnectFailed, Feature, sync
from anyqueue.testing.targets.hub_process import free_port

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

URL: Final = re.compile(r"`(zmq://hub\.example:5555\?key=[^`]*)`")


def listens(hub: subprocess.Popen[str]) -> None:
    """Wait until a hub says that it listens."""
    assert hub.stdout is not None
    assert "listening on" in hub.stdout.readline()


@pytest.mark.parametrize(
    "document",
    [
        pytest.param("zeromq", marks=pytest.mark.block("docs/backends/zeromq.md", "hub --listen tcp://127.0.0.1:5555")),
        pytest.param("cli", marks=pytest.mark.block("docs/cli.md", "hub --listen tcp://127.0.0.1:5555")),
    ],
)
def test_a_hub_on_a_file_keeps_what_it_confirmed(document: str, block: str, tmp_path: Path) -> None:
    """Also when it is killed."""
    port = free_port()
    command = filled(block, {"127.0.0.1:5555": f"127.0.0.1:{port}"})
    with started(command, tmp_path) as hub:
        listens(hub)
        with sync.connect(f"zmq://127.0.0.1:{port}", require=Feature.DURABLE) as client:
            client.send("emails", document)
        hub.kill()
    with started(command, tmp_path) as hub:
        listens(hub)
        with sync.connect(f"zmq://127.0.0.1:{port}") as client, client.consumer("emails") as messages:
            message = next(messages)
            assert message.payload == document
            message.ack()
    assert hub.returncode == 0


@pytest.mark.block("docs/backends/zeromq.md", "keygen")
def test_a_worker_with_a_key_on_the_list_is_let_in(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the URL that the page shows; without keys, nobody is."""
    monkeypatch.chdir(tmp_path)
    port = free_port()
    keys, more_keys, hub = filled(block, {":5555": f":{port}"}).splitlines()
    run(f"{keys}\n{more_keys}", tmp_path)
    (tmp_path / "allowed").mkdir()
    shutil.copy("keys/worker.key", "allowed")
    (url,) = URL.findall((ROOT / "docs/backends/zeromq.md").read_text())
    with started(hub, tmp_path) as process:
        listens(process)
        with sync.connect(filled(url, {"hub.example:5555": f"127.0.0.1:{port}"})) as client:
            client.send("emails", "by the worker")
            assert client.depth("emails").ready == 1
        with pytest.raises(ConnectFailed, match="hub_key"), sync.connect(f"zmq://127.0.0.1:{port}", connect_timeout=3):
            pass
