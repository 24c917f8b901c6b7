"""Trial: what a case is given. One case, one target, one run."""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload
from urllib.parse import quote

import anyqueue
from anyqueue.testing.properties import for_all
from anyqueue.testing.proxy import Proxy
from anyqueue.testing.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from hypothesis.strategies import SearchStrategy

    from anyqueue import Client, Feature, Message
    from anyqueue.capability import Support
    from anyqueue.testing.children import Child, Script
    from anyqueue.testing.harness import Broker, Count, Expected, Foreign, Harness, NameKind

T = TypeVar("T")
PATIENCE: Final = 30.0
"""Seconds until a fact that should come about has failed to."""
PAUSE: Final = 0.005
BATCH: Final = 100
"""Messages that a drain takes at once."""
EXAMPLES: Final = 25


class Trial:
    """One run of one case on one target."""

    def __init__(self, harness: Harness, *, seed: int, support: dict[Feature, Support]) -> None:
        self.harness = harness
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311 -- faults to try, no secret
        self.history = Recorder(ack_window=harness.ack_window)
        self._support = support
        self._names: list[str] = []
        self._children: list[Child] = []
        self._disturbed: Broker | None = None
        self._proxies: list[Proxy] = []

    @property
    def expected(self) -> Expected:
        """What the harness says of the target."""
        return self.harness.expected

    @property
    def foreign(self) -> Foreign:
        """The raw client: the witness."""
        return self.harness.foreign

    @property
    def broker(self) -> Broker:
        """The control of the broker's process; it runs again after the case, however that ends."""
        assert self.harness.broker is not None, f"{self.harness.name} has no broker that can be controlled"
        self._disturbed = self.harness.broker
        return self.harness.broker

    def has(self, feature: Feature) -> bool:
        """Say whether the target has every feature in it, natively or emulated."""
        return all(self._support[one].kind != "refused" for one in feature)

    def url(self, **options: Any) -> str:  # noqa: ANN401 -- whatever Harness.url() takes
        """Return a URL of the target."""
        return self.harness.url(**options)

    def connect(self, url: str | None = None, **arguments: Any) -> Client:  # noqa: ANN401 -- whatever connect() takes
        """Return an unopened client of the target (or of `url`), to be used in `async with`."""
        return anyqueue.connect(self.url() if url is None else url, **arguments)

    def proxy(self, *, tls: bool = False) -> Proxy:
        """Start a proxy in front of the broker; it is closed after the case."""
        proxy = Proxy(*self.harness.endpoint(tls=tls))
        proxy.start()
        self._proxies.append(proxy)
        return proxy

    def queue(self, kind: NameKind = "plain") -> str:
        """Return a name of a queue or topic that was never used; what it holds is deleted after the case."""
        name = self.harness.fresh(kind)
        self._names.append(name)
        return name

    def child(self, name: str, script: Script, *, url: str | None = None) -> Child:
        """Start a producer or consumer that can be killed; it is ended after the case."""
        child = self.harness.child(name, script, url=url)
        self._children.append(child)
        return child

    @overload
    async def eventually(self, fact: Callable[[], Awaitable[T]], timeout: float = PATIENCE, what: str = "") -> T: ...  # noqa: ASYNC109 -- as below

    @overload
    async def eventually(self, fact: Callable[[], T], timeout: float = PATIENCE, what: str = "") -> T: ...  # noqa: ASYNC109 -- as below

    async def eventually(
        self,
        fact: Callable[[], T | Awaitable[T]],
        timeout: float = PATIENCE,  # noqa: ASYNC109 -- a deadline of the case's own
        what: str = "",
    ) -> T:
        """Ask again and again until `fact()` is true, and return what it returned; fail at the deadline."""
        deadline = time.monotonic() + timeout
        while True:
            found = fact()
            value: T = await found if inspect.isawaitable(found) else found
            if value:
                return value
            if time.monotonic() > deadline:
                source = what or inspect.getsource(fact).strip()
                raise AssertionError(f"not within {timeout:g} s: {source} (last: {value!r}; seed {self.seed})")
            await asyncio.sleep(PAUSE)

    async def counts(self, queue: str, **expected: int) -> None:
        """Prove what the broker counts in a queue: `total`, `waiting` or `unacked`.

        At once, but for a harness whose broker's own count follows in its `count_lag`.
        """
        deadline = time.monotonic() + self.harness.count_lag
        while (found := self._of(await self.foreign.count(queue), expected)) != expected:
            if time.monotonic() >= deadline:
                raise AssertionError(f"{queue!r} holds {found}, not {expected} (seed {self.seed})")
            await asyncio.sleep(PAUSE)

    @staticmethod
    def _of(count: Count, names: Iterable[str]) -> dict[str, int]:
        return {name: getattr(count, name) for name in names}

    async def total(self, queue: str) -> int:
        """Count a queue's messages, held ones too, by the broker's own count."""
        return (await self.foreign.count(queue)).total

    async def drain(
        self,
        client: Client,
        queue: str,
        *,
        who: str = "drain",
        timeout: float = PATIENCE,  # noqa: ASYNC109 -- as above
    ) -> list[Message]:
        """Receive and accept, recording it, until the broker counts nothing in the queue; return what came.

        It never stops at the number that is awaited, so extras are seen. While batches come full, there is no need to
        count what is left.
        """
        deadline = time.monotonic() + timeout
        drained: list[Message] = []
        batch: list[Message] = []
        async with client.consumer(queue, prefetch=BATCH, dead_letter=None) as messages:
            while (len(batch) == BATCH or await self.total(queue)) and time.monotonic() < deadline:
                batch = [self.history.took(message, who) for message in await messages.receive(BATCH, timeout=0.05)]
                drained += batch
                await asyncio.gather(*map(self.history.ack, batch))
        await self.counts(queue, total=0)
        self.history.ended(who)
        return drained

    async def for_all(
        self, strategy: SearchStrategy[T], check: Callable[[T], Awaitable[None]], examples: int = EXAMPLES
    ) -> None:
        """Run a property over drawn examples on this loop, so that they share a connection."""
        examples = max(2, round(examples * self.harness.examples))
        await for_all(strategy, check, examples=examples, seed=self.seed)

    async def delete(self, queue: str) -> None:
        """Have another program delete a queue; return when those who use it have had the time to notice."""
        await self.foreign.delete(queue)
        await asyncio.sleep(self.harness.deletion_window or 0.0)

    async def clean(self) -> None:
        """End the children, close the proxies, let the broker run, delete the queues."""
        for child in self._children:
            await child.end()
        for proxy in self._proxies:
            proxy.close()
        if self._disturbed is not None:
            self._disturbed.resume()
            self._disturbed.start()
        names = [*self._names, *(quote(name, safe="") for name in self._names)]
        for queue in await self.foreign.queues() if names else ():
            if any(name in queue for name in names):
                await self.foreign.delete(queue)
