"""amqp-publish and amqp-get of Debian's amqp-tools: a client that others wrote, in C, on another library."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar, Final

from anyqueue.testing.harness import Program, Seen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

NOTHING: Final = 2
"""The exit status of amqp-get where the queue is empty."""


class AmqpTools(Program):
    """Two commands. `declare` makes a queue as its owner wants it, for amqp-publish makes none."""

    carries_headers: ClassVar[bool] = False

    def __init__(self, url: str, declare: Callable[[str], Awaitable[object]]) -> None:
        self._url = url
        self._declare = declare

    async def put(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Publish it."""
        del headers
        await self._declare(queue)
        await self._run("amqp-publish", "--persistent", "--routing-key", queue, body=body)

    async def get(self, queue: str) -> Seen | None:
        """Get and acknowledge one."""
        body = await self._run("amqp-get", "--queue", queue)
        return None if body is None else Seen(body=body, headers={})

    async def _run(self, *command: str, body: bytes = b"") -> bytes | None:
        pipe = asyncio.subprocess.PIPE
        program, *rest = command
        process = await asyncio.create_subprocess_exec(
            program, f"--url={self._url}", *rest, stdin=pipe, stdout=pipe, stderr=pipe
        )
        out, complaint = await process.communicate(body)
        if process.returncode == NOTHING and program == "amqp-get":
            return None
        assert not process.returncode, f"{program} failed: {complaint.decode(errors='replace')}"
        return out
