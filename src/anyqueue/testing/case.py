"""Cases are data: an id, a sentence, what they need, and an async function of one Trial.

A case runs on every target. Where a target refuses a feature in `needs`, the refusal twin runs in its place (see
`refusal`): nothing is ever skipped. A feature that the core emulates there counts as had: the case itself runs.
A `network` case is about what lies between a client and its broker: to an embedded target it is not applicable, and
the report says so. So is a case about messages that wait, to a target where nothing keeps them.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from anyqueue import Feature
from anyqueue.testing import cases

if TYPE_CHECKING:
    from anyqueue.testing.trial import Trial

Tier = Literal["fast", "fault", "soak"]
Run = Callable[["Trial"], Awaitable[None]]
TIMEOUTS: Final[dict[Tier, float]] = {"fast": 240.0, "fault": 360.0, "soak": 900.0}
_ID: Final = re.compile(r"[A-Z][0-9]+[a-z]?")
_registered: Final[dict[str, Case]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One sentence of the contract, and the function that proves it."""

    id: str
    sentence: str
    group: str
    needs: Feature
    tier: Tier
    timeout: float
    """Seconds after which it has failed."""
    run: Run
    network: bool = False
    """Means something only behind a network: not applicable to a target that is embedded."""
    twin: Run | None
    """What runs instead where `needs` is refused; None: what is derived from `needs`."""


def case(
    id: str,  # noqa: A002 -- the field's own word
    sentence: str,
    *,
    group: str,
    needs: Feature = Feature.NONE,
    tier: Tier = "fast",
    timeout: float | None = None,
    network: bool = False,
    twin: Run | None = None,
) -> Callable[[Run], Run]:
    """Register an async function as a case. An id is that of the contract, with a letter where it has several."""

    def register(run: Run) -> Run:
        if not _ID.fullmatch(id):
            raise ValueError(f"a case's id is a letter and a number, not {id!r}")
        if id in _registered:
            raise ValueError(f"the case {id} is there twice: {_registered[id].sentence!r} and {sentence!r}")
        if not (run.__doc__ or "").startswith(id):
            raise ValueError(f"the document string of case {id} begins with its id and sentence")
        _registered[id] = Case(
            id=id,
            sentence=sentence,
            group=group,
            needs=needs,
            tier=tier,
            timeout=TIMEOUTS[tier] if timeout is None else timeout,
            network=network,
            run=run,
            twin=twin,
        )
        return run

    return register


def all_cases() -> dict[str, Case]:
    """Import every module of `anyqueue.testing.cases` and return what they registered, by id."""
    for module in pkgutil.iter_modules(cases.__path__):
        importlib.import_module(f"{cases.__name__}.{module.name}")
    return dict(sorted(_registered.items(), key=lambda item: _order(item[0])))


def _order(identity: str) -> tuple[str, int, str]:
    digits = re.sub(r"\D", "", identity)
    return identity[0], int(digits), identity
