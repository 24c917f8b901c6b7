"""A worker under a real supervisord: killed processes come back, a stop drains; and systemd's own word on the unit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from places import eventually

from anyqueue import ConfigError
from anyqueue.supervision import Service, supervisord, systemd

if TYPE_CHECKING:
    from pathlib import Path

    from places import Place, Shop

HEAD = """[supervisord]
nodaemon=true
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
[unix_http_server]
file={folder}/s.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{folder}/s.sock
"""


def test_killed_workers_come_back_and_a_stop_drains(across: Place, shop: Shop) -> None:
    shop.at(across)
    variables = [part for name in ("QUEUE_URL", "QUEUE", "JOURNAL") for part in ("--env", name)]
    section = shop.run("supervisor", "tasks", "--processes", "2", *variables)
    assert "stopwaitsecs=20" in section, "the drain timeout of 10 s, and the margin"
    config = shop.folder / "supervisord.conf"
    config.write_text(HEAD.format(folder=shop.folder) + section)
    daemon = shop.python("-W", "ignore", "-m", "supervisor.supervisord", "-c", str(config))
    try:
        with across.client() as client:
            eventually(lambda: len(shop.wrote("up")) == 2, daemon.log)
            client.producer(across.queue).send_many([{"n": number, "sleep": 0.3} for number in range(12)])
            eventually(lambda: shop.wrote("pid"), daemon.log)
            os.kill(int(shop.wrote("pid")[0]), signal.SIGKILL)
            eventually(lambda: len(set(shop.wrote("up"))) == 3, daemon.log)
            eventually(lambda: across.depth(across.queue).total == 0)
            assert set(shop.wrote("done")) == {str(number) for number in range(12)}
            client.producer(across.queue).send_many([{"n": number, "sleep": 1} for number in range(12, 30)])
            eventually(lambda: len([line for line in shop.wrote("begun") if int(line) >= 12]) >= 2)
            daemon.send(signal.SIGTERM)
            assert daemon.wait() == 0
            late = [line for line in shop.wrote("begun") if int(line) >= 12]
            assert set(late) == {line for line in shop.wrote("done") if int(line) >= 12}, "what had begun was finished"
            across.counts(across.queue, ready=18 - len(late), held=0)
    finally:
        if daemon.process.poll() is None:
            daemon.send(signal.SIGTERM)
            daemon.wait()


def service(folder: Path, **fields: object) -> Service:
    given = {
        "name": "mail",
        "command": (sys.executable, "-c", "import os, time; print(ascii(os.environ['ODD'])); time.sleep(60)"),
        "folder": folder,
        "drain_timeout": 1.5,
        "environment": {"ODD": 'a "quoted" 100% \\ $HOME, value;'},
        "logs": folder,
    }
    return Service(**{**given, **fields})  # type: ignore[arg-type]


def test_supervisord_reads_odd_values_as_they_are(tmp_path: Path) -> None:
    config = tmp_path / "supervisord.conf"
    config.write_text(HEAD.format(folder=tmp_path) + supervisord(service(tmp_path)))
    command = [sys.executable, "-u", "-W", "ignore", "-m", "supervisor.supervisord", "-c", str(config)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONUNBUFFERED": "1"}) as daemon:  # noqa: S603 -- ours
        try:
            out = tmp_path / "mail_00.out.log"
            said = eventually(lambda: out.exists() and out.read_text())
        finally:
            daemon.terminate()
    assert said.strip() == ascii('a "quoted" 100% \\ $HOME, value;')


def test_a_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    unit = systemd(service(tmp_path, processes=4, user="root"))
    assert "TimeoutStopSec=12\n" in unit
    assert "KillMode=mixed\n" in unit
    assert "--processes 4\n" in unit
    verify = shutil.which("systemd-analyze")
    if verify is not None:
        (tmp_path / "mail.service").write_text(unit)
        command = [verify, "verify", tmp_path / "mail.service"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- ours
        assert "mail.service" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    "fields",
    [{"name": "a b"}, {"environment": {"1X": "y"}}, {"environment": {"X": "a\nb"}}, {"command": ("a\n", "b")}],
)
def test_what_a_section_cannot_hold_is_refused(tmp_path: Path, fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        service(tmp_path, **fields)


def test_bad_input_is_one_clear_line(shop: Shop) -> None:
    assert "does not import" in shop.fails("supervisor", "no_such_module")
    (shop.folder / "mod.py").write_text(
        "from anyqueue.worker import Worker; worker = Worker('memory://x')\n@worker.handler('q')\ndef one(m): ...\n"
    )
    assert "no such variable" in shop.fails("supervisor", "mod", "--env", f"NOT_THERE_{time.monotonic_ns()}")
