"""`anyqueue relay`: send what transactions have put into an outbox."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from typing import Annotated

import typer

import anyqueue
from anyqueue.worker import logs

_log = logging.getLogger(__name__)

Database = Annotated[str, typer.Argument(metavar="DATABASE-URL", help="The outbox's database, as SQLAlchemy names it")]
Broker = Annotated[str, typer.Argument(metavar="BROKER-URL", help="Where the messages go")]
UntilEmpty = Annotated[bool, typer.Option("--until-empty", help="End once nothing is left")]
Poll = Annotated[float, typer.Option("--poll", metavar="SECONDS", min=0.01, help="Between two looks when empty")]


def relay(database: Database, broker: Broker, until_empty: UntilEmpty = False, poll: Poll = 0.2) -> None:
    """Relay an outbox to a broker, until SIGTERM or Ctrl-C. Several may run; one of them leads."""
    logs.configure("text" if sys.stderr.isatty() else "json", "info")
    sent = asyncio.run(_run(database, broker, until_empty=until_empty, poll=poll))
    print(f"relayed {sent} message{'' if sent == 1 else 's'}")


async def _run(database: str, broker: str, *, until_empty: bool, poll: float) -> int:
    from anyqueue.outbox import Relay  # noqa: PLC0415 -- needs SQLAlchemy, which may be missing

    async with anyqueue.connect(broker) as client:
        relaying = Relay(database, client, poll=poll)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, relaying.stop)
        _log.info("ready", extra={"broker": str(client.url)})
        return await relaying.run(until_empty=until_empty)
