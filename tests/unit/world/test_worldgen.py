"""The world of a seed: the real study and the real runs, put together the same way every time."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, timedelta
from itertools import pairwise

import msgspec
import pytest

from services.kit.ids import dispense_id, parse_lot
from services.world.dryer_runs import sample_counts
from services.world.entities import DRYER, FERMENTER, Line
from services.world.fermentations import FAULTS
from services.world.names import HIGH, LOW, PLACEBO, PRODUCTS, gtin14
from services.world.records import World
from services.world.sizes import SMALL, WS
from services.world.worldgen import generate
from services.world.worldgen.cdisc import Pilot, read_pilot
from tests.unit.world.support import ANCHOR


def digest(world: World) -> str:
    return hashlib.sha256(msgspec.json.encode(world)).hexdigest()


def line(world: World, process: str) -> Line:
    return next(item for item in world.lines if item.process == process)


def test_the_same_seed_is_byte_equal_in_another_process(world: World) -> None:
    script = (
        "import hashlib, msgspec, sys; from datetime import datetime;"
        "from services.world.worldgen import generate; from services.world.worldgen.cdisc import read_pilot;"
        "from services.world.dryer_runs import sample_counts; from services.world.sizes import SMALL;"
        "w = generate(7, datetime.fromisoformat(sys.argv[1]), read_pilot(), sample_counts(), SMALL);"
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


def test_the_whole_world_is_the_same_twice(whole: World, pilot: Pilot) -> None:
    assert digest(generate(7, ANCHOR, pilot, sample_counts(), WS)) == digest(whole)


def test_without_findings_everything_else_is_the_same(world: World) -> None:
    plain = generate(7, ANCHOR, read_pilot(findings=False), sample_counts(), SMALL, findings=False)
    assert not plain.observations
    assert plain == replace(world, observations=())


@pytest.mark.parametrize(("seed", "series"), [(8, ""), (7, "other")])
def test_another_seed_or_series_shares_nobody(world: World, pilot: Pilot, seed: int, series: str) -> None:
    other = generate(seed, ANCHOR, pilot, sample_counts(), SMALL, series)
    people = {body.pseudonym for hospital in world.hospitals for body in hospital.bodies}
    assert not {body.pseudonym for hospital in other.hospitals for body in hospital.bodies} & people
    lots = {lot.lot for item in world.lines for lot in item.lots}
    assert bool({lot.lot for item in other.lines for lot in item.lots} & lots) is (not series)


def test_the_whole_world_is_as_large_as_is_said(whole: World) -> None:
    assert whole.sites == ("hospital-a", "hospital-b", "hospital-c")
    people = {item.pseudonym for hospital in whole.hospitals for item in hospital.bodies}
    moved = {
        one.pseudonym for hospital in whole.hospitals for one in hospital.subjects if one.status == "MOVED"
    } | {
        change.subject.pseudonym
        for hospital in whole.hospitals
        for change in hospital.changes
        if change.subject.status == "MOVED"
    }
    assert len(people) - len(moved) == 5000
    assert len(whole.dispenses) == len({item.dispense for item in whole.dispenses}) == 15_000
    assert len(whole.pharmacies) == 20
    owners = {parse_lot(item.lot).owner for item in whole.materials}
    assert owners == {"maker-1", "maker-2", "cmo-1"}
    finished = {item.lot for item in whole.materials if item.unit == "{pack}"}
    raw = {item.lot for item in whole.materials if item.kind == "received"}
    inside = {lot for item in whole.materials if item.kind == "packed" for lot in item.inputs}
    assert (len(finished), len(raw), len(inside)) == (60, 20, 30)


def test_hospital_a_is_the_real_study(world: World, pilot: Pilot) -> None:
    hospital = world.hospitals[0]
    assert len(hospital.bodies) == len({one.pseudonym for one in hospital.subjects}) == 254
    given = [item for item in world.dispenses if item.site == hospital.site]
    assert len(given) == 591
    inside = {item.lot: item.inputs for item in world.materials if item.kind == "kit"}
    counted = Counter(parse_lot(lot).item for item in given for lot in inside[item.lot])
    assert counted == {PLACEBO.gtin: 226, LOW.gtin: 293, HIGH.gtin: 72}
    last = {one.pseudonym: one for one in hospital.subjects}
    assert sum(one.status == "DECEASED" for one in last.values()) == 3  # DS: three deaths
    shift = min(item.at for item in given).date() - min(item.start for item in pilot.exposures)
    told = Counter(
        (item.code, item.value, item.at)
        for item in world.observations
        if item.site == hospital.site and item.kind == "lab"
    )
    real = Counter(
        (item.code, item.value, item.at.replace(tzinfo=UTC) + shift)
        for item in pilot.findings
        if item.kind == "lab" and item.at.replace(tzinfo=UTC) + shift < ANCHOR
    )
    assert told == real
    assert len(told) > 40_000 * 254 / 306


def test_plant_1_runs_every_real_run_once_and_six_faulty_copies(world: World) -> None:
    lots = line(world, DRYER).lots
    assert sorted(lot.run for lot in lots if not lot.fault) == list(range(1, 72))
    assert sum(not lot.live for lot in lots) == 40
    faulty = [lot for lot in lots if lot.faulty]
    assert len(faulty) == 6
    live = {lot.run for lot in lots if lot.live and not lot.fault}
    assert {lot.run for lot in faulty} <= live
    assert all(abs(lot.fault.magnitude) >= 8 for lot in faulty if lot.fault)


def test_plant_2_has_every_kind_of_fault_and_sound_lots_whose_sensor_flutters(world: World) -> None:
    lots = line(world, FERMENTER).lots
    planted = {lot.fault.kind for lot in lots if lot.faulty and lot.fault}
    assert planted | {"flutter"} == set(FAULTS)
    fluttering = [lot for lot in lots if lot.fault and lot.fault.nuisance]
    assert len(fluttering) == 3
    assert not any(lot.used for lot in fluttering)


@pytest.mark.parametrize("process", [DRYER, FERMENTER])
def test_the_first_live_run_is_faulty_and_only_used_lots_are(world: World, process: str) -> None:
    lots = line(world, process).lots
    assert next(lot for lot in lots if lot.live).faulty
    assert all(lot.used and lot.live for lot in lots if lot.faulty)
    inside = {used for item in world.materials if item.kind == "packed" for used in item.inputs}
    assert {lot.lot for lot in lots if lot.used} == {lot.lot for lot in lots} & inside


@pytest.mark.parametrize("process", [DRYER, FERMENTER])
def test_runs_of_one_equipment_follow_one_another(world: World, process: str) -> None:
    for equipment in line(world, process).equipment:
        runs = [lot for lot in line(world, process).lots if lot.equipment == equipment]
        assert all(before.completed < after.started for before, after in pairwise(runs))


def test_the_last_dispense_is_shortly_before_now(world: World) -> None:
    assert timedelta(0) < ANCHOR - world.dispenses[-1].at <= timedelta(days=4)
    assert list(world.dispenses) == sorted(world.dispenses, key=lambda item: (item.at, item.dispense))


def test_dispense_ids_are_those_that_every_source_makes(world: World) -> None:
    for item in world.dispenses:
        known = dispense_id(item.site, item.order, item.lot)
        assert item.dispense in (known, dispense_id("", item.order, item.lot))


@pytest.mark.parametrize("name", sorted(PRODUCTS))
def test_gtins_have_their_check_digit(name: str) -> None:
    gtin = PRODUCTS[name].gtin
    assert len(gtin) == 14
    assert sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(gtin)) % 10 == 0


def test_a_known_gtin() -> None:
    # GS1 General Specifications, section 7.9: the example number 629104150021 has check digit 3.
    assert gtin14("0629104150021") == "06291041500213"
    with pytest.raises(ValueError, match="13 digits"):
        gtin14("123")
