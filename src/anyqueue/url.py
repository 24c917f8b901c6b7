"""URLs that name a broker: parsed once, printed redacted, their options typed.

    scheme://[user[:password]@]host[:port][,host[:port]...][/path][?name=value&...]

* Parts are percent-decoded on the way in and encoded on the way out: `parse(url.reveal()) == url`.
* A password that begins with `$` names an environment variable (`amqp://user:$QUEUE_PASSWORD@host`); a literal
  dollar is written `%24`.
* A password is a `Secret`: no repr, str, format, pickle or JSON of it says what it is. Errors about a URL that
  could not be parsed quote none of it, for the password may be anywhere in it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Final, NoReturn, TypeVar
from urllib.parse import quote, unquote

import msgspec

from anyqueue.errors import ConfigError

MAX_PORT: Final = 65535
COMMON_OPTIONS: Final = frozenset({"connect_timeout", "drain_timeout", "reply_lasts", "send_timeout", "settle_timeout"})
"""The options that every scheme has: the core takes them before a driver sees the URL."""
_SHAPE: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    r"(?:(?P<user>[^@/?#:]*)(?::(?P<password>[^@/?#]*))?@)?"
    r"(?P<hosts>[^/?#@]*)"
    r"(?P<path>/[^?#]*)?"
    r"(?:\?(?P<options>[^#]*))?",
    re.IGNORECASE,
)
_HOST: Final = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^:\[\]]*)(?::(?P<port>[0-9]+))?")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9a-fA-F]{2})")

OptionsT = TypeVar("OptionsT", bound=msgspec.Struct)


class Secret:
    """A string that prints as `***`. Only reveal() says what it is."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself, for the broker's library alone."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled")


@dataclass(frozen=True, slots=True)
class Host:
    """One host of a URL. `name` without brackets or escapes; `port` None where the URL gives none."""

    name: str
    port: int | None = None

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else quote(self.name, safe="-._~")
        return name if self.port is None else f"{name}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class URL:
    """A parsed URL. Its str() and repr() are redacted; reveal() is not."""

    scheme: str
    username: str | None = None
    password: Secret | None = None
    hosts: tuple[Host, ...] = ()
    path: str = ""
    """Decoded, with its leading slash; empty where the URL has none."""
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> URL:
        """Parse, or raise ConfigError (TypeError where it is no str). The environment is read for `$NAME`."""
        if not isinstance(text, str):
            raise TypeError(f"a URL is a str, not {type(text).__name__}")
        match = _SHAPE.fullmatch(text)
        if match is None:
            raise ConfigError("this is no URL", hint="write scheme://host/path?option=value, special characters as %XX")
        scheme = match["scheme"].lower()
        return cls(
            scheme=scheme,
            username=_decode(scheme, match["user"]) if match["user"] is not None else None,
            password=_password(scheme, match["password"]),
            hosts=tuple(_host(scheme, host) for host in match["hosts"].split(",")) if match["hosts"] else (),
            path=_decode(scheme, match["path"] or ""),
            options=_pairs(scheme, match["options"]),
        )

    def reveal(self) -> str:
        """Return the whole URL, the password in clear."""
        password = None if self.password is None else quote(self.password.reveal(), safe="")
        return self._format(password)

    def __str__(self) -> str:
        return self._format(None if self.password is None else "***")

    def __repr__(self) -> str:
        return f"URL({str(self)!r})"

    def _format(self, password: str | None) -> str:
        user = "" if self.username is None else quote(self.username, safe="")
        user += "" if password is None else f":{password}"
        at = "@" if self.username is not None else ""
        options = "&".join(f"{quote(name, safe='')}={quote(value, safe='/:')}" for name, value in self.options)
        hosts = ",".join(map(str, self.hosts))
        path = quote(self.path, safe="/:@!$&'()*+,;=~-._")
        return f"{self.scheme}://{user}{at}{hosts}{path}{'?' if options else ''}{options}"

    def split_options(self, names: frozenset[str]) -> tuple[URL, URL]:
        """Return this URL with only the options in `names`, and with only the others."""
        ours = tuple(pair for pair in self.options if pair[0] in names)
        rest = tuple(pair for pair in self.options if pair[0] not in names)
        return replace(self, options=ours), replace(self, options=rest)

    def with_credentials(self, username: str, password: str) -> URL:
        """Return this URL with other credentials."""
        return replace(self, username=username, password=Secret(password))

    def take_options(self, kind: type[OptionsT], also: frozenset[str] = frozenset()) -> OptionsT:
        """Return the options as the msgspec Struct `kind`, or raise ConfigError.

        Refused: a name that neither `kind` nor `also` (known to others) has, one given twice, a value of the
        wrong type. The error names the culprit, and what is known.
        """
        known = msgspec.structs.fields(kind)
        names = {field.encode_name for field in known}
        given: dict[str, str] = {}
        for name, value in self.options:
            if name not in names | also:
                raise self._refuse(f"unknown option {name!r}", names | also)
            if name in given:
                raise self._refuse(f"the option {name!r} is given twice", names | also)
            given[name] = value
        for field in known:
            if field.encode_name in given:
                self._check_option(field, given[field.encode_name])
        wanted = {name: value for name, value in given.items() if name in names}
        return msgspec.convert(wanted, kind, strict=False)

    def _check_option(self, field: msgspec.structs.FieldInfo, value: str) -> None:
        try:
            number = msgspec.convert(value, field.type, strict=False)
        except msgspec.ValidationError as error:
            reason = str(error)
        else:
            if not isinstance(number, float) or abs(number) < float("inf"):
                return
            reason = "Expected a finite number"
        raise ConfigError(f"the option {field.encode_name}={value!r} cannot be used: {reason}", url=self) from None

    def _refuse(self, what: str, known: frozenset[str] | set[str]) -> ConfigError:
        listed = ", ".join(sorted(known | COMMON_OPTIONS))
        return ConfigError(what, url=replace(self, options=()), hint=f"options of {self.scheme}:// are: {listed}")


def _decode(scheme: str, text: str) -> str:
    try:
        if _BAD_ESCAPE.search(text):
            raise ValueError
        return unquote(text, errors="strict")
    except ValueError:
        what = f"a part of this {scheme}:// URL is not percent-encoded UTF-8"
        raise ConfigError(what, hint="write a percent sign as %25") from None


def _password(scheme: str, text: str | None) -> Secret | None:
    if text is None:
        return None
    if not text.startswith("$"):
        return Secret(_decode(scheme, text))
    if text[1:] not in os.environ:
        what = f"the {scheme}:// URL takes its password from an environment variable that is not set"
        raise ConfigError(what, hint="set it, or write a literal dollar sign as %24")
    return Secret(os.environ[text[1:]])


def _host(scheme: str, text: str) -> Host:
    match = _HOST.fullmatch(text)
    port = match["port"] if match else None
    if match is None or not match["name"] or (port is not None and not 0 < int(port) <= MAX_PORT):
        what = f"a host of this {scheme}:// URL is not NAME, NAME:PORT or [IPV6]:PORT with a port of 1 to {MAX_PORT}"
        raise ConfigError(what)
    name = match["name"]
    name = name[1:-1] if name.startswith("[") else _decode(scheme, name)
    return Host(name, None if port is None else int(port))


def _pairs(scheme: str, text: str | None) -> tuple[tuple[str, str], ...]:
    pairs = [pair.partition("=") for pair in (text or "").split("&") if pair]
    return tuple((_decode(scheme, name), _decode(scheme, value)) for name, _, value in pairs)
