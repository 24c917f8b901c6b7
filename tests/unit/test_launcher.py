"""The launcher's parts that touch the machine: processes, locks, packages, certificates."""

from __future__ import annotations

import itertools
import os
import signal
import ssl
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from launcher import certificates, packages, probes, processes
from launcher.place import LOOPBACK, LaunchError, Place, locked
from launcher.processes import Command

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator


# Processes


class Marked:
    """Shells that bear a mark of this test's."""

    def __init__(self, folder: Path) -> None:
        self.mark = f"test@{folder}"
        self.log = folder / "log"
        self._begun: list[subprocess.Popen[bytes]] = []

    def begin(self, script: str) -> int:
        """Start one; return its process."""
        command = Command(argv=["/bin/sh", "-c", script], environment={"PATH": os.environ["PATH"]})
        self._begun.append(processes.spawn(self.mark, command, self.log))
        return self._begun[-1].pid

    def end(self) -> None:
        """Leave none."""
        processes.kill(self.mark, 10)
        for each in self._begun:
            each.wait()


@pytest.fixture
def marked(tmp_path: Path) -> Iterator[Marked]:
    made = Marked(tmp_path)
    yield made
    made.end()


def until(fact: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_helpers_are_found_wherever_they_went(marked: Marked) -> None:
    """A helper in a session of its own, whose parent is gone, still bears the mark; the oldest is the main one."""
    main = marked.begin("setsid sleep 100 & exec sleep 100")
    until(lambda: len(processes.members(marked.mark)) == 2)
    assert processes.members(marked.mark)[0] == main
    assert processes.kill(marked.mark, 10)
    assert not processes.members(marked.mark)


def test_a_frozen_node_is_seen_as_such(marked: Marked) -> None:
    marked.begin("sleep 100 & wait")
    until(lambda: len(processes.members(marked.mark)) == 2)
    assert not processes.stopped(marked.mark)
    with processes.held(marked.mark) as found:
        assert len(found.descriptors) == 2
        found.tell(signal.SIGSTOP)
        until(lambda: processes.stopped(marked.mark))
        found.tell(signal.SIGCONT)
        until(lambda: not processes.stopped(marked.mark))


def test_only_the_main_one_is_asked_to_end(marked: Marked) -> None:
    marked.begin("trap 'echo main; exit' TERM; sh -c 'trap \"echo helper\" TERM; while :; do sleep 0.1; done' & wait")
    until(lambda: len(processes.members(marked.mark)) >= 3)
    with processes.held(marked.mark) as found:
        found.tell_main(signal.SIGTERM)
        until(lambda: "main" in marked.log.read_text())
        assert not found.gone(0.05)
    assert "helper" not in marked.log.read_text()


def test_another_mark_is_left_alone(marked: Marked) -> None:
    marked.begin("exec sleep 100")
    until(lambda: bool(processes.members(marked.mark)))
    assert processes.kill(f"{marked.mark}-2", 1)
    assert processes.kill(marked.mark[:-1], 1)
    assert processes.members(marked.mark)


def test_what_is_killed_has_let_go_of_its_ports(marked: Marked) -> None:
    """A dying process has no environment any more, but may still have its ports; the launcher waits for its end."""
    listen = "import socket; s = socket.create_server(('127.0.0.1', 0)); held = bytearray(1 << 28)"
    for _ in range(5):
        marked.begin(f'exec {sys.executable} -c "{listen}; print(s.getsockname()[1], flush=True); s.accept()"')
        until(lambda: marked.log.exists() and marked.log.read_text().endswith("\n"))
        port = int(marked.log.read_text())
        assert probes.taken(LOOPBACK, port)
        assert processes.kill(marked.mark, 10)
        assert not probes.taken(LOOPBACK, port)
        marked.log.unlink()


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path), pytest.raises(LaunchError, match="another launcher has held"), locked(path, 0.05):
        pass
    with locked(path):
        pass


# Packages


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(packages, "POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(packages, "ASIDE", tmp_path / "aside")
    return tmp_path / "policy-rc.d"


@pytest.mark.parametrize("theirs", [None, "#!/bin/sh\nexit 0\n"])
def test_services_may_not_start_meanwhile_and_may_afterwards(policy: Path, theirs: str | None) -> None:
    """Also where it fails, also where an earlier run was killed."""
    if theirs:
        policy.write_text(theirs)
    for _ in range(2):
        with pytest.raises(LaunchError, match="exit 101"), packages.nothing_starts():
            raise LaunchError(policy.read_text())
    killed = packages.nothing_starts()
    killed.__enter__()
    with packages.nothing_starts():
        pass
    assert (policy.read_text() if policy.exists() else None) == theirs
    assert [path.name for path in policy.parent.iterdir()] == ([policy.name] if theirs else [])


def test_who_may_not_install_is_told_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LaunchError, match="rare is not installed; run: sudo apt-get install rare openssl"):
        packages.ensure(["/nowhere/rare"], ["rare", "openssl"])


def test_what_is_there_is_not_installed() -> None:
    packages.ensure(["/bin/sh", "/usr/*/env"], ["a-package-that-is-not"])


# Certificates


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    packages.ensure(["/usr/bin/openssl"], ["openssl"])
    place = Place(folder=tmp_path_factory.mktemp("tls"), base=1)
    certificates.ensure(place)
    made = (certificates.folder(place) / "ca.pem").read_text()
    certificates.ensure(place)
    assert (certificates.folder(place) / "ca.pem").read_text() == made
    return certificates.describe(place)


def shake(tls: dict[str, Any], server: str, client: str | None = None) -> None:
    """Shake hands in memory as a client that checks, strictly as Python 3.13 does, with a server that checks, too."""
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(*tls["certificates"][server].values())
    theirs.load_verify_locations(tls["ca"])
    theirs.verify_mode = ssl.CERT_OPTIONAL
    ours = ssl.create_default_context(cafile=tls["ca"])
    for context in (theirs, ours):
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    if client:
        ours.load_cert_chain(*tls["certificates"][client].values())
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [ours.wrap_bio(down, up, server_hostname="localhost"), theirs.wrap_bio(up, down, server_side=True)]
    waiting = set(sides)
    for side in itertools.islice(itertools.cycle(sides), 12):
        try:
            side.do_handshake()
            waiting.discard(side)
        except ssl.SSLWantReadError:
            pass
    assert not waiting


@pytest.mark.parametrize("client", [None, "client"])
def test_good_certificates_are_taken(tls: dict[str, Any], client: str | None) -> None:
    shake(tls, "server", client)


@pytest.mark.parametrize(
    ("server", "why"),
    [
        ("expired", "certificate has expired"),
        ("wrong-host", "Hostname mismatch"),
        ("untrusted", "unable to get local issuer certificate"),
        ("client", "unsuitable certificate purpose"),
    ],
)
def test_bad_servers_are_refused(tls: dict[str, Any], server: str, why: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=why):
        shake(tls, server)


def test_keys_are_for_their_owner_alone(tls: dict[str, Any]) -> None:
    assert (Path(tls["ca"]).parent.stat().st_mode & 0o777) == 0o700
    for pair in tls["certificates"].values():
        assert (Path(pair["key"]).stat().st_mode & 0o077) == 0
