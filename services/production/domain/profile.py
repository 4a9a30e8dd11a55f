"""What a completed lot's run was like: the mean of each of its tags."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain.samples import Run


@dataclass(frozen=True)
class Profile:
    """A lot's profile; `profiled` keeps its LotProfiled as it was."""

    profiled: bytes


def of_run(run: Run, product: str) -> events.LotProfiled:
    """Mean over the good readings of each tag; a tag without one is left out. The tags stand in order."""
    told = events.LotProfiled(lot=run.lot, product=product, equipment=run.equipment)
    units = run.samples.units()
    for tag, values in sorted(run.samples.table().items()):
        good = values[~np.isnan(values)]
        if len(good):
            told.parameters.add(tag=tag, unit=units[tag], mean=float(good.mean()))
    return told


def evolve(held: Profile | None, event: object) -> Profile:
    """The profile after its event."""
    assert isinstance(event, events.LotProfiled)
    return Profile(event.SerializeToString(deterministic=True))
