"""Ask a broker, in its own protocol, whether it answers. Each raises OSError where it does not."""

from __future__ import annotations

import base64
import socket
import ssl
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TIMEOUT: Final = 5.0
AMQP_HEADER: Final = b"AMQP\x00\x00\x09\x01"
CONNECTION_START: Final = b"\x00\x0a\x00\x0a"
ECHO_REQUEST: Final = b"\x00REQ\x00\x00\x00\x10\x00\x00\x00\x02hi"
ECHO_RESPONSE: Final = b"\x00RES\x00\x00\x00\x11\x00\x00\x00\x02hi"


def amqp(host: str, port: int) -> None:
    """Expect the method Connection.Start after the protocol's header (AMQP 0-9-1, 4.2.2)."""
    with _connect(host, port) as link:
        link.sendall(AMQP_HEADER)
        _expect(_read(link, 11)[7:] == CONNECTION_START, "no Connection.Start")


def stomp(host: str, port: int, user: str) -> None:
    """Log in as a user whose password is its name."""
    with _connect(host, port) as link:
        link.sendall(f"CONNECT\naccept-version:1.2\nhost:/\nlogin:{user}\npasscode:{user}\n\n\x00".encode())
        _expect(_read(link, 9) == b"CONNECTED", "no CONNECTED")


def gearman(host: str, port: int) -> None:
    """Expect an echo."""
    with _connect(host, port) as link:
        link.sendall(ECHO_REQUEST)
        _expect(_read(link, len(ECHO_RESPONSE)) == ECHO_RESPONSE, "no ECHO_RES")


def xmpp(host: str, ports: Mapping[str, int], domain: str, authority: Path) -> None:
    """Expect a stream in clear to open; over TLS log in, and expect the service to say what it is.

    A server that is starting takes connections before it takes logins, and logins before it has a service.
    """
    opening = f"<stream:stream to='{domain}' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' "
    head = f"<?xml version='1.0'?>{opening}version='1.0'>"
    with _connect(host, ports["xmpp"]) as link:
        _answer(link, head, b"</mechanisms>")
    account = base64.b64encode(b"\0anyqueue\0anyqueue").decode()
    context = ssl.create_default_context(cafile=authority)
    with _connect(host, ports["xmpps"]) as plain, context.wrap_socket(plain, server_hostname=domain) as link:
        _answer(link, head, b"</mechanisms>")
        _answer(link, f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{account}</auth>", b"<success")
        _answer(link, head, b"</stream:features>")
        _answer(link, "<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>", b"</jid>")
        query = "<query xmlns='http://jabber.org/protocol/disco#info'/>"
        _answer(link, f"<iq type='get' id='2' to='pubsub.{domain}'>{query}</iq>", b"<identity")


def _answer(link: socket.socket, stanza: str, wanted: bytes) -> None:
    """Send a stanza, and read until its answer has come."""
    link.sendall(stanza.encode())
    found = b""
    while wanted not in found:
        more = link.recv(4096)
        wrong = b"stream:error" in found or b"<failure" in found or b"type='error'" in found
        _expect(bool(more) and not wrong, f"no {wanted!r}: {found[-200:]!r}")
        found += more


def epmd(host: str, port: int) -> None:
    """Expect an Erlang port mapper to say its own port, before the names it knows (NAMES_REQ)."""
    with _connect(host, port) as link:
        link.sendall(b"\x00\x01n")
        _expect(_read(link, 4) == port.to_bytes(4, "big"), "no port mapper")


def taken(host: str, port: int) -> bool:
    """Say whether somebody holds the port: where we could not listen."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return True
    return False


def _connect(host: str, port: int) -> socket.socket:
    link = socket.create_connection((host, port), timeout=TIMEOUT)
    if link.getsockname() == link.getpeername():  # nobody listens, and the kernel chose this very port for our end
        link.close()
        raise ConnectionRefusedError(f"nothing listens on {host}:{port}")
    return link


def _read(link: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = link.recv(size - len(found))
        _expect(bool(more), f"closed after {found!r}")
        found += more
    return found


def _expect(fact: bool, otherwise: str) -> None:  # noqa: FBT001 -- it reads as assert does
    if not fact:
        raise ConnectionError(otherwise)
