"""The `gearman` command of Debian's gearman-tools, and php-gearman: programs of others, on libgearman.

Both make the unique id of a job themselves. php shows it to its workers; the command does not.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, ClassVar, Final

from anyqueue.testing.harness import Program, Seen

if TYPE_CHECKING:
    from collections.abc import Mapping

LINE: Final = b"aq1 "
PLAIN: Final = re.compile(rb"aq[btj]([0-9A-Za-z]{32})-")
"""The unique id of a message that is nothing but a body: the message's id is in it."""
TIMEOUT: Final = 3000
"""Milliseconds that a worker waits for a job."""
PHP: Final = """
[$_, $port, $act, $queue] = $argv;
if ($act === "put" || $act === "ask") {
    $client = new GearmanClient();
    $client->addServer("127.0.0.1", (int) $port);
    $body = stream_get_contents(STDIN);
    if ($act === "put") {
        $client->doBackground($queue, $body);
    } else {
        $client->enableExceptionHandler();
        $client->setExceptionCallback(function ($task) { fwrite(STDERR, $task->data()); exit(1); });
        $client->setCompleteCallback(function ($task) { fwrite(STDOUT, $task->data()); });
        $client->setFailCallback(function ($task) { exit(1); });
        $client->addTask($queue, $body);
        $client->runTasks();
    }
    exit($client->returnCode() === GEARMAN_SUCCESS ? 0 : 1);
}
$worker = new GearmanWorker();
$worker->addServer("127.0.0.1", (int) $port);
$worker->addOptions(GEARMAN_WORKER_GRAB_UNIQ);
$worker->setTimeout((int) $argv[4]);
$worker->addFunction($queue, function ($job) {
    fwrite(STDOUT, $job->unique() . chr(0) . $job->workload());
    return strrev($job->workload());
});
$worker->work();
exit($worker->returnCode() === GEARMAN_SUCCESS ? 0 : 2);
"""
"""Run by `php -r`. Its worker replies with the body backwards."""


class GearmanCommand(Program):
    """The command, as a client and as a worker for one job."""

    carries_headers: ClassVar[bool] = False

    def __init__(self, port: int) -> None:
        self._port = str(port)

    async def put(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Submit a background job."""
        del headers
        done, _, complaint = await self._run("-b", "-f", queue, body=body)
        assert done, f"gearman failed: {complaint!r}"

    async def get(self, queue: str) -> Seen | None:
        """Be a worker for one job."""
        done, said, _ = await self._run("-w", "-c", "1", "-t", str(TIMEOUT), "-f", queue)
        return read(said, None) if done else None

    async def ask(self, queue: str, body: bytes) -> bytes:
        """Submit a foreground job, and return the reply."""
        done, said, complaint = await self._run("-f", queue, body=body)
        assert done, f"gearman failed: {complaint!r}"
        return said

    async def _run(self, *arguments: str, body: bytes = b"") -> tuple[bool, bytes, bytes]:
        return await run("gearman", "-h", "127.0.0.1", "-p", self._port, *arguments, body=body)


class Php(Program):
    """A script, as a client and as a worker for one job."""

    def __init__(self, port: int) -> None:
        self._port = str(port)

    async def put(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Submit a background job. Headers go into the documented line; so does no body, which php refuses to send."""
        if headers or not body:
            body = LINE + json.dumps({"headers": dict(headers)}).encode() + b"\n" + body
        done, _, complaint = await self._run("put", queue, body=body)
        assert done, f"php failed: {complaint!r}"

    async def get(self, queue: str) -> Seen | None:
        """Be a worker for one job."""
        done, said, _ = await self.work(queue)
        unique, _, data = said.partition(b"\0")
        return read(data, unique) if done else None

    async def work(self, queue: str, milliseconds: int = TIMEOUT) -> tuple[bool, bytes, bytes]:
        """Be a worker for one job; say whether one came in time, its unique id and body, and complaints."""
        return await self._run("get", queue, str(milliseconds))

    async def ask(self, queue: str, body: bytes) -> tuple[bool, bytes, bytes]:
        """Submit a foreground job; say whether it worked, the reply, and the exception."""
        return await self._run("ask", queue, body=body)

    async def _run(self, act: str, *arguments: str, body: bytes = b"") -> tuple[bool, bytes, bytes]:
        return await run("php", "-r", PHP, "--", self._port, act, *arguments, body=body)


def read(data: bytes, unique: bytes | None) -> Seen:
    """Read a job as the documentation says; `unique` None: the program does not show it."""
    ours = None if unique is None else PLAIN.match(unique)
    if not data.startswith(LINE):
        return Seen(body=data, headers={}, id=None if ours is None else ours[1].decode())
    line, _, body = data.removeprefix(LINE).partition(b"\n")
    head = json.loads(line)
    return Seen(body=body, headers=head.get("headers", {}), id=head.get("id"))


async def run(*command: str, body: bytes) -> tuple[bool, bytes, bytes]:
    """Run a program; say whether it ended well, what it printed, and its complaints."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    said, complaint = await process.communicate(body)
    return process.returncode == 0, said, complaint
