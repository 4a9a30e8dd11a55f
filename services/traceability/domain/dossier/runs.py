"""What was said of a run of the safety loop, one record for each who says it.

A record has one source, which tells in its own order: so no record depends on
which service was heard first. A site has two that tell of different things,
how far the follow-up is and what was released.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.traceability.v1 import events_pb2 as events
from services.traceability.domain.dossier.names import name
from services.traceability.domain.dossier.newest import NONE, Decided, Newest
from services.traceability.domain.dossier.released import Release, release_after

CANCELLED, SUPERSEDED = "cancelled", "superseded"


@dataclass(frozen=True)
class Stage:
    """A stage that is over: wall seconds."""

    name: str
    seconds: float


@dataclass(frozen=True)
class RunRecord:
    """A run, as the loop tells of it. `by_hand` is how a person ended it."""

    run: str
    root: str = ""
    deviation: str = ""
    follows: str = ""
    opened: str = ""
    stages: tuple[Stage, ...] = ()
    waiting_for: str = ""
    outcome: str = ""
    ended: str = ""
    by_hand: Decided | None = None


@dataclass(frozen=True)
class JournalRecord:
    """What the trace tells of the run's list of the exposed, beside the list."""

    run: str
    sealed: str = ""
    successor: str = ""
    explained: Newest = NONE


@dataclass(frozen=True)
class HazardRecord:
    """The evaluation of the health hazard."""

    run: str
    evaluated: Decided


@dataclass(frozen=True)
class TakenRecord:
    """That research took the insight of the run."""

    run: str
    insight: str


@dataclass(frozen=True)
class SiteRecord:
    """How many people the run concerns at a site, as the site says: exact, never shown as they are.

    `affected` is None but where the site told it, as sites once did; `released` is shown as it is.
    """

    run: str
    site: str
    patients: int = 0
    plans: int = 0
    notified: int = 0
    answered: int = 0
    affected: int | None = None
    complete: bool = False
    released: Release | None = None


def run_after(record: RunRecord, event: Message, at: str, id: str) -> RunRecord:
    match event:
        case loops.SafetyRunOpened():
            return replace(
                record, root=event.lot, deviation=event.deviation, follows=event.follows, opened=at
            )
        case loops.StageCompleted():
            seconds = (event.ended.ToDatetime() - event.began.ToDatetime()).total_seconds()
            return replace(record, stages=(*record.stages, Stage(event.stage, seconds)), waiting_for="")
        case loops.LoopStalled():
            return replace(record, waiting_for=event.waiting_for)
        case loops.LoopClosed():
            return _closed(record, event, at, id)
    raise TypeError(f"a run's record does not fold {type(event).__name__}")


def _closed(record: RunRecord, event: loops.LoopClosed, at: str, id: str) -> RunRecord:
    outcome = name(loops.RunOutcome, event.outcome, "RUN_OUTCOME_")
    by_hand = None
    if outcome in (CANCELLED, SUPERSEDED):
        what = f"RUN_{outcome.upper()}"
        by_hand = Decided(
            at, id, what, event.actor, event.reason, event.meaning, event.run, event.superseded_by
        )
    return replace(record, waiting_for="", outcome=outcome, ended=at, by_hand=by_hand)


def journal_after(record: JournalRecord, event: Message, at: str, id: str) -> JournalRecord:
    match event:
        case events.ExposureSealed():
            return replace(record, sealed=at)
        case events.ExposureAfterSeal():
            return replace(record, successor=event.successor)
        case events.UnattributedExplained():
            what, run = "UNATTRIBUTED_EXPLAINED", event.run
            told = Decided(at, id, what, event.actor, event.reason, event.meaning, run)
            return replace(record, explained=record.explained.then(told))
    raise TypeError(f"a journal's record does not fold {type(event).__name__}")


def hazard(event: production.HazardEvaluated, at: str, id: str) -> HazardRecord:
    """The evaluation; what patients are told is its reason."""
    hazard_class = name(production.HazardClass, event.hazard_class, "HAZARD_CLASS_").upper()
    words, subject = f"{event.text} {event.instruction}", f"class {hazard_class}"
    told = Decided(at, id, "HAZARD_EVALUATED", event.actor, words, event.meaning, event.run, subject)
    return HazardRecord(event.run, told)


def site_after(record: SiteRecord, event: Message) -> SiteRecord:
    match event:
        case clinical.ExposureReceived():
            return replace(record, patients=event.patients)
        case clinical.PlansOpened():
            return replace(record, patients=event.patients, plans=event.plans)
        case clinical.NoticesSummarised():
            return replace(record, notified=event.notified)
        case clinical.FollowUpSummarised():
            return _answered(record, event, None)
        case clinical.ResponsesSummarised():
            return _answered(record, event, event.affected)
        case clinical.EvidenceReleased():
            return replace(record, released=release_after(record.released, event))
    raise TypeError(f"a site's record does not fold {type(event).__name__}")


def _answered(
    record: SiteRecord, told: clinical.FollowUpSummarised | clinical.ResponsesSummarised, affected: int | None
) -> SiteRecord:
    return replace(
        record, plans=told.plans, answered=told.answered, affected=affected, complete=told.complete
    )
