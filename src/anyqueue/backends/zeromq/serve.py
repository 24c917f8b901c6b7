"""A hub that runs: its mind, its sockets and its store, in one thread.

How it works:

* Whatever has arrived is one transaction on the store; when that is committed, everybody is answered. So under load
  many messages share one sync to disk, and nothing is confirmed before it is stored.
* When a connection ends, everybody is sent something, so that who is gone is found at once.
* stop() may be called from any thread and from a signal handler: nothing more is handed out, who comes is told goodbye,
  what is held may still be settled for `drain` seconds, then all are told goodbye. A second stop() ends the waiting.
  (It goes on listening meanwhile: libzmq ends the connections of a listener with it.)
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

import msgspec

from anyqueue.backends.zeromq.hub import Hub
from anyqueue.backends.zeromq.router import Router
from anyqueue.backends.zeromq.security import Door, Endpoint
from anyqueue.backends.zeromq.vault import MEMORY, open_vault
from anyqueue.errors import Error
from anyqueue.store.transact import transact

if TYPE_CHECKING:
    from anyqueue.backends.zeromq.vault import Vault

GLANCE: Final = 0.1
"""Seconds between two looks at what other processes did to the file."""
PROBES: Final = (0.0, 0.02, 0.2)
"""Seconds after the end of a connection at which everybody is sent something."""
IDLE: Final = 60.0
_log: Final = logging.getLogger("anyqueue.hub")


class HubSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a hub is run."""

    listen: Endpoint
    store: str = MEMORY
    heartbeat: float = 5.0
    """Seconds between two beats of the transport's own heart. Each peer says its own besides."""
    drain: float = 5.0
    """Seconds in which what is held may still be settled once the hub is to end."""
    door: Door = msgspec.field(default_factory=Door)
    agent: str = ""
    """What the hub says it is."""


class HubServer:
    """A hub on a socket. It listens once it is made; run() serves until stop(), and closes."""

    def __init__(self, settings: HubSettings) -> None:
        self._drain_seconds = settings.drain
        self._stops = 0
        # First the port: of several that want to be the hub, who is late must not touch the store.
        self._router = Router(settings.listen, settings.door, settings.heartbeat)
        try:
            self._vault: Vault = open_vault(settings.store)
        except BaseException:
            self._router.close()
            raise
        now = time.monotonic()
        self._hub = Hub(durable=self._vault.durable, now=now, agent=settings.agent)
        self._probes: list[float] = []
        self._glance = now
        self._version = self._vault.version()

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens."""
        return self._router.endpoint

    def stop(self) -> None:
        """End soon; the second time, at once. Returns at once, from any thread or signal handler."""
        self._stops += 1
        self._router.wake()

    def run(self) -> None:
        """Serve until stop(), then close."""
        try:
            while not self._stops:
                self._turn(IDLE)
            self._drain()
        finally:
            self._router.close()
            self._vault.close()

    def _turn(self, most: float) -> None:
        """Wait for something to do, and do it: one transaction, and what it leads to."""
        hub = self._hub
        arrived, ended = self._router.poll(min(self._patience(), most))
        now = time.monotonic()
        hub.tick(now, time.time())
        if arrived:
            for identity, frames in self._router.receive():
                hub.receive(identity, frames, now)
        if ended:
            self._probes = [now + delay for delay in PROBES]
        hub.judge(now)
        self._look_around(now)
        self._perform()
        if hub.jobs and not self._vault.durable:
            self._perform()  # what was sent is claimed at once: whoever waits hears of it with the confirmation
        self._send()

    def _patience(self) -> float:
        """Return how many seconds there is nothing to do unless something comes."""
        hub = self._hub
        if hub.jobs:
            return 0.0
        now = time.monotonic()
        waits = [probe - now for probe in self._probes]
        if (look := hub.next_look()) is not None:
            waits.append(look - now)
        if (due := hub.lines.next_due) is not None:
            waits.append(due - time.time())
        if self._vault.durable and hub.lines:
            waits.append(self._glance + GLANCE - now)
        return max(min(waits, default=IDLE), 0.0)

    def _look_around(self, now: float) -> None:
        """Look for who is gone, and for what other processes did, where it is time to."""
        if self._probes and self._probes[0] <= now:
            self._probes = [probe for probe in self._probes if probe > now]
            self._hub.probe()
        if self._vault.durable and now - self._glance >= GLANCE:
            self._glance = now
            version, self._version = self._version, self._vault.version()
            if version != self._version:
                self._hub.lines.stir_all()

    def _perform(self) -> None:
        """Do the jobs in one transaction, then tell."""
        hub = self._hub
        if not hub.jobs:
            return
        jobs, hub.jobs = hub.jobs, []
        for job, outcome in zip(jobs, transact(self._vault, [job.work for job in jobs]), strict=True):
            if outcome.error is None:
                job.done(outcome.result)
            elif isinstance(outcome.error, Error):
                job.failed(outcome.error)
        hub.lines.stir(self._vault.take_stirred())
        self._vault.checkpoint()

    def _send(self) -> None:
        """Say what is to be said. Who cannot be reached, or does not read, is dropped."""
        hub, send = self._hub, self._router.send
        out, hub.out = hub.out, []
        for identity, frames in out:
            if not send(identity, frames) and identity in hub.peers:
                _log.info("a peer is gone, or does not read")
                hub.drop(identity)

    def _drain(self) -> None:
        """Let what is held be settled, for a while; then end."""
        hub = self._hub
        deadline = time.monotonic() + self._drain_seconds
        hub.drain()
        while (hub.held or hub.jobs) and self._stops == 1 and (left := deadline - time.monotonic()) > 0:
            self._turn(left)
        hub.end()
        self._perform()
        self._send()
