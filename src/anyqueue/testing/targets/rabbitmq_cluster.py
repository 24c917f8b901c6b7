"""amqp:// on a cluster of three nodes, any of which may die."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from anyqueue import URL
from anyqueue.testing.launched import LaunchedBroker
from anyqueue.testing.targets.amqp import QuorumHarness

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class ClusterHarness(QuorumHarness):
    """Three nodes on this machine. Each connection is to one of them; quorum queues have a copy on each.

    It is none of the targets that are always tested: but for the death of a node, which is tests/brokers' to prove, a
    cluster is what one node is. To run the suite on it, name
    `anyqueue.testing.targets.rabbitmq_cluster:ClusterHarness` as target.
    """

    name: ClassVar[str] = "amqp@rabbitmq-cluster"
    launches: ClassVar[str] = "rabbitmq-cluster"

    def nodes(self) -> Mapping[str, LaunchedBroker]:
        """Return the control of each node, by its name in Erlang."""
        numbers = range(1, len(URL.parse(self.launched.described.urls["amqp"]).hosts) + 1)
        return {
            f"{self.launches}-{number}@localhost": LaunchedBroker(f"{self.launches}:{number}") for number in numbers
        }

    def urls(self) -> Sequence[str]:
        """Return a URL for each node, that begins with that node and names the others after it."""
        base = URL.parse(self.url())
        hosts = base.hosts
        return [replace(base, hosts=hosts[at:] + hosts[:at]).reveal() for at in range(len(hosts))]

    async def leader(self, queue: str) -> str | None:
        """Return the node that leads a queue; None while there is none."""
        return await self._witness.leader(queue)
