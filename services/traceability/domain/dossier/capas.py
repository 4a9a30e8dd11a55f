"""The corrective action of a run through change control, and what research is told of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from google.protobuf.message import Message

from pharmaloop.production.v1 import events_pb2 as production
from services.traceability.domain.dossier.names import name
from services.traceability.domain.dossier.newest import Decided
from services.traceability.domain.dossier.released import Pooled, pooled

#: What a person puts on record of an approved change.
Statement: TypeAlias = (
    production.ChangeValidated | production.ChangeFilingAssessed | production.CapaEffectivenessChecked
)


@dataclass(frozen=True)
class CapaRecord:
    """A run's corrective action. What a person did is kept with who, when and why; `proposed` and
    `effective` are moments (ISO), empty before they happened. `sayings` are the parts of the statement."""

    run: str
    capa: str = ""
    deviation: str = ""
    product: str = ""
    tag: str = ""
    limit_before: float = 0.0
    limit_after: float = 0.0
    proposed: str = ""
    approved: Decided | None = None
    validated: Decided | None = None
    validation_record: str = ""
    filing: Decided | None = None
    filing_category: str = ""
    filing_reference: str = ""
    effective: str = ""
    limits_version: int = 0
    checked: Decided | None = None
    refused: Decided | None = None
    effectiveness: str = ""
    insight: str = ""
    statement: str = ""
    pooled: Pooled | None = None
    limit_kept: str = ""
    sayings: tuple[bytes, ...] = ()

    @property
    def state(self) -> str:
        if self.refused:
            return "refused"
        if self.checked:
            return "closed"
        if self.effective:
            return "effective"
        return "approved" if self.approved else "proposed"

    @property
    def decisions(self) -> list[Decided]:
        by_one = (self.approved, self.validated, self.filing, self.checked, self.refused)
        return [one for one in by_one if one is not None]


def capa_after(record: CapaRecord, event: Message, at: str, id: str) -> CapaRecord:
    """The record after one event of the action; `at` is the event's time (ISO)."""
    match event:
        case production.CapaProposed():
            return _proposed(record, event, at)
        case production.ProcessLimitChanged():
            return _effective(record, event, at)
        case production.InsightPublished():
            parts = tuple(one.SerializeToString(deterministic=True) for one in event.statement_sayings)
            return replace(record, insight=event.insight, statement=event.statement, sayings=parts)
        case production.CapaApproved():
            return replace(record, approved=_approved(event, at, id))
        case production.CapaRefused():
            return replace(record, refused=_refused(event, at, id))
    return _stated(record, event, at, id)


def _proposed(record: CapaRecord, event: production.CapaProposed, at: str) -> CapaRecord:
    """The proposal's reason and rows are not kept: from before sites released, they have counts of people in
    them as they were. Its estimates rest on what was released."""
    return replace(
        record,
        capa=event.capa,
        deviation=event.deviation,
        product=event.product,
        tag=event.tag,
        limit_before=event.limit_before,
        limit_after=event.limit_after,
        proposed=at,
        pooled=pooled(event),
        limit_kept=name(production.LimitKept, event.kept, "LIMIT_KEPT_") if event.kept else "",
    )


def _effective(record: CapaRecord, event: production.ProcessLimitChanged, at: str) -> CapaRecord:
    return replace(
        record,
        limit_before=event.limit_before,
        limit_after=event.limit_after,
        effective=at,
        limits_version=event.version,
    )


def _approved(event: production.CapaApproved, at: str, id: str) -> Decided:
    subject, run = event.capa, event.run
    return Decided(at, id, "CAPA_APPROVED", event.actor, meaning=event.meaning, run=run, subject=subject)


def _refused(event: production.CapaRefused, at: str, id: str) -> Decided:
    what, subject = "CAPA_REFUSED", event.capa
    return Decided(at, id, what, event.actor, event.reason, event.meaning, event.run, subject)


def _stated(record: CapaRecord, event: Message, at: str, id: str) -> CapaRecord:
    """What a person put on record of the change, in their words."""
    assert isinstance(event, Statement), type(event).__name__
    said = Decided(at, id, "", event.actor, event.statement, event.meaning, event.run, event.capa)
    match event:
        case production.ChangeValidated():
            validated = replace(said, what="CHANGE_VALIDATED")
            return replace(record, validated=validated, validation_record=event.record)
        case production.ChangeFilingAssessed():
            category = name(production.FilingCategory, event.category, "FILING_CATEGORY_")
            filing = replace(said, what=f"CHANGE_FILING_{category.upper()}")
            return replace(record, filing=filing, filing_category=category, filing_reference=event.reference)
    found = name(production.EffectivenessOutcome, event.outcome, "EFFECTIVENESS_OUTCOME_")
    checked = replace(said, what=f"CAPA_{found.upper()}")
    return replace(record, checked=checked, effectiveness=found)
