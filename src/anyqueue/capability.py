"""What becomes of a feature that a broker does not have. The only place that knows; pure.

Every feature is, on every backend, one of three: *native* (the driver declares it), *emulated* by the core with a
weaker guarantee that is named here, or *refused* with `Unsupported` before any I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from anyqueue.driver import Feature
from anyqueue.errors import Unsupported

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """How a backend has one feature, and for an emulated or refused one what that means."""

    kind: Literal["native", "emulated", "refused"]
    note: str = ""


_EMULATED: Final[Mapping[Feature, str]] = MappingProxyType(
    {
        Feature.RELEASE: "a copy is sent and confirmed, then the original is settled: the place in the queue is lost, "
        "and a kill in between makes a duplicate",
        Feature.RELEASE_DELAY: "a copy with a delay where the broker delays; else the consumer holds the message until "
        "it is due, at most `prefetch` of them, and a consumer that ends brings them back early",
        Feature.ATTEMPTS: "counted in the message's headers by the consumer: a delivery whose consumer was killed "
        "counts only where the broker flags redelivery, and then as one",
        Feature.DEAD_LETTER: "a copy is sent and confirmed, then the original is settled: a kill in between makes a "
        "duplicate",
        Feature.PROGRESS: "reports are kept beside the broker: in a SQLite file, or in a database (progress=)",
        Feature.REPLY: "the replies go to a queue of the requester's own, which ends some time after it",
        Feature.EXPIRY: "checked by the consumer: an expired message is never handled, but stays in the queue until it "
        "reaches one",
        Feature.DELETE: "what nobody holds and is due is taken and thrown away: the queue's name stays with the "
        "broker, and what is held or delayed comes later",
    }
)
_REFUSED: Final[Mapping[Feature, str]] = MappingProxyType(
    {
        Feature.CONFIRM: "send() returns when the message was handed over, not when the broker is responsible for it",
        Feature.REDELIVER: "a message that its consumer did not finish is gone",
        Feature.DELAY: "send(delay=) is refused",
        Feature.PRIORITY: "send(priority=) is refused",
        Feature.DURABLE: "messages end with the broker's process",
        Feature.LEASE: "a delivery is held until it is settled or its consumer's connection ends",
        Feature.COMPETING: "a queue has one consumer; a second is refused",
        Feature.FANOUT: "topics are refused",
        Feature.INSPECT: "browse() and purge() are refused",
        Feature.COUNT: "queues() and depth() are refused",
    }
)


def support(feature: Feature, declared: Feature) -> Support:
    """Say how a backend that declares `declared` has the single feature `feature`."""
    if feature in declared:
        return Support(kind="native")
    if feature in _EMULATED:
        return Support(kind="emulated", note=_EMULATED[feature])
    return Support(kind="refused", note=_REFUSED[feature])


def check_required(required: Feature, declared: Feature, *, backend: str, url: object) -> None:
    """Raise Unsupported for the first feature of `required` that is not native: what is asked for is not weakened."""
    for feature in required:
        found = support(feature, declared)
        if found.kind != "native":
            hint = f"leave {feature.name} out of require= to accept that, or choose another backend"
            what = f"{feature.name} is required, and {backend} does not have it natively ({found.kind}: {found.note})"
            raise Unsupported(what, feature=feature, backend=backend, url=url, hint=hint)
