"""The command line: a user of the public API. It needs typer and rich, which the extra `cli` installs."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit with its status."""
    try:
        from anyqueue.cli._app import run  # noqa: PLC0415 -- typer and rich may be missing, and are asked for here
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        sys.exit(f"anyqueue: the command line needs {error.name}; pip install 'anyqueue[cli]'")
    sys.exit(run(sys.argv[1:]))
