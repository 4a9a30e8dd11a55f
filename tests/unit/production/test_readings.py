"""What a batch of readings and a registration of equipment are refused for, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain import equipment as equipments
from services.production.domain import readings
from services.production.domain.equipment import Equipment, Tag
from services.refusals import Malformed, Refusal

DRYER = Equipment("plant-1/dryer-1", "plant-1", (Tag("Temp", "Cel"), Tag("Pressure", "mbar")))
BAD = 0x80000000
Change = Callable[[events.ReadingsRecorded], object]


def batch() -> events.ReadingsRecorded:
    made = events.ReadingsRecorded(equipment=DRYER.equipment, lot="m/item/API/1", offsets_ms=[0, 1000, 2000])
    made.start.at.FromDatetime(datetime(2026, 3, 1, tzinfo=UTC))
    made.tags.add(tag="Temp", unit="Cel", values=[20.0, 20.5, 21.0])
    made.tags.add(tag="Pressure", unit="mbar", values=[50.0, 51.0, 52.0], statuses=[0, BAD, 0])
    return made


def offsets(*values: int) -> Change:
    def change(made: events.ReadingsRecorded) -> None:
        made.offsets_ms[:] = values

    return change


def value(number: float, status: int = 0) -> Change:
    def change(made: events.ReadingsRecorded) -> None:
        made.tags[1].values[1] = number
        made.tags[1].statuses[1] = status

    return change


def many(count: int) -> Change:
    def change(made: events.ReadingsRecorded) -> None:
        made.offsets_ms[:] = range(count)
        for tag in made.tags:
            tag.values[:] = [1.0] * count
            del tag.statuses[:]

    return change


def start(seconds: int, minutes: int = 0) -> Change:
    def change(made: events.ReadingsRecorded) -> None:
        made.start.at.seconds = seconds
        made.start.offset_minutes = minutes

    return change


def set_tag(**fields: str) -> Change:
    def change(made: events.ReadingsRecorded) -> None:
        for name, text in fields.items():
            setattr(made.tags[0], name, text)

    return change


REFUSED: dict[str, tuple[Change, str, str, str]] = {
    "no start": (lambda b: b.ClearField("start"), "REQUIRED", "start.at", "starts"),
    "start beyond the calendar": (start(2**60), "OUT_OF_RANGE", "start.at", "9999"),
    "offset from UTC of days": (start(0, 5000), "OUT_OF_RANGE", "start.offset_minutes", "18 hours"),
    "no samples": (many(0), "REQUIRED", "offsets_ms", "sample"),
    "too many samples": (many(10_001), "TOO_MANY", "offsets_ms", "10000"),
    "times run backwards": (offsets(0, 2000, 1000), "NOT_INCREASING", "offsets_ms[2]", "follows 2000 ms"),
    "a time twice": (offsets(0, 1000, 1000), "NOT_INCREASING", "offsets_ms[2]", "forward"),
    "no tags": (lambda b: b.ClearField("tags"), "REQUIRED", "tags", "tag"),
    "a tag twice": (set_tag(tag="Pressure", unit="mbar"), "DUPLICATE_TAG", "tags[1].tag", "twice"),
    "unknown tag": (set_tag(tag="Torque"), "UNKNOWN_TAG", "tags[0].tag", "register"),
    "another unit": (set_tag(unit="K"), "WRONG_UNIT", "tags[0].unit", "'Cel'"),
    "no unit": (set_tag(unit=""), "WRONG_UNIT", "tags[0].unit", "'Cel'"),
    "values missing": (lambda b: b.tags[0].values.pop(), "LENGTH_MISMATCH", "tags[0].values", "3 offsets"),
    "statuses missing": (
        lambda b: b.tags[1].statuses.pop(),
        "LENGTH_MISMATCH",
        "tags[1].statuses",
        "or none",
    ),
    "NaN, Good": (value(math.nan), "NOT_FINITE", "tags[1].values[1]", "status Bad (0x80000000)"),
    "infinite, Good": (value(math.inf), "NOT_FINITE", "tags[1].values[1]", "finite"),
    "NaN, Bad": (value(math.nan, BAD), "NOT_FINITE", "tags[1].values[1]", "send 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_malformed_batch_is_refused_with_reason_field_and_next_step(case: str) -> None:
    change, reason, field, said = REFUSED[case]
    made = batch()
    change(made)
    with pytest.raises(Malformed) as refused:
        readings.check(made, DRYER)
    assert (refused.value.reason, refused.value.field) == (reason, field)
    assert said in refused.value.description


def test_readings_of_unknown_equipment_are_refused() -> None:
    with pytest.raises(Malformed) as refused:
        readings.check(batch(), None)
    assert (refused.value.reason, refused.value.field) == ("UNKNOWN_EQUIPMENT", "equipment")


@pytest.mark.parametrize(
    "change",
    [lambda b: None, value(1e300), value(-1e9, BAD), many(10_000), start(0, -720)],
    ids=["plain", "implausible", "of bad quality", "as many as may be", "of the year 1970"],
)
def test_a_fact_is_not_refused_for_what_it_says(change: Change) -> None:
    made = batch()
    change(made)
    readings.check(made, DRYER)


def registration(**tags: str) -> events.EquipmentRegistered:
    made = events.EquipmentRegistered(equipment="plant-1/dryer-1", plant="plant-1")
    for name, unit in tags.items():
        made.tags.add(name=name, unit=unit)
    return made


@pytest.mark.parametrize(
    "unit",
    ["Cel", "mbar", "%", "1", "kg/h", "N.m", "/min", "{rpm}/min", "10*3/uL", "m/s2", "m[H2O]", "W/(m2.K)"],
)
def test_ucum_units_have_their_form(unit: str) -> None:
    assert equipments.is_ucum(unit)


@pytest.mark.parametrize("unit", ["", " ", "deg C", "°C", "kg//h", "(m", "m)", "{a", "kg\n", "Cel" * 40])
def test_other_texts_are_no_ucum_units(unit: str) -> None:
    assert not equipments.is_ucum(unit)


@pytest.mark.parametrize(
    ("asked", "reason", "field"),
    [
        (events.EquipmentRegistered(plant="p"), "REQUIRED", "equipment"),
        (events.EquipmentRegistered(equipment="e"), "REQUIRED", "plant"),
        (registration(), "REQUIRED", "tags"),
        (registration(**{" ": "Cel"}), "REQUIRED", "tags[0].name"),
        (registration(Temp="deg C"), "NOT_UCUM", "tags[0].unit"),
        (registration(Temp="K"), "UNIT_CHANGED", "tags[0].unit"),
    ],
)
def test_a_bad_registration_is_refused(asked: events.EquipmentRegistered, reason: str, field: str) -> None:
    with pytest.raises(Refusal) as refused:
        equipments.decide_register(DRYER, asked)
    assert (refused.value.reason, refused.value.field) == (reason, field)


def test_a_tag_named_twice_is_refused() -> None:
    asked = registration(Temp="Cel")
    asked.tags.add(name="Temp", unit="Cel")
    with pytest.raises(Malformed, match="DUPLICATE_TAG"):
        equipments.decide_register(None, asked)


def test_the_same_registration_again_changes_nothing() -> None:
    asked = registration(Temp="Cel", Pressure="mbar")
    assert equipments.decide_register(DRYER, asked) == []
    asked.tags.add(name="Torque", unit="N.m")
    assert equipments.decide_register(DRYER, asked) == [asked]
    assert equipments.evolve(DRYER, asked).tag("Torque") == Tag("Torque", "N.m")
