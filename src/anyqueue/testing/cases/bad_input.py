"""Bad input: what cannot be meant is refused before any I/O, with the same class on every backend.

Every parameter of the public API is found by introspection and has its bad values here: one without is an error.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import anyqueue
from anyqueue import ConfigError, Feature, Queue, Rejected, Retry, RetryLater, TooLarge, Topic
from anyqueue.testing.case import case

if TYPE_CHECKING:
    from anyqueue import Client
    from anyqueue.driver import Driver
    from anyqueue.testing.trial import Trial

Bad = Sequence[tuple[object, type[Exception]]]
NO_TEXT: Final[Bad] = [(3, TypeError), (b"bytes", TypeError), (["x"], TypeError)]
NO_SECONDS: Final[Bad] = [
    *[(value, TypeError) for value in (True, "1", b"1", list[int](), 1j)],
    *[(value, ConfigError) for value in (-1, -0.001, math.nan, math.inf, -math.inf)],
]
NO_COUNT: Final[Bad] = [
    *[(value, TypeError) for value in (True, "1", 1.0, math.nan, list[int]())],
    *[(value, ConfigError) for value in (0, -1, -(2**70))],
]
NO_NAME: Final[Bad] = [
    *NO_TEXT,
    *[(value, ConfigError) for value in ("", "x" * 201, "aq.delay", "a\nb", "a\0b", "a\x7fb", "a\ud800b")],
]
NO_QUEUE: Final[Bad] = [
    *NO_NAME,
    *[(Queue(value), kind) for value, kind in NO_NAME],  # type: ignore[arg-type]
    (None, TypeError),
]
NO_LABEL: Final[Bad] = [
    *NO_TEXT,
    *[(value, ConfigError) for value in ("x" * 201, "a\r\nb", "a\0b", "a\ud800b")],
]
NO_NUMBER: Final[Bad] = [(value, kind) for value, kind in NO_SECONDS if value != -0.001]
NO_HEADERS: Final[Bad] = [
    *[(value, TypeError) for value in (3, "text", ["x"], {1: "x"}, {"x": 1}, {"x": None}, {"x": b"x"}, {None: "x"})],
    *[(value, ConfigError) for value in ({"": "x"}, {"aq-x": "x"}, {"AQ-x": "x"}, {"\ud800": "x"}, {"x": "\ud800"})],
    ({"x": "x" * 65536}, TooLarge),
]
NO_PAYLOAD: Final[Bad] = [
    *[(value, TypeError) for value in (object(), {1, 2}, {1: 2}, {"x": object()}, [b"bytes in JSON"])],
    *[(value, ValueError) for value in (math.nan, [math.inf], "\ud800", {"x": "\ud800"}, 10**5000)],
    (bytes(16 * 1024 * 1024 + 1), TooLarge),
]
NOT_CALLABLE: Final[Bad] = [(3, TypeError), ("name", TypeError)]
SENDING: Final[Mapping[str, Bad]] = {
    "id": [*NO_LABEL, ("", ConfigError)],
    "headers": NO_HEADERS,
    "content_type": NO_LABEL,
    "correlation_id": NO_LABEL,
    "reply_to": NO_LABEL,
    "delay": NO_SECONDS,
    "expires": NO_SECONDS,
    "priority": [
        *[(value, TypeError) for value in (True, "1", 1.0, math.nan)],
        *[(value, ConfigError) for value in (-1, 10, 2**70)],
    ],
}
NO_ADDRESS: Final[Bad] = [*NO_QUEUE, (Topic(""), ConfigError), (Topic("aq.x"), ConfigError), (Topic(3), TypeError)]  # type: ignore[arg-type]
NO_PLAIN_QUEUE: Final[Bad] = [*NO_QUEUE, (Topic("a topic"), TypeError)]
NO_TIMEOUT: Final[Bad] = [*NO_SECONDS, (0, ConfigError)]
BATCHING: Final[Mapping[str, Bad]] = {
    "max_size": [*NO_COUNT, (None, TypeError), (11, ConfigError)],
    "max_wait": [*NO_SECONDS, (None, TypeError)],
}
BAD: Final[Mapping[str, Mapping[str, Bad]]] = MappingProxyType(
    {
        "connect": {
            "url": [*NO_TEXT, (None, TypeError), ("", ConfigError), ("memory", ConfigError), ("no://x", ConfigError)],
            "require": [(3, TypeError), (None, TypeError), ("DELAY", TypeError)],
            "credentials": [(3, TypeError), (("user", "password"), TypeError)],
            "progress": [(3, TypeError), (True, TypeError), (b"x", TypeError)],
            "hooks": [(3, TypeError), (None, TypeError), ([3], TypeError)],
            "connect_timeout": NO_TIMEOUT,
            "send_timeout": NO_TIMEOUT,
            "settle_timeout": NO_TIMEOUT,
            "drain_timeout": NO_TIMEOUT,
        },
        "Client.support": {
            "feature": [
                (3, TypeError),
                ("DELAY", TypeError),
                (None, TypeError),
                (Feature.NONE, ConfigError),
                (Feature.DELAY | Feature.PRIORITY, ConfigError),
            ]
        },
        "Client.send": {"address": NO_ADDRESS, "payload": NO_PAYLOAD, **SENDING},
        "Client.request": {
            "queue": NO_PLAIN_QUEUE,
            "payload": NO_PAYLOAD,
            "timeout": [*NO_TIMEOUT, (None, TypeError)],
            "type": [(3, ConfigError), ("no type", ConfigError)],
            "progress": NOT_CALLABLE,
            **{name: SENDING[name] for name in ("headers", "content_type", "priority")},
        },
        "Client.producer": {"address": NO_ADDRESS},
        "Client.consumer": {
            "address": NO_ADDRESS,
            "group": [("a queue has none", ConfigError)],
            "concurrency": [*NO_COUNT, (None, TypeError)],
            "prefetch": NO_COUNT,
            "type": [(3, ConfigError), ("no type", ConfigError)],
            "retry": [(3, TypeError), (True, TypeError), (Retry, TypeError)],
            "dead_letter": [(value, kind) for value, kind in NO_PLAIN_QUEUE if value is not None],
            "drain_timeout": NO_SECONDS,
        },
        "Client.depth": {"queue": NO_PLAIN_QUEUE},
        "Client.browse": {"queue": NO_PLAIN_QUEUE, "limit": [*NO_COUNT, (None, TypeError)]},
        "Client.purge": {"queue": NO_PLAIN_QUEUE},
        "Client.delete": {"queue": NO_PLAIN_QUEUE},
        "Client.redrive": {
            "queue": NO_PLAIN_QUEUE,
            "to": [(value, kind) for value, kind in NO_PLAIN_QUEUE if value is not None],
            "limit": NO_COUNT,
            "match": NOT_CALLABLE,
        },
        "Client.dead_letters": {
            "queue": NO_PLAIN_QUEUE,
            "limit": [*NO_COUNT, (None, TypeError)],
            "match": NOT_CALLABLE,
        },
        "Client.discard": {"queue": NO_PLAIN_QUEUE, "limit": NO_COUNT, "match": NOT_CALLABLE},
        "Producer.send": {"payload": NO_PAYLOAD, **SENDING},
        "Producer.send_many": {
            "payloads": [(3, TypeError), (None, TypeError), *[([b"good", value], kind) for value, kind in NO_PAYLOAD]],
            **{name: bad for name, bad in SENDING.items() if name != "id"},
        },
        "Producer.forward": {"message": [(3, TypeError), (None, TypeError), ("text", TypeError)]},
        "Consumer.run": {"handler": [*NOT_CALLABLE, (None, TypeError)]},
        "Consumer.run_batches": {"handler": [*NOT_CALLABLE, (None, TypeError)], **BATCHING},
        "Consumer.batches": BATCHING,
        "Messages.receive": {"limit": [*NO_COUNT, (None, TypeError)], "timeout": NO_SECONDS},
        "Client.progress": {"identity": [*NO_TEXT, (None, TypeError)]},
        "Message.progress": {
            "done": [*NO_SECONDS, (None, TypeError)],
            "total": NO_SECONDS,
            "note": [*NO_TEXT, (None, TypeError)],
        },
        "Message.reply": {"payload": NO_PAYLOAD},
        "Message.retry": {"delay": NO_SECONDS},
        "Message.reject": {"reason": [*NO_TEXT, (None, TypeError)]},
        "Retry": {
            "attempts": [*NO_COUNT, (None, TypeError)],
            **{name: [*NO_NUMBER, (None, TypeError)] for name in ("initial", "maximum", "factor", "jitter")},
            "on": [
                (3, TypeError),
                (None, TypeError),
                ((ValueError, 3), TypeError),
                ("ValueError", TypeError),
                (int, TypeError),
            ],
        },
        "RetryLater": {"delay": NO_SECONDS},
        "Rejected": {"reason": [*NO_TEXT, (None, TypeError)]},
    }
)
"""What takes arguments -> its parameters -> what none of them may be, and what that raises."""
GOOD: Final[Mapping[str, Mapping[str, object]]] = MappingProxyType(
    {
        "Client.send": {"payload": b"never sent"},
        "Client.request": {"payload": b"never sent"},
        "Client.browse": {},
        "Message.progress": {"done": 1.0},
        "Consumer.run_batches": {"handler": print, "max_size": 5, "max_wait": 1.0},
        "Consumer.batches": {"max_size": 5, "max_wait": 1.0},
        "Producer.send": {"payload": b"never sent"},
        "Producer.send_many": {"payloads": [b"never sent"]},
    }
)
"""The other arguments that a call cannot do without, beside a queue."""
KINDS: Final = (
    anyqueue.Client,
    anyqueue.Producer,
    anyqueue.Consumer,
    anyqueue.Messages,
    anyqueue.Message,
)
INTERNAL: Final = frozenset({"Message.settle_with"})
"""Named without an underscore, and no user's."""


