"""xmpp:// URLs: what each asks for, and what is refused before any I/O."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest

from anyqueue import URL, ConfigError, connect
from anyqueue.backends.xmpp.driver import XmppDriver
from anyqueue.backends.xmpp.options import target_of, tls_context
from anyqueue.url import Host

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("xmpp://host/", "needs an account.*user:password@host"),
        ("xmpp://ada@host/", "needs an account"),
        ("xmpp://ada%40host:secret@host/", "not the name of an XMPP account.*without the domain"),
        ("xmpp://a%00b:secret@host/", "not the name of an XMPP account"),
        ("xmpp://a%3Cb:secret@host/", "not the name of an XMPP account"),
        ("xmpp://a%20b:secret@host/", "not the name of an XMPP account"),
        ("xmpp://ada:secret@host/?service=pub%3Csub", "service is not a domain"),
        ("xmpp://ada:secret@host/?service=a%40b", "service is not a domain"),
        ("xmpp://ada:secret@host/?service=", "service is not a domain"),
        ("xmpp://ada:secret@host/?domain=a%0Ab", "domain or the service is not a domain"),
        ("xmpp://ada:secret@host/queue", "has no path.*service="),
        ("xmpp://ada:secret@host/?lease=0", "lease is 0.5 to 86400"),
        ("xmpp://ada:secret@host/?lease=nan", "lease"),
        ("xmpp://ada:secret@host/?heartbeat=0", "heartbeat is 0.1 to 86400"),
        ("xmpp://ada:secret@host/?max_items=9", "max_items is 10 to 100000"),
        ("xmpp://ada:secret@host/?max_items=100001", "max_items is 10 to 100000"),
        ("xmpp://ada:secret@host/?max_items=max", "max_items"),
        ("xmpp://ada:secret@host/?declare=perhaps", "declare"),
        ("xmpp://ada:secret@host/?insecure=true", "in clear.*loopback"),
        ("xmpp://ada:secret@127.0.0.1,10.0.0.1/?insecure=true", "in clear.*loopback"),
        ("xmpp://ada:secret@localhost.example.org/?insecure=true", "in clear.*loopback"),
        ("xmpps://ada:secret@localhost/?insecure=true", "leaves out the TLS"),
        ("xmpp://ada:secret@localhost/?insecure=true&ca=ca.pem", "leaves out the TLS"),
        ("xmpp://ada:secret@host/?colour=red", "colour"),
    ],
)
def test_a_wrong_url_is_refused(url: str, named: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){named}") as caught:
        XmppDriver.from_url(URL.parse(url))
    assert "secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("url", "hosts", "domain", "service", "tls"),
    [
        ("xmpp://ada:x@host/", [Host("host", 5222)], "host", "pubsub.host", "starttls"),
        ("xmpps://ada:x@a,b:7/", [Host("a", 5223), Host("b", 7)], "a", "pubsub.a", "direct"),
        ("xmpp://ada:x@[::1]/?insecure=true&domain=d", [Host("::1", 5222)], "d", "pubsub.d", "none"),
        ("xmpp://ada:x@host?domain=d&service=news.d", [Host("host", 5222)], "d", "news.d", "starttls"),
    ],
)
def test_a_url_says_where_and_who(url: str, hosts: list[Host], domain: str, service: str, tls: str) -> None:
    target = target_of(URL.parse(url))
    assert (list(target.hosts), target.domain, target.service, target.tls) == (hosts, domain, service, tls)
    assert (target.username, target.password) == ("ada", "x")


def test_tls_always_verifies(tmp_path: Path) -> None:
    context = tls_context(target_of(URL.parse("xmpp://ada:x@host/")), "url")
    assert context is not None
    assert (context.check_hostname, context.verify_mode.name) == (True, "CERT_REQUIRED")
    assert tls_context(target_of(URL.parse("xmpp://ada:x@localhost/?insecure=true")), "url") is None
    for path in (tmp_path, tmp_path / "none.pem"):
        with pytest.raises(ConfigError, match="ca is a PEM file"):
            tls_context(target_of(URL.parse(f"xmpp://ada:x@host/?ca={path}")), "url")


def test_a_password_never_prints() -> None:
    client = connect("xmpp://ada:s3cr3t@localhost/?insecure=true")
    driver = XmppDriver.from_url(URL.parse("xmpp://ada:s3cr3t@localhost/?insecure=true"))
    assert "s3cr3t" not in f"{client!r} {driver!r} {driver._session!r} {driver._url!r}"
