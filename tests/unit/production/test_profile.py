"""What a completed lot's run was like: told once, of all readings recorded before it was completed."""

from __future__ import annotations

import pytest

from pharmaloop.production.v1 import events_pb2 as events
from services.kit.bus.protocol import Partition
from tests.unit.production.memory import START, said
from tests.unit.production.transfer_story import (
    EQUIPMENT,
    HISTORY,
    LOT,
    PLANT,
    PRODUCT,
    READINGS,
    FakeTwin,
    Story,
)

FIRST, SECOND = Partition(READINGS, 0), Partition(READINGS, 1)


@pytest.fixture
def story() -> Story:
    """A plant with a running lot."""
    story = Story(FakeTwin())
    tags = [events.Tag(name="Temp", unit="Cel"), events.Tag(name="TempSP", unit="Cel", set_point=True)]
    story.call("RegisterEquipment", equipment=EQUIPMENT, plant=PLANT, tags=tags)
    story.call("StartLot", lot=LOT, product=PRODUCT, equipment=EQUIPMENT)
    return story


def record(story: Story, first: int, *values: float, equipment: str = EQUIPMENT) -> None:
    batch = events.ReadingsRecorded(equipment=equipment, lot=LOT)
    batch.start.at.FromDatetime(START)
    batch.offsets_ms.extend(1000 * (first + n) for n in range(len(values)))
    bad = [0x80000000 if value < 0 else 0 for value in values]
    batch.tags.add(tag="Temp", unit="Cel", values=values, statuses=bad)
    batch.tags.add(tag="TempSP", unit="Cel", values=[40.0] * len(values))
    story.memory.give(HISTORY, [said(batch, START)])


def test_the_mean_of_each_tag_is_told_without_what_was_read_badly(story: Story) -> None:
    record(story, 0, 20.0, 22.0, -999.0)
    story.call("CompleteLot", lot=LOT)
    story.run_steps()
    (told,) = story.out(events.LotProfiled)
    assert (told.lot, told.product, told.equipment) == (LOT, PRODUCT, EQUIPMENT)
    assert [(one.tag, one.unit, one.mean) for one in told.parameters] == [
        ("Temp", "Cel", 21.0),
        ("TempSP", "Cel", 40.0),
    ]


def test_a_lot_that_runs_is_not_profiled(story: Story) -> None:
    record(story, 0, 20.0)
    story.run_steps()
    assert not story.out(events.LotProfiled)


def test_the_profile_waits_for_readings_that_were_recorded_before_the_lot_was_completed(story: Story) -> None:
    record(story, 0, 20.0)
    story.ends = {FIRST: 7, SECOND: 2}
    story.folded = {FIRST: 6, SECOND: 2}
    story.call("CompleteLot", lot=LOT)
    story.run_steps()
    assert not story.out(events.LotProfiled)
    record(story, 1, 30.0)
    story.ends, story.folded = {FIRST: 100, SECOND: 50}, {FIRST: 7, SECOND: 2}
    story.run_steps()
    assert [one.parameters[0].mean for one in story.out(events.LotProfiled)] == [25.0]


def test_it_is_told_once(story: Story) -> None:
    record(story, 0, 20.0)
    story.call("CompleteLot", lot=LOT)
    step = story.due("profile")
    story.run_steps()
    record(story, 1, 90.0)
    story.put_back(step)
    story.run_steps()
    assert len(story.out(events.LotProfiled)) == 1


def test_a_lot_without_readings_of_its_own_equipment_is_not_profiled(story: Story) -> None:
    record(story, 0, 20.0, equipment="plant-1/other")
    story.call("CompleteLot", lot=LOT)
    story.run_steps()
    assert not story.out(events.LotProfiled)
