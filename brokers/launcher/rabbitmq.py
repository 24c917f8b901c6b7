"""RabbitMQ, alone and as a cluster of three local nodes.

Debian's own script for the service changes user and reads /etc; the script below it is run instead, told everything by
its environment. The nodes of one folder share an Erlang port mapper (epmd) and a cookie; the first node up brings the
mapper, the last one down takes it away, and a killed node leaves it, as a crash would.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from launcher import probes, processes
from launcher.broker import Broker, Node
from launcher.place import LOOPBACK, ROOM, LaunchError
from launcher.processes import Command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from launcher.place import Place

SCRIPTS: Final = "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin"
EPMD_OFFSET: Final = 9
CTL_OFFSET: Final = 80
NAMES: Final = ("rabbitmq", *(f"rabbitmq-cluster:{number}" for number in (1, 2, 3)))
"""Every node that may need the port mapper."""
AGAIN: Final = 5000
"""Milliseconds until what could not be dead-lettered is tried again. By default 180,000: see docs/backends/amqp.md."""
ERLANG: Final = (
    "+S 2:2 +SDio 4 -kernel inet_dist_use_interface {127,0,0,1}"
    f" -rabbit dead_letter_worker_publisher_confirm_timeout {AGAIN}"
)
"""Two schedulers and few threads: small, and quick to start. Nodes talk on loopback only."""
WATERMARK: Final = 0.4


def _offsets(first: int) -> dict[str, int]:
    return {name: first + number for number, name in enumerate(("amqp", "amqps", "stomp", "stomps", "distribution"))}


class RabbitMQ(Broker):
    """One node."""

    name = "rabbitmq"
    packages = ("rabbitmq-server", "openssl", "amqp-tools")
    """The tools are a client of others', for the tests."""
    programs = (f"{SCRIPTS}/rabbitmq-server", "/usr/bin/openssl", "/usr/bin/amqp-publish")
    offsets: Sequence[Mapping[str, int]] = (_offsets(0),)
    main = "amqp"
    tls = True

    def prepare(self, node: Node) -> None:
        """Write its configuration."""
        self.render(node, "rabbitmq.conf")
        self.render(node, "enabled_plugins")

    @contextlib.contextmanager
    def support(self, node: Node) -> Iterator[None]:
        """Have a cookie and a port mapper; nobody takes the mapper away meanwhile."""
        place = node.place
        with place.lock("epmd"):
            _ensure_cookie(place)
            _ensure_epmd(place)
            yield

    def withdraw(self, place: Place) -> None:
        """End the port mapper after the last node."""
        with place.lock("epmd"):
            if not any(processes.members(_mark(name, place)) for name in NAMES):
                _end_epmd(place)

    def command(self, node: Node) -> Command:
        """Run the script that replaces itself by the server, as under systemd."""
        environment = {
            **_erlang_environment(node.place),
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_NODENAME": _erlang_name(node),
            "RABBITMQ_DIST_PORT": str(node.ports["distribution"]),
            "RABBITMQ_CONFIG_FILE": str(node.folder / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(node.folder / "more" / "*.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(node.folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(node.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(node.data),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(node.folder / "generated"),
            "RABBITMQ_LOG_BASE": str(node.folder),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
        }
        return Command(argv=[str(self.scripts / "rabbitmq-server")], environment=environment)

    def probe(self, node: Node) -> None:
        """Ask AMQP and STOMP: the plugin listens first, AMQP last."""
        probes.amqp(LOOPBACK, node.ports["amqp"])
        probes.stomp(LOOPBACK, node.ports["stomp"], "anyqueue")

    def urls(self, node: Node) -> dict[str, str]:
        """Return the four listeners'."""
        names = ("amqp", "amqps", "stomp", "stomps")
        return {name: f"{name}://anyqueue:anyqueue@127.0.0.1:{node.ports[name]}/" for name in names}

    def describe(self, nodes: Sequence[Node]) -> dict[str, object]:
        """Add rabbitmqctl (for the first node) and the witness (for all), as commands with their environment."""
        environment = _erlang_environment(nodes[0].place)
        names = list(map(_erlang_name, nodes))
        env = ["env", *(f"{name}={value}" for name, value in environment.items() if name != "PATH")]
        libraries = f"ERL_LIBS={self.scripts.parent / 'plugins'}"
        witness = ["escript", str(ROOM / "rabbitmq" / "witness.escript"), *names]
        return {
            "node": names[0],
            "ctl": [*env, str(self.scripts / "rabbitmqctl"), "--node", names[0]],
            "witness": [*env, libraries, *witness],
        }

    def alarm(self, node: Node, *, on: bool) -> None:
        """Raise or clear the memory alarm, as `rabbitmqctl set_vm_memory_high_watermark` would in a second more."""
        level = 0.0 if on else WATERMARK
        _call(node, f"vm_memory_monitor set_vm_memory_high_watermark [{level}]")
        deadline = time.monotonic() + 10
        while ("resource_limit,memory" in _call(node, "rabbit_alarm get_alarms []")) != on:
            if time.monotonic() > deadline:
                raise LaunchError(f"{node.name} did not {'raise' if on else 'clear'} its memory alarm; see {node.log}")
            time.sleep(0.02)

    @cached_property
    def scripts(self) -> Path:
        """Return the folder of the real scripts, of the newest version there is."""
        found = sorted(Path("/").glob(SCRIPTS.removeprefix("/")))
        if not found:
            raise LaunchError(f"RabbitMQ is not installed: no {SCRIPTS}")
        return found[-1]


class RabbitMQCluster(RabbitMQ):
    """Three nodes on one machine; quorum queues have a copy on each."""

    name = "rabbitmq-cluster"
    offsets = (_offsets(10), _offsets(20), _offsets(30))
    configuration = "rabbitmq"

    def prepare(self, node: Node) -> None:
        """Add what makes the nodes find each other."""
        super().prepare(node)
        more = node.folder / "more"
        more.mkdir(exist_ok=True)
        (more / "cluster.conf").write_text((ROOM / self.name / "cluster.conf").read_text())


def _erlang_name(node: Node) -> str:
    return f"{node.name.replace(':', '-')}@localhost"


def _erlang_environment(place: Place) -> dict[str, str]:
    """Return what every Erlang program of this folder needs: the cookie's home, the port mapper, no file of /etc."""
    first = place.base + CTL_OFFSET
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "LANG": "C.UTF-8",
        "HOME": str(_home(place)),
        "ERL_EPMD_PORT": str(place.base + EPMD_OFFSET),
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_CTL_DIST_PORT_MIN": str(first),
        "RABBITMQ_CTL_DIST_PORT_MAX": str(first + 9),
    }


def _home(place: Place) -> Path:
    return place.folder / "erlang"


def _mark(name: str, place: Place) -> str:
    return Node(name=name, place=place, ports={}).mark


def _ensure_cookie(place: Place) -> None:
    """Write the secret that nodes and tools share; Erlang refuses one that others can read."""
    path = _home(place) / ".erlang.cookie"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(16))


