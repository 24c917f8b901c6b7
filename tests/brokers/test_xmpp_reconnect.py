"""xmpp:// when the server refuses whom it took before: for a while, as one that starts may, and for good."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from xmpp_accounts import port_of

import anyqueue
from anyqueue import AuthFailed, SendError
from anyqueue.backends.xmpp import welcome
from anyqueue.testing.proxy import Proxy

if TYPE_CHECKING:
    from launching import Launch

pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(900),  # the first of them may have to install packages
    pytest.mark.xdist_group("brokers-launched"),
]


async def test_an_account_that_comes_back_is_waited_for_and_one_that_does_not_is_refused(
    apart: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file is moved away from Prosody: ejabberd, which refuses everybody while it starts, cannot be held there."""
    apart.start("prosody")
    account = Path(apart.describe("prosody")["data"]) / "localhost" / "accounts" / "anyqueue.dat"
    away = account.with_suffix(".away")
    url = apart("url", "prosody").strip()
    proxy = Proxy("127.0.0.1", port_of(url))
    proxy.start()
    try:
        async with anyqueue.connect(url.replace(f":{port_of(url)}", f":{proxy.port}")) as client:
            await client.send("welcome", b"before")
            account.rename(away)
            attempts = proxy.connections
            proxy.cut()
            sending = asyncio.create_task(client.send("welcome", b"after"))
            while proxy.connections < attempts + 2:  # the first was refused, or there were no second
                assert not sending.done()
                await asyncio.sleep(0.01)
            away.rename(account)
            await sending
            monkeypatch.setattr(welcome, "GRACE", 2.0)
            account.rename(away)
            proxy.cut()
            with pytest.raises(SendError) as failed:
                await client.send("welcome", b"for nobody")
            assert isinstance(failed.value.__cause__, AuthFailed)
    finally:
        proxy.close()
