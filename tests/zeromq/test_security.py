"""Who may speak to a hub: nobody beyond this machine without keys, and with keys only who is on the list."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest
import zmq

import anyqueue
from anyqueue import AuthFailed, ConfigError, ConnectFailed, SendError
from anyqueue.hub import make_keys, open_hub
from anyqueue.testing.proxy import Proxy

if TYPE_CHECKING:
    from pathlib import Path

    from hubs import Hub, Run

QUIET: Final = 0.5


@dataclass
class Keyed:
    hub: Hub
    keys: Path
    allowed: Path

    def url(self, name: str, *, hub: str = "hub", port: int = 0) -> str:
        """Return a URL with somebody's keys."""
        key, hub_key = self.keys / f"{name}.key_secret", self.keys / f"{hub}.key"
        return f"zmq://127.0.0.1:{port or self.hub.port}?key={key}&hub_key={hub_key}"

    def allow(self, name: str) -> None:
        """Put somebody on the list."""
        (self.allowed / f"{name}.key").write_bytes((self.keys / f"{name}.key").read_bytes())


@pytest.fixture
def keyed(run: Run, tmp_path: Path) -> Keyed:
    keys, allowed = tmp_path / "keys", tmp_path / "allowed"
    allowed.mkdir()
    for name in ("hub", "ada", "bob", "other"):
        make_keys(keys, name)
    found = Keyed(run(key=str(keys / "hub.key_secret"), allow=str(allowed)), keys, allowed)
    found.allow("ada")
    return found


async def test_who_is_on_the_list_is_let_in_and_nobody_else(keyed: Keyed) -> None:
    async with anyqueue.connect(keyed.url("ada")) as client:
        await client.send("q", b"by ada")
        with pytest.raises(AuthFailed, match="does not know this client's key") as caught:
            async with anyqueue.connect(keyed.url("bob")) as stranger:
                await stranger.send("q", b"by bob")
        assert "--allow" in str(caught.value)
        assert (await client.depth("q")).total == 1


async def test_without_keys_or_with_another_hubs_nobody_is_let_in(keyed: Keyed) -> None:
    for url in (keyed.hub.url, keyed.url("ada", hub="other")):
        with pytest.raises(ConnectFailed, match="hub_key"):
            async with anyqueue.connect(url, connect_timeout=3):
                pass


