"""`make compare`: every broker there is, one workload, one page.

    python benchmarks/compare_all.py [--html FILE] [what `anyqueue compare` takes]

Brokers run in containers where an engine answers, and as plain processes elsewhere, as `make brokers` does it; two hubs
run beside them, one in memory and one on a SQLite file. What was started here is stopped; what ran before goes on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from anyqueue.testing.launched import LaunchedBroker
from anyqueue.testing.targets.hub_process import HubProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT: Final = Path(__file__).parents[1]
BROKERS: Final = ("rabbitmq", "activemq", "gearmand", "prosody", "ejabberd")
PAGE: Final = ROOT / "compare.html"
LISTENERS: Final = {
    "RabbitMQ, AMQP": ("rabbitmq", "amqp", ""),
    "RabbitMQ, classic": ("rabbitmq", "amqp", "?queue_type=classic"),
    "RabbitMQ, STOMP": ("rabbitmq", "stomp", "/?delay_policy=1"),
    "ActiveMQ, STOMP": ("activemq", "stomp", ""),
    "gearmand": ("gearmand", "gearman", ""),
    "Prosody, XMPP": ("prosody", "xmpp", ""),
    "ejabberd, XMPP": ("ejabberd", "xmpp", ""),
}
"""Label -> broker, listener, options."""


def main(arguments: Sequence[str]) -> int:
    """Start what does not run, compare, stop it; return the status of the comparison."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    os.chdir(ROOT)
    page = [] if "--html" in arguments else ["--html", str(PAGE)]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="anyqueue-compare-")))
        stack.enter_context(composed() if engine() else launched())
        urls = ["memory=memory://", f"SQLite=sqlite:///{folder / 'queue.db'}"]
        urls.append(f"ZeroMQ hub={stack.enter_context(hub(folder, 'memory:'))}")
        store = f"sqlite:///{folder / 'hub.db'}"
        urls.append(f"ZeroMQ hub, SQLite={stack.enter_context(hub(folder, store))}")
        urls += map("=".join, listeners())
        status = compared([*urls, *page, *arguments])
    if page and PAGE.exists():
        print(f"the page: {PAGE}")
    return status


def compared(arguments: Sequence[str]) -> int:
    """Run the comparison to its end. A signal to this process is passed on, and its queues are deleted first."""
    command = [sys.executable, "-m", "anyqueue.cli", "compare", *arguments]
    with subprocess.Popen(command) as process:  # noqa: S603 -- ours
        try:
            return process.wait()
        except SystemExit:
            process.terminate()
            raise
        except KeyboardInterrupt:  # the terminal told it too
            return process.wait()


def listeners() -> Iterator[tuple[str, str]]:
    """Yield label and URL of all that the brokers listen on."""
    for label, (name, listener, options) in LISTENERS.items():
        yield label, f"{LaunchedBroker(name).described.urls[listener]}{options}"


def engine() -> bool:
    """Say whether there is docker compose, and an engine answers."""
    try:
        return all(
            subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603 -- our words
            for command in (["docker", "compose", "version"], ["docker", "info"])
        )
    except OSError:
        return False


@contextlib.contextmanager
def launched() -> Iterator[None]:
    """Have the brokers up as plain processes."""
    with contextlib.ExitStack() as stack:
        for name in BROKERS:
            if not LaunchedBroker(name).described.running:
                stack.callback(LaunchedBroker(name).stop)
                LaunchedBroker(name).start()
        yield


@contextlib.contextmanager
def composed() -> Iterator[None]:
    """Have the brokers up in containers. Their ports are the launcher's usual ones."""
    os.environ.pop("ANYQUEUE_BROKERS_PORT", None)
    compose = ["docker", "compose"]
    running = subprocess.run(  # noqa: S603 -- our words
        [*compose, "ps", "--services", "--status", "running"], capture_output=True, text=True, check=True
    ).stdout.split()
    missing = [name for name in BROKERS if name not in running]
    try:
        subprocess.run([*compose, "up", "--build", "--wait", *BROKERS], check=True)  # noqa: S603 -- our words
        yield
    finally:
        if missing:
            subprocess.run([*compose, "stop", *missing], check=False)  # noqa: S603 -- our words


@contextlib.contextmanager
def hub(folder: Path, store: str) -> Iterator[str]:
    """Run a hub; its URL."""
    port = free_port()
    process = HubProcess(port, ["--store", store, "--drain", "1"], folder / f"hub-{port}.log")
    process.start()
    try:
        yield f"zmq://127.0.0.1:{port}"
    finally:
        process.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
