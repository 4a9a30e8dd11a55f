"""Keeps the samples of every lot's process run, for training."""

from __future__ import annotations

from typing import cast

from pharmaloop.production.v1 import events_pb2 as events
from services.kit.envelope import Event
from services.kit.work import Work
from services.production.domain import samples
from services.production.domain.samples import Run
from services.production.views import RUNS, run_id


def on_readings_recorded(work: Work, event: Event) -> None:
    """Join the batch to the run; what is held already, or goes beyond the bound, has no effect."""
    batch = cast(events.ReadingsRecorded, event.message)
    id = run_id(batch.lot, batch.equipment)
    held = work.get(RUNS, id) or Run(batch.lot, batch.equipment)
    grown = samples.joined(held.samples, samples.of(batch))
    if grown != held.samples and grown.points <= samples.MAX_POINTS:
        work.put(RUNS, id, Run(batch.lot, batch.equipment, grown))
