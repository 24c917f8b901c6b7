"""Who may speak to whom: endpoints, CURVE keys in files, and the allow-list of a hub.

* Beyond this machine nothing is bound or connected without CURVE, unless `insecure` says so.
* CURVE alone lets in whoever knows the hub's public key; so a hub with a key has a list of the public keys it lets in:
  a directory of `*.key` files, read again at every handshake (ZAP, https://rfc.zeromq.org/spec/27/).
* Key files are in the form that other ZeroMQ tools read and write: `NAME.key` is public, `NAME.key_secret` is not.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import zmq
from zmq.utils import z85

from anyqueue.errors import ConfigError
from anyqueue.url import MAX_PORT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyqueue.url import URL

ZAP: Final = "inproc://zeromq.zap.01"
DOMAIN: Final = "anyqueue"
KEY: Final = 32
"""Bytes of a key; written in Z85, 40 characters."""
_LINE: Final = re.compile(r'^\s*(public|secret)-key\s*=\s*"?([!-~]{40})"?\s*$', re.MULTILINE)
_ENDPOINT: Final = re.compile(r"tcp://(?P<host>\[[0-9a-fA-F:.]+\]|[^:\[\]/?#@]+):(?P<port>[0-9]{1,5})")
_REQUEST: Final = 6
"""Frames of a ZAP request before its credentials."""
_log: Final = logging.getLogger("anyqueue.hub")


class Endpoint(msgspec.Struct, frozen=True):
    """A host and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read `tcp://HOST:PORT`, or raise ConfigError. Port 0 is any free one, `*` every interface."""
        match = _ENDPOINT.fullmatch(text)
        if match is None or int(match["port"]) > MAX_PORT:
            raise ConfigError(f"{text!r} is no endpoint", hint="write tcp://127.0.0.1:5555")
        return cls(match["host"].strip("[]"), int(match["port"]))

    @property
    def loopback(self) -> bool:
        """It is on this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"

    def check(self, *, secured: bool, insecure: bool) -> None:
        """Raise ConfigError unless it may be used like this."""
        if not (self.loopback or secured or insecure):
            what = f"{self} is beyond this machine, and without keys anybody there can read, send and delete"
            hint = "give keys (anyqueue hub keygen), or say insecure=1 where the network itself is trusted"
            raise ConfigError(what, hint=hint)

    def bindable(self) -> Endpoint:
        """Return it in the form in which one can listen there: an address, no name."""
        return Endpoint("127.0.0.1", self.port) if self.host == "localhost" else self

    def prepare(self, socket: zmq.Socket[bytes]) -> None:
        """Let a socket use it."""
        socket.setsockopt(zmq.IPV6, int(":" in self.host))


def endpoints_of(url: URL, *, insecure: bool, secured: bool) -> list[Endpoint]:
    """Return the endpoints that a URL names, or raise ConfigError. No I/O."""
    form = f"write {url.scheme}://127.0.0.1:5555"
    if url.username is not None:
        raise ConfigError(f"a {url.scheme} URL has no user", url=url, hint="leave it out: keys say who somebody is")
    if not url.hosts or any(host.port is None for host in url.hosts):
        raise ConfigError(f"a {url.scheme} URL names a host and a port", url=url, hint=form)
    endpoints = [Endpoint(host.name, host.port or 0) for host in url.hosts]
    for endpoint in endpoints:
        endpoint.check(secured=secured, insecure=insecure)
    return endpoints


def endpoint_of(url: URL, *, insecure: bool, linger: float) -> Endpoint:
    """Return the endpoint of a bare pattern's URL, or raise ConfigError."""
    if linger < 0:
        raise ConfigError("the option linger is a number of seconds, 0 or more", url=url)
    endpoints = endpoints_of(url, insecure=insecure, secured=False)
    if len(endpoints) > 1:
        raise ConfigError(f"a {url.scheme} URL names one host", url=url, hint="for several, use hubs: zmq://")
    return endpoints[0]


class Pair(msgspec.Struct, frozen=True):
    """A key pair, in Z85."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"Pair({self.public.decode()}, ***)"


class Keys(msgspec.Struct, frozen=True):
    """What a client needs: its own pair, and the hub's public key."""

    mine: Pair
    hub: bytes

    def use(self, socket: zmq.Socket[bytes]) -> None:
        """Have a socket speak CURVE as a client."""
        socket.setsockopt(zmq.CURVE_SERVERKEY, self.hub)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.mine.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.mine.secret)


