"""The hub of zmq://, for a program that runs it itself; `anyqueue hub` runs it from a shell.

    hub = open_hub(listen="tcp://127.0.0.1:5555", store="sqlite:///hub.db")   # it listens now
    threading.Thread(target=hub.run).start()                                   # it serves until hub.stop()

The one module that names a backend: a hub is a broker, and no URL would have the registry load it. Importing it raises
MissingBackend where pyzmq is not installed.
"""

from __future__ import annotations

from anyqueue.errors import MissingBackend

try:
    from anyqueue.backends.zeromq.opening import make_keys, open_hub
    from anyqueue.backends.zeromq.serve import HubServer
except ModuleNotFoundError as missing:
    if missing.name != "zmq":
        raise
    raise MissingBackend(
        "a hub needs pyzmq, which is not installed", hint="pip install 'anyqueue[zeromq]'"
    ) from missing

__all__ = ["HubServer", "make_keys", "open_hub"]
