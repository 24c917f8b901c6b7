"""Hooks: who is told what."""

from __future__ import annotations

import anyqueue
from anyqueue import hooks
from anyqueue.hooks import Hooks


class OfConnections:
    """A hook that wants no events of messages."""

    connections_only = True

    def __init__(self) -> None:
        self.seen: list[hooks.Event] = []

    def __call__(self, event: hooks.Event) -> None:
        """Keep it."""
        self.seen.append(event)


def test_hooks_are_falsy_when_none_wants_messages() -> None:
    assert not Hooks()
    assert not Hooks([OfConnections()])
    assert Hooks([print])
    assert Hooks([OfConnections(), print])


async def test_a_hook_of_connections_hears_of_no_message_also_beside_one_that_does() -> None:
    quiet, told = OfConnections(), list[hooks.Event]()
    async with anyqueue.connect("memory://hooks", hooks=[quiet, told.append]) as client:
        await client.send("q", "x")
        async with client.consumer("q") as messages:
            await (await messages.receive())[0].ack()
    assert [type(event) for event in quiet.seen] == [hooks.Connected, hooks.Connected, hooks.Subscribed]
    assert [type(event) for event in told] == [
        hooks.Connected,
        hooks.Sent,
        hooks.Connected,
        hooks.Subscribed,
        hooks.Received,
        hooks.Settled,
    ]
