"""One seed, one anchor, one world."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from services.world.entities import World
from services.world.genealogy import by_lot, exposed, outputs
from services.world.worldgen import names
from services.world.worldgen.cdisc import Pilot
from services.world.worldgen.dispensing import dispense_all, rebase
from services.world.worldgen.lots import make_lots
from services.world.worldgen.people import make_bodies, make_subjects
from services.world.worldgen.records import make_feeds


def generate(seed: int, anchor: datetime, pilot: Pilot, runs: Mapping[int, int]) -> World:
    """The world of a seed; `anchor` is the platform's now, `runs` the samples of each real dryer run."""
    finished, dispenses = dispense_all(pilot, seed, anchor)
    floor = make_lots(finished, runs, seed)
    made, given = outputs(floor.materials), by_lot(dispenses)
    faulty = [lot.lot for lot in floor.dryer_lots if lot.fault]
    taken = {lot: exposed(lot, made, given) for lot in faulty}
    if unused := [lot for lot, found in taken.items() if not found]:
        raise AssertionError(f"faulty lots without a patient: {unused}")
    harmful = {dispense.dispense for found in taken.values() for dispense in found}
    harmed = {dispense.pseudonym for found in taken.values() for dispense in found}
    subjects = make_subjects(pilot, seed, rebase(pilot, anchor))
    pharmacy, hospital = make_feeds(dispenses, harmful, seed)
    return World(
        seed=seed,
        anchor=anchor,
        site=names.SITE,
        granulate=names.GRANULATE,
        equipment=names.EQUIPMENT,
        dryer_lots=floor.dryer_lots,
        materials=floor.materials,
        subjects=subjects,
        bodies=make_bodies(subjects, seed, harmed),
        dispenses=dispenses,
        pharmacy=pharmacy,
        hospital=hospital,
    )
