"""The launcher and RabbitMQ: what every verb does to a real broker, and that the configuration is what it says."""

from __future__ import annotations

import socket
import ssl
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pika
import pytest
from launching import Launch, LaunchFailed
from pika.exceptions import ChannelClosedByBroker, ProbableAccessDeniedError, ProbableAuthenticationError

from anyqueue.testing.harness import Count
from anyqueue.testing.targets.rabbitmq_witness import RabbitmqWitness, WitnessError
from launcher import probes, processes
from launcher.place import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable

    from pika.adapters.blocking_connection import BlockingChannel

pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(900),  # the first of them may have to install packages
    pytest.mark.xdist_group("rabbitmq-launched"),
]


def connect(
    launch: Launch, user: str = "anyqueue", *, vhost: str = "/", password: str | None = None, offset: int = 0
) -> pika.BlockingConnection:
    credentials = pika.PlainCredentials(user, password or user)
    port = launch.place.base + offset
    return pika.BlockingConnection(pika.ConnectionParameters(LOOPBACK, port, vhost, credentials))


def confirming(connection: pika.BlockingConnection) -> BlockingChannel:
    channel = connection.channel()
    channel.confirm_delivery()
    return channel


def declare(channel: BlockingChannel, queue: str, kind: str) -> None:
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": kind})


def publish(channel: BlockingChannel, queue: str, body: bytes) -> None:
    channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2), mandatory=True)


def members(launch: Launch, name: str) -> list[int]:
    return processes.members(f"{name}@{launch.place.folder.resolve()}")


def test_up_says_where_it_is(rabbitmq: Launch) -> None:
    told = rabbitmq.describe("rabbitmq")
    assert rabbitmq("url", "rabbitmq").strip() == told["urls"]["amqp"]
    assert told["urls"]["amqp"] == f"amqp://anyqueue:anyqueue@127.0.0.1:{rabbitmq.place.base}/"
    assert told["running"]
    assert told["version"].startswith("3.")
    assert "beam" in Path(f"/proc/{told['pid']}/comm").read_text()
    assert Path(told["log"]).stat().st_size > 0


def test_up_again_changes_nothing(rabbitmq: Launch) -> None:
    before = rabbitmq.describe("rabbitmq")["pid"]
    rabbitmq("up", "rabbitmq")
    assert rabbitmq.describe("rabbitmq")["pid"] == before


@pytest.mark.parametrize("verb", ["kill", "down"])
async def test_messages_survive(rabbitmq: Launch, witness: RabbitmqWitness, verb: str) -> None:
    """Confirmed messages of durable queues are there after kill -9, and after an orderly end. The witness lives on."""
    with connect(rabbitmq) as connection:
        channel = confirming(connection)
        for kind in ("quorum", "classic"):
            declare(channel, f"{verb}-{kind}", kind)
            publish(channel, f"{verb}-{kind}", b"kept")
    await witness.save()
    rabbitmq("down", "rabbitmq-cluster")  # which would use the port mapper, too
    rabbitmq(verb, "rabbitmq")
    assert not rabbitmq.describe("rabbitmq")["running"]
    assert not members(rabbitmq, "rabbitmq")
    assert not probes.taken(LOOPBACK, rabbitmq.place.base)
    assert bool(members(rabbitmq, "epmd")) == (verb == "kill"), "a killed node leaves the port mapper, as a crash does"
    with pytest.raises(WitnessError, match="nodedown"):
        await witness.queues()
    rabbitmq("up", "rabbitmq")
    for kind in ("quorum", "classic"):
        assert await witness.count(f"{verb}-{kind}") == Count(waiting=1, unacked=0)
    with connect(rabbitmq) as connection:
        channel = connection.channel()
        for kind in ("quorum", "classic"):
            assert channel.basic_get(f"{verb}-{kind}")[2] == b"kept"


def test_pause_freezes_and_resume_goes_on(rabbitmq: Launch) -> None:
    rabbitmq("pause", "rabbitmq")
    with socket.create_connection((LOOPBACK, rabbitmq.place.base), timeout=0.5) as link:  # the kernel accepts
        link.sendall(probes.AMQP_HEADER)
        with pytest.raises(TimeoutError):
            link.recv(1)
        with pytest.raises(LaunchFailed, match="paused"):
            rabbitmq("status", "rabbitmq")
        with pytest.raises(LaunchFailed, match="is paused; resume it first"):
            rabbitmq("up", "rabbitmq")
        rabbitmq("resume", "rabbitmq")
        link.settimeout(10)
        assert link.recv(1) == b"\x01"
    assert rabbitmq("status", "rabbitmq") == "rabbitmq\tup\n"


