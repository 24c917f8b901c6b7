"""The commands by name, and how each ends: an error is one line on stderr and status 1, Ctrl-C is status 130."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from anyqueue import Error, __version__
from anyqueue.cli import _dead
from anyqueue.cli._bridge import bridge
from anyqueue.cli._compare import comparison
from anyqueue.cli._hub import hub
from anyqueue.cli._progress import progress
from anyqueue.cli._receive import receive
from anyqueue.cli._relay import relay
from anyqueue.cli._schedule import schedule
from anyqueue.cli._send import send
from anyqueue.cli._show import features, queues
from anyqueue.cli._supervisor import supervisor
from anyqueue.cli._worker import worker

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED: Final = 130
_UsageError: Final[Any] = typer.BadParameter.__mro__[2]  # ClickException, which typer keeps in its own place

app = typer.Typer(
    name="anyqueue",
    help="Send and receive messages over any broker, by URL.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:  # noqa: FBT001 -- what typer calls
    if value:
        print("anyqueue", __version__)
        raise typer.Exit


@app.callback()
def _options(
    *, version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False
) -> None:
    del version


for command in (send, receive, features, queues, worker, schedule, bridge, relay, progress, supervisor):
    app.command()(command)
app.command("compare")(comparison)
app.add_typer(hub, name="hub")
app.add_typer(_dead.app, name="dead", no_args_is_help=True)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    try:
        status = app(list(arguments) or ["--help"], prog_name="anyqueue", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 -- _fail() raises again what is none of its business
        return _fail(error)
    return status if isinstance(status, int) else 0


def _fail(error: Exception) -> int:
    """Say in one line what went wrong; a defect of ours, which is none of these, keeps its traceback."""
    if isinstance(error, _UsageError):
        what = f"{error.format_message()} (see anyqueue --help)"
    elif isinstance(error, Error | OSError | ValueError | TypeError):
        what = str(error)
    else:
        raise error
    print("anyqueue:", " ".join(what.split()), file=sys.stderr)
    return 1
