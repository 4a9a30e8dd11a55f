"""A deviation of a lot, as its plant last told of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from pharmaloop.production.v1 import events_pb2 as production
from services.traceability.domain.dossier.names import name
from services.traceability.domain.dossier.newest import Decided
from services.traceability.domain.moments import iso

#: What a person says of a deviation.
Judgement: TypeAlias = (
    production.DeviationInvestigationStarted
    | production.DeviationConfirmed
    | production.DeviationRejected
    | production.DeviationClosed
)
#: What is told of a deviation after its detection.
Change: TypeAlias = (
    Judgement
    | production.DeviationUpdated
    | production.DeviationClassified
    | production.DeviationCapaRequired
    | production.DeviationCapaRefused
)
OPEN, CONFIRMED, CAPA_REQUIRED = "open", "confirmed", "capa_required"


@dataclass(frozen=True)
class Deviation:
    """Its state, and who brought it there; how long and how far it went by now. Severities are names,
    empty while nothing is said; moments are ISO text."""

    deviation: str
    tag: str
    unit: str
    phase: str
    first_out: str
    detected: str
    magnitude: float
    limit: float
    rule: str
    model_version: str
    last_out: str
    samples_out: int
    lasting: bool = False
    state: str = OPEN
    who: str = ""
    why: str = ""
    severity: str = ""
    proposed_severity: str = ""
    impact: str = ""
    capa: str = ""
    #: The rule as its code and values: the bytes of a Saying, empty where none was told.
    rule_saying: bytes = b""
    #: `why` in parts, where no person wrote it.
    sayings: tuple[bytes, ...] = ()


def detected(event: production.DeviationDetected) -> Deviation:
    at = iso(event.detected)
    return Deviation(
        event.deviation,
        event.tag,
        event.unit,
        event.phase,
        iso(event.first_out),
        at,
        event.magnitude,
        event.limit,
        event.rule,
        event.model_version,
        last_out=at,
        samples_out=event.samples_out,
        proposed_severity=_severity(event.proposed_severity),
        rule_saying=event.rule_saying.SerializeToString(deterministic=True),
    )


def changed(held: Deviation, event: Change) -> Deviation:
    """The deviation after one of its events but the first."""
    match event:
        case production.DeviationUpdated():
            return replace(
                held,
                magnitude=event.magnitude,
                last_out=iso(event.last_out),
                samples_out=event.samples_out,
                lasting=event.lasting,
                proposed_severity=_severity(event.proposed_severity),
            )
        case production.DeviationClassified():
            return replace(held, severity=_severity(event.severity), impact=event.impact)
        case production.DeviationCapaRequired():
            return replace(held, state=CAPA_REQUIRED, capa=event.capa)
        case production.DeviationCapaRefused():
            return replace(held, state=CONFIRMED, capa="")
    return replace(held, state=_state(event), who=event.actor, why=event.reason, sayings=_sayings(event))


def _sayings(event: Change) -> tuple[bytes, ...]:
    """A reason in parts, where no person wrote it."""
    told = event.reason_sayings if isinstance(event, production.DeviationClosed) else ()
    return tuple(one.SerializeToString(deterministic=True) for one in told)


def decided(event: Change, at: str, id: str) -> Decided | None:
    """What a person decided by it, if one did."""
    match event:
        case (
            production.DeviationUpdated()
            | production.DeviationCapaRequired()
            | production.DeviationCapaRefused()
        ):
            return None
        case production.DeviationClassified():
            severity = name(production.Severity, event.severity, "SEVERITY_").upper()
            what, why = f"DEVIATION_CLASSIFIED_{severity}", event.impact
        case _:
            what, why = f"DEVIATION_{_state(event).upper()}", event.reason
    told = Decided(at, id, what, event.actor, why, event.meaning, subject=event.deviation)
    return replace(told, sayings=_sayings(event))


def _severity(value: int) -> str:
    return name(production.Severity, value, "SEVERITY_") if value else ""


def _state(event: Judgement) -> str:
    match event:
        case production.DeviationInvestigationStarted():
            return "under_investigation"
        case production.DeviationConfirmed():
            return CONFIRMED
        case production.DeviationRejected():
            return "rejected"
    return "closed"
