"""Projects the rows that people page through."""

from __future__ import annotations

from typing import cast

from pharmaloop.production.v1 import events_pb2 as events
from services.kit.envelope import Event
from services.kit.runners.reactor import Row
from services.kit.work import moment_text
from services.production.domain import lists, transfer_rows
from services.production.domain.lists import CapaRow, DecisionRow, DeviationRow, ResultRow
from services.production.domain.transfer_rows import LineRow, TransferRow
from services.production.views import (
    CAPA_ROWS,
    DECISION_ROWS,
    DEVIATION_ROWS,
    LINE_ROWS,
    RESULT_ROWS,
    TRANSFER_ROWS,
    line_id,
)

OfResult = events.LaboratoryInvestigationOpened | events.InvestigationClosed | events.TrendReviewOpened


def _deviation(event: Event) -> str:
    return cast(events.DeviationDetected | lists.Changes, event.message).deviation


def _capa(event: Event) -> str:
    return cast(events.CapaProposed | lists.CapaChanges, event.message).capa


def _detected(row: DeviationRow | None, event: Event) -> DeviationRow:
    return lists.detected(row, cast(events.DeviationDetected, event.message), moment_text(event.time))


def _changed(row: DeviationRow | None, event: Event) -> DeviationRow:
    return lists.changed(row, cast(lists.Changes, event.message), moment_text(event.time))


def _proposed(row: CapaRow | None, event: Event) -> CapaRow:
    return lists.proposed(row, cast(events.CapaProposed, event.message), moment_text(event.time))


def _moved(row: CapaRow | None, event: Event) -> CapaRow:
    return lists.moved(row, cast(lists.CapaChanges, event.message), moment_text(event.time))


def _result(event: Event) -> str:
    """Id of the result that an event is about; of a result itself, its own."""
    if isinstance(event.message, events.TestResultRecorded):
        return event.id
    return cast(OfResult, event.message).result


def _tested(row: ResultRow | None, event: Event) -> ResultRow:
    return lists.tested(row, cast(events.TestResultRecorded, event.message), event.id)


def _investigated(row: ResultRow | None, event: Event) -> ResultRow:
    return lists.investigated(row, cast(events.LaboratoryInvestigationOpened, event.message))


def _explained(row: ResultRow | None, event: Event) -> ResultRow:
    return lists.explained(row, cast(events.InvestigationClosed, event.message))


def _reviewed(row: ResultRow | None, event: Event) -> ResultRow:
    return lists.reviewed(row, cast(events.TrendReviewOpened, event.message))


def _lot(event: Event) -> str:
    return cast(lists.Decided, event.message).lot


def _decided(row: DecisionRow | None, event: Event) -> DecisionRow:
    return lists.decided(row, cast(lists.Decided, event.message), moment_text(event.time))


def _transfer(event: Event) -> str:
    return cast(events.TwinAdapted, event.message).transfer


def _transferred(row: TransferRow | None, event: Event) -> TransferRow:
    return transfer_rows.moved(row, event.message, moment_text(event.time))


def _line(event: Event) -> str:
    told = cast(events.LineRegistered, event.message)
    return line_id(told.plant, told.line)


def _registered(_row: LineRow | None, event: Event) -> LineRow:
    return transfer_rows.registered(cast(events.LineRegistered, event.message))


DETECTED = Row(DEVIATION_ROWS, _deviation, _detected)
CHANGED = Row(DEVIATION_ROWS, _deviation, _changed)
PROPOSED = Row(CAPA_ROWS, _capa, _proposed)
MOVED = Row(CAPA_ROWS, _capa, _moved)
TESTED = Row(RESULT_ROWS, _result, _tested)
INVESTIGATED = Row(RESULT_ROWS, _result, _investigated)
EXPLAINED = Row(RESULT_ROWS, _result, _explained)
REVIEWED = Row(RESULT_ROWS, _result, _reviewed)
DECIDED = Row(DECISION_ROWS, _lot, _decided)
TRANSFERRED = Row(TRANSFER_ROWS, _transfer, _transferred)
REGISTERED = Row(LINE_ROWS, _line, _registered)
