"""Keeps the samples of every lot's process run, for training."""

from __future__ import annotations

from typing import cast

from pharmaloop.production.v1 import events_pb2 as events
from services.kit.envelope import Event
from services.kit.runners.reactor import Row
from services.production.domain import samples
from services.production.domain.samples import Run
from services.production.views import RUNS, run_id


def _run(event: Event) -> str:
    batch = cast(events.ReadingsRecorded, event.message)
    return run_id(batch.lot, batch.equipment)


def _joined(held: Run | None, event: Event) -> Run:
    """Join the batch to the run; what is held already, or goes beyond the bound, has no effect."""
    batch = cast(events.ReadingsRecorded, event.message)
    before = held or Run(batch.lot, batch.equipment)
    grown = samples.joined(before.samples, samples.of(batch))
    if grown == before.samples or grown.points > samples.MAX_POINTS:
        return before
    return Run(batch.lot, batch.equipment, grown)


RECORDED = Row(RUNS, _run, _joined)
