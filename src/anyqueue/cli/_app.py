"""The commands by name, and how each ends: an error is one line on stderr and status 1, Ctrl-C is status 130."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from anyqueue import Error, __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INTERRUPTED: Final = 130
COMMANDS: Final[Mapping[str, str]] = {
    "send": "_send:send",
    "receive": "_receive:receive",
    "features": "_show:features",
    "queues": "_show:queues",
    "worker": "_worker:worker",
    "schedule": "_schedule:schedule",
    "bridge": "_bridge:bridge",
    "relay": "_relay:relay",
    "progress": "_progress:progress",
    "supervisor": "_supervisor:supervisor",
    "compare": "_compare:comparison",
    "hub": "_hub:hub",
    "dead": "_dead:app",
}
"""Each command, and where it is. Only what is asked for is loaded: half of a command's time is imports."""
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


def _add(name: str) -> None:
    """Load a command, and what it needs."""
    module, _, attribute = COMMANDS[name].partition(":")
    found = getattr(import_module(f"anyqueue.cli.{module}"), attribute)
    if isinstance(found, typer.Typer):
        app.add_typer(found, name=name)
    else:
        app.command(name)(found)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status. The others are not loaded, but for the list of all."""
    app.registered_commands, app.registered_groups = [], []
    for name in arguments[:1] if set(arguments[:1]) & COMMANDS.keys() else COMMANDS:
        _add(name)
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
