"""Rows that people page through: deviations, corrective actions, laboratory results, decisions on lots."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC
from typing import Any, Literal, TypeAlias

from google.protobuf.message import Message

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain import capa, deviation
from services.production.domain.capa import Capa
from services.production.domain.lot import PLATFORM
from services.production.domain.record import Deviation, QualityState
from services.sayings import kept, saying

#: The events of a deviation but the first.
Changes: TypeAlias = (
    events.DeviationUpdated
    | events.DeviationInvestigationStarted
    | events.DeviationConfirmed
    | events.DeviationRejected
    | events.DeviationClassified
    | events.DeviationCapaRequired
    | events.DeviationCapaRefused
    | events.DeviationClosed
)
#: The events of a corrective action that its row shows, but the first.
CapaChanges: TypeAlias = (
    events.CapaApproved
    | events.CapaRefused
    | events.ChangeValidated
    | events.ChangeFilingAssessed
    | events.ProcessLimitChanged
    | events.CapaEffectivenessChecked
)
#: What quality, or a rule, decides of a lot.
Decided: TypeAlias = events.LotHeld | events.LotReleased | events.LotRejected
_DECIDED: dict[type[Message], QualityState] = {
    events.LotHeld: "held",
    events.LotReleased: "released",
    events.LotRejected: "rejected",
}
ResultState: TypeAlias = Literal["recorded", "investigated", "void", "out_of_specification", "out_of_trend"]


@dataclass(frozen=True)
class Happened:
    """Something that happened to a deviation or an action: when (ISO, UTC), by its event's name, by whom,
    what was said, and what the signature means where somebody signed it with one."""

    at: str
    event: str
    actor: str
    statement: str
    meaning: str = ""
    #: The statement in parts, where no person wrote it.
    sayings: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class DeviationRow(Deviation):
    """A deviation with its lot. `at` is the sample that detected it (ISO, UTC); `detected` is empty
    while only its later events are known. The history leaves out how it went on: `updated` says that."""

    lot: str = ""
    at: str = ""
    history: tuple[Happened, ...] = ()


@dataclass(frozen=True)
class CapaRow(Capa):
    """A corrective action. `at` is when it was proposed (ISO); the rest is what it may be looked up by, and
    what happened to it."""

    at: str = ""
    lot: str = ""
    run: str = ""
    deviation: str = ""
    product: str = ""
    history: tuple[Happened, ...] = ()


@dataclass(frozen=True)
class ResultRow:
    """A laboratory result. `at` is when it was tested (ISO, UTC); `recorded` its TestResultRecorded,
    empty while only the judgement is known."""

    result: str
    lot: str
    at: str = ""
    recorded: bytes = b""
    state: ResultState = "recorded"
    investigation: str = ""
    rule: str = ""
    actor: str = ""
    reason: str = ""
    #: The rule as its code and values: the bytes of a Saying, empty where none was told.
    rule_saying: bytes = b""


@dataclass(frozen=True)
class DecisionRow:
    """What was decided of a lot last, by its state, and since when it stands (ISO)."""

    lot: str
    state: QualityState = "held"
    since: str = ""


def decided(row: DecisionRow | None, event: Decided, at: str) -> DecisionRow:
    """A lot that is held once more, as one that begins to run while held, is so since the first time."""
    state = _DECIDED[type(event)]
    if row is not None and row.state == state:
        return row
    return DecisionRow(event.lot, state, at)


def detected(row: DeviationRow | None, event: events.DeviationDetected, told: str) -> DeviationRow:
    """`told`: when the event was told (ISO)."""
    at = event.detected.ToDatetime(tzinfo=UTC).isoformat(timespec="microseconds")
    held = row or DeviationRow(event.deviation, b"", lot=event.lot)
    history = (*held.history, _happened(event, told))
    return replace(held, at=at, detected=event.SerializeToString(deterministic=True), history=history)


def changed(row: DeviationRow | None, event: Changes, at: str) -> DeviationRow:
    """The row after a later event of its deviation."""
    after = deviation.changed(row or DeviationRow(event.deviation, b"", lot=event.lot, at=at), event)
    if isinstance(event, events.DeviationUpdated):
        return after
    return replace(after, history=(*after.history, _happened(event, at)))


def proposed(row: CapaRow | None, event: events.CapaProposed, at: str) -> CapaRow:
    held = row or CapaRow(event.capa, b"")
    return replace(
        held,
        at=at,
        proposed=event.SerializeToString(deterministic=True),
        lot=event.lot,
        run=event.run,
        deviation=event.deviation,
        product=event.product,
        history=(*held.history, _happened(event, at)),
    )


def moved(row: CapaRow | None, event: CapaChanges, at: str) -> CapaRow:
    """The row after a later event of its action."""
    after = capa.changed(row or CapaRow(event.capa, b"", at=at), event)
    return replace(after, history=(*after.history, _happened(event, at)))


def _happened(event: Message, at: str) -> Happened:
    told: Any = event
    actor, meaning = getattr(told, "actor", ""), getattr(told, "meaning", "")
    said = kept(_sayings(event))
    return Happened(at, type(event).__name__, actor or PLATFORM, _said(event), meaning, said)


def _sayings(event: Message) -> list[common.Saying]:
    """What the event says as codes with values, where no person wrote it."""
    match event:
        case events.DeviationDetected() if event.HasField("rule_saying"):
            said = [event.rule_saying]
        case events.DeviationClassified():
            said = [saying("CLASSIFIED", word=events.Severity.Name(event.severity), impact=event.impact)]
        case events.DeviationCapaRequired():
            said = [saying("CAPA_REQUIRED", capa=event.capa)]
        case events.DeviationCapaRefused():
            said = [saying("CAPA_REFUSED", capa=event.capa)]
        case events.ProcessLimitChanged():
            said = [_limit(event)]
        case events.DeviationClosed() | events.CapaProposed():
            said = list(event.reason_sayings)
        case _:
            said = []
    return said


def _limit(event: events.ProcessLimitChanged) -> common.Saying:
    before, after = event.limit_before, event.limit_after
    if before == after:
        return saying("LIMIT_STAYS", tag=event.tag, limit=after)
    return saying("LIMIT_CHANGED", tag=event.tag, before=before, after=after)


def _said(event: Message) -> str:
    """What the event says, in words."""
    match event:
        case events.DeviationDetected():
            said = event.rule
        case events.DeviationClassified():
            said = f"{events.Severity.Name(event.severity).removeprefix('SEVERITY_').lower()}: {event.impact}"
        case events.DeviationCapaRequired():
            said = f"corrective action {event.capa}"
        case events.DeviationCapaRefused():
            said = f"corrective action {event.capa} was refused"
        case events.CapaApproved():
            said = event.meaning
        case events.ChangeValidated() | events.ChangeFilingAssessed() | events.CapaEffectivenessChecked():
            said = event.statement
        case events.ProcessLimitChanged():
            moved = f"from {event.limit_before:g} to {event.limit_after:g} spreads"
            stays = f"stays at {event.limit_after:g} spreads"
            said = f"limit of {event.tag} {moved if event.limit_after < event.limit_before else stays}"
        case _:
            told: Any = event
            said = told.reason
    return said


def tested(row: ResultRow | None, event: events.TestResultRecorded, id: str) -> ResultRow:
    """The row with what was recorded; what comes under the same id later has no effect."""
    held = row or ResultRow(id, event.lot)
    if held.recorded:
        return held
    at = event.at.at.ToDatetime(tzinfo=UTC).isoformat(timespec="microseconds")
    return replace(held, at=at, recorded=event.SerializeToString(deterministic=True))


def investigated(row: ResultRow | None, event: events.LaboratoryInvestigationOpened) -> ResultRow:
    held = row or ResultRow(event.result, event.lot)
    return replace(held, state="investigated", investigation=event.investigation, **_rule(event))


def explained(row: ResultRow | None, event: events.InvestigationClosed) -> ResultRow:
    held = row or ResultRow(event.result, event.lot)
    void = event.outcome == events.INVESTIGATION_OUTCOME_LABORATORY_ERROR
    state: ResultState = "void" if void else "out_of_specification"
    return replace(held, state=state, actor=event.actor, reason=event.reason)


def reviewed(row: ResultRow | None, event: events.TrendReviewOpened) -> ResultRow:
    return replace(row or ResultRow(event.result, event.lot), state="out_of_trend", **_rule(event))


def _rule(event: events.LaboratoryInvestigationOpened | events.TrendReviewOpened) -> dict[str, Any]:
    """The rule that a result broke, in English and as a code with its values."""
    return {"rule": event.rule, "rule_saying": event.rule_saying.SerializeToString(deterministic=True)}
