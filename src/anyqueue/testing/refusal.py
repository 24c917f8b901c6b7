"""The refusal twins: what is not there is refused, before a byte of the message leaves. Derived from `needs`.

For each feature that a case needs and the target refuses: `require=` it and the open fails; ask for it and the call
fails; both with Unsupported that names the feature and the backend. And the witness has seen nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from anyqueue import Feature, Topic, Unsupported

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anyqueue import Client
    from anyqueue.testing.trial import Trial

Ask = Callable[["Client", str], Awaitable[object]]


async def refuse(t: Trial, needs: Feature) -> None:
    """Prove that the target refuses every feature of `needs` that it does not have."""
    refused = [feature for feature in needs if not t.has(feature)]
    assert refused, "a refusal twin without a refused feature proves nothing"
    for feature in refused:
        await required(t, feature)
        await asked(t, feature)


async def required(t: Trial, feature: Feature) -> None:
    """Prove that `require=` fails at open (or before), naming the feature, for one that is not native."""
    try:
        async with t.connect(require=feature):
            pass
    except Unsupported as error:
        check_refusal(error, feature)
    else:
        raise AssertionError(f"require={feature.name} was accepted by a target that has none")


async def asked(t: Trial, feature: Feature) -> None:
    """Prove that each way to ask for the feature is refused, and that the broker never hears of it."""
    queue = t.queue()
    before = await t.foreign.queues()
    async with t.connect() as client:
        for ask in ASK.get(feature, ()):
            try:
                await ask(client, queue)
            except Unsupported as error:
                check_refusal(error, feature)
            else:
                raise AssertionError(f"{ask.__name__} was accepted without {feature.name}")
    new = {name for name in await t.foreign.queues() - before if queue in name}
    may_be_declared = {queue} if feature is Feature.COMPETING else set()
    assert new <= may_be_declared, f"a refused {feature.name} left {new}"
    assert not await t.total(queue), f"a refused {feature.name} left a message"


def check_refusal(error: Unsupported, feature: Feature) -> None:
    """Prove that the error says what is missing, where, and something to do."""
    assert error.feature == feature, f"{error!r} names {error.feature}, not {feature}"
    assert error.backend
    assert str(feature.name) in str(error)
    assert error.hint, f"{error} does not say what to do instead"


async def send_delayed(client: Client, queue: str) -> None:
    """Ask for DELAY."""
    await client.send(queue, b"never sent", delay=5)


async def produce_delayed(client: Client, queue: str) -> None:
    """Ask for DELAY of a whole batch."""
    async with client.producer(queue) as producer:
        await producer.send_many([b"never sent", b"nor this"], delay=0.001)


async def send_urgent(client: Client, queue: str) -> None:
    """Ask for PRIORITY."""
    await client.send(queue, b"never sent", priority=9)


async def send_to_topic(client: Client, queue: str) -> None:
    """Ask for FANOUT by sending."""
    await client.send(Topic(queue), b"never sent")


async def consume_topic(client: Client, queue: str) -> None:
    """Ask for FANOUT by subscribing."""
    async with client.consumer(Topic(queue), group="g"):
        pass


async def consume_topic_unnamed(client: Client, queue: str) -> None:
    """Ask for FANOUT by subscribing without a group."""
    async with client.consumer(Topic(queue)):
        pass


async def consume_twice(client: Client, queue: str) -> None:
    """Ask for COMPETING."""
    async with client.consumer(queue), client.consumer(queue):
        pass


async def list_queues(client: Client, queue: str) -> None:
    """Ask for COUNT by listing."""
    del queue
    await client.queues()


async def count(client: Client, queue: str) -> None:
    """Ask for COUNT by counting."""
    await client.depth(queue)


async def browse(client: Client, queue: str) -> None:
    """Ask for INSPECT by browsing."""
    await client.browse(queue)


async def purge(client: Client, queue: str) -> None:
    """Ask for INSPECT by purging."""
    await client.purge(queue)


ASK: Final[Mapping[Feature, tuple[Ask, ...]]] = MappingProxyType(
    {
        Feature.DELAY: (send_delayed, produce_delayed),
        Feature.PRIORITY: (send_urgent,),
        Feature.FANOUT: (send_to_topic, consume_topic, consume_topic_unnamed),
        Feature.COMPETING: (consume_twice,),
        Feature.INSPECT: (browse, purge),
        Feature.COUNT: (list_queues, count),
    }
)
"""Feature -> every way to ask for it through the public API. The others are asked for by `require=` alone."""