def test_a_raw_peer_without_keys_is_not_heard(keyed: Keyed, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    with context.socket(zmq.DEALER) as raw, keyed.hub.raw_keyed(keyed.keys, "ada").connected() as peer:
        raw.setsockopt(zmq.LINGER, 0)
        raw.connect(f"tcp://127.0.0.1:{keyed.hub.port}")
        raw.send_multipart([b"AQH\x01" + bytes(16), b"\x92\x01\xcb\x40\x24\x00\x00\x00\x00\x00\x00"])
        assert not raw.poll(int(QUIET * 1000))
        assert peer.peers() == 0


async def test_who_is_put_on_the_list_is_let_in_without_a_restart(keyed: Keyed) -> None:
    keyed.allow("bob")
    async with anyqueue.connect(keyed.url("bob")) as client:
        await client.send("q", b"by bob")


async def test_who_is_taken_off_the_list_is_refused_at_the_next_connection_and_does_not_try_again(keyed: Keyed) -> None:
    proxy = Proxy("127.0.0.1", keyed.hub.port)
    proxy.start()
    try:
        async with anyqueue.connect(keyed.url("ada", port=proxy.port)) as client:
            await client.send("q", b"while it may")
            (keyed.allowed / "ada.key").unlink()
            proxy.cut()
            with pytest.raises(SendError) as caught:
                await client.send("q", b"no more")
            assert isinstance(caught.value.__cause__, AuthFailed)
            connections = proxy.connections
            await asyncio.sleep(QUIET)
            assert proxy.connections == connections == 2
    finally:
        await asyncio.to_thread(proxy.close)


@pytest.mark.parametrize("listen", ["tcp://0.0.0.0:0", "tcp://*:0", "tcp://[::]:0", "tcp://192.0.2.1:5555"])
def test_a_hub_without_keys_does_not_listen_beyond_this_machine(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"beyond this machine.*keygen.*insecure"):
        open_hub(listen=listen)


def test_unless_it_is_told_that_the_network_is_trusted(run: Run) -> None:
    hub = run(listen="tcp://0.0.0.0:0", insecure=True)
    with hub.raw().connected() as peer:
        peer.put("q", b"x", {})


def test_with_keys_it_may(keyed: Keyed, run: Run) -> None:
    run(listen="tcp://0.0.0.0:0", key=str(keyed.keys / "hub.key_secret"), allow=str(keyed.allowed))


@pytest.mark.parametrize("scheme", ["zmq://192.0.2.1:5555", "zmq+push://192.0.2.1:5555/q", "zmq+pub://192.0.2.1:5555"])
async def test_a_client_does_not_connect_beyond_this_machine_without_keys(scheme: str) -> None:
    with pytest.raises(ConfigError, match="beyond this machine"):
        anyqueue.connect(scheme)
    anyqueue.connect(f"{scheme}?insecure=1")


@pytest.mark.parametrize("given", [{"key": "some/file"}, {"allow": "some/folder"}])
def test_a_key_and_a_list_go_together(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="go together"):
        open_hub(**given)  # type: ignore[arg-type]  # only these two


def test_a_file_that_is_no_key_lets_nobody_in_and_locks_nobody_out(keyed: Keyed) -> None:
    (keyed.allowed / "broken.key").write_text("no key at all\n")
    (keyed.allowed / "binary.key").write_bytes(b"\xff\xfe\x00")
    with keyed.hub.raw_keyed(keyed.keys, "ada").connected() as peer:
        peer.put("q", b"x", {})


def keygen(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "anyqueue.cli", "hub", "keygen", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)  # noqa: S603 -- ours


def test_keygen_makes_keys_that_other_tools_read_and_only_their_owner(tmp_path: Path) -> None:
    from zmq import auth  # noqa: PLC0415 -- the other tool

    done = keygen(tmp_path / "keys", "ada")
    assert done.returncode == 0, done.stderr
    public, secret = tmp_path / "keys" / "ada.key", tmp_path / "keys" / "ada.key_secret"
    assert done.stdout.split() == [str(public), str(secret)]
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700
    mine, hidden = auth.load_certificate(secret)
    assert hidden is not None
    assert auth.load_certificate(public) == (mine, None)
    assert zmq.curve_public(hidden) == mine
    assert hidden.decode() not in done.stdout + done.stderr
    again = keygen(tmp_path / "keys", "ada")
    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert len(again.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../up", "a b", "é"])
def test_keygen_refuses_names_that_are_paths_or_worse(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="no name for a key"):
        make_keys(tmp_path, name)
    assert not list(tmp_path.iterdir())


def test_what_a_hub_is_asked_wrongly_is_said(tmp_path: Path) -> None:
    for settings, what in (
        ({"listen": "nowhere"}, "is no endpoint"),
        ({"store": "redis://host"}, r"a hub's store is memory: or a SQLite file"),
        ({"store": f"sqlite:///{tmp_path}/none/hub.db"}, "does not exist"),
        ({"key": str(tmp_path / "none"), "allow": str(tmp_path)}, "cannot be read"),
        ({"key": str(tmp_path / "none"), "allow": str(tmp_path / "none")}, "does not exist"),
        ({"heartbeat": 0.0}, "heartbeat is 0.05 to 3600 seconds"),
        ({"drain": float("nan")}, "drain is 0 to 3600 seconds"),
    ):
        with pytest.raises(ConfigError, match=what):
            open_hub(**{"listen": "tcp://127.0.0.1:0", **settings})  # type: ignore[arg-type]  # of several types


def test_the_command_line_says_it_in_one_line() -> None:
    command = [sys.executable, "-m", "anyqueue.cli", "hub", "--listen", "tcp://0.0.0.0:0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)  # noqa: S603 -- ours
    assert done.returncode == 1
    assert "beyond this machine" in done.stderr
    assert len(done.stderr.splitlines()) == 1
