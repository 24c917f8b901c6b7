"""The pages on ActiveMQ, Gearman and the launcher: their blocks are run, on brokers of this session's own."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import sys
import time
from typing import TYPE_CHECKING, Final

import pytest
from blocks import NO_ENGINE, ROOT, dry, filled, run, started
from launching import altered

from anyqueue import sync
from anyqueue.testing.case import all_cases
from anyqueue.testing.runner import probe, run_case
from anyqueue.testing.targets.hub_process import free_port
from anyqueue.testing.targets.stomp_activemq import StompActivemqHarness
from launcher import probes
from launcher.place import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from launching import Launch

pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(900),  # the first of them may have to install packages
    pytest.mark.xdist_group("brokers-launched"),
]
PATIENCE: Final = 30.0
PURGE: Final = re.compile(r'schedulePeriodForDestinationPurge="\d+"')
POLICY: Final = re.compile(r"<destinationPolicy>.*</destinationPolicy>", re.DOTALL)


# ActiveMQ


@pytest.fixture
def activemq(
    apart: Launch, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StompActivemqHarness]:
    """Have an ActiveMQ with the page's policy in place of ours; its times are seconds, and not minutes."""
    theirs = filled(block, {'"10000"': '"1000"', '"300000"': '"1000"'})

    def change(text: str) -> str:
        for part in (PURGE, POLICY):
            (told,) = part.findall(theirs)
            text, found = part.subn(told, text)
            assert found == 1
        return text

    brokers = altered(tmp_path, "activemq/activemq.xml", change)
    for name, value in (("", brokers), ("_DIR", apart.place.folder), ("_PORT", apart.place.base)):
        monkeypatch.setenv(f"ANYQUEUE_BROKERS{name}", str(value))
    made = StompActivemqHarness()
    made.start(tmp_path)
    yield made
    made.stop()


@pytest.mark.block("docs/backends/stomp.md", "gcInactiveDestinations")
def test_with_the_policy_a_dead_requester_leaves_nothing(
    activemq: StompActivemqHarness, pytestconfig: pytest.Config
) -> None:
    """The case of the contract suite that says so, on an ActiveMQ that was started with the block."""
    ran = run_case(all_cases()["J5"], activemq, probe(activemq), seed=pytestconfig.getoption("--anyqueue-seed"))
    if ran.error is not None:
        raise ran.error


# Gearman


@pytest.mark.block("docs/backends/gearman.md", "gearmand --listen")
def test_a_gearmand_that_keeps_what_it_confirms(gearmand: Launch, block: str, tmp_path: Path) -> None:
    """A job is in its file when it is confirmed, and in its hand again when it was killed and started anew."""
    del gearmand  # installed with the launcher's
    port, store = free_port(), tmp_path / "queue.sqlite3"
    here = {"/var/lib/gearman/queue.sqlite3": store, "gearmand ": f"gearmand --port={port} --log-file=none "}
    prepare, command = filled(block, here).splitlines()
    run(prepare, tmp_path)
    with started(command, tmp_path) as process:
        answers(port)
        with sync.connect(f"gearman://{LOOPBACK}:{port}?durable=1") as client:
            client.send("emails", "kept")
        process.kill()
    with contextlib.closing(sqlite3.connect(store)) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("SELECT function_name, data FROM gearman_queue").fetchall() == [("emails", b"kept")]
    with started(command, tmp_path):
        answers(port)
        with sync.connect(f"gearman://{LOOPBACK}:{port}?durable=1") as client, client.consumer("emails") as messages:
            message = next(messages)
            assert message.payload == "kept"
            message.ack()


def answers(port: int) -> None:
    """Wait until a gearmand does."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return probes.gearman(LOOPBACK, port)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


# The launcher


@pytest.mark.block("docs/brokers.md", "make brokers ")
def test_make_starts_brokers_and_stops_them(apart: Launch, block: str) -> None:
    """Small ones, in place of the five and of the cluster, and where there is no engine for containers."""
    place = {"ANYQUEUE_BROKERS_DIR": apart.place.folder, "ANYQUEUE_BROKERS_PORT": apart.place.base}
    here = {"make brokers   ": "make brokers BROKERS=gearmand   ", "rabbitmq-cluster": "gearmand-pair"}
    environment = {**place, **NO_ENGINE, "PYTHON": sys.executable}
    first, others, stop = filled(block, here).splitlines()
    assert run(first, ROOT, **environment) == apart("url", "gearmand")
    assert run(others, ROOT, **environment) == apart("url", "gearmand-pair")
    with sync.connect(apart("url", "gearmand").strip()) as client:
        client.send("emails", "stays")
    run(stop, ROOT, **environment)
    assert set(re.findall(r"\t(\w+)", apart("status"))) == {"down"}
    apart("up", "gearmand")
    with sync.connect(apart("url", "gearmand").strip()) as client:
        assert client.depth("emails").ready == 1
    told = re.search(r"make brokers +# ([\w, ]+);", block)
    assert told
    assert f"launch.py up {told[1].replace(',', '')};" in dry("make brokers")
