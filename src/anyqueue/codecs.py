"""Payload <-> bytes, by content type. Decides; does no I/O, and never runs code that a message brings.

* `bytes` travel as they are (application/octet-stream), `str` as UTF-8 (text/plain), anything else as JSON.
* pydantic models and dataclasses are written and read by pydantic itself, which is not imported for it.
* What JSON cannot carry is refused with TypeError or ValueError, never made into something else: keys that are no
  str, NaN and infinity, and, outside of typed objects, dates, sets, bytes and the like. Typed objects (dataclasses,
  msgspec Structs, attrs) may hold what their type brings back: a consumer with `type=` reads a datetime again.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from anyqueue.errors import ConfigError, Undecodable

if TYPE_CHECKING:
    from collections.abc import Callable

BYTES: Final = "application/octet-stream"
TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"
MAX_DEPTH: Final = 200
_LEAVES: Final = frozenset({str, int, bool, type(None)})
_VALIDATOR: Final = "__pydantic_validator__"
_SERIALIZER: Final = "__pydantic_serializer__"
_TYPED: Final = ("__struct_fields__", "__dataclass_fields__", "__attrs_attrs__")
_encode_json: Final = msgspec.json.Encoder().encode


def encode(payload: object, content_type: str | None = None) -> tuple[bytes, str]:
    """Return the body and its content type; `content_type` overrides what the payload's type says.

    Raises TypeError or ValueError, saying where in the payload, for what cannot be carried exactly.
    """
    if isinstance(payload, bytes):
        return payload, content_type or BYTES
    if isinstance(payload, bytearray | memoryview):
        return bytes(payload), content_type or BYTES
    if isinstance(payload, str):
        try:
            return payload.encode(), content_type or TEXT
        except UnicodeEncodeError as error:
            raise ValueError(f"this text is no Unicode that UTF-8 can carry: {error.reason}") from None
    return _json(payload), content_type or JSON


def _json(payload: object) -> bytes:
    serializer = getattr(type(payload), _SERIALIZER, None)
    try:
        if serializer is not None:
            return bytes(serializer.to_json(payload, by_alias=True))
        _check(payload, "payload", 0)
        return _encode_json(payload)
    except (msgspec.ValidationError, RecursionError, OverflowError, UnicodeEncodeError) as error:
        raise ValueError(f"this payload cannot be carried as JSON: {error}") from None


def _check(value: object, where: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"{where[:80]}... is nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        _check_object(value, where, depth)
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            if type(item) not in _LEAVES:
                _check(item, f"{where}[{position}]", depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}: JSON has no such number")
    elif type(value) not in _LEAVES:
        _check_typed(value, where, depth)


def _check_object(value: dict[Any, object], where: str, depth: int) -> None:
    for key, item in value.items():
        if type(key) is not str:
            raise TypeError(f"{where} has the key {key!r}: JSON keys are str")
        if type(item) not in _LEAVES:
            _check(item, f"{where}.{key}", depth + 1)


def _check_typed(value: object, where: str, depth: int) -> None:
    kind = type(value)
    if not any(hasattr(kind, mark) for mark in _TYPED):
        hint = "send text or a number, or put it into a dataclass, msgspec Struct or attrs object"
        raise TypeError(f"{where} is a {kind.__name__}, which JSON cannot carry exactly; {hint}")
    _check(msgspec.to_builtins(value), where, depth + 1)


def decode(body: bytes, content_type: str | None, kind: Any = None) -> Any:  # noqa: ANN401 -- what the sender sent
    """Return the payload, of the type `kind` where one is given; raise Undecodable.

    Without `kind`, JSON becomes plain objects, text a str, and every other content type stays bytes.
    """
    family = (content_type or "").partition(";")[0].strip().lower()
    try:
        if kind is bytes:
            return body
        if family == "text/plain" and kind in (None, str):
            return body.decode()
        if family == "application/json" or family.endswith("+json"):
            return decoder(kind)(body)
    except msgspec.ValidationError as error:
        raise Undecodable(f"the payload does not validate: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise Undecodable(f"the body is no {family}: {error}") from error
    if kind is None:
        return body
    raise Undecodable(f"a body of content type {content_type!r} cannot be read as {getattr(kind, '__name__', kind)}")


@lru_cache(maxsize=256)
def decoder(kind: Any) -> Callable[[bytes], Any]:  # noqa: ANN401 -- any type that msgspec knows
    """Return the JSON decoder for a type, or raise ConfigError for one that cannot be decoded into."""
    validator = getattr(kind, _VALIDATOR, None)
    if validator is not None:
        return lambda body: _validated(validator.validate_json, body)
    try:
        return msgspec.json.Decoder(Any if kind is None else kind, dec_hook=_convert).decode
    except TypeError as error:
        raise ConfigError(f"type={kind!r} cannot be decoded into: {error}") from error


def _convert(kind: Any, value: Any) -> Any:  # noqa: ANN401 -- any type inside of one that msgspec knows
    """Make a value of a type that msgspec does not know, such as a pydantic model in a list."""
    validator = getattr(kind, _VALIDATOR, None)
    if validator is None:
        raise TypeError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")
    return _validated(validator.validate_python, value)


def _validated(validate: Callable[[Any], Any], value: Any) -> Any:  # noqa: ANN401 -- what pydantic makes of it
    """Validate by pydantic; its error says where and why, and never what stood there."""
    try:
        return validate(value)
    except ValueError as error:
        listed = getattr(error, "errors", None)
        if listed is None:
            raise
        found = listed(include_url=False, include_context=False, include_input=False)
        reasons = (f"{'.'.join(map(str, each['loc'])) or 'payload'}: {each['msg']}" for each in found)
        raise msgspec.ValidationError("; ".join(reasons)) from None
