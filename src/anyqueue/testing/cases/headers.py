"""Round trip: hostile headers come back exactly, and what cannot be carried is refused."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from anyqueue.testing.case import case

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anyqueue.testing.trial import Trial

GROUP: Final = "Round trip"
UNICODE: Final = st.characters(codec="utf-8")
"""Every character that UTF-8 can carry, control characters too."""
HEADERS: Final = st.dictionaries(
    st.text(UNICODE, min_size=1, max_size=30).filter(lambda name: not name.lower().startswith("aq-")),
    st.text(UNICODE, max_size=100),
    max_size=8,
)


HOSTILE: Final = (
    {"empty": ""},
    {" ": " ", "  spaces  ": "  around  "},
    {": \n\r\\\0<&\"'": ": \n\r\\\0<&\"'"},
    {"Content-Length": "5", "destination": "/queue/other", "receipt": "1", "x-death": "[]", "id": "another"},
    {"astral": "\U0001f989\U0010ffff", "\U0001f989": "owl", "combining": "e\u0301", "composed": "\u00e9"},
    {"e\u0301": "decomposed", "\u00e9": "composed"},
    {"key": "1", "Key": "2", "KEY": "3", "kEY": "4"},
    {"long": "x" * 10 * 1024},
    {f"header {number}": str(number) for number in range(64)},
    {"line\r\nInjected: yes": "value\r\n\r\nbody"},
    {"</item>": "]]>", "\u2028": "\u2029", "\ufeff": "\ufffe"},
)


@case("R3", "hostile headers come back exactly", group=GROUP)
async def r3(t: Trial) -> None:
    """R3: hostile headers come back exactly."""
    queue = t.queue()
    async with t.connect() as client, client.consumer(queue) as messages:

        async def check(headers: Mapping[str, str]) -> None:
            await t.history.send(client, queue, b"body", headers=headers)
            (message,) = await messages.receive()
            assert message.headers == dict(headers)
            t.history.took(message, "consumer")
            await t.history.ack(message)

        for headers in HOSTILE:
            await check(headers)
        await t.for_all(HEADERS, check)
    t.history.prove(ordered=True)


IMPOSSIBLE: Final[tuple[tuple[object, dict[str, Any]], ...]] = (
    (object(), {}),
    ({1, 2}, {}),
    (float("nan"), {}),
    ([1, float("inf")], {}),
    ({1: "a number is no key"}, {}),
    ({"deep": {"when": dt.datetime(2024, 1, 1, tzinfo=dt.UTC)}}, {}),
    (1j, {}),
    ("\ud800", {}),
    ({"\udfff": 1}, {}),
    (b"", {"headers": {"number": 1}}),
    (b"", {"headers": {"none": None}}),
    (b"", {"headers": {"true": True}}),
    (b"", {"headers": {"bytes": b"1"}}),
    (b"", {"headers": {1: "number"}}),
    (b"", {"headers": {"": "no name"}}),
    (b"", {"headers": {"aq-attempts": "5"}}),
    (b"", {"headers": {"AQ-Death": "reserved in every case"}}),
    (b"", {"headers": {"surrogate": "\ud800"}}),
    (b"", {"headers": {"\udc00": "surrogate"}}),
    (b"", {"headers": {"much": "x" * 65536}}),
    (b"", {"headers": [("a", "b", "c")]}),
    (b"", {"content_type": 5}),
    (b"", {"content_type": "text/plain\r\nInjected: yes"}),
    (b"", {"correlation_id": "nul\0"}),
    (b"", {"reply_to": "\ud800"}),
    (b"", {"id": "two\nlines"}),
    (b"", {"id": ""}),
)


@case("R4", "what cannot be carried exactly is refused, never made into something else", group=GROUP)
async def r4(t: Trial) -> None:
    """R4: what cannot be carried exactly is refused, never made into something else."""
    queue = t.queue()
    async with t.connect() as client, client.consumer(queue) as messages:

        async def check(example: tuple[object, dict[str, Any]]) -> None:
            payload, given = example
            try:
                await client.send(queue, payload, **given)
            except (TypeError, ValueError):
                pass
            else:
                raise AssertionError(f"send({payload!r}, {given!r}) was accepted")
            await t.counts(queue, total=0)

        for example in IMPOSSIBLE:
            await check(example)
        wrong = st.integers() | st.none() | st.binary(max_size=3) | st.booleans() | st.floats()
        headers = st.dictionaries(st.text(min_size=1), wrong, min_size=1, max_size=2)
        await t.for_all(headers.map(lambda headers: (b"", {"headers": headers})), check)
        await client.send(queue, b"fine")
        (message,) = await messages.receive()
        assert message.body == b"fine"
        await message.ack()
