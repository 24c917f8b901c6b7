"""Compare backends: one workload over any set of URLs, one report (`anyqueue compare`, docs/compare.md).

`results` says what a report holds, `plan` what is measured, `tally` how it is counted and put into figures: pure, as
are `page`, `charts` and `scale`, which draw it. `workload` and `recovery` measure one broker, `run` goes over all of
them and leaves no queue behind.
"""

from anyqueue.compare.page import page
from anyqueue.compare.plan import Settings, Target, targets_of
from anyqueue.compare.results import Cell, Guarantee, Latency, Recovery, Report, Row
from anyqueue.compare.run import compare

__all__ = [
    "Cell",
    "Guarantee",
    "Latency",
    "Recovery",
    "Report",
    "Row",
    "Settings",
    "Target",
    "compare",
    "page",
    "targets_of",
]
