"""Faults between a client and its driver: watch each call at the driver, and let it wait, raise or kill there.

A watch is awaited at points named `before send`, `after send`, `before settle`, `after settle`, `before receive` and
`after receive`, with what is sent, settled or received (nothing yet before a receive). What it raises, the driver
raises. `after send` is after the broker's confirm, and before anybody in the client knows of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from anyqueue import Client
    from anyqueue.driver import Address, Delivery, Driver, Envelope, Settlement, Spec, Subscription

Watch = Callable[[str, Sequence[Any]], Awaitable[None]]
POINTS: Final = ("before send", "after send", "before settle", "after settle")


def between(client: Client, watch: Watch) -> Client:
    """Put a watch between a client that is not open yet and every driver it will make; return the client."""
    kind: Any = client._class  # noqa: SLF001 -- there is no other place between the two, and no user needs one

    async def send(self: Driver, address: Address, batch: Sequence[Envelope]) -> None:
        await watch("before send", batch)
        await kind.send(self, address, batch)
        await watch("after send", batch)

    async def subscribe(self: Driver, spec: Spec) -> Subscription:
        subscription: Subscription = await kind.subscribe(self, spec)
        _watch_subscription(subscription, watch)
        return subscription

    client._class = type(kind.__name__, (kind,), {"send": send, "subscribe": subscribe})  # noqa: SLF001 -- as above
    return client


def _watch_subscription(subscription: Any, watch: Watch) -> None:  # noqa: ANN401 -- its methods are replaced
    settled, received = subscription.settle, subscription.receive

    async def settle(batch: Sequence[tuple[Delivery, Settlement]]) -> None:
        await watch("before settle", batch)
        await settled(batch)
        await watch("after settle", batch)

    async def receive(limit: int) -> Sequence[Delivery]:
        await watch("before receive", ())
        deliveries: Sequence[Delivery] = await received(limit)
        await watch("after receive", deliveries)
        return deliveries

    subscription.settle, subscription.receive = settle, receive


def at(point: str, act: Callable[[], object]) -> Watch:
    """Return a watch that acts at one point, such as `after send 2`: at the second send, once it is confirmed."""
    name, _, number = point.rpartition(" ")
    met: Counter[str] = Counter()

    async def watch(here: str, batch: Sequence[object]) -> None:
        del batch
        met[here] += 1
        if here == name and met[here] == int(number):
            act()

    return watch
