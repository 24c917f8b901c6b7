"""Requests under faults: a requester dies, a consumer dies, a connection is cut."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from anyqueue import Feature
from anyqueue.testing.acts import is_empty, running
from anyqueue.testing.case import case
from anyqueue.testing.cases.requests import GROUP, LASTS, requester
from anyqueue.testing.children import Script

if TYPE_CHECKING:
    from anyqueue import Client, Message
    from anyqueue.testing.trial import Trial


@case("J5", "a requester that dies leaves nothing for ever, and disturbs nobody", group=GROUP, tier="fault")
async def j5(t: Trial) -> None:
    """J5: a requester that dies leaves nothing for ever, and disturbs nobody.

    It is killed while its request is handled, so that the reply finds nobody.
    """
    queue = t.queue()
    begun, go = asyncio.Event(), asyncio.Event()
    before = await t.foreign.queues()

    async def handle(message: Message) -> object:
        if message.body == b"mine":
            return "yours"
        begun.set()
        await go.wait()
        return "nobody's"

    async with t.connect() as other:
        async with running(other, queue, handle, concurrency=2):
            child = t.child("dies", Script(role="requester", queue=queue), url=t.url(reply_lasts=LASTS))
            await asyncio.wait_for(begun.wait(), 30)
            await child.kill()
            go.set()
            async with requester(t) as client:
                assert await client.request(queue, b"mine") == "yours"
            await t.eventually(is_empty(t, queue))
        await t.eventually(lambda: cleared(t, other, before), timeout=LASTS + 10)
    await t.counts(f"{queue}.dead", total=0)


async def cleared(t: Trial, client: Client, before: set[str]) -> bool:
    """Say whether there is no more reply queue; an embedded broker looks when somebody consumes."""
    async with client.consumer(t.queue()):
        pass
    return not {name for name in await t.foreign.queues() - before if name.startswith("aq.reply")}


@case(
    "J6",
    "a consumer that is killed while it handles a request: another one answers",
    group=GROUP,
    needs=Feature.REDELIVER | Feature.COMPETING,
    tier="fault",
)
async def j6(t: Trial) -> None:
    """J6: a consumer that is killed while it handles a request: another one answers."""
    queue = t.queue()
    async with requester(t) as client, t.connect() as other:
        child = t.child("holds", Script(role="consumer", queue=queue, handler="hold"))
        asked = asyncio.create_task(client.request(queue, b"who?"))
        await t.eventually(lambda: child.count("receive"), what="the child has the request")
        await child.kill()
        async with running(other, queue, lambda _: "me"):
            assert await asked == "me"
        await t.eventually(is_empty(t, queue))


@case("J7", "a requester whose connection is cut has its reply all the same", group=GROUP, tier="fault", network=True)
async def j7(t: Trial) -> None:
    """J7: a requester whose connection is cut has its reply all the same.

    Cut while the handler works, and again while the reply is on its way. Catches a reply that is sent to a connection,
    and a request that is forgotten by who reconnects.
    """
    queue, proxy = t.queue(), t.proxy()
    begun, go = asyncio.Event(), asyncio.Event()

    async def handle(message: Message) -> object:
        begun.set()
        await go.wait()
        return message.payload

    async with t.connect(t.url(through=proxy, reply_lasts=30)) as client, t.connect() as other:
        async with running(other, queue, handle, concurrency=4):
            for number in range(4):
                begun.clear()
                go.clear()
                asked = asyncio.create_task(client.request(queue, number))
                await asyncio.wait_for(begun.wait(), 30)
                proxy.refuse()
                proxy.cut("rst" if number % 2 else "fin")
                if number < 2:
                    go.set()
                await asyncio.sleep(t.random.uniform(0.0, 0.3))  # how long a network is away, no readiness
                proxy.accept()
                go.set()
                assert await asked == number
        await t.eventually(is_empty(t, queue))
