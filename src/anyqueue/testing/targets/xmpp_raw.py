"""A session of raw slixmpp: nothing of anyqueue is in it."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import TYPE_CHECKING, Final

import slixmpp
from slixmpp.exceptions import IqError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from xml.etree import ElementTree as ET

PUBSUB: Final = "{http://jabber.org/protocol/pubsub}"
SETTINGS: Final = {
    "persist_items": "1",
    "max_items": "10000",
    "access_model": "whitelist",
    "send_last_published_item": "never",
    "deliver_payloads": "0",
    "notify_retract": "0",
}


class Client(slixmpp.ClientXMPP):  # type: ignore[misc]  # slixmpp has no types
    """A session."""

    def __init__(self, user: str, password: str, service: str) -> None:
        super().__init__(f"{user}@localhost/witness-{uuid.uuid4().hex}", password)
        self.enable_plaintext, self.enable_starttls, self.enable_direct_tls = True, False, False
        self.plugin["feature_mechanisms"].unencrypted_scram = True
        for plugin in ("xep_0004", "xep_0030", "xep_0060"):
            self.register_plugin(plugin)
        self.service = service
        self.alive = False

    async def login(self, port: int) -> None:
        """Open the session."""
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def failed(_: object) -> None:
            if not begun.done():
                begun.set_exception(ConnectionError())

        self.add_event_handler("session_start", lambda _: begun.set_result(None))
        self.add_event_handler("connection_failed", failed)
        self.add_event_handler("disconnected", lambda _: setattr(self, "alive", False))
        self.connect("127.0.0.1", port)
        async with asyncio.timeout(2):
            await begun
        self.alive = True

    async def leave(self) -> None:
        """End it."""
        self.alive = False
        self.cancel_connection_attempt()
        self.abort()
        if self._run_out_filters is not None:
            self._run_out_filters.cancel()
            await asyncio.wait([self._run_out_filters])

    async def ids(self, node: str) -> list[str]:
        """List a node's items; none where there is no such node."""
        try:
            found = await self.plugin["xep_0030"].get_items(self.service, node, timeout=5)
        except IqError:
            return []
        return [name for _, _, name in found["disco_items"]["items"]]

    async def nodes(self) -> list[str]:
        """List the nodes."""
        found = await self.plugin["xep_0030"].get_items(self.service, timeout=5)
        return [node for _, node, _ in found["disco_items"]["items"] if node]

    async def create(self, node: str, settings: Mapping[str, str] = SETTINGS) -> None:
        """Make a node, unless there is one."""
        form = self.plugin["xep_0004"].make_form("submit")
        form.add_field("FORM_TYPE", "hidden", value="http://jabber.org/protocol/pubsub#node_config")
        for name, value in settings.items():
            form.add_field(f"pubsub#{name}", value=value)
        with contextlib.suppress(IqError):
            await self.plugin["xep_0060"].create_node(self.service, node, config=form, timeout=5)

    async def own(self, node: str, account: str) -> None:
        """Let another account own a node too."""
        await self.plugin["xep_0060"].modify_affiliations(
            self.service, node, [(slixmpp.JID(account), "owner")], timeout=5
        )

    async def publish(self, node: str, payload: ET.Element) -> None:
        """Put an item under a name of its own."""
        name = f"note {uuid.uuid4().hex}"
        await self.plugin["xep_0060"].publish(self.service, node, name, payload=payload, timeout=5)

    async def take(self, node: str, identity: str) -> ET.Element | None:
        """Read an item and retract it; None where somebody was quicker."""
        found = await self.plugin["xep_0060"].get_items(self.service, node, item_ids=[identity], timeout=5)
        item = found.xml.find(f".//{PUBSUB}item")
        if item is None:
            return None
        try:
            await self.plugin["xep_0060"].retract(self.service, node, identity, timeout=5)
        except IqError:
            return None
        element: ET.Element = item[0]
        return element

    async def delete(self, node: str) -> None:
        """Delete a node."""
        with contextlib.suppress(IqError):
            await self.plugin["xep_0060"].delete_node(self.service, node, timeout=5)
