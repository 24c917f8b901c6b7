"""What a user asks of a hub -> a hub that listens, or a clear refusal."""

from __future__ import annotations

from typing import Final

from anyqueue.backends.zeromq.security import Endpoint, make_keys, open_door
from anyqueue.backends.zeromq.serve import HubServer, HubSettings
from anyqueue.errors import ConfigError

__all__ = ["make_keys", "open_hub"]
MAX_SECONDS: Final = 3600.0


def open_hub(
    *,
    listen: str = "tcp://127.0.0.1:5555",
    store: str = "memory:",
    key: str | None = None,
    allow: str | None = None,
    insecure: bool = False,
    heartbeat: float = 5.0,
    drain: float = 5.0,
) -> HubServer:
    """Return a hub that listens; its run() serves until its stop().

    `key` names its secret key file and `allow` the directory of the public keys that it lets in; without them it
    listens on this machine alone, unless `insecure`. Raises ConfigError or ConnectFailed.
    """
    if (key is None) != (allow is None):
        raise ConfigError("a hub's key and the directory of the keys it lets in go together", hint="give both")
    for name, seconds, least in (("heartbeat", heartbeat, 0.05), ("drain", drain, 0.0)):
        if not least <= seconds <= MAX_SECONDS:
            raise ConfigError(f"{name} is {least:g} to {MAX_SECONDS:g} seconds, not {seconds:g}")
    endpoint = Endpoint.parse(listen)
    endpoint.check(secured=key is not None, insecure=insecure)
    door = open_door(key, allow)
    return HubServer(HubSettings(listen=endpoint, store=store, heartbeat=heartbeat, drain=drain, door=door))
