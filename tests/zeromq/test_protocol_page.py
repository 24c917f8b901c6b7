"""The page of the protocol names every kind, every code and every bound; and its conversation is a true one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec
import pytest

from anyqueue.backends.zeromq import protocol as p

if TYPE_CHECKING:
    from hubs import Hub

PAGE: Final = (Path(__file__).parents[2] / "docs" / "backends" / "zeromq.md").read_text(encoding="utf-8")
KINDS: Final = [*get_args(p.Request), *get_args(p.Reply)]
ROWS: Final = {
    int(tag): (name, rest) for tag, name, rest in re.findall(r"^\| (\d+) \| (\w+) \| (.*)$", PAGE, re.MULTILINE)
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_is_on_the_page(kind: Any) -> None:
    name, rest = ROWS[kind.__struct_config__.tag]
    assert name == kind.__name__
    if kind.__struct_fields__[:1] == ("request",):
        assert rest.startswith("request")


def test_the_page_names_no_other_kind() -> None:
    assert ROWS.keys() == {kind.__struct_config__.tag for kind in KINDS}


@pytest.mark.parametrize("code", [p.STRANGER, p.OTHER_VERSION, p.INVALID, p.NOT_FOUND, p.FULL, p.FAILED])
def test_every_code_is_on_the_page(code: str) -> None:
    assert f"`{code}`" in PAGE


@pytest.mark.parametrize("bound", [p.MAX_FRAME, p.MAX_BATCH, p.MAX_PREFETCH, p.MAX_BROWSE, int(p.MAX_HEARTBEAT)])
def test_every_bound_is_on_the_page(bound: int) -> None:
    assert f"{bound:,}" in PAGE


def spoken(line: str) -> tuple[str, list[Any]]:
    """Read a line of the conversation: who, and the frames after the first, decoded."""
    who, _, rest = line.partition(" ")
    text = rest.partition("|")[2].replace("<body>", 'b"body"').replace("nil", "None")
    text = text.replace("true", "True").replace("false", "False").replace('"..."', "...")
    return who, [eval(part) for part in text.split("|")]  # noqa: S307 -- our own page


def alike(said: Any, heard: Any) -> bool:
    """Compare, with `...` for anything, and at the end of an array for whatever follows."""
    if said is ... or not isinstance(said, list):
        return said is ... or bool(said == heard)
    if said[-1:] == [...]:
        heard = heard[: len(said)]
    return len(said) == len(heard) and all(map(alike, said, heard))


def test_the_conversation_on_the_page_happens(hub: Hub) -> None:
    (block,) = re.findall(r"^```\n(peer .*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    epoch = bytes(16)
    with hub.stranger() as stranger:
        for who, said in map(spoken, block.splitlines()):
            if who == "peer":
                stranger.say(b"AQH\x01" + epoch, *map(msgspec.msgpack.encode, said))
                continue
            first, *frames = stranger.socket.recv_multipart()
            epoch = first[4:]
            heard = [msgspec.msgpack.decode(frame) for frame in frames]
            if said[0][0] == 101:
                said[0][2], said[0][5] = ..., ...  # whether it is durable, and who it is
            assert alike(said, heard), f"{said} is not {heard}"
