"""The hubs that run inside this process: for `serve=1`, where the first process that finds nobody is the hub.

A hub lives in a thread of its own until the process ends, or stop_all(). Others then find nobody, and one of them is
the next hub: on the same SQLite file it has the same queues, in memory it begins with none.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING, Final

from anyqueue.backends.zeromq.serve import HubServer, HubSettings
from anyqueue.errors import ConnectFailed

if TYPE_CHECKING:
    from anyqueue.backends.zeromq.security import Endpoint

DRAIN: Final = 1.0
PATIENCE: Final = 10.0
_running: Final[dict[Endpoint, tuple[HubServer, threading.Thread]]] = {}
_guard: Final = threading.Lock()
_left_behind: Final[list[object]] = []
"""What a fork's child got from its parent: kept, for collecting it would touch the parent's sockets."""


def serve(endpoint: Endpoint, store: str) -> None:
    """Become the hub, unless somebody is. Raises ConfigError where the store cannot be had."""
    with _guard:
        if endpoint in _running and _running[endpoint][1].is_alive():
            return
        try:
            server = HubServer(HubSettings(listen=endpoint, store=store, drain=DRAIN, agent="anyqueue serve=1"))
        except ConnectFailed:
            return  # another process was faster
        thread = threading.Thread(target=server.run, name=f"anyqueue hub {endpoint}", daemon=True)
        _running[endpoint] = server, thread
        thread.start()


def stop_all() -> None:
    """End the hubs of this process, and wait for them."""
    with _guard:
        stopping = list(_running.values())
        _running.clear()
    for server, thread in stopping:
        if thread.is_alive():
            server.stop()
    for _, thread in stopping:
        thread.join(PATIENCE)


def _forget() -> None:
    _left_behind.extend(_running.values())
    _running.clear()


atexit.register(stop_all)
os.register_at_fork(after_in_child=_forget)
