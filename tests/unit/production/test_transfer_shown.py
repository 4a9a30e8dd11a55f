"""What is shown of lines and transfers, and which lines are refused."""

from __future__ import annotations

from typing import Any

import pytest

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.kit.errors import Invalid, Rejected, Unknown
from tests.unit.production.transfer_story import (
    EQUIPMENT,
    LINE,
    LISTS,
    PLANT,
    PRODUCT,
    SET,
    TRANSFER,
    VESSEL,
    FakeTwin,
    Story,
    measured,
    result,
    start,
)


@pytest.fixture
def story() -> Story:
    """A plant whose twin answers what it is told to."""
    return Story(FakeTwin())


def test_the_first_line_publishes_the_plants_key_once(story: Story) -> None:
    story.register()
    story.register("line-b")
    (key,) = story.out(events.PlantKeyPublished)
    assert (key.plant, len(key.public_key)) == (PLANT, 32)
    assert [one.line for one in story.out(events.LineRegistered)] == [LINE, "line-b"]
    assert all(b"0.15" not in one.SerializeToString() for one in story.out(events.LineRegistered))


def test_a_line_that_did_not_change_is_not_told_again(story: Story) -> None:
    story.register()
    story.register()
    assert len(story.out(events.LineRegistered)) == 1
    story.register(stirrer_max_per_s=4.0)
    assert len(story.out(events.LineRegistered)) == 2


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"plant": ""}, "REQUIRED", "plant"),
        ({"line": " "}, "REQUIRED", "line"),
        ({"equipment": ""}, "REQUIRED", "equipment"),
        ({"equipment": "plant-9/nothing"}, "UNKNOWN_EQUIPMENT", "equipment"),
        ({"plant": "plant-2"}, "WRONG_PLANT", "equipment"),
        ({"products": []}, "REQUIRED", "products"),
        ({"products": ["not canonical"]}, "NOT_CANONICAL", "products[0]"),
        ({"line": "x" * 300}, "TOO_LONG", "line"),
        ({"detail": VESSEL | {"volume_m3": 0.0}}, "OUT_OF_RANGE", "detail.volume_m3"),
        ({"detail": VESSEL | {"power_max_w": float("nan")}}, "OUT_OF_RANGE", "detail.power_max_w"),
        ({"detail": VESSEL | {"impellers": 0}}, "OUT_OF_RANGE", "detail.impellers"),
        ({"detail": VESSEL | {"liquid_m3": 2.0}}, "OUT_OF_RANGE", "detail.liquid_m3"),
        ({"detail": VESSEL | {"stirrer_min_per_s": -1.0}}, "OUT_OF_RANGE", "detail.stirrer_min_per_s"),
        ({"detail": VESSEL | {"stirrer_min_per_s": 9.0}}, "OUT_OF_RANGE", "detail.stirrer_min_per_s"),
    ],
)
def test_a_line_that_cannot_be_is_refused(
    story: Story, changes: dict[str, Any], reason: str, field: str
) -> None:
    story.register("line-0")
    detail = events.LineDetail(**changes.pop("detail", VESSEL))
    asked = {"plant": PLANT, "line": LINE, "equipment": EQUIPMENT, "products": [PRODUCT]} | changes
    with pytest.raises(Rejected) as refused:
        story.call("RegisterLine", detail=detail, **asked)
    assert (refused.value.reason, refused.value.field) == (reason, field)
    assert reason != "OUT_OF_RANGE" or "; " in refused.value.description, "the rule, and the next step"
    assert len(story.out(events.LineRegistered)) == 1


def test_lines_are_listed_with_their_vessels(story: Story) -> None:
    story.register()
    story.register("line-b", stirrer_max_per_s=4.0)
    story.project()
    found = story.call("ListLines", plant=PLANT).lines
    assert [(one.line, one.detail.stirrer_max_per_s) for one in found] == [(LINE, 5.8), ("line-b", 4.0)]
    assert not story.call("ListLines", plant="plant-2").lines


def test_a_transfer_is_shown_with_its_set_points_and_history(story: Story) -> None:
    story.effective()
    start(story)
    measured(story, result("titre", 4.1), result("impurity", 0.9))
    story.project()
    shown = story.call("GetTransfer", transfer=TRANSFER)
    assert shown.transfer.state == api.TRANSFER_STATE_CONCLUDED
    assert (shown.transfer.set, shown.transfer.plant, shown.transfer.version) == (SET, PLANT, 1)
    assert shown.transfer.adapted.gaps[0].quantity == "kla"
    values = {
        name: {p.parameter: p.value for p in getattr(shown, name)}
        for name in ("adapted", "proposed", "recipe")
    }
    assert [values[name]["agitation"] for name in ("adapted", "proposed", "recipe")] == [250, 270, 270]
    assert [(one.event, one.actor) for one in shown.history] == [
        ("TwinAdapted", "platform"),
        ("OptimisationProposed", "platform"),
        ("OptimisationDecided", "qa"),
        ("RecipeValidated", "qa"),
        ("RecipeFilingAssessed", "regulatory"),
        ("RecipeEffective", "platform"),
        ("TransferOutcomeRecorded", "platform"),
    ]
    assert all(one.statement for one in shown.history)


def test_transfers_are_listed_by_state_and_plant(story: Story) -> None:
    story.register()
    story.adapt()
    story.project()
    listed = story.call("ListTransfers", state=api.TRANSFER_STATE_PROPOSED, plant=PLANT).transfers
    assert [one.transfer for one in listed] == [TRANSFER]
    assert not story.call("ListTransfers", state=api.TRANSFER_STATE_EFFECTIVE).transfers
    assert not story.call("ListTransfers", plant="plant-2").transfers
    with pytest.raises(Invalid):
        story.call("ListTransfers", state=99)
    with pytest.raises(Unknown, match="UNKNOWN_TRANSFER"):
        story.call("GetTransfer", transfer="transfer:none/none")


def test_the_rows_of_a_transfer_are_the_same_when_they_are_folded_one_by_one(story: Story) -> None:
    story.effective()
    whole, single = Story(FakeTwin()), Story(FakeTwin())
    told = [one for one in story.memory.told() if isinstance(one[0].message, tuple(LISTS.events))]
    whole.memory.give(LISTS, told)
    for one in told:
        single.memory.give(LISTS, [one])
    asked = {"transfer": TRANSFER}
    whole.keys = single.keys = story.keys
    whole.api._payloads = single.api._payloads = story.payloads
    assert whole.call("GetTransfer", **asked) == single.call("GetTransfer", **asked)
