"""The launcher's pure parts, the brokers' configuration, and the compose file beside them."""

from __future__ import annotations

import re
import string
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from ruamel.yaml import YAML

from launcher.catalogue import BROKERS, select
from launcher.place import DEFAULT_PORT, ROOM, LaunchError, Place

if TYPE_CHECKING:
    from launcher.broker import Broker

ROOT: Final = ROOM.parent
COMPOSE: Final = ROOT / "docker-compose.yml"
WORKFLOW: Final = ROOT / ".github" / "workflows" / "ci.yml"
PLACE: Final = Place(folder=Path("/nowhere"), base=DEFAULT_PORT)
INNER: Final = {"distribution"}
"""Listeners that only nodes use among themselves."""


def services() -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(COMPOSE.read_text())["services"]
    return loaded


def each_broker() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("broker", BROKERS.values(), ids=list(BROKERS))


# Where things are


def test_ports_are_distinct_and_no_client_is_given_one() -> None:
    """A hundred ports a place. Linux gives its clients' sockets 32768 and up."""
    offsets = [offset for broker in BROKERS.values() for node in broker.offsets for offset in node.values()]
    assert len(set(offsets)) == len(offsets)
    assert max(offsets) < 80  # then come the port mapper's and the tools'
    assert DEFAULT_PORT + 100 <= 32_768


@pytest.mark.parametrize("port", ["x", "-1", "80", "70000", "35600.0"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(LaunchError, match="ANYQUEUE_BROKERS_PORT must be a number from 1024 to 65000"):
        Place.from_environment({"ANYQUEUE_BROKERS_PORT": port})


def test_the_place_is_read_from_the_environment(tmp_path: Path) -> None:
    everywhere = "0.0.0.0"  # noqa: S104 -- as in a container
    chosen = {"DIR": str(tmp_path), "PORT": "4000", "HOST": everywhere}
    environment = {f"ANYQUEUE_BROKERS_{name}": value for name, value in chosen.items()}
    assert Place.from_environment(environment) == Place(folder=tmp_path, base=4000, host=everywhere)
    assert Place.from_environment({}) == Place(folder=ROOT / ".brokers", base=DEFAULT_PORT)


def names(*asked: str) -> list[str]:
    return [node.name for _, nodes in select(asked, PLACE) for node in nodes]


def test_nodes_are_selected_by_name() -> None:
    cluster = ["rabbitmq-cluster:1", "rabbitmq-cluster:2", "rabbitmq-cluster:3"]
    assert names("rabbitmq-cluster") == cluster
    assert names("rabbitmq-cluster:2", "rabbitmq") == ["rabbitmq-cluster:2", "rabbitmq"]
    assert {"rabbitmq", "gearmand", *cluster} <= set(names())


@pytest.mark.parametrize("name", ["kafka", "rabbitmq:1", "rabbitmq-cluster:4", ""])
def test_an_unknown_name_says_which_are_known(name: str) -> None:
    with pytest.raises(LaunchError, match=r"unknown (broker|node) .*rabbitmq"):
        names(name)


def test_a_url_names_every_node() -> None:
    (pair,) = select(["rabbitmq-cluster"], PLACE)
    assert pair[0].url(pair[1]) == "amqp://anyqueue:anyqueue@127.0.0.1:26610,127.0.0.1:26620,127.0.0.1:26630/"


# Configuration


@each_broker()
def test_every_name_in_a_configuration_is_filled_in(broker: Broker, tmp_path: Path) -> None:
    node = broker.nodes(Place(folder=tmp_path, base=DEFAULT_PORT))[0]
    node.folder.mkdir()
    for path in broker.source.iterdir():
        if "${" in path.read_text():
            written = broker.render(node, path.name, stores="stores").read_text()
            assert "${" not in written
            assert set(string.Template(path.read_text()).get_identifiers()) & {*node.ports, "data"}


def test_the_cluster_has_the_nodes_that_its_configuration_names() -> None:
    told = re.findall(r"nodes\.\d = (\S+)@localhost", (ROOM / "rabbitmq-cluster" / "cluster.conf").read_text())
    assert told == [name.replace(":", "-") for name in names("rabbitmq-cluster")]


# Compose


@pytest.mark.parametrize(("schema", "file"), [("compose-spec", COMPOSE), ("github-workflows", WORKFLOW)])
def test_a_file_for_other_programs_fits_its_schema(schema: str, file: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- ours
    assert done.returncode == 0, done.stdout + done.stderr


def test_ci_has_every_python_and_only_targets_that_there_are() -> None:
    jobs = YAML(typ="safe").load(WORKFLOW.read_text())["jobs"]
    for name in ("contract", "compose", "wheel"):
        assert jobs[name]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]
    commands = "\n".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    targets = set(re.findall(r"^make ([a-z-]+)", commands, re.MULTILINE))
    assert targets >= {"test", "compare", "docs"}
    assert targets <= set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_compose_has_every_broker() -> None:
    assert set(services()) == set(BROKERS)


@each_broker()
def test_compose_publishes_the_launchers_ports(broker: Broker) -> None:
    """On loopback only, by the same numbers inside and outside."""
    wanted = {port for node in broker.nodes(PLACE) for listener, port in node.ports.items() if listener not in INNER}
    published = [re.fullmatch(r"127\.0\.0\.1:([\d-]+):\1", line) for line in services()[broker.name]["ports"]]
    spans = [list(map(int, match[1].split("-"))) for match in published if match]
    assert len(spans) == len(published)
    assert {port for span in spans for port in range(span[0], span[-1] + 1)} == wanted


@each_broker()
def test_an_image_runs_the_launcher_on_the_same_configuration(broker: Broker) -> None:
    """The folder brokers/ is copied as it is, and what Debian brings is what the launcher installs."""
    service = services()[broker.name]
    assert service["command"] == ["serve", broker.name]
    assert service["healthcheck"]["test"][-2:] == ["status", broker.name]
    assert service["build"]["context"] == "brokers"
    text = (ROOM / service["build"]["dockerfile"]).read_text()
    assert "FROM debian:bookworm-slim\n" in text
    assert "COPY . /opt/brokers\n" in text
    assert 'ENTRYPOINT ["python3", "/opt/brokers/launch.py"]' in text
    installs = re.search(r"install --yes --no-install-recommends (.*) \\", text)
    assert installs
    assert set(installs[1].split()) == {*broker.packages, "python3"}


def test_the_page_tells_of_every_broker() -> None:
    text = (ROOT / "docs" / "brokers.md").read_text()
    for broker in BROKERS.values():
        assert f"`{broker.name}`" in text
        ports = [port for node in broker.nodes(PLACE) for name, port in node.ports.items() if name not in INNER]
        assert {str(port) for port in ports} <= set(re.findall(r"\d{5}", text))
