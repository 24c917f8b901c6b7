"""The command line of `brokers/launch.py`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from launcher import control, processes
from launcher.catalogue import BROKERS, named, select
from launcher.place import LaunchError, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from launcher.broker import Broker, Node

VERBS: Final[dict[str, tuple[str, Callable[[Broker, Sequence[Node]], None]]]] = {
    "up": ("start, install where needed, return once it answers", control.up),
    "down": ("ask to end, and wait; data stays", control.down),
    "kill": ("end at once (SIGKILL); data stays", lambda _, nodes: control.kill(nodes)),
    "pause": ("freeze (SIGSTOP)", lambda _, nodes: control.pause(nodes)),
    "resume": ("let go on (SIGCONT)", lambda _, nodes: control.resume(nodes)),
    "purge": ("kill, and remove data, log and configuration", control.purge),
}


def main(argv: Sequence[str]) -> int:
    """Do what is asked; 0, or 1 with the reason on stderr."""
    arguments = parser().parse_args(argv)
    try:
        processes.require_linux()
        return int(arguments.run(arguments, Place.from_environment(os.environ)) or 0)
    except LaunchError as error:
        print(f"launch: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """Make the parser."""
    top = argparse.ArgumentParser(prog="launch.py", description="Real brokers as plain processes on private ports.")
    verbs = top.add_subparsers(required=True, metavar="VERB")
    meant = f"{', '.join(BROKERS)}, or one node: rabbitmq-cluster:2 (default: all)"
    for verb, (text, act) in VERBS.items():
        each = verbs.add_parser(verb, help=text)
        each.add_argument("names", nargs="*", metavar="NAME", help=meant)
        each.set_defaults(run=act_on_each, act=act)
    for verb, text, run in (
        ("status", "say what runs; 1 if something asked for by name does not answer", status),
        ("describe", "print everything as JSON", describe),
    ):
        each = verbs.add_parser(verb, help=text)
        each.add_argument("names", nargs="*", metavar="NAME", help=meant)
        each.set_defaults(run=run)
    each = verbs.add_parser("serve", help="up, show the logs until told to end, down: for containers")
    each.add_argument("names", nargs="+", metavar="NAME")
    each.set_defaults(run=serve)
    each = verbs.add_parser("url", help="print the URL to connect to")
    each.add_argument("name")
    each.set_defaults(run=url)
    each = verbs.add_parser("alarm", help="raise or clear the broker's memory alarm")
    each.add_argument("name")
    each.add_argument("state", choices=("on", "off"))
    each.set_defaults(run=alarm)
    return top


def act_on_each(arguments: argparse.Namespace, place: Place) -> None:
    """Run a verb that changes something."""
    for broker, nodes in select(arguments.names, place):
        arguments.act(broker, nodes)


def serve(arguments: argparse.Namespace, place: Place) -> None:
    """Run brokers in the foreground. Signals are taken from here on, not earlier: a broker would inherit the mask."""
    asked = select(arguments.names, place)
    for broker, nodes in asked:
        control.up(broker, nodes)
        print(f"{broker.name} answers at {broker.url(nodes)}", flush=True)
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        control.watch(asked, lambda: signal.sigtimedwait(signals, 0.5) is not None)
    finally:
        for broker, nodes in asked:
            control.down(broker, nodes)


def status(arguments: argparse.Namespace, place: Place) -> bool:
    """Print a line a node."""
    states = {
        node.name: control.state(broker, node) for broker, nodes in select(arguments.names, place) for node in nodes
    }
    for name, state in states.items():
        print(f"{name}\t{state}")
    return bool(arguments.names) and set(states.values()) != {"up"}


def describe(arguments: argparse.Namespace, place: Place) -> None:
    """Print one JSON object a broker; a list where several are meant."""
    told = [control.describe(broker, nodes) for broker, nodes in select(arguments.names, place)]
    print(json.dumps(told[0] if len(told) == 1 else told, indent=2))


def url(arguments: argparse.Namespace, place: Place) -> None:
    """Print a URL: of the broker, with all its nodes, or of one node."""
    print(named(arguments.name).url([node for _, nodes in select([arguments.name], place) for node in nodes]))


def alarm(arguments: argparse.Namespace, place: Place) -> None:
    """Raise or clear the alarm."""
    for broker, nodes in select([arguments.name], place):
        for node in nodes:
            broker.alarm(node, on=arguments.state == "on")
