"""`anyqueue hub`: the broker of zmq:// as a process; `anyqueue hub keygen`: keys for it."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

Listen = Annotated[str, typer.Option("--listen", metavar="tcp://HOST:PORT", help="Where to listen; port 0: a free one")]
Store = Annotated[str, typer.Option("--store", help="memory: or sqlite:///PATH, which survives")]
Key = Annotated[
    str | None, typer.Option("--key", metavar="FILE", help="The hub's secret key: only with a key one enters")
]
Allow = Annotated[str | None, typer.Option("--allow", metavar="DIR", help="The public keys (*.key) of who may enter")]
Insecure = Annotated[bool, typer.Option("--insecure", help="Listen beyond this machine without keys")]
Heartbeat = Annotated[float, typer.Option("--heartbeat", metavar="SECONDS", help="Between two beats of the transport")]
Drain = Annotated[float, typer.Option("--drain", metavar="SECONDS", help="For what is being handled when it is to end")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say who comes and goes")]

hub = typer.Typer(help="Run the broker of zmq://, or make keys for it.", invoke_without_command=True)


@hub.callback()
def serve(
    context: typer.Context,
    listen: Listen = "tcp://127.0.0.1:5555",
    store: Store = "memory:",
    key: Key = None,
    allow: Allow = None,
    insecure: Insecure = False,
    heartbeat: Heartbeat = 5.0,
    drain: Drain = 5.0,
    verbose: Verbose = False,
) -> None:
    """Run a hub until SIGTERM or Ctrl-C; a second one ends it at once."""
    if context.invoked_subcommand is not None:
        return
    from anyqueue.hub import open_hub  # noqa: PLC0415 -- it needs pyzmq, and the other commands do not

    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.INFO if verbose else logging.WARNING)
    server = open_hub(
        listen=listen, store=store, key=key, allow=allow, insecure=insecure, heartbeat=heartbeat, drain=drain
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    print(f"listening on {server.endpoint}, store {store}, {'with' if key else 'without'} keys", flush=True)
    server.run()
    print("ended", file=sys.stderr)


@hub.command()
def keygen(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to put them; made if it is not there")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose they are")],
) -> None:
    """Make a key pair: NAME.key to hand out, NAME.key_secret to keep."""
    from anyqueue.hub import make_keys  # noqa: PLC0415 -- as above

    public, secret = make_keys(folder, name)
    print(f"{public}\n{secret}")
