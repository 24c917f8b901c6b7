"""The pages on RabbitMQ: their blocks are run, on brokers of this session's own."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import launching
import msgspec
import pytest
from blocks import NO_ENGINE, ROOT, collected, filled, run
from launching import altered

import anyqueue
from anyqueue import AuthFailed, ConnectFailed, Feature, QueueError, SendError, Topic
from anyqueue.testing.stopwatch import Stopwatch
from anyqueue.testing.targets.hub_process import HubProcess, free_port
from launcher.place import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from launching import Launch

    from anyqueue import Client, Consumer, Message

pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(900),  # the first of them may have to install packages
    pytest.mark.xdist_group("rabbitmq-launched"),
]
TLS: Final = re.compile(r"^(listeners\.ssl|ssl_|auth_mechanisms).*\n", re.MULTILINE)
Ctl = "Callable[..., str]"


def ctl_of(launch: Launch, name: str) -> Ctl:
    """Return what runs `rabbitmqctl` on a broker, or a block of the page in which it is."""
    words = shlex.join(launch.describe(name)["ctl"])

    def ctl(block: str) -> str:
        return run(filled(block, {"rabbitmqctl": words}), launch.place.folder)

    return ctl


@pytest.fixture
def ctl(rabbitmq: Launch) -> Ctl:
    """Have rabbitmqctl."""
    return ctl_of(rabbitmq, "rabbitmq")


# Permissions


def as_mailer(url: str) -> str:
    return url.replace("anyqueue:anyqueue@", "mailer:secret@")


@pytest.fixture
async def mailer(rabbitmq: Launch, ctl: Ctl, block: str) -> AsyncIterator[Client]:
    """Have a user with the rights of the page."""
    ctl("rabbitmqctl add_user mailer secret")
    try:
        ctl(block)
        async with anyqueue.connect(as_mailer(rabbitmq.describe("rabbitmq")["urls"]["amqp"])) as client:
            yield client
    finally:
        ctl("rabbitmqctl delete_user mailer")


@pytest.mark.block("docs/backends/amqp.md", "rabbitmqctl set_permissions")
async def test_a_user_with_the_rights_of_the_page(mailer: Client, rabbitmq: Launch) -> None:
    """It has the queue, delays, groups and dead letters, and nobody else's queue; after a refusal it goes on."""
    topic = Topic("emails")
    async with mailer.consumer("emails") as messages:
        await mailer.send("emails", b"now")
        await take(messages, b"now", lambda message: message.retry(delay=0.01))
        await take(messages, b"now", lambda message: message.reject("no such address"))
        await mailer.send("emails", b"later", delay=0.01)
        await take(messages, b"later")
    async with mailer.consumer("emails.dead", dead_letter=None) as messages:
        await take(messages, b"now")
    async with mailer.consumer(topic, group="billing") as messages:
        await mailer.send(topic, b"told", delay=0.01)
        await take(messages, b"told", lambda message: message.retry(delay=0.01))
        await take(messages, b"told")
    for other in ("orders", "emails2", "my.emails", Topic("orders")):
        with pytest.raises(SendError, match="ACCESS_REFUSED") as caught:
            await mailer.send(other, b"x")
        assert isinstance(caught.value.__cause__, QueueError)
        with pytest.raises(QueueError, match="ACCESS_REFUSED"):
            async with mailer.consumer(other, **({"group": "billing"} if isinstance(other, Topic) else {})):
                pass
    await published_by_name(rabbitmq)
    await mailer.send("emails", b"the connection lives")


async def take(
    messages: Consumer[Any], body: bytes, settle: Callable[[Message], Awaitable[None]] = lambda message: message.ack()
) -> None:
    """Take the next message, which is this one, and settle it."""
    (message,) = await messages.receive(1, timeout=20)
    assert message.body == body
    await settle(message)


async def published_by_name(rabbitmq: Launch) -> None:
    """Publish to a queue of others by way of the default exchange, and read it as its owner: the page says so."""
    url = rabbitmq.describe("rabbitmq")["urls"]["amqp"]
    async with anyqueue.connect(url) as owner, owner.consumer("strangers", dead_letter=None) as messages:
        async with anyqueue.connect(f"{as_mailer(url)}?declare=never") as mailer:
            await mailer.send("strangers", b"from outside")
            with pytest.raises(QueueError, match="ACCESS_REFUSED"):
                async with mailer.consumer("strangers", dead_letter=None):
                    pass
        await take(messages, b"from outside")


# A policy for delays over STOMP


@pytest.fixture
def policy(ctl: Ctl, block: str) -> Iterator[None]:
    """Have the policy of the page alone, where the broker's definitions have one of another name."""
    ours = ROOT / "brokers" / "rabbitmq" / "definitions.json"
    (there,) = (policy["name"] for policy in msgspec.json.decode(ours.read_bytes())["policies"])
    ctl(f"rabbitmqctl clear_policy {there}")
    try:
        ctl(block)
        yield
    finally:
        ctl(f"rabbitmqctl clear_policy anyqueue-delays; rabbitmqctl import_definitions {shlex.quote(str(ours))}")


