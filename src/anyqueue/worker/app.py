"""Worker: what the user writes. It registers; `running` runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from anyqueue import DEFAULT, URL, Closed, ConfigError, Default, Feature, Queue, Retry, Topic
from anyqueue.inbox import Inbox, open_inbox
from anyqueue.worker import handlers
from anyqueue.worker.handlers import Batching, Handler, address_of, check_function, is_async
from anyqueue.worker.health import State, starting
from anyqueue.worker.meter import Ended, Limits
from anyqueue.worker.running import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from pathlib import Path

    from anyqueue import Client, hooks, sync
    from anyqueue.schedule import Entry
    from anyqueue.schedule.entry import Missed
    from anyqueue.worker.calls import Middleware

    FunctionT = TypeVar("FunctionT", bound=Callable[..., object])
    MiddlewareT = TypeVar("MiddlewareT", bound=Middleware)

DRAIN: Final = 30.0
_NO_LIMITS: Final = Limits()


class Worker:
    """Handlers of queues at one broker, to be run by `anyqueue worker MODULE:NAME`, or by run().

    `lifespan` is a function of the worker that returns a context manager, plain or async: entered before the first
    message and left after the last; what it gives is `state`. `credentials`, `hooks` and `require` are those of
    connect(). At its end a worker waits up to `drain_timeout` seconds (the URL's option, or 30) for its handlers.
    `schedule_lock` is where the processes of a worker with cron handlers agree on who sends: a path, or the URL of a
    PostgreSQL database.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        lifespan: Callable[[Worker], AbstractAsyncContextManager[object] | AbstractContextManager[object]]
        | None = None,
        require: Feature = Feature.NONE,
        credentials: Any = None,  # noqa: ANN401 -- as connect() takes them
        hooks: Iterable[hooks.Hook] = (),
        drain_timeout: float | None = None,
        schedule_lock: str | Path = "anyqueue-schedule.lock",
    ) -> None:
        self.url = url if isinstance(url, URL) else URL.parse(url)
        self.lifespan = lifespan
        self.require = require
        self.credentials = credentials
        self.hooks = tuple(hooks)
        self.drain_timeout = _drain(self.url, drain_timeout)
        self.handlers: list[Handler] = []
        self.middlewares: list[Middleware] = []
        self.entries: list[Entry] = []
        self.schedule_lock = schedule_lock
        self.state: Any = None
        """What the lifespan gave."""
        self._run: Run | None = None

    def handler(
        self,
        address: str | Queue | Topic,
        *,
        group: str | None = None,
        concurrency: int = 1,
        prefetch: int | None = None,
        type: Any = None,  # noqa: A002, ANN401 -- as Client.consumer() has it
        retry: Retry | None = Retry(),  # noqa: B008 -- immutable
        dead_letter: str | Queue | Default | None = DEFAULT,
        deduplicate: Inbox | str | Path | None = None,
    ) -> Callable[[FunctionT], FunctionT]:
        """Register a function of one message, plain or async, for a queue or a topic's group. As Client.consumer().

        A plain one runs in a thread and gets the blocking message. With `deduplicate` (an inbox, the path of a SQLite
        file or a database's URL) a message that was handled before is acknowledged without calling it. Raises
        ConfigError or TypeError at once for a wrong signature, a queue that has a handler already, and arguments that
        cannot be meant.
        """
        return self._registering(
            address=address_of(address),
            group=group,
            concurrency=concurrency,
            prefetch=prefetch,
            type=type,
            retry=retry,
            dead_letter=dead_letter,
            inbox=None if deduplicate is None else open_inbox(deduplicate),
        )

    def batch_handler(  # noqa: PLR0913 -- each is its own, optional, keyword
        self,
        address: str | Queue | Topic,
        *,
        max_size: int = 100,
        max_wait: float = 1.0,
        group: str | None = None,
        concurrency: int = 1,
        prefetch: int | None = None,
        type: Any = None,  # noqa: A002, ANN401 -- as Client.consumer() has it
        retry: Retry | None = Retry(),  # noqa: B008 -- immutable
        dead_letter: str | Queue | Default | None = DEFAULT,
        deduplicate: Inbox | str | Path | None = None,
    ) -> Callable[[FunctionT], FunctionT]:
        """Register a function of one Batch: up to `max_size` messages, waiting `max_wait` seconds for more than one.

        It may settle single messages; for the others it is as a handler of one: its end accepts them, an exception is
        the retry policy's business for each.
        """
        return self._registering(
            address=address_of(address),
            group=group,
            concurrency=concurrency,
            prefetch=prefetch,
            type=type,
            retry=retry,
            dead_letter=dead_letter,
            batching=Batching(max_size=max_size, max_wait=max_wait),
            inbox=None if deduplicate is None else open_inbox(deduplicate),
        )

    def _registering(self, **fields: Any) -> Callable[[FunctionT], FunctionT]:  # noqa: ANN401 -- those of a Handler
        def register(function: FunctionT) -> FunctionT:
            made = Handler(function=function, **fields)
            handlers.check(made, self.handlers)
            self.handlers.append(made)
            return function

        return register

    def cron(
        self,
        expression: str | None = None,
        *,
        every: str | float | None = None,
        name: str | None = None,
        timezone: str = "UTC",
        missed: Missed = "once",
        retry: Retry | None = Retry(),  # noqa: B008 -- immutable
        dead_letter: str | Queue | Default | None = DEFAULT,
    ) -> Callable[[FunctionT], FunctionT]:
        """Register a function to be called by the clock: a cron expression, or `every` so many seconds ("15m").

        One of the worker's processes sends a message to the queue `cron.NAME` (the function's), and one handles it: so
        it has a retry policy and dead letters. `missed`: what happens to runs while no worker was there (see
        `schedule.Entry`). Needs the extra `schedule`.
        """
        from anyqueue.worker.cron import entry_of  # noqa: PLC0415 -- needs cronsim, which may be missing

        def register(function: FunctionT) -> FunctionT:
            made = entry_of(function, expression, every, name=name, timezone=timezone, missed=missed)
            self.handler(made.address, retry=retry, dead_letter=dead_letter)(function)
            self.entries.append(made)
            return function

        return register

    def middleware(self, function: MiddlewareT) -> MiddlewareT:
        """Register an async function(message, call_next) around every handler; the first one is outermost.

        What it raises, or lets pass, is what the retry policy sees.
        """
        check_function(function, "a message and call_next", count=2)
        if not is_async(function):
            raise ConfigError(f"the middleware {handlers.name_of(function)} is not async", hint="write async def")
        self.middlewares.append(function)
        return function

    @property
    def client(self) -> Client:
        """The open client, for handlers that send. Raises Closed while the worker does not run."""
        return self._running().client

    @property
    def blocking(self) -> sync.Client:
        """The same client, blocking, for plain handlers."""
        return self._running().twins.client

    async def run(self, limits: Limits = _NO_LIMITS) -> Ended:
        """Handle messages until stop(), a limit, or cancelled; then drain. Raises what ends a consumer."""
        if self._run is not None:
            raise ConfigError("this worker runs already", url=self.url)
        if not self.handlers:
            raise ConfigError("this worker has no handler", url=self.url, hint="register one with @worker.handler(...)")
        self._run = Run(self, limits)
        try:
            return await self._run.run()
        finally:
            self._run = None

    def stop(self) -> None:
        """Begin no more messages and make run() drain and return. On the event loop."""
        if self._run is not None:
            self._run.stop(Ended.ASKED)

    def health(self) -> State:
        """Say how the worker does in this process."""
        return starting() if self._run is None else self._run.health.state()

    def _running(self) -> Run:
        if self._run is None:
            raise Closed("the worker does not run", url=self.url)
        return self._run


def _drain(url: URL, given: float | None) -> float:
    """Return the drain timeout that the client will use; what is wrong with an option of the URL, it says."""
    try:
        return float(dict(url.options).get("drain_timeout", DRAIN)) if given is None else float(given)
    except ValueError:
        return DRAIN
