"""The one place that imports stomp.py: its frames are used, its transport, threads and reconnecting are not.

At import it looks up this machine's name in the DNS, which takes as long as the DNS does, unless it is told not to.
"""

from __future__ import annotations

import os
from typing import Final

_SWITCH: Final = "STOMP_SKIP_HOSTNAME_SCAN"

_before = os.environ.get(_SWITCH)
os.environ[_SWITCH] = "1"
try:
    from stomp.utils import Frame, convert_frame
finally:
    if _before is None:
        del os.environ[_SWITCH]
    else:
        os.environ[_SWITCH] = _before

__all__ = ["Frame", "convert_frame"]
