"""What each shared event adds to the records that dossiers are made of: one event, one row.

Only topics that every service may read are read here, and none that names a
person: the exact counts that they carry are kept, and shown as they may be
published.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from pharmaloop.traceability.v1 import events_pb2 as events
from services.kit.envelope import Event
from services.kit.runners.reactor import Row, Rows
from services.kit.work import moment_text
from services.traceability.domain.dossier import capas, lots, results, runs
from services.traceability.views import (
    CAPA_RECORDS,
    HAZARD_RECORDS,
    JOURNAL_RECORDS,
    LOT_RECORDS,
    RESULT_RECORDS,
    RUN_RECORDS,
    SITE_RECORDS,
    TAKEN_RECORDS,
    result_id,
)

Fold = Callable[[Any, Message, str, str], Any]


def _lot(event: Event) -> str:
    return str(cast(Any, event.message).lot)


def _run(event: Event) -> str:
    return str(cast(Any, event.message).run)


def _site(event: Event) -> str:
    message = cast(Any, event.message)
    return f"{message.run}|{message.site}"


def _result(event: Event) -> str:
    return result_id(_lot(event), event.id)


def _after(
    fold: Fold, empty: Callable[[str], Any], key: Callable[[Event], str], held: Any, event: Event
) -> Any:
    return fold(held or empty(key(event)), event.message, moment_text(event.time), event.id)


def _tested(held: results.Result | None, event: Event) -> results.Result:
    """What comes under the same id later has no effect."""
    return held or results.recorded(cast(production.TestResultRecorded, event.message), event.id)


def _hazard(_held: runs.HazardRecord | None, event: Event) -> runs.HazardRecord:
    message = cast(production.HazardEvaluated, event.message)
    return runs.hazard(message, moment_text(event.time), event.id)


def _taken(_held: runs.TakenRecord | None, event: Event) -> runs.TakenRecord:
    message = cast(rnd.InsightRecorded, event.message)
    return runs.TakenRecord(message.run, message.insight)


def _at_site(held: runs.SiteRecord | None, event: Event) -> runs.SiteRecord:
    message = cast(Any, event.message)
    return runs.site_after(held or runs.SiteRecord(message.run, message.site), message)


_LOT = Row(LOT_RECORDS, _lot, partial(_after, lots.after, lots.LotRecord, _lot))
_RUN = Row(RUN_RECORDS, _run, partial(_after, runs.run_after, runs.RunRecord, _run))
_JOURNAL = Row(JOURNAL_RECORDS, _run, partial(_after, runs.journal_after, runs.JournalRecord, _run))
_CAPA = Row(CAPA_RECORDS, _run, partial(_after, capas.capa_after, capas.CapaRecord, _run))
_SITE = Row(SITE_RECORDS, _site, _at_site)

ROWS: Rows = {
    production.LotStarted: _LOT,
    production.LotCompleted: _LOT,
    production.LotHeld: _LOT,
    production.LotReleased: _LOT,
    production.LotRejected: _LOT,
    production.DeviationDetected: _LOT,
    production.DeviationConfirmed: _LOT,
    production.DeviationRejected: _LOT,
    production.DeviationUpdated: _LOT,
    production.DeviationInvestigationStarted: _LOT,
    production.DeviationClassified: _LOT,
    production.DeviationCapaRequired: _LOT,
    production.DeviationCapaRefused: _LOT,
    production.DeviationClosed: _LOT,
    production.LotImplicationAnswered: _LOT,
    production.LaboratoryInvestigationOpened: _LOT,
    production.RetestPassed: _LOT,
    production.InvestigationClosed: _LOT,
    production.TrendReviewOpened: _LOT,
    production.TestResultRecorded: Row(RESULT_RECORDS, _result, _tested),
    production.HazardEvaluated: Row(HAZARD_RECORDS, _run, _hazard),
    production.CapaProposed: _CAPA,
    production.CapaApproved: _CAPA,
    production.CapaRefused: _CAPA,
    production.ChangeValidated: _CAPA,
    production.ChangeFilingAssessed: _CAPA,
    production.ProcessLimitChanged: _CAPA,
    production.CapaEffectivenessChecked: _CAPA,
    production.InsightPublished: _CAPA,
    loops.SafetyRunOpened: _RUN,
    loops.StageCompleted: _RUN,
    loops.LoopStalled: _RUN,
    loops.LoopClosed: _RUN,
    events.ExposureSealed: _JOURNAL,
    events.ExposureAfterSeal: _JOURNAL,
    events.UnattributedExplained: _JOURNAL,
    clinical.ExposureReceived: _SITE,
    clinical.PlansOpened: _SITE,
    clinical.NoticesSummarised: _SITE,
    clinical.FollowUpSummarised: _SITE,
    clinical.EvidenceReleased: _SITE,
    clinical.ResponsesSummarised: _SITE,
    rnd.InsightRecorded: Row(TAKEN_RECORDS, _run, _taken),
}
