"""Raw slixmpp beside xmpp://, and what is done with it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import pytest

from anyqueue import URL, SendError
from anyqueue.testing.targets.xmpp_raw import Client
from anyqueue.testing.targets.xmpp_witness import held_of, node_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

SERVICE: Final = "pubsub.localhost"


def port_of(url: str) -> int:
    (host,) = URL.parse(url).hosts
    assert host.port is not None
    return host.port


@contextlib.asynccontextmanager
async def raw(url: str, user: str = "anyqueue") -> AsyncIterator[Client]:
    """Raw slixmpp, in clear, under a resource of its own."""
    client = Client(user, user, SERVICE)
    await client.login(port_of(url))
    try:
        yield client
    finally:
        await client.leave()


async def delete(client: Client, *queues: str) -> None:
    for queue in queues:
        for node in (node_of(queue), held_of(queue)):
            await client.delete(node)


@contextlib.contextmanager
def unsent(why: type[Exception], match: str) -> Iterator[None]:
    with pytest.raises(SendError, match=match) as caught:
        yield
    assert isinstance(caught.value.__cause__, why)
    assert not caught.value.unknown
