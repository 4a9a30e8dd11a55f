"""Rows that people page through: deviations and corrective actions, newest first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC

from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain.lot import Judgement


@dataclass(frozen=True)
class DeviationRow:
    """A deviation. `at` is the sample that detected it (ISO, UTC); `detected` its
    DeviationDetected, empty while only the judgement is known."""

    deviation: str
    lot: str
    at: str
    detected: bytes = b""
    state: Judgement = "open"
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True)
class CapaRow:
    """A corrective action. `at` is when it was proposed (ISO)."""

    capa: str
    at: str
    proposed: bytes = b""
    state: str = "proposed"
    actor: str = ""


def detected(row: DeviationRow | None, event: events.DeviationDetected) -> DeviationRow:
    at = event.detected.ToDatetime(tzinfo=UTC).isoformat(timespec="microseconds")
    held = row or DeviationRow(event.deviation, event.lot, at)
    return replace(held, at=at, detected=event.SerializeToString(deterministic=True))


def judged(
    row: DeviationRow | None,
    event: events.DeviationConfirmed | events.DeviationRejected,
    at: str,
) -> DeviationRow:
    held = row or DeviationRow(event.deviation, event.lot, at)
    state: Judgement = "confirmed" if isinstance(event, events.DeviationConfirmed) else "rejected"
    return replace(held, state=state, actor=event.actor, reason=event.reason)


def proposed(row: CapaRow | None, event: events.CapaProposed, at: str) -> CapaRow:
    held = row or CapaRow(event.capa, at)
    return replace(held, at=at, proposed=event.SerializeToString(deterministic=True))


def approved(row: CapaRow | None, event: events.CapaApproved, at: str) -> CapaRow:
    held = row or CapaRow(event.capa, at)
    return replace(held, state="approved", actor=event.actor)