class Door(msgspec.Struct, frozen=True, kw_only=True):
    """Who is let into a hub: everybody, or who has a key in the directory `allow`."""

    pair: Pair | None = None
    allow: str = ""

    def use(self, socket: zmq.Socket[bytes]) -> None:
        """Have a socket speak CURVE as a server, if there is a key."""
        if self.pair is not None:
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.CURVE_SECRETKEY, self.pair.secret)
            socket.setsockopt(zmq.CURVE_PUBLICKEY, self.pair.public)
            socket.setsockopt_string(zmq.ZAP_DOMAIN, DOMAIN)

    def answer(self, frames: Sequence[bytes]) -> list[bytes]:
        """Return the reply to a ZAP request."""
        return decide(frames, allowed(self.allow) if self.pair is not None else frozenset())


def decide(frames: Sequence[bytes], keys: frozenset[bytes]) -> list[bytes]:
    """Let in who speaks CURVE with one of these keys, and nobody else. Pure."""
    request = frames[1] if len(frames) > 1 else b""
    known = len(frames) == _REQUEST + 1 and frames[5] == b"CURVE" and frames[6] in keys
    status = (b"200", b"OK", frames[6].hex().encode()) if known else (b"400", b"this key is not on the list", b"")
    return [b"1.0", request, *status, b""]


def open_door(key: str | None, allow: str | None) -> Door:
    """Return who is let in, from a hub's secret key file and a directory of public keys; raise ConfigError."""
    if key is None or allow is None:
        return Door()
    if not Path(allow).is_dir():
        raise ConfigError(f"the directory of keys {allow} does not exist", hint="make it, and put *.key files in it")
    return Door(pair=read_pair(key), allow=allow)


def allowed(folder: str) -> frozenset[bytes]:
    """Return the public keys in a directory. A file that holds none lets nobody in, and is logged."""
    keys = set()
    for path in sorted(Path(folder).glob("*.key")):
        try:
            keys.add(z85.decode(read_public(path)))
        except ConfigError as error:
            _log.warning("%s", error)
    return frozenset(keys)


def read_public(path: str | Path) -> bytes:
    """Return the public key of a file, or raise ConfigError."""
    found = _read(path).get("public")
    if found is None:
        raise ConfigError(f"{path} holds no public key", hint="make one: anyqueue hub keygen")
    return found


def read_pair(path: str | Path) -> Pair:
    """Return the key pair of a file, or raise ConfigError."""
    found = _read(path)
    if "secret" not in found or "public" not in found:
        raise ConfigError(f"{path} holds no secret key", hint="name the .key_secret file that anyqueue hub keygen made")
    if zmq.curve_public(found["secret"]) != found["public"]:
        raise ConfigError(f"the two keys in {path} do not belong together")
    if Path(path).stat().st_mode & 0o077:
        _log.warning("%s holds a secret key, and others may read it; chmod 600 it", path)
    return Pair(found["public"], found["secret"])


def _read(path: str | Path) -> dict[str, bytes]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"the key file {path} cannot be read: {what}") from error
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return {name: key.encode() for name, key in _LINE.findall("\n".join(lines))}


def make_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a key pair: `NAME.key` to hand out, and `NAME.key_secret` that only its owner can read; return the paths.

    Raises ConfigError where one is there already.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ConfigError(f"{name!r} is no name for a key", hint="use letters, digits, dots, dashes and underscores")
    public, secret = zmq.curve_keypair()
    paths = folder / f"{name}.key", folder / f"{name}.key_secret"
    taken = [path for path in paths if path.exists()]
    if taken:
        raise ConfigError(f"{taken[0]} is there already", hint="remove it, or choose another name")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = "metadata\ncurve\n" + f'    public-key = "{public.decode()}"\n'
    _write(paths[0], f"# A public CURVE key, to be handed out\n\n{lines}", 0o644)
    secret_line = f'    secret-key = "{secret.decode()}"\n'
    _write(paths[1], f"# A SECRET CURVE key: hand it to nobody\n\n{lines}{secret_line}", 0o600)
    return paths


def _write(path: Path, text: str, mode: int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        stream.write(text)
