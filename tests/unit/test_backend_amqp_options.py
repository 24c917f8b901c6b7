"""URLs of amqp://: what they ask for, and every way in which they are wrong, said before any I/O."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

import anyqueue
from anyqueue import ConfigError, Feature
from anyqueue.backends.amqp.driver import AmqpDriver
from anyqueue.backends.amqp.options import Target, target_of, tls_context
from anyqueue.url import URL, Host

if TYPE_CHECKING:
    from pathlib import Path

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
SECRET: Final = "s3cr3t"  # noqa: S105 -- to find it where it must not be


def target(text: str) -> Target:
    return target_of(URL.parse(text))


def test_nothing_said_is_the_broker_of_this_machine() -> None:
    found = target("amqp://")
    assert found.hosts == (Host("localhost", 5672),)
    assert (found.username, found.password, found.virtual_host, found.tls) == ("guest", "guest", "/", False)


def test_hosts_have_the_port_of_their_scheme() -> None:
    assert target("amqp://a,b:1,[::1]").hosts == (Host("a", 5672), Host("b", 1), Host("::1", 5672))
    assert target("amqps://a,b:1").hosts == (Host("a", 5671), Host("b", 1))
    assert target("amqps://a").tls


@pytest.mark.parametrize(
    ("path", "virtual_host"), [("", "/"), ("/", "/"), ("/%2F", "/"), ("/orders", "orders"), ("/a/b", "a/b")]
)
def test_a_virtual_host_is_all_of_the_path(path: str, virtual_host: str) -> None:
    assert target(f"amqp://host{path}").virtual_host == virtual_host


@given(TEXT, TEXT, TEXT.filter(lambda text: len(text.encode()) <= 255))
def test_any_credentials_and_virtual_host_are_taken(user: str, password: str, virtual_host: str) -> None:
    url = URL(scheme="amqp", hosts=(Host("h"),), path=f"/{virtual_host}").with_credentials(user, password)
    found = target(url.reveal())
    assert (found.username, found.password, found.virtual_host) == (user, password, virtual_host or "/")


def test_a_certificate_can_be_the_user() -> None:
    assert target("amqps://host?certificate=/c.pem").username is None
    assert target("amqps://u:p@host?certificate=/c.pem").username == "u"


@pytest.mark.parametrize(
    ("rest", "why"),
    [
        ("h?queue_type=stream", "queue_type='stream'"),
        ("h?declare=no", "declare='no'"),
        ("h?heartbeat=-1", "heartbeat is 0 to 65535"),
        ("h?heartbeat=65536", "heartbeat is 0 to 65535"),
        ("h?heartbeat=1.5", "heartbeat='1.5'"),
        ("h?delivery_limit=0", "delivery_limit is 1 to"),
        ("h?delivery_limit=x", "delivery_limit='x'"),
        ("h?queue_type=classic&max_priority=256", "max_priority is 0 to 255"),
        ("h?max_priority=5", "quorum queues have no priorities.*queue_type=classic"),
        ("h?queue_type=classic&delivery_limit=5", "classic queues have no delivery limit"),
        ("h?ca=/ca.pem", "ca without TLS.*amqps"),
        ("h?certificate=/c.pem&key=/k.pem", "certificate, key without TLS"),
        ("h?ssl_options={}", "unknown option 'ssl_options'.*options of amqp:// are"),
        ("h?heartbeat=1&heartbeat=2", "given twice"),
        ("h/%00", "NUL"),
        (f"h/{'x' * 256}", "at most 255 bytes"),
    ],
)
def test_what_is_wrong_is_said(rest: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        anyqueue.connect(f"amqp://user:{SECRET}@{rest}")
    assert SECRET not in f"{caught.value}{caught.value!r}"


def test_a_user_without_a_password_is_refused() -> None:
    with pytest.raises(ConfigError, match="a user without a password"):
        anyqueue.connect("amqp://user@host")
    with pytest.raises(ConfigError, match="a user without a password"):
        anyqueue.connect("amqps://user@host?certificate=/c.pem")


def test_a_key_without_its_certificate_is_refused() -> None:
    with pytest.raises(ConfigError, match="a key without its certificate"):
        anyqueue.connect(f"amqps://user:{SECRET}@host?key=/k.pem")


def test_features_follow_the_options() -> None:
    def features(options: str) -> Feature:
        return AmqpDriver.from_url(URL.parse(f"amqp://h{options}")).features

    assert Feature.ATTEMPTS in features("")
    assert Feature.PRIORITY not in features("")
    assert Feature.PRIORITY in features("?queue_type=classic")
    assert Feature.ATTEMPTS not in features("?queue_type=classic")
    assert Feature.PRIORITY not in features("?queue_type=classic&max_priority=0")
    assert Feature.DELAY not in features("?declare=never")
    assert AmqpDriver.from_url(URL.parse("amqp://h?declare=never")).limits.max_delay is None


def test_tls_always_verifies() -> None:
    assert tls_context(target("amqp://h"), "url") is None
    context = tls_context(target("amqps://h"), "url")
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("option", ["ca", "certificate"])
def test_files_that_are_none_are_named_wrong(option: str, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    for path in (junk, tmp_path / "missing.pem"):
        with pytest.raises(ConfigError, match="PEM files"):
            tls_context(target(f"amqps://h?{option}={path}"), "url")
