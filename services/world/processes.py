"""The two processes behind one face: what they measure, how often, and what a run's readings are."""

from __future__ import annotations

from datetime import timedelta

from services.world import dryer_runs, fermentations
from services.world.entities import DRYER, FERMENTER, ProcessLot
from services.world.signals import Model, Profile

SAMPLE = {DRYER: timedelta(minutes=1), FERMENTER: fermentations.SAMPLE}
TAGS = {DRYER: dryer_runs.TAGS, FERMENTER: fermentations.TAGS}


def onset_sample(lot: ProcessLot) -> int:
    """The first sample that has some of the lot's fault."""
    assert lot.fault
    return int(lot.fault.onset * lot.samples)


def profile(process: str, lot: ProcessLot, model: Model | None = None) -> Profile:
    """The readings of a lot's run. A dryer's fault is sized in the spread of the published `model`."""
    if process == DRYER:
        return dryer_runs.profile_of(lot.run, lot.fault, model)
    assert lot.conditions
    trouble = None
    if lot.fault:
        trouble = fermentations.Trouble(lot.fault.kind, lot.fault.magnitude, onset_sample(lot))
    return fermentations.profile(lot.conditions, trouble)
