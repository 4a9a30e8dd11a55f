"""Readings at the door: those in another unit than their tag's come in converted, or not at all."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from pharmaloop.production.v1 import events_pb2 as events
from services.kit.errors import Invalid
from services.kit.facts import Fact
from services.production.domain.equipment import Equipment, Tag
from services.production.intake import readings_fact

DRYER = Equipment(
    "plant-1/dryer-1",
    "plant-1",
    (Tag("Temp", "Cel"), Tag("Pressure", "mbar"), Tag("Moisture", "g/kg"), Tag("Count", "{pellet}")),
)
LOT = "m/item/API/1"


def batch(**tags: tuple[str, list[float]]) -> events.ReadingsRecorded:
    made = events.ReadingsRecorded(equipment=DRYER.equipment, lot=LOT, offsets_ms=[0, 1000])
    made.start.at.FromDatetime(datetime(2026, 3, 1, tzinfo=UTC))
    for tag, (unit, values) in tags.items():
        made.tags.add(tag=tag, unit=unit, values=values)
    return made


def taken(made: events.ReadingsRecorded) -> Fact:
    return readings_fact({DRYER.equipment: DRYER})(0, made)


def values_of(fact: Fact) -> dict[str, tuple[str, list[float]]]:
    message = fact.message
    assert isinstance(message, events.ReadingsRecorded)
    return {tag.tag: (tag.unit, list(tag.values)) for tag in message.tags}


@pytest.mark.parametrize(
    ("tag", "unit", "sent", "kept"),
    [
        # NIST SP 811 (2008), appendix B: definitions of the units.
        ("Temp", "K", [273.15, 300.0], [0.0, 26.85]),
        ("Temp", "[degF]", [212.0, -40.0], [100.0, -40.0]),
        ("Pressure", "bar", [1.01325, 0.05], [1013.25, 50.0]),
        ("Pressure", "Pa", [101325.0, 5.0], [1013.25, 0.05]),
        ("Moisture", "mg/g", [12.5, 0.0], [12.5, 0.0]),
        ("Moisture", "kg/kg", [0.0125, 1.0], [12.5, 1000.0]),
    ],
)
def test_a_reading_in_a_unit_that_converts_is_kept_in_that_of_its_tag(
    tag: str, unit: str, sent: list[float], kept: list[float]
) -> None:
    made = batch(**{tag: (unit, sent)})
    before = made.SerializeToString()
    ((name, values),) = values_of(taken(made)).values()
    assert name == DRYER.tag(tag).unit  # type: ignore[union-attr]
    assert values == pytest.approx(kept, rel=1e-15, abs=1e-13)
    assert made.SerializeToString() == before, "what was sent is not changed"


def test_only_what_is_in_another_unit_is_converted() -> None:
    made = batch(Temp=("Cel", [20.5, 21.5]), Pressure=("bar", [0.05, 0.06]))
    assert values_of(taken(made)) == {"Temp": ("Cel", [20.5, 21.5]), "Pressure": ("mbar", [50.0, 60.0])}


def test_the_same_window_is_the_same_fact_in_whatever_unit_it_is_sent() -> None:
    assert taken(batch(Temp=("K", [300, 301]))).id == taken(batch(Temp=("Cel", [26.85, 27.85]))).id


@pytest.mark.parametrize(
    ("tag", "unit"),
    [("Temp", "kg"), ("Temp", ""), ("Temp", "C"), ("Pressure", "Cel"), ("Moisture", "g"), ("Count", "kg")],
)
def test_a_reading_in_a_unit_that_does_not_convert_is_refused(tag: str, unit: str) -> None:
    with pytest.raises(Invalid) as refused:
        taken(batch(**{tag: (unit, [1.0, 2.0])}))
    assert (refused.value.reason, refused.value.field) == ("WRONG_UNIT", "tags[0].unit")
    assert repr(unit) in refused.value.description
    assert repr(DRYER.tag(tag).unit) in refused.value.description  # type: ignore[union-attr]


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e307])
def test_a_value_that_no_number_is_left_of_is_refused(value: float) -> None:
    with pytest.raises(Invalid) as refused:
        taken(batch(Pressure=("bar", [1.0, value])))
    assert (refused.value.reason, refused.value.field) == ("NOT_FINITE", "tags[0].values[1]")