@case("V1", "wrong types and numbers are refused before any I/O, the same on all backends", group="Bad input")
async def v1(t: Trial) -> None:
    """V1: wrong types and numbers are refused before any I/O, the same on all backends: TypeError or ValueError.

    Every parameter of the public API is tried, with everything that it may not be.
    """
    assert public() == {name: set(bad) for name, bad in BAD.items()}, "the API and the bad values name other parameters"
    queue = t.queue()
    wrong: list[str] = []
    client = t.connect()
    calls: list[str] = []
    spied(client, calls)
    async with client, client.producer(queue) as producer, client.consumer(queue) as messages:
        await client.send(queue, b"held")
        (message,) = await messages.receive()
        await t.eventually(lambda: calls)
        targets = {"Client": client, "Producer": producer, "Messages": messages, "Message": message}
        for name, parameters in BAD.items():
            for parameter, values in parameters.items():
                for value, kind in values:
                    call = functools.partial(_target(name, t, client, queue, targets), **{parameter: value})
                    calls.clear()
                    outcome = await outcome_of(call, needs_queue(name, parameter, queue), GOOD.get(name, {}))
                    if not isinstance(outcome, kind) or type(outcome) not in {kind, ConfigError, TypeError, ValueError}:
                        wrong.append(f"{name}({parameter}={short(value)}) ended with {outcome!r}, not {kind.__name__}")
                    if calls:
                        wrong.append(f"{name}({parameter}={short(value)}) reached the driver: {calls}")
        assert not wrong, f"{len(wrong)} are wrong:\n" + "\n".join(wrong)
        await t.counts(queue, waiting=0, unacked=1)
        await message.ack()


