"""The contract as a list of ids: what there is to prove, so that what is not proved yet is known by name.

A case may have a letter behind its id (`A8b`); the sentence it belongs to is the id without it.
"""

from __future__ import annotations

from string import ascii_lowercase
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CONTRACT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Connect": "C1 C2 C3 C4 C5 C6 C7 C8 C9",
        "Round trip": "R1 R2 R3 R4 R5 R7 R8 R9",
        "Order": "O1 O2 O3",
        "Competing": "W1 W2 W3 W4",
        "Fan-out": "F1 F2 F3 F4 F5 F6",
        "Settle": "A1 A2 A3 A4 A5 A6 A7 A8 A9",
        "Crash": "K1 K3 K4 K5",
        "Retry": "T1 T2 T3 T4 T5 T6 T7 T8",
        "Dead letters": "D1 D2 D3 D4 D5 D6 D8",
        "Flow": "Q1 Q2 Q4 Q5",
        "Time": "E1 E2 E3 E5 E6",
        "Batches": "B1 B2 B3",
        "Durability": "X1 X2 X3 X4 X5 X6",
        "Reconnect": "N1 N2 N3 N4 N5 N6 N7 N8",
        "Concurrency": "P1 P2 P4 P5",
        "Shutdown": "G1 G2 G4 G5",
        "Interop": "I1 I2 I4 I5 I6 I7",
        "Bad input": "V1 V2",
        "Security": "Y1 Y2 Y3 Y4 Y5 Y6",
        "Requests": "J1 J2 J3 J4 J5 J6 J7 J8 J9",
        "Meta": "M3",
    }
)
"""Group -> its ids. The rest of Meta is about the suite itself and is in its own tests."""


def group_of(identity: str) -> str | None:
    """Return the group of a case, by the letter of its id; there may be more cases than the contract asks for."""
    return next((group for group, ids in CONTRACT.items() if ids.startswith(identity[0])), None)


def unproved(ids: Iterable[str]) -> list[str]:
    """Return what the contract has and none of these cases proves."""
    proved = {identity.rstrip(ascii_lowercase) for identity in ids}
    return [one for group in CONTRACT.values() for one in group.split() if one not in proved]
