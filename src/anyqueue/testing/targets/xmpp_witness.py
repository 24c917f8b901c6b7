"""Raw slixmpp on the same service, under a resource of its own: it lists nodes and items, publishes and retracts.

It knows nothing of anyqueue but what docs/backends/xmpp.md says: how nodes and items look.
"""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote
from xml.etree import ElementTree as ET

from slixmpp.exceptions import IqTimeout
from slixmpp.xmlstream.xmlstream import NotConnectedError

from anyqueue.testing.harness import Count, Foreign, Seen
from anyqueue.testing.targets.xmpp_raw import Client

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

SPACE: Final = "{urn:anyqueue:1}"
PATIENCE: Final = 30.0
TRIES: Final = 10
"""Looks at a queue that does not hold still before it is counted as it is, moving messages too."""
BESIDE: Final = ("aq.held.", "aq.topic.", "aq.groups.", "aq.proof.", "aq.requesters.")
_LOST: Final = (IqTimeout, NotConnectedError, ConnectionError, TimeoutError)


class XmppForeign(Foreign):
    """Sessions on a loop of its own, so that they outlive the case's."""

    def __init__(self, port: int, user: str, password: str, service: str) -> None:
        self._port = port
        self._account = (user, password, service)
        self._client: Client | None = None
        self._loop = asyncio.new_event_loop()
        self._turn: asyncio.Lock | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="xmpp-witness", daemon=True)

    def start(self) -> None:
        """Begin, with a session."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._act(lambda client: client.nodes()), self._loop).result(PATIENCE)

    def close(self) -> None:
        """End."""
        asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    async def _leave(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.leave()

    async def act(self, work: Callable[[Client], Awaitable[Any]]) -> Any:  # noqa: ANN401 -- whatever the work returns
        """Do it in a session; again in a new one if that is lost, which work that is done twice must stand."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._act(work), self._loop))

    async def _act(self, work: Callable[[Client], Awaitable[Any]]) -> Any:  # noqa: ANN401 -- as above
        self._turn = self._turn or asyncio.Lock()
        async with self._turn, asyncio.timeout(PATIENCE):
            while True:
                try:
                    return await work(await self._session())
                except _LOST:
                    await self._leave()
                    await asyncio.sleep(0.05)

    async def _session(self) -> Client:
        if self._client is None or not self._client.alive:
            await self._leave()
            client = Client(*self._account)
            try:
                await client.login(self._port)
            except BaseException:
                await client.leave()
                raise
            self._client = client
        return self._client

    async def put(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Publish a message as the document says, and no more of it than must be."""
        await self._publish(queue, message(body, headers))

    async def _publish(self, queue: str, *payloads: ET.Element) -> None:
        async def put(client: Client) -> None:
            await client.create(node_of(queue))
            for payload in payloads:
                await client.publish(node_of(queue), payload)

        await self.act(put)

    async def get(self, queue: str) -> Seen | None:
        """Take the oldest that is due."""

        async def take(client: Client) -> Seen | None:
            due = [identity for identity in await client.ids(node_of(queue)) if is_due(identity)]
            for identity in sorted(due, key=order):
                payload = await client.take(node_of(queue), identity)
                if payload is not None:
                    return seen(payload, identity)
            return None

        found: Seen | None = await self.act(take)
        return found

    async def count(self, queue: str) -> Count:
        """Count both nodes when nothing moves between them; what is in both is a claim under way, and waits."""

        async def count(client: Client) -> Count:
            nodes = (held_of(queue), node_of(queue), held_of(queue), node_of(queue))
            for _ in range(TRIES):
                held, ready, *again = map(set, await asyncio.gather(*map(client.ids, nodes)))
                if [held, ready] == again:
                    break
            waiting = {line(identity) for identity in ready}
            unacked = {line(identity) for identity in held if not identity.startswith("owner:")}
            return Count(waiting=len(ready), unacked=len(unacked - waiting))

        found: Count = await self.act(count)
        return found

    async def queues(self) -> set[str]:
        """List the nodes that are queues."""
        nodes: list[str] = await self.act(lambda client: client.nodes())
        return {unquote(node) for node in nodes if not node.startswith(BESIDE)}

    async def delete(self, queue: str) -> None:
        """Delete both nodes."""

        async def delete(client: Client) -> None:
            await client.delete(node_of(queue))
            await client.delete(held_of(queue))

        await self.act(delete)

    async def junk(self, queue: str) -> int:
        """Publish payloads of every odd kind."""
        texts = (
            "<entry xmlns='http://www.w3.org/2005/Atom'><title>news</title></entry>",
            "<message xmlns='urn:anyqueue:1'/>",
            "<message xmlns='urn:anyqueue:1'><body>no base64 \u2603</body></message>",
            "<message xmlns='urn:anyqueue:1' not-before='nan' timestamp='soon'><body>YQ==</body></message>",
            "<message xmlns='urn:anyqueue:1' attempts='99999999999999999999'><header>%FF</header><body/></message>",
            "<body xmlns='urn:anyqueue:2'><a><b><c>&lt;d/&gt;</c></b></a></body>",
        )
        payloads = [ET.fromstring(text) for text in texts]  # noqa: S314 -- the texts above
        await self._publish(queue, *payloads)
        return len(payloads)

    async def sweep(self, token: str) -> None:
        """Delete every node of a run."""

        async def sweep(client: Client) -> None:
            for node in await client.nodes():
                if token in node or node.startswith(("aq.proof.", "aq.requesters.", "aq.reply.", "aq.held.aq.reply.")):
                    await client.delete(node)

        await self.act(sweep)


def node_of(queue: str) -> str:
    """Return the node of a queue, as documented."""
    return quote(queue, safe="~")


def held_of(queue: str) -> str:
    """Return the node of what is held, as documented."""
    return f"aq.held.{quote(queue, safe='~')}"


def order(identity: str) -> str:
    """Return what an id sorts by."""
    parts = identity.split(":")
    return parts[1] if parts[0] == "aq" and len(parts) > 3 else identity


def is_due(identity: str) -> bool:
    """Say whether an id names no time that is still to come."""
    parts = identity.split(":")
    return parts[0] != "aq" or len(parts) < 5 or float(parts[4]) <= time.time()


def line(identity: str) -> str:
    """Return which message an id is of."""
    parts = identity.split(":")
    return parts[2] if parts[0] == "aq" and len(parts) > 3 else identity


def message(body: bytes, headers: Mapping[str, str]) -> ET.Element:
    """Return the payload of a message, as documented."""
    element = ET.Element(f"{SPACE}message")
    for name, value in headers.items():
        header = ET.SubElement(element, f"{SPACE}header", name=quote(name, safe=" !$&'()*+,;=:@/?-._~"))
        header.text = quote(value, safe=" !$&'()*+,;=:@/?-._~")
    ET.SubElement(element, f"{SPACE}body").text = base64.b64encode(body).decode()
    return element


def seen(payload: ET.Element, identity: str) -> Seen:
    """Read a payload, as documented."""
    headers = {unquote(each.get("name", "")): unquote(each.text or "") for each in payload.iterfind(f"{SPACE}header")}
    body = base64.b64decode(payload.findtext(f"{SPACE}body") or "")
    return Seen(body=body, headers=headers, id=unquote(payload.get("id", identity)))
