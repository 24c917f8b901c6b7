"""Requests as text, and what an answer or a notification says. Pure.

Node names and ids come from `names` and are escaped here all the same: those of other programs may hold anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import Element  # what is parsed already; msgspec looks it up

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

PUBSUB: Final = "http://jabber.org/protocol/pubsub"
OWNER: Final = f"{PUBSUB}#owner"
EVENT: Final = f"{PUBSUB}#event"
CONFIG: Final = f"{PUBSUB}#node_config"
OPTIONS: Final = f"{PUBSUB}#publish-options"
DATA: Final = "jabber:x:data"
ITEMS: Final = "http://jabber.org/protocol/disco#items"
INFO: Final = "http://jabber.org/protocol/disco#info"
PING: Final = "urn:xmpp:ping"
_ERRORS: Final = "{urn:ietf:params:xml:ns:xmpp-stanzas}"
_PRECISE: Final = f"{{{PUBSUB}#errors}}"
_MARKUP: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&apos;", '"': "&quot;"})

NOT_FOUND: Final = "item-not-found"
CONFLICT: Final = "conflict"
OTHER: Final = frozenset({NOT_FOUND, CONFLICT})
"""What is said of a node that is not the one that was seen: it was deleted, or it is not CLOSED any more."""
UNAVAILABLE: Final = "service-unavailable"
RIGHTS: Final = frozenset({"forbidden", "not-authorized", "not-allowed", "registration-required"})

NO: Final = frozenset({"0", "false"})
"""A setting that is off."""
KEPT: Final[Mapping[str, str]] = {
    "persist_items": "1",
    "access_model": "whitelist",
    "publish_model": "publishers",
    "send_last_published_item": "never",
    "notify_retract": "0",
    "notify_delete": "0",
    "deliver_payloads": "0",
}
"""The settings of a node that keeps messages: nobody reads them but whom its owner lets, and news of them is short."""
PASSED: Final[Mapping[str, str]] = {**KEPT, "persist_items": "0", "deliver_payloads": "1"}
"""Of a node that keeps nothing: what is published goes to whoever is subscribed."""


class Refusal(msgspec.Struct, frozen=True):
    """An error that answered a request."""

    condition: str
    """As RFC 6120 names it."""
    text: str

    def __str__(self) -> str:
        return f"{self.condition} ({self.text})" if self.text else self.condition


class Answer(msgspec.Struct, frozen=True):
    """What came back for a request."""

    content: Element | None
    """The first child of the answer."""
    refusal: Refusal | None = None


def publish(node: str, identity: str, payload: str, options: str = "") -> str:
    """Return the request that puts an item, maybe with CLOSED."""
    item = f"<publish node='{attribute(node)}'><item id='{attribute(identity)}'>{payload}</item></publish>"
    return f"<pubsub xmlns='{PUBSUB}'>{item}{options}</pubsub>"


def retract(node: str, identity: str) -> str:
    """Return the request that takes an item away: of several that ask, one is answered that it did."""
    item = f"<retract node='{attribute(node)}'><item id='{attribute(identity)}'/></retract>"
    return f"<pubsub xmlns='{PUBSUB}'>{item}</pubsub>"


def fetch(node: str, identities: Iterable[str]) -> str:
    """Return the request for items by id."""
    items = "".join(f"<item id='{attribute(identity)}'/>" for identity in identities)
    return f"<pubsub xmlns='{PUBSUB}'><items node='{attribute(node)}'>{items}</items></pubsub>"


def list_ids(node: str) -> str:
    """Return the request for the ids of a node's items."""
    return f"<query xmlns='{ITEMS}' node='{attribute(node)}'/>"


def list_nodes() -> str:
    """Return the request for the service's nodes."""
    return f"<query xmlns='{ITEMS}'/>"


def _form(kind: str, settings: Mapping[str, str]) -> str:
    fields = [f"<field var='FORM_TYPE' type='hidden'><value>{kind}</value></field>"]
    fields += [f"<field var='pubsub#{name}'><value>{value}</value></field>" for name, value in settings.items()]
    return f"<x xmlns='{DATA}' type='submit'>{''.join(fields)}</x>"


