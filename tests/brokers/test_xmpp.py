"""xmpp:// on Prosody and ejabberd beside what others do: other programs and accounts, forgers, thieves."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import secrets
import time
from typing import TYPE_CHECKING, Final

import pytest
import slixmpp
from blocks import filled, run
from launching import altered
from slixmpp.exceptions import IqError
from xmpp_accounts import SERVICE, delete, port_of, raw, unsent

import anyqueue
from anyqueue import (
    URL,
    AuthFailed,
    ConnectFailed,
    Feature,
    QueueError,
    QueueNotFound,
    SendError,
    Topic,
    Unsupported,
)
from anyqueue.backends.xmpp.driver import XmppDriver
from anyqueue.driver import Accept, Envelope, Queue, Spec, reply_queue
from anyqueue.testing.proxy import Proxy
from anyqueue.testing.targets.xmpp_witness import held_of, message, node_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from launching import Launch

    from anyqueue.testing.targets.xmpp_raw import Client

pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(900),  # the first of them may have to install packages
    pytest.mark.xdist_group("brokers-launched"),
]
STARTTLS: Final = re.compile(rb"<starttls.*?(/>|</starttls>)", re.DOTALL)


def with_user(url: str, user: str, password: str) -> str:
    return url.replace("anyqueue:anyqueue@", f"{user}:{password}@")


async def grant(owner: Client, node: str, account: str, affiliation: str) -> None:
    granted = [(slixmpp.JID(account), affiliation)]
    await owner.plugin["xep_0060"].modify_affiliations(SERVICE, node, granted, timeout=5)


@contextlib.asynccontextmanager
async def opened(url: URL) -> AsyncIterator[XmppDriver]:
    driver = XmppDriver.from_url(url)
    await driver.open()
    try:
        yield driver
    finally:
        await driver.close()


# Other programs, other accounts


@pytest.mark.block("docs/backends/xmpp.md", "go-sendxmpp")
async def test_go_sendxmpp_sends_to_a_queue(xmpp: str, block: str, tmp_path: Path) -> None:
    """A client in Go, written by others: it publishes what the page on this backend shows."""
    here = {
        "mailer@example.org": "anyqueue@localhost",
        "pubsub.example.org": SERVICE,
        "--raw": f"--raw -n -j 127.0.0.1:{port_of(xmpp)}",
    }
    async with raw(xmpp) as witness, anyqueue.connect(xmpp) as client:
        await delete(witness, "emails")
        async with client.consumer("emails") as messages:
            await asyncio.to_thread(run, filled(block, here), tmp_path, PASSWORD="anyqueue")  # noqa: S106 -- of a test
            (got,) = await messages.receive(1, timeout=20)
            assert (got.body, got.headers, got.id) == (b"hello", {}, "from-go-1")
            await got.ack()


async def test_another_account_that_may_publish_sends_and_reads_nothing(xmpp: str) -> None:
    async with raw(xmpp) as witness, raw(xmpp, "limited") as other, anyqueue.connect(xmpp) as client:
        await delete(witness, "shared")
        await client.send("shared", b"ours")
        with pytest.raises(IqError):
            await other.publish(node_of("shared"), message(b"theirs", {}))
        await grant(witness, node_of("shared"), "limited@localhost", "publisher")
        await other.publish(node_of("shared"), message(b"theirs", {}))
        with pytest.raises(IqError):
            await other.plugin["xep_0060"].retract(SERVICE, held_of("shared"), "anything", timeout=5)
        async with client.consumer("shared") as messages:
            taken = await messages.receive(2, timeout=20)
            assert [each.body for each in taken] == [b"ours", b"theirs"]
            for each in taken:
                await each.ack()


async def test_an_account_without_rights_is_told_which_it_lacks(xmpp: str) -> None:
    limited = with_user(xmpp, "limited", "limited")
    async with anyqueue.connect(xmpp) as client, raw(xmpp) as witness:
        await delete(witness, "owned")
        await client.send("owned", b"secret")
        async with anyqueue.connect(limited) as other:
            with unsent(QueueError, "(?s)queue 'owned'.*must own its node"):
                await other.send("owned", b"x")
            with pytest.raises(QueueError, match="must own its node"):
                async with other.consumer("owned", dead_letter=None):
                    pass
        async with client.consumer("owned") as messages:
            (got,) = await messages.receive(1, timeout=20)
            assert got.body == b"secret"
            await got.ack()


# Forgers


async def test_notifications_that_others_forged_are_ignored(xmpp: str) -> None:
    """Any account can send an event; those of the service alone are believed."""
    event = "http://jabber.org/protocol/pubsub#event"
    async with raw(xmpp, "limited") as forger, anyqueue.connect(xmpp) as client:
        topic, queue = Topic("forged"), client.consumer("forged", dead_letter=None)
        async with client.consumer(topic, dead_letter=None) as passing, queue as messages:
            driver = await client._consuming.driver()  # nowhere else is the address of its session
            assert isinstance(driver, XmppDriver)
            for node in ("aq.topic.forged", node_of("forged")):
                item = "<item id='x'><message xmlns='urn:anyqueue:1'><body>ZmFrZQ==</body></message></item>"
                items = f"<event xmlns='{event}'><items node='{node}'>{item}</items></event>"
                forger.send_raw(f"<message to='{driver._session.address}' type='headline'>{items}</message>")
            await client.send(topic, b"true")
            await client.send("forged", b"true")
            for each in (passing, messages):
                (got,) = await each.receive(1, timeout=20)
                assert got.body == b"true"
                await got.ack()
                assert await each.receive(1, timeout=0.2) == []


# Thieves


async def test_a_reply_queue_lasts_as_long_as_its_requester_and_no_sender_makes_it_anew(xmpp: str) -> None:
    """It is swept by whoever consumes next: its nodes and the record of it, and not while it is consumed from."""
    queue = Queue(reply_queue(secrets.token_hex(8), 1))
    records = "aq.requesters.anyqueue%40localhost"
    url = URL.parse(f"{xmpp}&lease=1")
    async with opened(url) as requester, opened(url) as other, raw(xmpp) as witness:

        async def there() -> set[str]:
            await (await other.subscribe(Spec(address=Queue("beside"), prefetch=1))).close()
            written = {identity.rpartition(":")[0] for identity in await witness.ids(records)}
            return written | set(await witness.nodes())

        subscription = await requester.subscribe(Spec(address=queue, prefetch=10))
        until = time.monotonic() + 4
        while time.monotonic() < until:
            await other.send(queue, [Envelope(id="reply", body=b"")])
            ((delivery,), _) = await asyncio.gather(subscription.receive(1), there())
            await subscription.settle([(delivery, Accept())])
            assert queue.name in await there()
        await subscription.close()
        async with asyncio.timeout(20):
            while {queue.name, held_of(queue.name)} & await there():  # noqa: ASYNC110 -- nobody tells that it has ended
                await asyncio.sleep(0.1)
        with pytest.raises(QueueNotFound):
            await other.send(queue, [Envelope(id="too late", body=b"")])
        assert not {queue.name, held_of(queue.name)} & await there()


async def test_a_send_that_misses_its_deadline_leaves_no_failure_that_nobody_takes(
    xmpp: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw(xmpp) as witness:
        async with anyqueue.connect(f"{xmpp}&send_timeout=0.3") as client, client.producer("late") as producer:
            with pytest.raises(SendError):
                await producer.send_many([b"x" * 1000] * 5000)
        gc.collect()
        assert not [record for record in caplog.records if record.name == "asyncio"]
        await delete(witness, "late")


async def test_a_wrong_password_is_tried_once(xmpp: str) -> None:
    proxy = Proxy("127.0.0.1", port_of(xmpp))
    proxy.start()
    try:
        url = with_user(xmpp, "anyqueue", "wrong").replace(f":{port_of(xmpp)}", f":{proxy.port}")
        with pytest.raises(AuthFailed, match="refused the credentials"):
            async with anyqueue.connect(url):
                pass
        assert proxy.connections == 1
    finally:
        proxy.close()


async def test_where_starttls_is_stripped_nobody_says_who_he_is(xmpp: str) -> None:
    """A thief on the way takes the offer of TLS out; the server offers to log in without it."""
    heard = bytearray()

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", port_of(xmpp))

        async def up() -> None:
            while data := await reader.read(65536):
                heard.extend(data)
                outer.write(data)

        async def down() -> None:
            while data := await inner.read(65536):
                writer.write(STARTTLS.sub(b"", data))

        try:
            await asyncio.wait([asyncio.create_task(each) for each in (up(), down())], return_when="FIRST_COMPLETED")
        finally:
            outer.close()
            writer.close()

    thief = await asyncio.start_server(between, "127.0.0.1", 0)
    port = thief.sockets[0].getsockname()[1]
    async with thief:
        url = xmpp.replace(f":{port_of(xmpp)}", f":{port}").replace("&insecure=true", "")
        with pytest.raises(ConnectFailed, match="TLS"):
            async with anyqueue.connect(url):
                pass
    assert heard
    assert b"<auth" not in heard
    assert b"anyqueue" not in heard.replace(b"anyqueue@localhost", b"")


# A server that lets two retract one item


async def test_ejabberd_on_mnesia_has_one_consumer_a_queue(
    apart: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    copy = altered(tmp_path, "ejabberd/ejabberd.yml", lambda text: text.replace("db_type: sql", "db_type: mnesia"))
    monkeypatch.setattr("launching.LAUNCH", copy / "launch.py")
    apart.start("ejabberd")
    url = apart("url", "ejabberd").strip()
    async with anyqueue.connect(url) as client:
        assert not client.features & Feature.COMPETING
        assert "ejabberd needs mod_pubsub with db_type: sql" in caplog.text
        await client.send("alone", b"x")
        async with client.consumer("alone", dead_letter=None) as messages:
            async with anyqueue.connect(url) as second:
                with pytest.raises(Unsupported, match="COMPETING"):
                    async with second.consumer("alone", dead_letter=None):
                        pass
            (got,) = await messages.receive(1, timeout=20)
            await got.ack()
