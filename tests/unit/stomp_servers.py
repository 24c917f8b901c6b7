"""Servers that speak STOMP as they are told: silent ones, liars, and those that die in a frame. Real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator


@dataclass(frozen=True)
class Asked:
    """A frame of a client's."""

    command: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """What it heard, frame by frame; beats of the heart are counted."""

    port: int = 0
    heard: list[Asked] = field(default_factory=list)
    beats: int = 0
    connections: int = 0

    def sent(self, command: str) -> list[Asked]:
        """Return the frames of one kind that it heard."""
        return [frame for frame in self.heard if frame.command == command]


Talk = "Callable[[Server, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]"
React = "Callable[[Asked], bytes | None]"


@contextlib.asynccontextmanager
async def serving(talk: Talk, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Be a server that does as `talk` says with each connection."""
    server = Server()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        try:
            with contextlib.suppress(ConnectionError, EOFError, asyncio.CancelledError):  # the test is over
                await talk(server, reader, writer)
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


async def ask(server: Server, reader: asyncio.StreamReader) -> Asked:
    """Read a frame of the client's."""
    while (first := await reader.readexactly(1)) == b"\n":
        server.beats += 1
    head = (first + await reader.readuntil(b"\n\n")).decode()
    command, *lines = head.rstrip("\n").split("\n")
    headers = dict(line.split(":", 1) for line in lines)
    if "content-length" in headers:
        body = (await reader.readexactly(int(headers["content-length"]) + 1))[:-1]
    else:
        body = (await reader.readuntil(b"\0"))[:-1]
    asked = Asked(command, headers, body)
    server.heard.append(asked)
    return asked


def connected(said: str = "", beat: str = "0,0", version: str = "1.2") -> bytes:
    return f"CONNECTED\nversion:{version}\nheart-beat:{beat}\nserver:{said}\n\n\0".encode()


def receipt(asked: Asked) -> bytes:
    number = asked.headers.get("receipt")
    return b"" if number is None else f"RECEIPT\nreceipt-id:{number}\n\n\0".encode()


def error(message: str, **headers: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}:{text}\n" for name, text in headers.items())
    return f"ERROR\nmessage:{message}\n{lines}\n\0".encode()


def polite(greeting: bytes, react: React | None = None) -> Talk:
    """Greet, and give a receipt for everything, or what `react` says; None hangs up."""

    async def talk(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ask(server, reader)
        writer.write(greeting)
        while True:
            asked = await ask(server, reader)
            said = receipt(asked) if react is None else react(asked)
            if said is None:
                return
            writer.write(said)

    return talk


async def silent(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take what comes, and never speak."""
    del server, writer
    await reader.read()


def saying(said: bytes, *, hang_up: bool = True) -> Talk:
    """Hear the first frame, say this, and hang up or be silent."""

    async def talk(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ask(server, reader)
        writer.write(said)
        await writer.drain()
        if not hang_up:
            await reader.read()

    return talk
