"""What a lot's plant has said of it, one record a lot.

All of it comes from one aggregate in its own order, so the record is the same
whatever came between from other services. It is bounded: what goes beyond is
counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from google.protobuf.message import Message

from pharmaloop.production.v1 import events_pb2 as production
from services.traceability.domain.dossier.newest import KEPT, NONE, Decided, Newest
from services.traceability.domain.moments import iso

PLATFORM = "platform"
STARTED, COMPLETED, HELD, RELEASED, REJECTED = "started", "completed", "held", "released", "rejected"
OPEN, CONFIRMED = "open", "confirmed"
_STATES: dict[type[Message], str] = {
    production.LotHeld: HELD,
    production.LotReleased: RELEASED,
    production.LotRejected: REJECTED,
}


@dataclass(frozen=True)
class Deviation:
    """A deviation of the lot and its judgement."""

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
    state: str = OPEN
    who: str = ""
    why: str = ""


@dataclass(frozen=True)
class LotRecord:
    """A lot as its plant told of it. `changed` are holds, releases and rejections; `judged` the
    judgements of its deviations, and its plant's answers to runs of the safety loop."""

    lot: str
    state: str = ""
    product: str = ""
    equipment: str = ""
    started: str = ""
    completed: str = ""
    deviations: tuple[Deviation, ...] = ()
    deviations_left_out: int = 0
    changed: Newest = NONE
    judged: Newest = NONE


def after(record: LotRecord, event: Message, at: str, id: str) -> LotRecord:
    """The record after one event of the lot; `at` is the event's time (ISO)."""
    match event:
        case production.LotStarted():
            return _started(record, event)
        case production.LotCompleted():
            state = COMPLETED if record.state == STARTED else record.state
            return replace(record, state=state, completed=iso(event.at))
        case production.DeviationDetected():
            return _detected(record, event)
        case production.DeviationConfirmed() | production.DeviationRejected():
            return _judged(record, event, at, id)
        case production.LotImplicationAnswered():
            return _implicated(record, event, at, id)
    return _changed(record, event, at, id)


def _started(record: LotRecord, event: production.LotStarted) -> LotRecord:
    return replace(
        record, state=STARTED, product=event.product, equipment=event.equipment, started=iso(event.at)
    )


def _changed(record: LotRecord, event: Message, at: str, id: str) -> LotRecord:
    assert isinstance(event, production.LotHeld | production.LotReleased | production.LotRejected)
    state = _STATES[type(event)]
    why = "" if isinstance(event, production.LotReleased) else event.reason
    told = Decided(at, id, state.upper(), event.actor, why)
    return replace(record, state=state, changed=record.changed.then(told))


def _implicated(record: LotRecord, event: production.LotImplicationAnswered, at: str, id: str) -> LotRecord:
    decision = production.ImplicationDecision.Name(event.decision).removeprefix("IMPLICATION_DECISION_")
    told = Decided(at, id, f"IMPLICATION_{decision}", PLATFORM, event.reason, run=event.run)
    return replace(record, judged=record.judged.then(told))


def _detected(record: LotRecord, event: production.DeviationDetected) -> LotRecord:
    if len(record.deviations) == KEPT:
        return replace(record, deviations_left_out=record.deviations_left_out + 1)
    found = Deviation(
        event.deviation,
        event.tag,
        event.unit,
        event.phase,
        iso(event.first_out),
        iso(event.detected),
        event.magnitude,
        event.limit,
        event.rule,
        event.model_version,
    )
    return replace(record, deviations=(*record.deviations, found))


def _judged(
    record: LotRecord, event: production.DeviationConfirmed | production.DeviationRejected, at: str, id: str
) -> LotRecord:
    state = CONFIRMED if isinstance(event, production.DeviationConfirmed) else REJECTED
    what = f"DEVIATION_{state.upper()}"
    told = Decided(at, id, what, event.actor, event.reason, subject=event.deviation)
    deviations = tuple(
        replace(one, state=state, who=event.actor, why=event.reason)
        if one.deviation == event.deviation
        else one
        for one in record.deviations
    )
    return replace(record, deviations=deviations, judged=record.judged.then(told))
