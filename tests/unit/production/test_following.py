"""The live twin of a running lot, from its recorded readings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pharmaloop.production.v1 import events_pb2 as events
from services.kit.errors import Rejected, Unknown
from services.production.domain.twin.pensim import BIOMASS, OXYGEN, SUBSTRATE, VOLUME, Recipe, run
from tests.unit.production.memory import START, said
from tests.unit.production.transfer_story import EQUIPMENT, HISTORY, LOT, PLANT, PRODUCT, FakeTwin, Story

TAGS = {
    "FeedRate": "L/h",
    "AerationRate": "L/h",
    "AgitatorPower": "W",
    "Temperature": "Cel",
    "PH": "[pH]",
    "DissolvedOxygen": "%",
    "Volume": "L",
}
TRUTH = run(Recipe(biomass=0.11), times=np.arange(0.0, 120.1, 2.5))


def values(first: int, last: int) -> dict[str, Any]:
    """What the sensors say of the simulated truth, sample by sample."""
    times, states = TRUTH.times[first:last], TRUTH.states[first:last]
    assert TRUTH.switch is not None
    fed = np.where(times > TRUTH.switch.hour, 0.042, 0.0)
    level = np.ones(len(times))
    return {
        "FeedRate": fed,
        "AerationRate": 8.0 * level,
        "AgitatorPower": 29.9 * level,
        "Temperature": 24.85 * level,
        "PH": 5.0 * level,
        "DissolvedOxygen": 100 * states[:, OXYGEN] / 1.16,
        "Volume": states[:, VOLUME],
    }


@pytest.fixture
def story() -> Story:
    """A plant with a running lot of an older recipe."""
    story = Story(FakeTwin())
    tags = [events.Tag(name=name, unit=unit) for name, unit in TAGS.items()]
    story.call("RegisterEquipment", equipment=EQUIPMENT, plant=PLANT, tags=tags)
    story.call("StartLot", lot=LOT, product=PRODUCT, equipment=EQUIPMENT)
    return story


def record(story: Story, first: int, last: int, leave_out: tuple[str, ...] = ()) -> None:
    batch = events.ReadingsRecorded(equipment=EQUIPMENT, lot=LOT)
    batch.start.at.FromDatetime(START)
    batch.offsets_ms.extend(int(hour * 3_600_000) for hour in TRUTH.times[first:last])
    for tag, read in values(first, last).items():
        if tag not in leave_out:
            batch.tags.add(tag=tag, unit=TAGS[tag], values=read)
    story.memory.give(HISTORY, [said(batch, START)])


def states(answer: Any) -> dict[str, Any]:
    return {state.name: state for state in answer.states}


def test_what_nobody_measures_is_estimated_from_what_is_read(story: Story) -> None:
    record(story, 0, len(TRUTH.times))
    answer = story.call("GetTwin", lot=LOT)
    found, truth = states(answer), TRUTH.states[-1]
    assert (answer.readings, answer.model) == (len(TRUTH.times), "pensim-published/1")
    assert answer.at.ToDatetime().isoformat() == "2026-03-06T00:00:00"
    assert not found["biomass"].measured
    assert found["dissolved_oxygen"].measured
    assert abs(found["biomass"].value - truth[BIOMASS]) < 3 * found["biomass"].deviation
    assert found["biomass"].value == pytest.approx(truth[BIOMASS], rel=0.1)
    assert found["substrate"].value == pytest.approx(truth[SUBSTRATE], abs=0.1)


def test_a_lot_that_grows_is_followed_on_to_the_same_end(story: Story) -> None:
    for first, last in ((0, 10), (10, 11), (11, 30)):
        record(story, first, last)
        grown = story.call("GetTwin", lot=LOT)
    assert Story(FakeTwin(), story.memory).call("GetTwin", lot=LOT) == grown


def test_readings_that_came_late_are_followed_from_the_beginning(story: Story) -> None:
    record(story, 10, 20)
    before = story.call("GetTwin", lot=LOT)
    record(story, 0, 10)
    after = story.call("GetTwin", lot=LOT)
    assert (before.readings, after.readings) == (10, 20)
    assert states(after)["biomass"].value != states(before)["biomass"].value


def test_a_lot_without_the_tags_is_refused_by_their_names(story: Story) -> None:
    record(story, 0, 5, leave_out=("AgitatorPower", "DissolvedOxygen"))
    with pytest.raises(Rejected, match="TAGS_MISSING") as refused:
        story.call("GetTwin", lot=LOT)
    assert "AgitatorPower in W" in refused.value.description
    assert "DissolvedOxygen in % or CarbonDioxide in mmol/L" in refused.value.description


def test_a_lot_without_readings_or_record_is_refused(story: Story) -> None:
    with pytest.raises(Unknown, match="NO_RUN"):
        story.call("GetTwin", lot=LOT)
    with pytest.raises(Unknown, match="UNKNOWN_LOT"):
        story.call("GetTwin", lot=f"{PRODUCT}/none")


def test_a_lot_of_which_no_reading_is_whole_waits(story: Story) -> None:
    batch = events.ReadingsRecorded(equipment=EQUIPMENT, lot=LOT)
    batch.start.at.FromDatetime(START)
    batch.offsets_ms.append(0)
    for tag, read in values(0, 1).items():
        status = [0x80000000] if tag == "PH" else []
        batch.tags.add(tag=tag, unit=TAGS[tag], values=read, statuses=status)
    story.memory.give(HISTORY, [said(batch, START)])
    with pytest.raises(Rejected, match="NO_READINGS"):
        story.call("GetTwin", lot=LOT)


def test_a_lot_beyond_what_the_model_knows_is_refused_plainly(story: Story) -> None:
    batch = events.ReadingsRecorded(equipment=EQUIPMENT, lot=LOT)
    batch.start.at.FromDatetime(START)
    batch.offsets_ms.append(0)
    for tag, read in values(0, 1).items():
        batch.tags.add(tag=tag, unit=TAGS[tag], values=[95.0] if tag == "Temperature" else read)
    story.memory.give(HISTORY, [said(batch, START)])
    with pytest.raises(Rejected, match="OUTSIDE_MODEL") as refused:
        story.call("GetTwin", lot=LOT)
    assert refused.value.field == "lot"
