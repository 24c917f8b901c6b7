"""A bridge: messages of a queue, moved to another broker of any kind, none lost when either side or the bridge dies.

A message is acknowledged at its source once its target has confirmed it: a kill in between, or a source that was away
meanwhile, makes a duplicate with the same id. While the target is away, messages stay where they are. What the target
cannot take at all (too large for it) goes to the dead letters of the source, with the reason.
"""

from __future__ import annotations

from anyqueue.bridge.move import Bridge, Moved

__all__ = ["Bridge", "Moved"]