def public() -> dict[str, set[str]]:
    """Name everything public that takes arguments, and its parameters."""
    found: dict[str, set[str]] = {}
    for name in ("connect", "Retry", "RetryLater", "Rejected"):
        found[name] = set(inspect.signature(getattr(anyqueue, name)).parameters)
    for kind in KINDS:
        for name, member in vars(kind).items():
            full = f"{kind.__name__}.{name}"
            if name.startswith("_") or not inspect.isfunction(member) or full in INTERNAL:
                continue
            parameters = set(inspect.signature(member).parameters) - {"self"}
            if parameters:
                found[full] = parameters
    return found


def _target(name: str, t: Trial, client: Client, queue: str, targets: Mapping[str, object]) -> Callable[..., Any]:
    owner, _, method = name.partition(".")
    if name == "connect":
        return functools.partial(anyqueue.connect, url=t.url())
    if not method:
        return {"Retry": Retry, "RetryLater": RetryLater, "Rejected": Rejected}[owner]
    if owner == "Consumer":
        found: Callable[..., Any] = getattr(client.consumer(queue), method)
        return found
    function: Callable[..., Any] = getattr(targets[owner], method)
    return function


def needs_queue(name: str, parameter: str, queue: str) -> dict[str, object]:
    """Return the argument that names a queue, where a call takes one and it is not the one that is tried."""
    names = {"address", "queue"} & BAD[name].keys()
    return {one: queue for one in names if one != parameter}


async def outcome_of(call: functools.partial[Any], *given: Mapping[str, object]) -> object:
    """Call, with what else the call needs, and return its result or what it raised."""
    others = {name: value for one in given for name, value in one.items() if name not in call.keywords}
    try:
        result = call(**others)
        if inspect.isawaitable(result):
            async with asyncio.timeout(30):
                result = await result
    except Exception as error:  # noqa: BLE001 -- it is what the case looks at
        return error
    return result


def spied(client: Client, calls: list[str]) -> None:
    """Note every call of the drivers that a client which is not open yet will make."""
    kind: Any = client._class  # noqa: SLF001 -- nowhere else is between a client and its driver
    names = ("send", "request", "subscribe", "queues", "depth", "browse", "purge", "delete")

    def noted(name: str) -> Callable[..., Any]:
        method = getattr(kind, name)

        async def call(self: Driver, *args: object) -> object:
            calls.append(name)
            return await method(self, *args)

        return call

    client._class = type(kind.__name__, (kind,), {name: noted(name) for name in names})  # noqa: SLF001 -- as above


def short(value: object) -> str:
    """Show a value in an error, however long it is."""
    return ascii(value)[:60]
