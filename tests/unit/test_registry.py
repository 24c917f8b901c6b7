"""Registry: schemes to driver classes, lazily, with hints where one cannot be had."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from types import MappingProxyType

import pytest

import anyqueue
from anyqueue import ConfigError, MissingBackend, registry
from anyqueue.backends.memory import MemoryDriver


def test_a_known_scheme_is_its_class() -> None:
    assert registry.load("memory") is MemoryDriver


def test_an_unknown_scheme_names_the_known() -> None:
    with pytest.raises(ConfigError, match=r"unknown scheme 'kafka'; known are: .*memory, .*sqlite"):
        anyqueue.connect("kafka://host")


def test_a_third_party_scheme_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", "anyqueue.backends.memory:MemoryDriver", registry.GROUP)
    monkeypatch.setattr(registry, "_entry_points", lambda: [point])
    assert registry.load("mine") is MemoryDriver
    assert "mine" in registry.schemes()


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("anyqueue.backends.memory:Nothing", "does not exist"),
        ("anyqueue.url:URL", "no anyqueue Driver"),
    ],
)
def test_a_broken_entry_point_is_named(monkeypatch: pytest.MonkeyPatch, value: str, what: str) -> None:
    monkeypatch.setattr(registry, "_entry_points", lambda: [EntryPoint("mine", value, registry.GROUP)])
    with pytest.raises(ConfigError, match=what):
        registry.load("mine")


def test_two_claims_on_a_scheme_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("mine", f"package{number}:Driver", registry.GROUP) for number in range(2)]
    monkeypatch.setattr(registry, "_entry_points", lambda: points)
    with pytest.raises(ConfigError, match="several packages claim mine://"):
        registry.load("mine")


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "BUILT_IN", MappingProxyType({"amqp": "no_such_client_library.driver:AmqpDriver"}))
    monkeypatch.setattr(registry, "EXTRAS", MappingProxyType({"amqp": "amqp"}))
    with pytest.raises(MissingBackend, match=r"'no_such_client_library'.*pip install 'anyqueue\[amqp\]'") as caught:
        anyqueue.connect("amqp://host")
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value, ConfigError)
