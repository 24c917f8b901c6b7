"""One leader among several processes, of schedules or of relays: a lock that a killed leader frees, with a memory."""

from __future__ import annotations

from anyqueue.leader.lock import FileLock, Lock, open_lock

__all__ = ["FileLock", "Lock", "open_lock"]
