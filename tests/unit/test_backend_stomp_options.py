"""stomp:// URLs: what each asks for, and what is refused before any I/O."""

from __future__ import annotations

import socket
import traceback
from typing import TYPE_CHECKING

import pytest

from anyqueue import URL, ConfigError, connect
from anyqueue.backends.stomp.driver import StompDriver
from anyqueue.backends.stomp.options import target_of, tls_context
from anyqueue.url import Host

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("stomp://localhost?heartbeat=0", "heartbeat is 1 to 3600.*cannot be switched off"),
        ("stomp://localhost?heartbeat=nan", "heartbeat"),
        ("stomp://localhost?heartbeat=4000", "heartbeat is 1 to 3600"),
        ("stomp://localhost?server=hornetq", "server"),
        ("stomp://localhost?queue_type=stream", "queue_type"),
        ("stomp://localhost?server=activemq&queue_type=quorum", "queue_type is RabbitMQ's"),
        ("stomp://localhost?server=other&delay_policy=1", "delay_policy is RabbitMQ's"),
        ("stomp://localhost?delay_policy=perhaps", "delay_policy='perhaps'"),
        ("stomp://localhost?ca=ca.pem", "ca without TLS.*stomps://"),
        ("stomps://localhost?key=key.pem", "key without its certificate"),
        ("stomp://ada@localhost", "user without a password"),
        ("stomp://ada:a%0Ab@localhost", "line end or a NUL"),
        ("stomp://ada%0D:secret@localhost", "line end or a NUL"),
        ("stomp://ada:secret%00@localhost", "line end or a NUL"),
        ("stomp://ada:secret@localhost/a%0Ab", "line end or a NUL"),
        ("stomp://localhost?verify=no", "verify"),
    ],
)
def test_a_wrong_url_is_refused(url: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        StompDriver.from_url(URL.parse(url))
    assert "secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("url", "hosts", "virtual_host", "user", "tls"),
    [
        ("stomp://", [Host("localhost", 61613)], "/", "guest", False),
        ("stomps://broker/", [Host("broker", 61614)], "/", "guest", True),
        ("stomp://ada:x%3Ay@a,b:7/%2Fshop", [Host("a", 61613), Host("b", 7)], "/shop", "ada", False),
        ("stomp://[::1]:61613/shop", [Host("::1", 61613)], "shop", "guest", False),
        ("stomps://broker?certificate=me.pem", [Host("broker", 61614)], "/", None, True),
    ],
)
def test_a_url_says_where_and_who(url: str, hosts: list[Host], virtual_host: str, user: str | None, tls: bool) -> None:  # noqa: FBT001 -- a parameter
    target = target_of(URL.parse(url))
    assert (list(target.hosts), target.virtual_host, target.username, target.tls) == (hosts, virtual_host, user, tls)


def test_tls_verifies_and_takes_no_old_version() -> None:
    import ssl  # noqa: PLC0415 -- only here

    url = URL.parse("stomps://localhost")
    context = tls_context(target_of(url), url)
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert tls_context(target_of(URL.parse("stomp://localhost")), url) is None


def test_certificates_that_are_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for ca in (tmp_path / "ca.pem", tmp_path / "absent.pem"):
        url = URL.parse(f"stomps://localhost?ca={ca}")
        with pytest.raises(ConfigError, match="certificates of this connection cannot be used"):
            tls_context(target_of(url), url)


async def test_nothing_is_connected_to_for_a_wrong_url() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        with pytest.raises(ConfigError):
            connect(f"stomp://127.0.0.1:{listener.getsockname()[1]}?heartbeat=0")
        with pytest.raises(TimeoutError):
            listener.accept()


def test_importing_stomp_py_asks_no_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks this machine's name up when it is imported, for as long as the name server takes."""
    import subprocess  # noqa: PLC0415 -- only here
    import sys  # noqa: PLC0415 -- as above

    monkeypatch.delenv("STOMP_SKIP_HOSTNAME_SCAN", raising=False)
    program = """
import socket, sys, os
def refuse(*_): raise SystemExit("the name server was asked")
socket.gethostbyname = socket.gethostbyname_ex = socket.gethostbyaddr = socket.getfqdn = refuse
import anyqueue.backends.stomp.driver
assert "STOMP_SKIP_HOSTNAME_SCAN" not in os.environ
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)  # noqa: S603 -- ours
    assert not ran.returncode, ran.stderr
