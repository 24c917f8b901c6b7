"""MODULE:NAME -> a Worker, or one clear line; in this process, or in one beside it that is gone again afterwards."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from importlib import import_module
from typing import Final

import msgspec

from anyqueue import ConfigError, Error
from anyqueue.worker.app import Worker

NAME: Final = "worker"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What others must know of a worker that they do not load themselves."""

    scheme: str
    drain_timeout: float
    queues: tuple[str, ...]


class Unloadable(Exception):
    """A worker that cannot be loaded; what its own process said of it is on stderr already."""


def load(target: str) -> Worker:
    """Import the worker. The current folder is looked in first. Raises ConfigError, saying where it went wrong."""
    module_name, _, name = target.partition(":")
    if not module_name:
        raise ConfigError(f"{target!r} names no worker", hint="write MODULE:NAME, such as mail.tasks:worker")
    if os.getcwd() not in sys.path:  # noqa: PTH109 -- sys.path holds text
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 -- as above
    try:
        module = import_module(module_name)
    except Exception as error:
        raise ConfigError(f"the module {module_name!r} does not import: {_described(error)}") from error
    found = getattr(module, name or NAME, None)
    if not isinstance(found, Worker):
        what = "has no" if found is None else f"has a {type(found).__name__}, and no Worker, as"
        raise ConfigError(f"the module {module_name!r} {what} {name or NAME!r}", hint="write MODULE:NAME")
    if not found.handlers:
        raise ConfigError(f"the worker {target!r} has no handler", hint="register one with @worker.handler(...)")
    return found


def settings(worker: Worker) -> Settings:
    """Return what others must know of it."""
    return Settings(
        scheme=worker.url.scheme,
        drain_timeout=worker.drain_timeout,
        queues=tuple(handler.queue for handler in worker.handlers),
    )


async def look(target: str) -> Settings:
    """Load a worker in a process of its own and return its settings. Raises Unloadable; stderr says why."""
    command = [sys.executable, "-m", "anyqueue.cli", "worker", target, "--check"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    if process.returncode != 0:
        raise Unloadable(target)
    return msgspec.json.decode(out.splitlines()[-1], type=Settings)


def _described(error: Exception) -> str:
    """Say what was raised, and where in the user's code."""
    if isinstance(error, Error):
        return str(error)
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}, line {error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    last = frames[-1] if frames else None
    where = f" ({last.filename}, line {last.lineno})" if last is not None and last.filename != __file__ else ""
    return f"{type(error).__name__}: {error}{where}"
