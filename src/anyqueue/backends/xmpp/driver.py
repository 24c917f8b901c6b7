"""The driver: one session on an XMPP server. See docs/backends/xmpp.md for what becomes what there."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import secrets
import time
from typing import TYPE_CHECKING, ClassVar, Final

from anyqueue.backends.declared import DECLARED
from anyqueue.backends.xmpp import codec, names, proof, stanzas, welcome
from anyqueue.backends.xmpp.claims import MAX_ITEM
from anyqueue.backends.xmpp.codec import Stored
from anyqueue.backends.xmpp.names import Ticket
from anyqueue.backends.xmpp.nodes import Nodes
from anyqueue.backends.xmpp.options import target_of
from anyqueue.backends.xmpp.passing import PassingSubscription
from anyqueue.backends.xmpp.proof import Proof
from anyqueue.backends.xmpp.queue import QueueSubscription
from anyqueue.backends.xmpp.replies import ReplyQueues
from anyqueue.backends.xmpp.session import Session
from anyqueue.backends.xmpp.topics import Topics
from anyqueue.driver import Driver, Feature, Limits, Topic
from anyqueue.errors import (
    BatchFailed,
    Closed,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    QueueNotFound,
    SendError,
    TooLarge,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence
    from typing import Self

    from anyqueue.backends.xmpp.options import Target
    from anyqueue.backends.xmpp.stanzas import Answer, Refusal
    from anyqueue.driver import Address, Envelope, Queue, Spec, Subscription
    from anyqueue.url import URL

_log = logging.getLogger(__name__)
MAX_BODY: Final = 128 * 1024
"""In base64, with headers of the most there may be, it has room in a stanza."""
SPARE: Final = 12 * 1024
"""Of an item, kept free for the headers that a retry or a dead letter adds."""
BATCH: Final = 100
SENDS: Final = 8


class XmppDriver(Driver):
    """A driver on one session."""

    backend: ClassVar[str] = "xmpp"
    _proofs: ClassVar[dict[tuple[str, str, str, frozenset[str]], Proof]] = {}

    def __init__(self, url: URL, target: Target) -> None:
        self.features = DECLARED["xmpp"]
        self.limits = Limits(max_body=MAX_BODY, max_batch=BATCH, max_sends=SENDS, lease=target.options.lease)
        self._url = url
        self._target = target
        self._session = Session(target, url)
        self._nodes = Nodes(self._session)
        self._topics = Topics(self._session, self._nodes)
        self._replies = ReplyQueues(self._session, self._nodes)
        self._proof = Proof(atomic=False)
        self._line = secrets.token_hex(8)
        self._numbers = itertools.count()
        self._last = 0
        self._process = 0

    @classmethod
    def from_url(cls, url: URL) -> Self:
        """Make an unopened driver."""
        return cls(url, target_of(url))

    async def open(self) -> None:
        """Log in, and find out once a process whether this server can be trusted with claims."""
        await welcome.log_in(self._session)
        try:
            self._proof = await self._proved()
        except ConnectionLost as error:
            await self._session.close()
            raise ConnectFailed(f"the server took the connection, and then: {error.what}", url=self._url) from error
        except BaseException:
            await self._session.close()
            raise
        if not self._proof.atomic:
            self.features &= ~Feature.COMPETING
            _log.warning(
                "consumers cannot share a queue at %s: %s; ejabberd needs mod_pubsub with db_type: sql, "
                "and the account the right to create nodes",
                self._url,
                self._proof.why,
            )
        self._process = os.getpid()

    async def _proved(self) -> Proof:
        target = self._target
        place = (target.service, target.username, target.domain)
        try:
            said = await proof.service_of(self._session)
        except ConfigError as error:
            if not any(key[:-1] == place for key in self._proofs):
                raise
            raise ConnectFailed(f"the server has started, its service not yet: {error.what}", url=self._url) from error
        found = self._proofs.get((*place, said))
        self._nodes.made_by_service = proof.MAKES_NODES in said
        if found is None:
            found = await proof.prove(self._session, proof.rounds_of(said))
            if found.atomic:
                self._proofs[*place, said] = found
        return found

    async def send(self, address: Address, batch: Sequence[Envelope]) -> None:
        """Publish, and wait for the answers."""
        self._check_open()
        payloads = [self._payload(envelope, address.name) for envelope in batch]
        tickets = [self._ticket(envelope) for envelope in batch]
        items = [(names.ready_id(ticket), payload) for ticket, payload in zip(tickets, payloads, strict=True)]
        if isinstance(address, Topic):
            await self._send_to_topic(address.name, items)
        else:
            await self._send_to_queue(address.name, items)

    async def _send_to_queue(self, queue: str, items: Sequence[tuple[str, str]]) -> None:
        node = names.ready_node(queue)
        answers = await self._session.answers(await self._put(node, queue, items))
        refusals = _refusals(answers)
        other = [index for index, refusal in refusals.items() if refusal.condition in stanzas.OTHER]
        if other:  # it was deleted or opened since it was seen
            self._nodes.forget(node)
            await self._nodes.reach(node, queue)
            puts = [self._nodes.publish(node, *items[index]) for index in other]
            again = _refusals(await self._session.ask_all(puts))
            refusals = {index: refusal for index, refusal in refusals.items() if index not in other}
            refusals |= {other[position]: refusal for position, refusal in again.items()}
        self._raise_refused(refusals, queue, len(items))

    async def _put(self, node: str, queue: str, items: Sequence[tuple[str, str]]) -> list[asyncio.Future[Answer]]:
        """Have the node exist and its messages written, once more where it was deleted since it was seen."""
        known = self._nodes.knows(node)
        while True:
            await self._nodes.reach(node, queue)
            try:
                async with self._nodes.admitted(node, queue, len(items)):
                    return await self._session.write_all([self._nodes.publish(node, *item) for item in items])
            except QueueNotFound:
                if not known:
                    raise
                known = False

    async def _send_to_topic(self, topic: str, items: Sequence[tuple[str, str]]) -> None:
        """Publish to the topic's node and to each group. Who joins meanwhile is in the list that comes back."""
        passing, known = names.topic_node(topic), await self._topics.known(topic)
        await self._nodes.reach_passing(topic)
        requests = [self._topics.listing(topic), *(self._nodes.publish(passing, *item) for item in items)]
        known, writing = await self._put_in_groups(topic, known, items, requests)
        listed, *answers = await self._session.answers(writing)
        groups = self._topics.read(topic, listed)
        new = [node for node in groups if node not in known]
        new, writing = await self._put_in_groups(topic, new, items, [])
        answers += await self._session.answers(writing)
        refusals: dict[int, Refusal] = {}
        for place, answer in enumerate(answers):
            node = (passing, *known, *new)[place // len(items)]
            if answer.refusal is not None and answer.refusal.condition != stanzas.NOT_FOUND:
                self._nodes.forget(node)  # maybe somebody opened it
                refusals[place % len(items)] = answer.refusal
            elif answer.refusal is not None and node in groups:
                await self._topics.leave(topic, node)
        self._raise_refused(refusals, topic, len(items))

    async def _put_in_groups(
        self, topic: str, groups: Sequence[str], items: Sequence[tuple[str, str]], before: Sequence[tuple[str, str]]
    ) -> tuple[list[str], list[asyncio.Future[Answer]]]:
        """Write requests, and then messages into groups' queues; return those that are there, and strike out others."""
        there: list[str] = []
        async with contextlib.AsyncExitStack() as turns:
            for node in sorted(groups):
                queue = names.queue_of(node) or topic
                try:
                    await self._nodes.find(node, queue)
                    await turns.enter_async_context(self._nodes.admitted(node, queue, len(items)))
                except QueueNotFound:
                    self._nodes.forget(node)
                    await self._topics.leave(topic, node)
                else:
                    there.append(node)
            puts = [self._nodes.publish(node, *item) for node in there for item in items]
            return there, await self._session.write_all([*before, *puts])

    def _raise_refused(self, refusals: dict[int, Refusal], name: str, count: int) -> None:
        if not refusals:
            return
        if len(refusals) == count:
            raise self._nodes.explain(refusals[0], "the service refused the message", name)
        failures = {
            index: SendError(f"the service refused the message: {refusal}", queue=name, url=self._url)
            for index, refusal in sorted(refusals.items())
        }
        what = f"{len(failures)} of {count} messages were refused"
        raise BatchFailed(what, failures=failures, queue=name, url=self._url)

    def _payload(self, envelope: Envelope, name: str) -> str:
        payload = codec.encode(Stored(envelope))
        most = MAX_ITEM if any(header.startswith("aq-") for header in envelope.headers) else MAX_ITEM - SPARE
        size = len(payload) if payload.isascii() else len(payload.encode())
        if size > most:
            what = f"written as XML this message takes {size:,} bytes; a stanza has room for {most:,}"
            raise TooLarge(what, queue=name, url=self._url, hint="put what is in the headers into the body")
        return payload

    def _ticket(self, envelope: Envelope) -> Ticket:
        """Return where a message stands: behind all that this driver sent before."""
        self._last = max(self._last + 1, time.time_ns() // 1000)
        order = names.order_of(self._last)
        return Ticket(order, f"{self._line}{next(self._numbers):x}", 0, envelope.not_before)

    async def subscribe(self, spec: Spec) -> Subscription:
        """Make the nodes exist, and begin."""
        self._check_open()
        if isinstance(spec.address, Topic) and spec.group is None:
            return await self._pass(spec.address.name)
        queue = spec.address.name
        if isinstance(spec.address, Topic):
            queue = names.group_queue(spec.address.name, spec.group or "")
        ready, tenure = names.ready_node(queue), self._replies.tenure(queue)
        if tenure is not None:
            await tenure.renew()
        await self._nodes.ensure(ready, queue)
        await self._nodes.ensure(names.held_node(queue), queue)
        if isinstance(spec.address, Topic):
            await self._topics.join(spec.address.name, queue)
        subscription = QueueSubscription(self._session, self._nodes, queue, self._proof, tenure)
        try:
            if not await subscription.begin():
                raise self._unsupported(Feature.COMPETING, queue)
            await self._nodes.listen(ready, queue)
            await self._replies.sweep()
        except BaseException:
            await subscription.close()
            raise
        return subscription

    async def _pass(self, topic: str) -> Subscription:
        await self._nodes.ensure_passing(topic)
        subscription = PassingSubscription(self._session, topic)
        subscription.begin()
        try:
            await self._nodes.listen(names.topic_node(topic), topic)
        except BaseException:
            await subscription.close()
            raise
        return subscription

    async def delete(self, queue: Queue) -> None:
        """Delete the queue's node, and that of what is held."""
        self._check_open()
        for node in (names.ready_node(queue.name), names.held_node(queue.name)):
            await self._nodes.delete(node, queue.name)

    async def close(self) -> None:
        """End the session: subscriptions end with it."""
        if self._process in {0, os.getpid()}:
            await self._session.close()
        self._process = 0

    def _check_open(self) -> None:
        if not self._process:
            raise Closed("this xmpp driver is not open", url=self._url)
        if self._process != os.getpid():
            raise Closed("this xmpp driver belongs to the process that this one was forked from", url=self._url)


def _refusals(answers: Sequence[Answer]) -> dict[int, Refusal]:
    """Return what was refused, by position."""
    return {index: answer.refusal for index, answer in enumerate(answers) if answer.refusal is not None}
