"""A peer whose heartbeats vanish into a frame that never ends is gone."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING

import pytest

from anyqueue.backends.gearman.connection import Connection
from anyqueue.backends.gearman.protocol import ECHO_RES
from anyqueue.backends.pulse import PIECE, Pulse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def test_a_whole_frame_counts_and_a_good_piece_of_one_and_no_trickle() -> None:
    pulse = Pulse(0.0)
    pulse.hear(1.0, 20, whole=False)
    assert pulse.at == 0.0
    pulse.hear(2.0, 20, whole=True)
    assert pulse.at == 2.0
    pulse.hear(3.0, PIECE - 1, whole=False)
    assert pulse.at == 2.0
    pulse.hear(4.0, 1, whole=False)
    assert pulse.at == 4.0


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Serve echoes, the third of them behind a header that announces a megabyte."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        echo = struct.pack(">4sII", b"\0RES", ECHO_RES, 8) + b"anyqueue"
        number = 0
        while await reader.read(4096):
            number += 1
            writer.write(struct.pack(">4sII", b"\0RES", ECHO_RES, 1 << 20) + echo if number == 3 else echo)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_a_gearman_server_that_answers_into_nothing_is_lost(port: int) -> None:
    lost = asyncio.Event()
    connection = await Connection.open("127.0.0.1", port, tls=None, most=16 << 20, heartbeat=0.1)
    connection.on_lost = lost.set
    async with asyncio.timeout(60):
        await lost.wait()
    assert "nothing came" in str(connection.lost)