@pytest.mark.usefixtures("policy")
@pytest.mark.block("docs/backends/stomp.md", "rabbitmqctl set_policy")
async def test_the_policy_is_on_the_queues_in_which_messages_wait(rabbitmq: Launch, ctl: Ctl) -> None:
    """And a delayed message comes when it is due."""
    async with anyqueue.connect(f"{rabbitmq.describe('rabbitmq')['urls']['stomp']}?delay_policy=1") as client:
        assert Feature.DELAY in client.features
        watch = Stopwatch()
        await client.send("reminders", b"later", delay=0.5)
        async with client.consumer("reminders", dead_letter=None) as messages:
            await take(messages, b"later")
        assert watch.took >= 0.5
    listed = await asyncio.to_thread(ctl, "rabbitmqctl list_queues --silent name policy")
    waiting = [line.split("\t") for line in listed.splitlines() if line.startswith("aq.stomp.delay.")]
    assert [policy for name, policy in waiting if name.endswith(".reminders")] == ["anyqueue-delays"]


# TLS


@pytest.fixture
def certified(apart: Launch, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Have a RabbitMQ with the page's block in place of what ours says of TLS and logging in; what is said of it."""
    told = filled(block, {"5671": "${amqps}", "/etc/rabbitmq": "${tls}"})
    brokers = altered(tmp_path, "rabbitmq/rabbitmq.conf", lambda text: TLS.sub("", text) + told)
    monkeypatch.setattr(launching, "LAUNCH", brokers / "launch.py")
    apart.start("rabbitmq")
    return apart.describe("rabbitmq")


@pytest.mark.block("docs/backends/amqp.md", "ssl_cert_login_from")
async def test_with_the_block_of_the_page_a_certificate_is_the_user(certified: dict[str, Any]) -> None:
    """And nothing else is: no other certificate, none at all, no password."""
    at, pairs = f"amqps://{LOOPBACK}:{certified['ports']['amqps']}/", certified["certificates"]

    def shown(name: str) -> str:
        return f"{at}?ca={certified['ca']}&certificate={pairs[name]['certificate']}&key={pairs[name]['key']}"

    async with anyqueue.connect(shown("client")) as client, client.consumer("emails", dead_letter=None) as messages:
        await client.send("emails", b"signed")
        await take(messages, b"signed")
    for refused in (shown("untrusted"), f"{at}?ca={certified['ca']}", certified["urls"]["amqp"]):
        with pytest.raises((AuthFailed, ConnectFailed)):
            async with anyqueue.connect(refused, connect_timeout=5):
                pass


# A cluster


@pytest.mark.block("docs/backends/amqp.md", "classic_config.nodes.1")
def test_the_cluster_is_configured_as_the_page_says(cluster: Launch, block: str) -> None:
    """Each line is in what the launcher gives to every node, and `cluster_status` shows the three."""
    nodes = cluster.describe("rabbitmq-cluster")["nodes"]
    names = [f"rabbitmq-cluster-{number}@localhost" for number in (1, 2, 3)]
    lines = filled(block, {f"rabbit@rabbit-{number}": name for number, name in enumerate(names, 1)}).splitlines()
    for node in nodes:
        (path,) = Path(node["data"]).parent.glob("more/*.conf")
        assert {*lines} <= {*path.read_text().splitlines()}
    ctl = ctl_of(cluster, "rabbitmq-cluster")
    status = msgspec.json.decode(ctl("rabbitmqctl cluster_status --formatter json"))
    assert sorted(status["running_nodes"]) == names
    known = "".join(ctl("rabbitmqctl eval 'application:get_all_env(rabbit).'").split())
    assert "{cluster_partition_handling,pause_minority}" in known
    assert "{peer_discovery_backend,rabbit_peer_discovery_classic_config}" in known


@pytest.mark.block("docs/operations.md", "make brokers BROKERS=rabbitmq-cluster")
def test_do_it_yourself(cluster: Launch, block: str) -> None:
    """On this session's cluster, without an engine for containers; of the test it is proved that it would be run."""
    place = {"ANYQUEUE_BROKERS_DIR": cluster.place.folder, "ANYQUEUE_BROKERS_PORT": cluster.place.base}
    *commands, test = block.splitlines()
    said = run("\n".join(commands), ROOT, **place, **NO_ENGINE, PYTHON=sys.executable)
    assert said.splitlines()[0] == cluster("url", "rabbitmq-cluster").strip()
    assert msgspec.json.decode(said.splitlines()[-1])["payload"] == "kept by most"
    assert collected(test) == ["tests/brokers/test_amqp_cluster.py::test_any_node_may_die"]


# A comparison


@pytest.mark.block("docs/compare.md", "--html compare.html")
def test_compare(rabbitmq: Launch, block: str, tmp_path: Path) -> None:
    """With figures of a moment each, and a lease that ends soon."""
    port = free_port()
    hub = HubProcess(port, ["--store", "memory:"], tmp_path / "hub.log")
    hub.start()
    here = {
        "amqp://guest:guest@localhost/": rabbitmq.describe("rabbitmq")["urls"]["amqp"],
        "sqlite:///jobs.db": "'sqlite:///jobs.db?lease=1'",
        "127.0.0.1:5555": f"127.0.0.1:{port}",
        "--html": "--seconds 0.05 --html",
    }
    try:
        run(filled(block, here), tmp_path)
    finally:
        hub.stop()
    page = (tmp_path / "compare.html").read_text()
    for url in ("amqp://", "sqlite://", "zmq://"):
        assert url in page
    assert "no connection" not in page
