"""A message <-> the XML of an item. Pure.

    <message xmlns='urn:anyqueue:1' id='...' content-type='...' attempts='1' ...>
      <header name='tenant'>eu</header>
      <body>aGVsbG8=</body>
    </message>

The body is base64. In names and values a percent sign, and every character that XML cannot carry or would change, is
percent-encoded. Any other payload is another program's: its own XML is the body then.
"""

from __future__ import annotations

import binascii
import math
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree as ET

import msgspec

from anyqueue.driver import Envelope

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

NAMESPACE: Final = "urn:anyqueue:1"
_MESSAGE: Final = f"{{{NAMESPACE}}}message"
_HEADER: Final = f"{{{NAMESPACE}}}header"
_BODY: Final = f"{{{NAMESPACE}}}body"
_UNFIT: Final = re.compile("[%\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_MARKUP: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&apos;", '"': "&quot;"})
_TEXTS: Final = ("content_type", "correlation_id", "reply_to")
_TIMES: Final = ("not_before", "expires_at", "timestamp")


class Stored(msgspec.Struct, frozen=True):
    """A message, and what its moves have left on it."""

    envelope: Envelope
    attempts: int = 0
    """Deliveries that count, so far."""
    redelivered: bool = False
    first_failure: float | None = None


def escape(text: str) -> str:
    """Return a text as it can stand anywhere in XML. Injective."""
    if _UNFIT.search(text):
        text = _UNFIT.sub(_percent, text)
    return text.translate(_MARKUP)


def unescape(text: str) -> str:
    """Undo escape(), after the parser has undone the markup."""
    return unquote_to_bytes(text).decode(errors="replace") if "%" in text else text


def encode(stored: Stored) -> str:
    """Return the payload of an item."""
    envelope = stored.envelope
    attributes = [f" id='{escape(envelope.id)}'"]
    texts = ((name, getattr(envelope, name)) for name in _TEXTS)
    attributes += [f" {name.replace('_', '-')}='{escape(text)}'" for name, text in texts if text is not None]
    times = ((name, getattr(envelope, name)) for name in _TIMES)
    attributes += [f" {name.replace('_', '-')}='{moment!r}'" for name, moment in times if moment is not None]
    if stored.attempts:
        attributes.append(f" attempts='{stored.attempts}'")
    if stored.redelivered:
        attributes.append(" redelivered='true'")
    if stored.first_failure is not None:
        attributes.append(f" first-failure='{stored.first_failure!r}'")
    headers = [f"<header name='{escape(name)}'>{escape(value)}</header>" for name, value in envelope.headers.items()]
    body = binascii.b2a_base64(envelope.body, newline=False).decode()
    start = f"<message xmlns='{NAMESPACE}'{''.join(attributes)}>"
    return f"{start}{''.join(headers)}<body>{body}</body></message>"


def decode(payload: Element | None, identity: str) -> Stored:
    """Read the payload of an item; `identity` is the item's own id, for a message that has none."""
    if payload is None:
        return Stored(Envelope(id=identity, body=b""))
    body = _body_of(payload)
    if body is None:
        text = ET.tostring(payload, encoding="utf-8")
        return Stored(Envelope(id=identity, body=text, content_type="application/xml"))
    attribute = payload.attrib
    headers = {unescape(header.get("name", "")): unescape(header.text or "") for header in payload.iterfind(_HEADER)}
    envelope = Envelope(
        id=unescape(attribute["id"]) if attribute.get("id") else identity,
        body=body,
        headers=headers,
        content_type=_text(attribute.get("content-type")),
        correlation_id=_text(attribute.get("correlation-id")),
        reply_to=_text(attribute.get("reply-to")),
        not_before=_time(attribute.get("not-before")),
        expires_at=_time(attribute.get("expires-at")),
        timestamp=_time(attribute.get("timestamp")),
    )
    return Stored(
        envelope,
        attempts=_count(attribute.get("attempts", "")),
        redelivered=attribute.get("redelivered") == "true",
        first_failure=_time(attribute.get("first-failure")),
    )


def _body_of(payload: Element) -> bytes | None:
    """Return the body of a message of ours, None where it is none or is damaged."""
    if payload.tag != _MESSAGE:
        return None
    element = payload.find(_BODY)
    if element is None:
        return b""
    try:
        return binascii.a2b_base64((element.text or "").strip(), strict_mode=True)
    except (binascii.Error, ValueError):
        return None


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())


def _text(text: str | None) -> str | None:
    return None if text is None else unescape(text)


def _time(text: str | None) -> float | None:
    try:
        moment = math.nan if text is None else float(text)
    except ValueError:
        return None
    return moment if math.isfinite(moment) else None


def _count(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0  # noqa: PLR2004 -- of digits
