"""What is on record of a lot: its process run, its quality state, its deviations, its laboratory's work.

The steps of the quality state are in `lot`, those of a deviation in
`deviation`, those of an investigation in `laboratory`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import unquote

from services.refusals import Absent, Malformed

QualityState: TypeAlias = Literal["started", "completed", "held", "released", "rejected"]
DeviationState: TypeAlias = Literal[
    "open", "under_investigation", "confirmed", "rejected", "capa_required", "closed"
]
Outcome: TypeAlias = Literal["open", "laboratory_error", "confirmed"]


@dataclass(frozen=True)
class Deviation:
    """A deviation of a lot; `detected` keeps its DeviationDetected as it was, `updated` its newest
    DeviationUpdated. `severity` is how a person classified it (0 before), after its `impact` was assessed."""

    deviation: str
    detected: bytes
    state: DeviationState = "open"
    actor: str = ""
    reason: str = ""
    severity: int = 0
    impact: str = ""
    capa: str = ""
    updated: bytes = b""
    #: The parts of a reason that no person wrote.
    sayings: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Investigation:
    """A laboratory investigation of a result out of specification.

    `at` is when the result was tested (ISO, UTC); `retest` the result of the same test that was
    within specification afterwards.
    """

    investigation: str
    result: str
    test: str
    at: str
    rule: str
    outcome: Outcome = "open"
    retest: str = ""
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Lot:
    """A lot as its events made it.

    `started` and `completed` are moments of its process run (ISO, UTC). A lot
    that never ran in this plant has no start: it is here because a run of the
    safety loop (`runs`) implicated it. `transfer` and its version name the
    recipe it is made by, where that came by technology transfer. `number` is the
    last part of the key, as it is printed: people look a lot up by it. `actor`
    held, released or rejected it last, and `meaning` is what that signature means.
    `sayings` are the parts of a reason that no person wrote.
    """

    lot: str
    state: QualityState
    product: str = ""
    equipment: str = ""
    started: str = ""
    completed: str = ""
    reason: str = ""
    deviations: tuple[Deviation, ...] = ()
    runs: tuple[str, ...] = ()
    investigations: tuple[Investigation, ...] = ()
    transfer: str = ""
    transfer_version: int = 0
    number: str = ""
    actor: str = ""
    meaning: str = ""
    sayings: tuple[bytes, ...] = ()

    def deviation(self, id: str) -> Deviation | None:
        return next((found for found in self.deviations if found.deviation == id), None)

    def investigation(self, id: str) -> Investigation | None:
        return next((found for found in self.investigations if found.investigation == id), None)


def number_of(lot: str) -> str:
    """The lot's own number: the last part of its key."""
    return unquote(lot.rpartition("/")[2])


def known(lot: Lot | None) -> Lot:
    """The lot; Absent when there is none."""
    if lot is None:
        raise Absent("UNKNOWN_LOT", "no such lot in this plant's records; start it first", "lot")
    return lot


def given(text: str, field: str, ask: str) -> None:
    """Malformed when a person left out what the record needs."""
    if not text.strip():
        raise Malformed("REQUIRED", ask, field)