def _ensure_epmd(place: Place) -> None:
    """Start the port mapper, unless one answers: any Erlang tool that finds none starts one for itself."""
    port = place.base + EPMD_OFFSET
    if _mapped(port):
        return
    if probes.taken(LOOPBACK, port):
        raise LaunchError(f"port {port} (epmd) is taken; set ANYQUEUE_BROKERS_PORT to where 100 ports are free")
    command = Command(argv=["epmd"], environment=_erlang_environment(place))
    processes.spawn(_mark("epmd", place), command, _home(place) / "epmd.txt")
    deadline = time.monotonic() + 10
    while not _mapped(port):
        if time.monotonic() > deadline:
            raise LaunchError(f"epmd did not start; see {_home(place) / 'epmd.txt'}")
        time.sleep(0.01)


def _end_epmd(place: Place) -> None:
    """End the port mapper; one that a tool started for itself is asked to, by its own protocol."""
    processes.kill(_mark("epmd", place), 10)
    if _mapped(place.base + EPMD_OFFSET):
        environment = _erlang_environment(place)
        subprocess.run(["epmd", "-kill"], env=environment, capture_output=True, check=False)  # noqa: S607 -- from PATH


def _mapped(port: int) -> bool:
    try:
        probes.epmd(LOOPBACK, port)
    except OSError:
        return False
    return True


def _call(node: Node, what: str) -> str:
    """Call a function of a node."""
    program = next(Path("/usr/lib/erlang").glob("erts-*/bin/erl_call"), None)
    if program is None:
        raise LaunchError("Erlang's erl_call is not installed: apt-get install erlang-base")
    argv = [str(program), "-sname", _erlang_name(node), "-a", what]
    environment = _erlang_environment(node.place)
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=20)  # noqa: S603 -- Erlang's
    if done.returncode:
        raise LaunchError(f"{node.name} does not answer: {done.stderr.strip() or done.stdout.strip()}")
    return "".join(done.stdout.split())
