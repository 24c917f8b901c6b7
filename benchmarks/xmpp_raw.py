"""Raw slixmpp, as its documentation shows it: publish with its plugin for XEP-0060, IN_FLIGHT on the way."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import time
import uuid
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

import slixmpp

from anyqueue import URL
from measure import BODY
from xmpp_server import url_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from measure import Side, Stage

IN_FLIGHT: Final = 100
LISTENERS: Final = 10
SERVICE: Final = "pubsub.localhost"
SETTINGS: Final = {
    "max_items": "10000",
    "access_model": "whitelist",
    "send_last_published_item": "never",
    "notify_retract": "0",
}


def side(name: str, work: Callable[[str, int], Coroutine[Any, Any, float]]) -> Side:
    """Make a side of an async function of a server's URL and a size that returns the seconds it took."""

    def run(stage: Stage) -> float:
        return stage.size / asyncio.run(work(url_of(stage, name), stage.size))

    return run


@contextlib.asynccontextmanager
async def session(url: str) -> AsyncIterator[Any]:
    """Log in, in clear."""
    (host,) = URL.parse(url).hosts
    client = slixmpp.ClientXMPP(f"anyqueue@localhost/{uuid.uuid4().hex}", "anyqueue")
    client.enable_plaintext, client.enable_starttls, client.enable_direct_tls = True, False, False
    client.plugin["feature_mechanisms"].unencrypted_scram = True
    for plugin in ("xep_0004", "xep_0030", "xep_0060"):
        client.register_plugin(plugin)
    begun = asyncio.Event()
    client.add_event_handler("session_start", lambda _: begun.set())
    client.connect(host.name, host.port)
    await begun.wait()
    try:
        yield client
    finally:
        await client.disconnect()


async def create(client: Any, settings: dict[str, str]) -> str:  # noqa: ANN401 -- slixmpp has no types
    """Make a node."""
    node = f"raw-{uuid.uuid4().hex}"
    form = client.plugin["xep_0004"].make_form("submit")
    form.add_field("FORM_TYPE", "hidden", value="http://jabber.org/protocol/pubsub#node_config")
    for name, value in {**SETTINGS, **settings}.items():
        form.add_field(f"pubsub#{name}", value=value)
    await client.plugin["xep_0060"].create_node(SERVICE, node, config=form)
    return node


async def publish(client: Any, node: str, size: int) -> None:  # noqa: ANN401 -- as above
    """Publish, and wait for the answers."""
    numbers = iter(range(size))

    async def publisher() -> None:
        for number in numbers:
            payload = ET.Element("{urn:raw}body")
            payload.text = base64.b64encode(BODY).decode()
            await client.plugin["xep_0060"].publish(SERVICE, node, f"item-{number}", payload=payload)

    await asyncio.gather(*(publisher() for _ in range(IN_FLIGHT)))


async def send(url: str, size: int) -> float:
    """Publish to a node that keeps its items."""
    async with session(url) as client:
        node = await create(client, {"persist_items": "1", "deliver_payloads": "0"})
        start = time.perf_counter()
        await publish(client, node, size)
        took = time.perf_counter() - start
        await client.plugin["xep_0060"].delete_node(SERVICE, node)
        return took


async def fan_out(url: str, size: int) -> float:
    """Publish to a node that keeps nothing, until each of LISTENERS sessions has had every notification."""
    async with contextlib.AsyncExitStack() as stack:
        client, *listeners = [await stack.enter_async_context(session(url)) for _ in range(LISTENERS + 1)]
        node = await create(client, {"persist_items": "0", "deliver_payloads": "1"})
        done, heard = asyncio.Event(), itertools.count(1)

        def hear(event: Any) -> None:  # noqa: ANN401 -- as above
            if event["pubsub_event"]["items"]["item"]["payload"] is None:
                raise ValueError("a notification without its payload")
            if next(heard) == size * LISTENERS:
                done.set()

        await client.plugin["xep_0060"].subscribe(SERVICE, node, bare=True)
        for listener in listeners:
            listener.add_event_handler("pubsub_publish", hear)
            listener.send_presence()
            await listener.plugin["xep_0030"].get_info(SERVICE)  # there is no answer to a presence; this comes after it
        start = time.perf_counter()
        await publish(client, node, size)
        await done.wait()
        took = time.perf_counter() - start
        await client.plugin["xep_0060"].delete_node(SERVICE, node)
        return took
