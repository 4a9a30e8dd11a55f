"""Projects the rows that people page through."""

from __future__ import annotations

from typing import cast

from pharmaloop.production.v1 import events_pb2 as events
from services.kit.envelope import Event
from services.kit.work import Work, moment_text
from services.production.domain import lists
from services.production.views import CAPA_ROWS, DEVIATION_ROWS


def on_deviation_detected(work: Work, event: Event) -> None:
    detected = cast(events.DeviationDetected, event.message)
    row = work.get(DEVIATION_ROWS, detected.deviation)
    work.put(DEVIATION_ROWS, detected.deviation, lists.detected(row, detected))


def on_deviation_judged(work: Work, event: Event) -> None:
    judged = cast(events.DeviationConfirmed | events.DeviationRejected, event.message)
    row = work.get(DEVIATION_ROWS, judged.deviation)
    work.put(DEVIATION_ROWS, judged.deviation, lists.judged(row, judged, moment_text(event.time)))


def on_capa_proposed(work: Work, event: Event) -> None:
    proposed = cast(events.CapaProposed, event.message)
    row = work.get(CAPA_ROWS, proposed.capa)
    work.put(CAPA_ROWS, proposed.capa, lists.proposed(row, proposed, moment_text(event.time)))


def on_capa_approved(work: Work, event: Event) -> None:
    approved = cast(events.CapaApproved, event.message)
    row = work.get(CAPA_ROWS, approved.capa)
    work.put(CAPA_ROWS, approved.capa, lists.approved(row, approved, moment_text(event.time)))
