"""The verbs, on the nodes of one broker. What is asked for already is done already: every verb may be said twice."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING, Final

from launcher import certificates, packages, probes, processes
from launcher.place import LaunchError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Sequence

    from launcher.broker import Broker, Node

START: Final = 120.0
STOP: Final = 60.0
LEAVE: Final = 3.0
"""Seconds that a port may take to be free after the process that held it has gone."""
POLL: Final = 0.05
LOG_LINES: Final = 25
LOG_SIZE: Final = 20_000_000


def up(broker: Broker, nodes: Sequence[Node]) -> None:
    """Start what does not run, on its data, and wait until all of it answers."""
    packages.ensure(broker.programs, broker.packages)
    with locks(nodes):
        started = {node.name: start(broker, node) for node in nodes if not processes.members(node.mark)}
        for node in nodes:
            if processes.stopped(node.mark):
                raise LaunchError(f"{node.name} is paused; resume it first")
            wait_for_answer(broker, node, started.get(node.name))


def down(broker: Broker, nodes: Sequence[Node]) -> None:
    """Ask the nodes to end, all at once, and wait."""
    if not nodes[0].place.folder.exists():
        return
    with locks(nodes), contextlib.ExitStack() as stack:
        found = {node.name: stack.enter_context(processes.held(node.mark)) for node in nodes}
        for each in found.values():
            each.tell(signal.SIGCONT)
            each.tell_main(signal.SIGTERM)
        for node in nodes:
            if not found[node.name].gone(STOP):
                raise LaunchError(f"{node.name} did not end in {STOP:.0f} s; kill it, or see {node.log}")
            processes.kill(node.mark, STOP)
        broker.withdraw(nodes[0].place)


def kill(nodes: Sequence[Node]) -> None:
    """End the nodes at once."""
    if not nodes[0].place.folder.exists():
        return
    with locks(nodes), contextlib.ExitStack() as stack:
        found = {node.name: stack.enter_context(processes.held(node.mark)) for node in nodes}
        for each in found.values():
            each.tell(signal.SIGKILL)
        for node in nodes:
            if not (found[node.name].gone(STOP) and processes.kill(node.mark, STOP)):
                raise LaunchError(f"{node.name} cannot be killed: {processes.members(node.mark)}")


def pause(nodes: Sequence[Node]) -> None:
    """Freeze every process of the nodes."""
    for node in nodes:
        with processes.held(node.mark) as found:
            if not found.descriptors:
                raise LaunchError(f"{node.name} does not run")
            found.tell(signal.SIGSTOP)
        while not processes.stopped(node.mark):
            time.sleep(POLL)


def resume(nodes: Sequence[Node]) -> None:
    """Let them go on."""
    for node in nodes:
        with processes.held(node.mark) as found:
            found.tell(signal.SIGCONT)


def purge(broker: Broker, nodes: Sequence[Node]) -> None:
    """Kill the nodes and remove all they had."""
    if not nodes[0].place.folder.exists():
        return
    kill(nodes)
    broker.withdraw(nodes[0].place)
    with locks(nodes):
        for node in nodes:
            shutil.rmtree(node.folder, ignore_errors=True)


def state(broker: Broker, node: Node) -> str:
    """Say in a word how a node is."""
    if not processes.members(node.mark):
        return "down"
    if processes.stopped(node.mark):
        return "paused"
    return "up" if answers(broker, node) else "starting"


def describe(broker: Broker, nodes: Sequence[Node]) -> dict[str, object]:
    """Say everything of a broker; of the nodes one by one where it has several."""
    each = [describe_node(broker, node) for node in nodes]
    if len(each) == 1:
        return each[0]
    running = all(told["running"] for told in each)
    urls = {listener: broker.url(nodes, listener) for listener in broker.urls(nodes[0])}
    whole = broker.describe(nodes) if packages.installed(broker.programs) else {}
    return {**each[0], **whole, "name": broker.name, "running": running, "urls": urls, "nodes": each}


def describe_node(broker: Broker, node: Node) -> dict[str, object]:
    """Say everything of a node."""
    running = processes.members(node.mark)
    tls = certificates.describe(node.place) if broker.tls else {"ca": None, "certificates": {}}
    return {
        "name": node.name,
        "version": packages.version(broker.packages[0]),
        "running": bool(running),
        "pid": running[0] if running else None,
        "log": str(node.log),
        "data": str(node.data),
        "urls": broker.urls(node),
        "ports": dict(node.ports),
        "users": broker.users,
        **tls,
        **(broker.describe([node]) if packages.installed(broker.programs) else {}),
    }


def watch(asked: Sequence[tuple[Broker, Sequence[Node]]], ended: Callable[[], bool]) -> None:
    """Show the nodes' logs until `ended` (it waits a little each time); raise where a node ends by itself."""
    nodes = [node for _, nodes in asked for node in nodes]
    with contextlib.ExitStack() as stack:
        logs = [stack.enter_context(node.log.open("rb")) for node in nodes]
        while True:
            for log in logs:
                sys.stdout.buffer.write(log.read())
            sys.stdout.flush()
            if ended():
                return
            if gone := [node for node in nodes if not processes.members(node.mark)]:
                raise LaunchError(f"{gone[0].name} ended. The end of {gone[0].log}:\n{log_end(gone[0])}")


@contextlib.contextmanager
def locks(nodes: Sequence[Node]) -> Iterator[None]:
    """Keep other launchers from these nodes; always in one order, so that two never wait for each other."""
    with contextlib.ExitStack() as stack:
        for node in sorted(nodes, key=lambda node: node.name):
            stack.enter_context(node.place.lock(node.folder.name))
        yield


def start(broker: Broker, node: Node) -> subprocess.Popen[bytes]:
    """Start a node."""
    for listener, port in node.ports.items():
        wait_for_port(node, listener, port)
    if broker.tls:
        certificates.ensure(node.place)
    node.data.mkdir(parents=True, exist_ok=True)
    if node.log.exists() and node.log.stat().st_size > LOG_SIZE:
        node.log.rename(node.log.with_suffix(".old"))
    broker.prepare(node)
    with broker.support(node):
        return processes.spawn(node.mark, broker.command(node), node.log)


def wait_for_port(node: Node, listener: str, port: int) -> None:
    """Wait a moment for a port that is being left; say whose it is not."""
    deadline = time.monotonic() + LEAVE
    while probes.taken(node.place.host, port):
        if time.monotonic() > deadline:
            message = f"port {port} ({listener} of {node.name}) is taken by another program"
            raise LaunchError(f"{message}; end that, or set ANYQUEUE_BROKERS_PORT to where 100 ports are free")
        time.sleep(POLL)


def answers(broker: Broker, node: Node) -> bool:
    """Say whether a node speaks its protocol."""
    try:
        broker.probe(node)
    except OSError:
        return False
    return True


def wait_for_answer(broker: Broker, node: Node, process: subprocess.Popen[bytes] | None) -> None:
    """Return once a node answers; else end what was started, and show how its log ends."""
    deadline = time.monotonic() + START
    while not answers(broker, node):
        ended = process.poll() if process else None
        if ended is not None or time.monotonic() > deadline:
            if process:
                processes.kill(node.mark, STOP)
            how = f"ended with status {ended}" if ended is not None else f"did not answer in {START:.0f} s"
            raise LaunchError(f"{node.name} {how}. The end of {node.log}:\n{log_end(node)}")
        time.sleep(POLL)


def log_end(node: Node) -> str:
    """Return the last lines of a log that say something."""
    text = node.log.read_text(errors="replace") if node.log.exists() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(f"  {line[:300]}" for line in lines[-LOG_LINES:])
