"""What a lot's plant has said of it, one record a lot.

All of it comes from one aggregate in its own order, so the record is the same
whatever came between from other services. It is bounded: what goes beyond is
counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from google.protobuf.message import Message

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as production
from services.traceability.domain.dossier import deviations, results
from services.traceability.domain.dossier.deviations import Deviation
from services.traceability.domain.dossier.names import name
from services.traceability.domain.dossier.newest import KEPT, NONE, Decided, Newest
from services.traceability.domain.dossier.results import Investigation, Review
from services.traceability.domain.moments import iso

PLATFORM = "platform"
STARTED, COMPLETED, HELD, RELEASED, REJECTED = "started", "completed", "held", "released", "rejected"
_STATES: dict[type[Message], str] = {
    production.LotHeld: HELD,
    production.LotReleased: RELEASED,
    production.LotRejected: REJECTED,
}


@dataclass(frozen=True)
class LotRecord:
    """A lot as its plant told of it. `changed` are holds, releases and rejections; `judged` what people
    said of its deviations and investigations, and its plant's answers to runs of the safety loop."""

    lot: str
    state: str = ""
    product: str = ""
    equipment: str = ""
    started: str = ""
    completed: str = ""
    deviations: tuple[Deviation, ...] = ()
    deviations_left_out: int = 0
    investigations: tuple[Investigation, ...] = ()
    investigations_left_out: int = 0
    reviews: tuple[Review, ...] = ()
    reviews_left_out: int = 0
    changed: Newest = NONE
    judged: Newest = NONE


def after(record: LotRecord, event: Message, at: str, id: str) -> LotRecord:
    """The record after one event of the lot; `at` is the event's time (ISO)."""
    match event:
        case production.LotStarted() | production.LotCompleted():
            return _ran(record, event)
        case production.LotHeld() | production.LotReleased() | production.LotRejected():
            return _changed(record, event, at, id)
        case production.LotImplicationAnswered():
            return _implicated(record, event, at, id)
        case production.DeviationDetected():
            return _detected(record, event)
    if isinstance(event, deviations.Change):
        return _of_deviation(record, event, at, id)
    return _of_result(record, event, at, id)


def _ran(record: LotRecord, event: production.LotStarted | production.LotCompleted) -> LotRecord:
    if isinstance(event, production.LotCompleted):
        state = COMPLETED if record.state == STARTED else record.state
        return replace(record, state=state, completed=iso(event.at))
    return replace(
        record, state=STARTED, product=event.product, equipment=event.equipment, started=iso(event.at)
    )


def _changed(
    record: LotRecord,
    event: production.LotHeld | production.LotReleased | production.LotRejected,
    at: str,
    id: str,
) -> LotRecord:
    state = _STATES[type(event)]
    why = "" if isinstance(event, production.LotReleased) else event.reason
    parts = _kept(event.reason_sayings) if isinstance(event, production.LotHeld) else ()
    told = Decided(at, id, state.upper(), event.actor, why, event.meaning, sayings=parts)
    return replace(record, state=state, changed=record.changed.then(told))


def _implicated(record: LotRecord, event: production.LotImplicationAnswered, at: str, id: str) -> LotRecord:
    decision = name(production.ImplicationDecision, event.decision, "IMPLICATION_DECISION_").upper()
    told = Decided(at, id, f"IMPLICATION_{decision}", PLATFORM, event.reason, run=event.run)
    told = replace(told, sayings=_kept(event.reason_sayings))
    return replace(record, judged=record.judged.then(told))


def _kept(sayings: Iterable[common.Saying]) -> tuple[bytes, ...]:
    """The parts of a reason, as a record keeps them."""
    return tuple(one.SerializeToString(deterministic=True) for one in sayings)


# -- deviations -------------------------------------------------------------


def _detected(record: LotRecord, event: production.DeviationDetected) -> LotRecord:
    if len(record.deviations) == KEPT:
        return replace(record, deviations_left_out=record.deviations_left_out + 1)
    return replace(record, deviations=(*record.deviations, deviations.detected(event)))


def _of_deviation(record: LotRecord, event: deviations.Change, at: str, id: str) -> LotRecord:
    after = tuple(
        deviations.changed(held, event) if held.deviation == event.deviation else held
        for held in record.deviations
    )
    told = deviations.decided(event, at, id)
    judged = record.judged.then(told) if told else record.judged
    return replace(record, deviations=after, judged=judged)


# -- what the laboratory found ----------------------------------------------


def _of_result(record: LotRecord, event: Message, at: str, id: str) -> LotRecord:
    match event:
        case production.TrendReviewOpened():
            return _reviewed(record, event)
        case production.LaboratoryInvestigationOpened():
            return _opened(record, event)
        case production.RetestPassed() | production.InvestigationClosed():
            return _investigated(record, event, at, id)
    raise TypeError(f"a lot's record does not fold {type(event).__name__}")


def _opened(record: LotRecord, event: production.LaboratoryInvestigationOpened) -> LotRecord:
    if len(record.investigations) == KEPT:
        return replace(record, investigations_left_out=record.investigations_left_out + 1)
    return replace(record, investigations=(*record.investigations, results.opened(event)))


def _investigated(
    record: LotRecord, event: production.RetestPassed | production.InvestigationClosed, at: str, id: str
) -> LotRecord:
    after = tuple(
        results.changed(held, event, at) if held.investigation == event.investigation else held
        for held in record.investigations
    )
    judged = record.judged
    if isinstance(event, production.InvestigationClosed):
        judged = judged.then(results.decided(event, at, id))
    return replace(record, investigations=after, judged=judged)


def _reviewed(record: LotRecord, event: production.TrendReviewOpened) -> LotRecord:
    if len(record.reviews) == KEPT:
        return replace(record, reviews_left_out=record.reviews_left_out + 1)
    saying = event.rule_saying.SerializeToString(deterministic=True)
    review = Review(event.result, event.test, event.rule, saying)
    return replace(record, reviews=(*record.reviews, review))
