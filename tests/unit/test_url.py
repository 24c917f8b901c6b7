"""URLs: parsed once, printed redacted, their options typed."""

from __future__ import annotations

import copy
import json
import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyqueue import ConfigError
from anyqueue.url import URL, Host, Secret

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
HOSTS = st.builds(
    Host,
    st.sampled_from(["localhost", "a.example", "::1", "fe80::1", "10.0.0.1"])
    | st.text(st.characters(codec="utf-8", exclude_characters=":[]"), min_size=1, max_size=8),
    st.none() | st.integers(1, 65535),
)


@st.composite
def urls(draw: st.DrawFn) -> URL:
    username = draw(st.none() | TEXT)
    return URL(
        scheme=draw(st.from_regex(r"[a-z][a-z0-9+.-]{0,8}", fullmatch=True)),
        username=username,
        password=None if username is None else draw(st.none() | st.builds(Secret, TEXT)),
        hosts=tuple(draw(st.lists(HOSTS, max_size=3))),
        path=draw(st.just("") | TEXT.map("/{}".format)),
        options=tuple(draw(st.lists(st.tuples(TEXT.filter(bool), TEXT), max_size=3))),
    )


@given(urls())
def test_what_is_revealed_parses_to_the_same(url: URL) -> None:
    assert URL.parse(url.reveal()) == url


@given(urls())
def test_what_is_printed_parses_and_holds_no_password(url: URL) -> None:
    printed = URL.parse(str(url))
    assert printed.hosts == url.hosts
    assert printed.options == url.options
    assert (printed.password is None) == (url.password is None)
    assert printed.password in {None, Secret("***")}


@given(st.text())
def test_any_text_parses_or_is_refused_without_being_quoted(text: str) -> None:
    marked = f"{text}s3cr3t"
    try:
        shown = URL.parse(marked).scheme
    except ConfigError as error:
        shown = f"{error} {error!r} {error.__cause__!r}"
    assert "s3cr3t" not in shown


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("amqp://ada:pw@a:5672,b/vhost?x=1&y=", ("ada", "pw", (Host("a", 5672), Host("b")), "/vhost", ("x", "y"))),
        ("AMQP://a", (None, None, (Host("a"),), "", ())),
        ("x://ada@[::1]:1", ("ada", None, (Host("::1", 1),), "", ())),
        ("x://ada:@h", ("ada", "", (Host("h"),), "", ())),
        ("x://%40:%3A%2F@h/%2F", ("@", ":/", (Host("h"),), "//", ())),
        ("sqlite:////abs/a%3Fb.db", (None, None, (), "//abs/a?b.db", ())),
        ("memory://", (None, None, (), "", ())),
        ("x://h?a=b=c&&d", (None, None, (Host("h"),), "", ("a", "d"))),
    ],
)
def test_parts(text: str, parts: tuple[object, ...]) -> None:
    url = URL.parse(text)
    password = None if url.password is None else url.password.reveal()
    assert (url.username, password, url.hosts, url.path, tuple(name for name, _ in url.options)) == parts
    assert url.scheme == text.partition(":")[0].lower()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h",
        "://h",
        "1x://h",
        "x:/h",
        "x://h#fragment",
        "x://a:b:c",
        "x://h:0",
        "x://h:65536",
        "x://h:port",
        "x://[::1",
        "x://,a",
        "x://a@b@c",
        "x://h/%zz",
        "x://h/%ff",
        "x://%:s3cr3t@h",
        "x://u:s3cr3t%@h",
        "x://u:s3cr3t@h:99999",
        "x://u:s3cr3t@h,[",
        " x://u:s3cr3t@h",
    ],
)
def test_what_is_no_url_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        URL.parse(text)
    assert "s3cr3t" not in f"{caught.value} {caught.value!r} {vars(caught.value)} {caught.value.__cause__!r}"


@pytest.mark.parametrize("value", [None, 3, b"memory://x"])
def test_what_is_no_text_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match="a URL is a str"):
        URL.parse(value)  # type: ignore[arg-type]


def test_a_password_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUE_PASSWORD", "p%4 0")
    password = URL.parse("x://ada:$QUEUE_PASSWORD@h").password
    assert password == Secret("p%4 0")
    literal = URL.parse("x://ada:%24QUEUE_PASSWORD@h")
    assert literal.password == Secret("$QUEUE_PASSWORD")
    assert URL.parse(literal.reveal()) == literal
    monkeypatch.delenv("QUEUE_PASSWORD")
    with pytest.raises(ConfigError, match="not set"):
        URL.parse("x://ada:$QUEUE_PASSWORD@h")


def test_a_secret_says_nothing() -> None:
    secret = Secret("s3cr3t")
    shown = f"{secret} {secret!r} {secret:>9} {[secret]} {secret.__reduce__!r}"
    assert "s3cr3t" not in shown
    assert secret.reveal() == "s3cr3t"
    assert secret == Secret("s3cr3t")
    assert hash(secret) == hash(Secret("s3cr3t"))
    assert secret != "s3cr3t"  # noqa: S105 -- not one
    for act in (pickle.dumps, json.dumps, msgspec.json.encode, msgspec.msgpack.encode):
        with pytest.raises(TypeError):
            act(secret)  # type: ignore[operator]
    with pytest.raises(TypeError):
        copy.deepcopy(URL(scheme="x", username="u", password=secret))


def test_other_credentials() -> None:
    url = URL.parse("x://ada:old@h/p").with_credentials("bob", "n w")
    assert url.reveal() == "x://bob:n%20w@h/p"
    assert str(url) == "x://bob:***@h/p"


class Options(msgspec.Struct, frozen=True):
    """Options of some backend."""

    number: int = 3
    ratio: float = 0.5
    flag: bool = False
    kind: str = msgspec.field(default="k", name="as")


def test_options_are_typed() -> None:
    assert URL.parse("x://h").take_options(Options) == Options()
    taken = URL.parse("x://h?number=7&ratio=2&flag=true&as=weak&theirs=1").take_options(Options, frozenset({"theirs"}))
    assert taken == Options(7, 2.0, flag=True, kind="weak")


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("nubmer=7", "nubmer"),
        ("kind=x", "kind"),
        ("number=7&number=7", "number"),
        ("number=seven", "number"),
        ("number=1.5", "number"),
        ("number=", "number"),
        ("ratio=nan", "ratio"),
        ("ratio=inf", "ratio"),
        ("ratio=1e999", "ratio"),
        ("flag=perhaps", "flag"),
    ],
)
def test_an_option_that_cannot_be_is_named(query: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        URL.parse(f"x://ada:s3cr3t@h?{query}").take_options(Options)
    assert named in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_an_unknown_option_says_what_is_known() -> None:
    with pytest.raises(ConfigError) as caught:
        URL.parse("x://h?nope=1").take_options(Options, frozenset({"connect_timeout"}))
    known = (caught.value.hint or "").removeprefix("options of x:// are: ").split(", ")
    assert known == sorted(known)
    assert {"as", "flag", "number", "ratio", "connect_timeout"} <= set(known)


def test_options_are_split_by_name() -> None:
    ours, theirs = URL.parse("x://h/p?a=1&b=2&a=3").split_options(frozenset({"a"}))
    assert (ours.reveal(), theirs.reveal()) == ("x://h/p?a=1&a=3", "x://h/p?b=2")
