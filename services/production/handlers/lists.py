"""Projects the rows that people page through."""

from __future__ import annotations

from typing import cast

from pharmaloop.production.v1 import events_pb2 as events
from services.kit.envelope import Event
from services.kit.runners.reactor import Row
from services.kit.work import moment_text
from services.production.domain import lists
from services.production.domain.lists import CapaRow, DeviationRow
from services.production.views import CAPA_ROWS, DEVIATION_ROWS

Judged = events.DeviationConfirmed | events.DeviationRejected


def _deviation(event: Event) -> str:
    return cast(events.DeviationDetected | Judged, event.message).deviation


def _capa(event: Event) -> str:
    return cast(events.CapaProposed | events.CapaApproved, event.message).capa


def _detected(row: DeviationRow | None, event: Event) -> DeviationRow:
    return lists.detected(row, cast(events.DeviationDetected, event.message))


def _judged(row: DeviationRow | None, event: Event) -> DeviationRow:
    return lists.judged(row, cast(Judged, event.message), moment_text(event.time))


def _proposed(row: CapaRow | None, event: Event) -> CapaRow:
    return lists.proposed(row, cast(events.CapaProposed, event.message), moment_text(event.time))


def _approved(row: CapaRow | None, event: Event) -> CapaRow:
    return lists.approved(row, cast(events.CapaApproved, event.message), moment_text(event.time))


DETECTED = Row(DEVIATION_ROWS, _deviation, _detected)
JUDGED = Row(DEVIATION_ROWS, _deviation, _judged)
PROPOSED = Row(CAPA_ROWS, _capa, _proposed)
APPROVED = Row(CAPA_ROWS, _capa, _approved)