def test_a_user_with_limits(rabbitmq: Launch) -> None:
    with connect(rabbitmq, "limited") as connection:
        channel = confirming(connection)
        declare(channel, "limited-mine", "quorum")
        publish(channel, "limited-mine", b"mine")
        assert channel.basic_get("limited-mine", auto_ack=True)[2] == b"mine"
        with pytest.raises(ChannelClosedByBroker, match="ACCESS_REFUSED"):
            declare(channel, "another", "quorum")


def test_a_virtual_host_without_entry(rabbitmq: Launch) -> None:
    with pytest.raises(ProbableAccessDeniedError):
        connect(rabbitmq, vhost="forbidden")


def test_a_wrong_password(rabbitmq: Launch) -> None:
    with pytest.raises(ProbableAuthenticationError):
        connect(rabbitmq, password="wrong")  # noqa: S106 -- indeed


def test_the_memory_alarm_blocks_and_is_cleared(rabbitmq: Launch) -> None:
    with connect(rabbitmq) as connection:
        seen: list[str] = []
        connection.add_on_connection_blocked_callback(lambda *_: seen.append("blocked"))
        connection.add_on_connection_unblocked_callback(lambda *_: seen.append("unblocked"))
        channel = connection.channel()
        declare(channel, "alarm", "quorum")
        rabbitmq("alarm", "rabbitmq", "on")
        try:
            channel.basic_publish("", "alarm", b"waits")
            until(connection, lambda: seen == ["blocked"])
        finally:
            rabbitmq("alarm", "rabbitmq", "off")
        until(connection, lambda: seen == ["blocked", "unblocked"])


def until(connection: pika.BlockingConnection, fact: Callable[[], bool]) -> None:
    """Let pika work until something is so: pytest's timeout is the deadline."""
    while not fact():
        connection.process_data_events(time_limit=0.1)


def tls(launch: Launch, certificate: str | None = None) -> ssl.SSLContext:
    told = launch.describe("rabbitmq")
    context = ssl.create_default_context(cafile=told["ca"])
    if certificate:
        pair = told["certificates"][certificate]
        context.load_cert_chain(pair["certificate"], pair["key"])
    return context


def test_tls_with_a_password(rabbitmq: Launch) -> None:
    with secured(rabbitmq, tls(rabbitmq), pika.PlainCredentials("anyqueue", "anyqueue")) as connection:
        assert connection.is_open


def test_a_client_certificate_stands_for_the_password(rabbitmq: Launch) -> None:
    with secured(rabbitmq, tls(rabbitmq, "client"), pika.credentials.ExternalCredentials()) as connection:
        declare(connection.channel(), "by-certificate", "quorum")


def secured(
    launch: Launch, context: ssl.SSLContext, credentials: pika.PlainCredentials | pika.credentials.ExternalCredentials
) -> pika.BlockingConnection:
    options = pika.SSLOptions(context, "localhost")
    port = launch.place.base + 1
    parameters = pika.ConnectionParameters(LOOPBACK, port, credentials=credentials, ssl_options=options)
    return pika.BlockingConnection(parameters)


def test_rabbitmqctl_works_as_described(rabbitmq: Launch) -> None:
    command = [*rabbitmq.describe("rabbitmq")["ctl"], "--quiet", "list_vhosts"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 -- as described
    assert set(said.split()) == {"name", "/", "forbidden"}


def test_a_broken_configuration_shows_the_end_of_the_log(apart: Launch) -> None:
    apart.place.folder.joinpath("rabbitmq").mkdir(parents=True)
    apart.place.folder.joinpath("rabbitmq", "advanced.config").write_text("[{rabbit, nonsense")
    with pytest.raises(LaunchFailed, match=r"(?s)rabbitmq ended with status 1.*log\.txt:.*advanced_configuration"):
        apart.start("rabbitmq")
    assert not members(apart, "rabbitmq")


async def test_a_cluster_lives_on_without_one_node(cluster: Launch) -> None:
    """A quorum queue has a copy on each node: whichever dies, what was confirmed is there, and it takes more."""
    witness = RabbitmqWitness(cluster.describe("rabbitmq-cluster")["witness"])
    with connect(cluster, offset=10) as connection:
        channel = confirming(connection)
        declare(channel, "of-three", "quorum")
        publish(channel, "of-three", b"before")
        cluster("kill", "rabbitmq-cluster:2")
        publish(channel, "of-three", b"after")
    with pytest.raises(LaunchFailed, match="rabbitmq-cluster:2\tdown"):
        cluster("status", "rabbitmq-cluster")
    with connect(cluster, offset=30) as connection:
        channel = connection.channel()
        assert [channel.basic_get("of-three", auto_ack=True)[2] for _ in range(2)] == [b"before", b"after"]
    cluster("up", "rabbitmq-cluster")
    assert cluster("status", "rabbitmq-cluster").count("\tup") == 3
    cluster("kill", "rabbitmq-cluster:1")
    assert await witness.count("of-three") == Count(waiting=0, unacked=0)
    witness.close()
