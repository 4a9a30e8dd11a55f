"""The world of a seed: the real study and the real runs, put together the same way every time."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import msgspec
import pytest

from services.kit.ids import dispense_id, parse_lot
from services.world.dryer_runs import sample_counts
from services.world.entities import World
from services.world.genealogy import by_lot, exposed, outputs
from services.world.worldgen import generate, names
from services.world.worldgen.cdisc import Pilot
from services.world.worldgen.lots import HISTORY_RUNS
from tests.unit.world.support import ANCHOR


def digest(world: World) -> str:
    return hashlib.sha256(msgspec.json.encode(world)).hexdigest()


def test_the_same_seed_is_byte_equal_in_another_process(world: World) -> None:
    script = (
        "import hashlib, msgspec, sys; from datetime import datetime;"
        "from services.world.worldgen import generate; from services.world.worldgen.cdisc import read_pilot;"
        "from services.world.dryer_runs import sample_counts;"
        "w = generate(7, datetime.fromisoformat(sys.argv[1]), read_pilot(), sample_counts());"
        "print(hashlib.sha256(msgspec.json.encode(w)).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": os.pathsep.join(sys.path)}
    made = subprocess.run(
        [sys.executable, "-c", script, ANCHOR.isoformat()],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout.strip() == digest(world)


def test_another_seed_is_another_world(world: World, pilot: Pilot) -> None:
    other = generate(8, ANCHOR, pilot, sample_counts())
    assert not {body.pseudonym for body in other.bodies} & {body.pseudonym for body in world.bodies}


def test_it_is_the_real_study_and_the_real_runs(world: World) -> None:
    assert len(world.subjects) == len({subject.pseudonym for subject in world.subjects}) == 254
    assert len(world.dispenses) == len({dispense.dispense for dispense in world.dispenses}) == 591
    assert {dispense.pseudonym for dispense in world.dispenses} == {s.pseudonym for s in world.subjects}
    originals = [lot.run for lot in world.dryer_lots if not lot.fault]
    assert sorted(originals) == list(range(1, 72))
    assert sum(not lot.live for lot in world.dryer_lots) == HISTORY_RUNS
    assert sum(bool(lot.fault) for lot in world.dryer_lots) == 6


def test_each_product_is_dispensed_as_in_the_study(world: World) -> None:
    counted = Counter(parse_lot(dispense.lot).item for dispense in world.dispenses)
    assert counted == {names.FINISHED[0][0]: 226, names.FINISHED[54][0]: 293, names.FINISHED[81][0]: 72}


def test_the_last_dispense_is_shortly_before_now_and_none_is_older_than_its_lot(world: World) -> None:
    made = {material.lot: material.at for material in world.materials}
    assert all(made[dispense.lot] <= dispense.at for dispense in world.dispenses)
    assert 0 < (ANCHOR - world.dispenses[-1].at).days <= 4
    for material in world.materials:
        assert all(made[used] <= material.at for used in material.inputs), material.lot


def test_runs_of_one_dryer_follow_one_another(world: World) -> None:
    for equipment in world.equipment:
        runs = [lot for lot in world.dryer_lots if lot.equipment == equipment]
        assert all(before.completed < after.started for before, after in pairwise(runs))


def test_genealogy_has_no_cycle_and_the_shape_that_was_asked_for(world: World) -> None:
    inputs = {material.lot: material.inputs for material in world.materials}
    assert len(inputs) == len(world.materials)

    def depth(lot: str, path: tuple[str, ...] = ()) -> int:
        assert lot not in path, f"cycle: {path}"
        return 1 + max((depth(used, (*path, lot)) for used in inputs[lot]), default=0)

    assert max(depth(lot) for lot in inputs) == 3
    merged = Counter(
        len(inputs[lot]) for lot in inputs if "/gtin/" in lot and names.FINISHED[0][0] not in lot
    )
    assert set(merged) == {1, 2, 3}
    made = outputs(world.materials)
    assert {len(made[lot.lot]) for lot in world.dryer_lots} == {1, 2}


def test_every_faulty_lot_has_patients_and_no_placebo(world: World) -> None:
    made, given = outputs(world.materials), by_lot(world.dispenses)
    for lot in world.dryer_lots:
        if lot.fault:
            found = exposed(lot.lot, made, given)
            assert len({dispense.pseudonym for dispense in found}) >= 5
            assert all(parse_lot(dispense.lot).item != names.FINISHED[0][0] for dispense in found)
            assert abs(lot.fault.magnitude) >= 8


def test_the_first_live_run_is_faulty(world: World) -> None:
    assert next(lot for lot in world.dryer_lots if lot.live).fault


def test_two_sources_differ_and_miss_nothing_together(world: World) -> None:
    pharmacy, hospital = world.pharmacy, world.hospital
    everything = {dispense.dispense for dispense in world.dispenses}
    for feed in (pharmacy, hospital):
        on_time = {dispense.dispense for dispense in feed.on_time}
        late = {item.dispense.dispense for item in feed.late}
        never = {dispense.dispense for dispense in feed.never}
        assert on_time | late | never == everything
        assert len(on_time) + len(late) + len(never) == len(everything)
        assert {dispense.dispense for dispense in feed.sent_twice} <= on_time
        assert min(len(late), len(never), len(feed.sent_twice)) >= 4
    assert not {item.dispense for item in pharmacy.never} & {item.dispense for item in hospital.never}


def test_dispense_ids_are_those_that_every_source_makes(world: World) -> None:
    for dispense in world.dispenses:
        assert dispense.dispense == dispense_id(world.site, dispense.order, dispense.lot)


def test_bodies_follow_the_stated_rates(world: World) -> None:
    made, given = outputs(world.materials), by_lot(world.dispenses)
    faulty = [lot.lot for lot in world.dryer_lots if lot.fault]
    harmed = {dispense.pseudonym for lot in faulty for dispense in exposed(lot, made, given)}
    complaints = {body.pseudonym for body in world.bodies if body.complaint}
    assert 0.45 < len(complaints & harmed) / len(harmed) < 0.75
    assert len(complaints - harmed) / (len(world.bodies) - len(harmed)) < 0.16
    assert 0.85 < sum(subject.consent for subject in world.subjects) / 254 < 0.95
    assert 0.92 < sum(body.answers for body in world.bodies) / 254 < 1.0


@pytest.mark.parametrize("dose", sorted(names.FINISHED))
def test_gtins_have_their_check_digit(dose: int) -> None:
    gtin = names.FINISHED[dose][0]
    assert len(gtin) == 14
    assert sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(gtin)) % 10 == 0


def test_a_known_gtin() -> None:
    # GS1 General Specifications, section 7.9: the example number 629104150021 has check digit 3.
    assert names.gtin14("0629104150021") == "06291041500213"
    with pytest.raises(ValueError, match="13 digits"):
        names.gtin14("123")