CLOSED: Final = f"<publish-options>{_form(OPTIONS, {'access_model': 'whitelist'})}</publish-options>"
"""Publish only where nobody reads but whom the owner lets; a service that makes the node makes it so."""


def create(node: str, settings: Mapping[str, str]) -> str:
    """Return the request that makes a node, unless there is one."""
    form = f"<configure>{_form(CONFIG, settings)}</configure>"
    return f"<pubsub xmlns='{PUBSUB}'><create node='{attribute(node)}'/>{form}</pubsub>"


def settings(node: str) -> str:
    """Return the request for a node's settings, which an owner is told."""
    return f"<pubsub xmlns='{OWNER}'><configure node='{attribute(node)}'/></pubsub>"


def delete(node: str) -> str:
    """Return the request that deletes a node."""
    return f"<pubsub xmlns='{OWNER}'><delete node='{attribute(node)}'/></pubsub>"


def subscribe(node: str, account: str) -> str:
    """Return the request to be told of what is published."""
    return f"<pubsub xmlns='{PUBSUB}'><subscribe node='{attribute(node)}' jid='{attribute(account)}'/></pubsub>"


def info() -> str:
    """Return the request that asks what somebody is."""
    return f"<query xmlns='{INFO}'/>"


def read_info(content: Element | None) -> frozenset[str]:
    """Read what info() brought: identities and features, a line each."""
    said: set[str] = set()
    for child in content if content is not None else ():
        words = [child.get(name, "") for name in ("category", "type", "name", "var")]
        said.add(" ".join([child.tag.rpartition("}")[2], *words]))
    return frozenset(said)


def ping() -> str:
    """Return the request that asks whether somebody is there."""
    return f"<ping xmlns='{PING}'/>"


def read_answer(stanza: Element) -> Answer:
    """Read an <iq/> of type result or error."""
    content = stanza[0] if len(stanza) else None
    if stanza.get("type") != "error":
        return Answer(content)
    error = stanza.find("{jabber:client}error")
    condition, texts = "undefined-condition", []
    for child in error if error is not None else ():
        if child.tag == f"{_ERRORS}text" and child.text:
            texts.append(child.text)
        elif child.tag.startswith(_ERRORS):
            condition = child.tag.removeprefix(_ERRORS)
        elif child.tag.startswith(_PRECISE):
            texts.append(" ".join([child.tag.removeprefix(_PRECISE), *child.attrib.values()]))
    return Answer(content, Refusal(condition, "; ".join(texts)[:200]))


def read_ids(content: Element | None) -> list[str]:
    """Read the ids that list_ids() asked for, as the server orders them."""
    return _attributes(content, "name")


def read_nodes(content: Element | None) -> list[str]:
    """Read the nodes that list_nodes() asked for."""
    return _attributes(content, "node")


def read_items(content: Element | None) -> Iterator[tuple[str, Element | None]]:
    """Read the items that fetch() asked for: id and payload."""
    for item in content.iter(f"{{{PUBSUB}}}item") if content is not None else ():
        yield item.get("id", ""), item[0] if len(item) else None


def read_settings(content: Element | None) -> dict[str, str]:
    """Read the settings of a node, by their short names."""
    found: dict[str, str] = {}
    for field in content.iter(f"{{{DATA}}}field") if content is not None else ():
        value = field.find(f"{{{DATA}}}value")
        found[field.get("var", "").removeprefix("pubsub#")] = (value.text or "") if value is not None else ""
    return found


def read_news(stanza: Element) -> Sequence[tuple[str, str, Element | None]]:
    """Read a notification: node, item's id and payload of each item published; empty for anything else."""
    event = stanza.find(f"{{{EVENT}}}event")
    news: list[tuple[str, str, Element | None]] = []
    for items in event.iterfind(f"{{{EVENT}}}items") if event is not None else ():
        node = items.get("node", "")
        found = items.iterfind(f"{{{EVENT}}}item")
        news += [(node, item.get("id", ""), item[0] if len(item) else None) for item in found]
    return news


def _attributes(content: Element | None, name: str) -> list[str]:
    items = content.iterfind(f"{{{ITEMS}}}item") if content is not None else ()
    return [text for item in items if (text := item.get(name)) is not None]


def attribute(text: str) -> str:
    """Return a text as an attribute's value."""
    return text.translate(_MARKUP)
