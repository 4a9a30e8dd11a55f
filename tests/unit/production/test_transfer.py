"""A parameter set on its way to a plant: what the twin finds, what people decide, what becomes of a lot."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.kit.errors import Rejected
from services.production.views import LOTS, TRANSFERS
from tests.unit.production.transfer_story import (
    LINE,
    LOT,
    PLANT,
    PRODUCT,
    SET,
    TRANSFER,
    TRANSFER_EVENTS,
    FakeTwin,
    Story,
    content,
    parameter,
    start,
)


@pytest.fixture
def story() -> Story:
    """A plant whose twin answers what it is told to."""
    return Story(FakeTwin())


# -- from release to proposal -----------------------------------------------------


def test_a_release_is_adapted_and_advised_by_the_real_twin_when_its_run_is_opened() -> None:
    story, set = Story(), content()
    set.parameters.append(parameter("head_pressure", 0.5, 0.4, 0.6, "bar"))
    story.register()
    story.give(story.released(said=set))
    story.run_steps()
    assert not story.out(events.TwinAdapted), "the trigger alone moves nothing"
    story.give(story.opened())
    story.run_steps()
    assert not story.out(events.TransferRefused), story.out(events.TransferRefused)
    (adapted,) = story.out(events.TwinAdapted)
    assert (adapted.transfer, adapted.run, adapted.product) == (TRANSFER, "run-1", PRODUCT)
    assert {gap.quantity for gap in adapted.gaps} >= {"kla", "power_per_volume", "tip_speed", "volume"}
    assert [one.attribute for one in adapted.predictions] == ["titre", "impurity"]
    assert list(adapted.not_modelled) == ["head_pressure"]
    story.project()
    told = story.call("GetTransfer", transfer=TRANSFER)
    assert "not modelled, carried over as is: head_pressure" in told.history[0].statement
    assert {one.parameter: one.value for one in told.adapted}["head_pressure"] == 0.5
    for one in adapted.predictions:
        assert one.target.lower < one.target.value < one.target.upper
    (proposed,) = story.out(events.OptimisationProposed)
    assert (proposed.run, proposed.line) == ("run-1", LINE)
    assert proposed.basis in (events.ADVICE_BASIS_PROVEN_RANGE, events.ADVICE_BASIS_UNCHANGED)


def test_run_and_release_meet_whichever_comes_first(story: Story) -> None:
    story.register()
    story.give(story.opened())
    story.run_steps()
    assert not story.out(events.TwinAdapted)
    story.give(story.released())
    story.memory.look_aside(TRANSFER_EVENTS)
    story.run_steps()
    assert len(story.out(events.TwinAdapted)) == 1


def test_events_of_a_transfer_are_of_its_case_and_run(story: Story) -> None:
    story.effective()
    told = [event for event in story.memory.out() if event.source.endswith("/transfer")]
    assert [type(event.message).__name__ for event in told] == [
        "TwinAdapted",
        "OptimisationProposed",
        "OptimisationDecided",
        "RecipeValidated",
        "RecipeFilingAssessed",
        "RecipeEffective",
    ]
    assert {(event.case, event.run) for event in told} == {(TRANSFER, "run-1")}


def test_a_set_that_fits_no_line_is_refused_with_every_reason_of_every_line(story: Story) -> None:
    twin = FakeTwin(
        (
            events.TransferRefusal(rule="OUTSIDE_PAR", field="set_points.feed", statement="too much"),
            events.TransferRefusal(rule="OUTSIDE_LINE_LIMIT", field="target.max_speed", statement="too fast"),
        )
    )
    story = Story(twin)
    story.register()
    story.register("line-b")
    story.adapt()
    (refused,) = story.out(events.TransferRefused)
    assert [(one.rule, one.statement) for one in refused.reasons] == [
        ("OUTSIDE_PAR", "line line-a: too much"),
        ("OUTSIDE_LINE_LIMIT", "line line-a: too fast"),
        ("OUTSIDE_PAR", "line line-b: too much"),
        ("OUTSIDE_LINE_LIMIT", "line line-b: too fast"),
    ]
    assert not story.out(events.OptimisationProposed)


def test_a_plant_without_a_line_for_the_product_refuses(story: Story) -> None:
    story.adapt()
    (refused,) = story.out(events.TransferRefused)
    assert [one.rule for one in refused.reasons] == ["NO_LINE"]


@pytest.mark.parametrize(
    "fault", ["other plant", "altered", "other content", "other version", "product", "no key"]
)
def test_a_payload_that_is_not_the_plants_is_refused(story: Story, fault: str) -> None:
    story.register()
    released = story.released()
    if fault == "other plant":
        released.payload.CopyFrom(story.released(plant="plant-2").payload)
        released.payload_hash = story.hash_of(released)
    elif fault == "altered":
        released.payload.ciphertext = released.payload.ciphertext[:-1] + b"x"
    elif fault == "other content":
        released.content_hash = bytes(32)
    elif fault == "other version":
        released.payload.CopyFrom(story.released(version=2).payload)
        released.payload_hash = story.hash_of(released)
    elif fault == "product":
        released = story.released(said=content(product="maker/item/OTHER"))
    else:
        story.keys.destroy(f"plant/{PLANT}")
    story.give(released, story.opened())
    story.run_steps()
    (refused,) = story.out(events.TransferRefused)
    assert [one.rule for one in refused.reasons] == ["PAYLOAD_NOT_OURS"]
    assert not story.out(events.TwinAdapted)


def test_what_is_told_of_a_recipe_is_sealed_and_the_plant_opens_it(story: Story) -> None:
    story.register()
    story.adapt()
    (adapted,) = story.out(events.TwinAdapted)
    assert b"agitation" not in adapted.SerializeToString()
    opened = story.payloads.kept(adapted.recipe, events.RecipeDetail)
    assert {one.parameter: one.value for one in opened.set_points}["agitation"] == 250


def test_a_step_that_runs_again_has_one_effect_and_asks_the_twin_with_the_same_seed(story: Story) -> None:
    twin = FakeTwin()
    story = Story(twin)
    story.register()
    story.give(story.released(), story.opened())
    step = story.due("adapt")
    story.run_steps()
    story.put_back(step)
    story.run_steps()
    assert len(story.out(events.TwinAdapted)) == len(story.out(events.OptimisationProposed)) == 1
    assert len(twin.asked) == 2
    assert twin.asked[0] == twin.asked[1]


def test_the_same_release_and_run_delivered_again_change_nothing(story: Story) -> None:
    story.register()
    story.adapt()
    before = len(story.memory.out())
    story.give(story.released(), story.opened())
    story.run_steps()
    assert len(story.memory.out()) == before


def test_predictions_at_the_plant_are_calibrated_by_its_lots() -> None:
    story = Story(FakeTwin())
    story.register()
    calibration = rnd.AttributeCalibration(attribute="titre", bias=-0.5, spread=0.1, outcomes=4)
    told = rnd.PredictionCalibrated(
        calibration="x", plant=PLANT, product=PRODUCT, attributes=[calibration], transfer=TRANSFER
    )
    story.give(told)
    story.adapt()
    (adapted,) = story.out(events.TwinAdapted)
    assert adapted.predictions[0].calibrated_by == -0.5
    assert adapted.predictions[0].target.value == pytest.approx(3.5)


def test_advice_that_got_lost_is_worked_out_when_the_step_before_it_runs_again(story: Story) -> None:
    """As after a database was set back: the topics show the adaptation, and no step is due."""
    story.register()
    story.give(story.released(), story.opened())
    step = story.due("adapt")
    story.run_steps(rounds=1)
    story.forget_requests()
    story.put_back(step)
    story.run_steps()
    assert len(story.out(events.TwinAdapted)) == len(story.out(events.OptimisationProposed)) == 1


# -- what ends a version -----------------------------------------------------------


_WHEN = ["before its run", "before the twin", "adapted", "proposed", "in change control"]


@pytest.mark.parametrize(
    ("how", "when"),
    [("withdrawn", "effective"), *((how, when) for how in ("withdrawn", "superseded") for when in _WHEN)],
)
def test_a_version_that_is_over_ends_and_no_step_follows(how: str, when: str) -> None:
    story = Story(FakeTwin())
    over = getattr(story, how)()
    story.register()
    if when == "before its run":
        story.give(story.released(), over, story.opened())
    elif when == "before the twin":
        story.give(story.released(), story.opened(), over)
    elif when == "adapted":
        story.give(story.released(), story.opened())
        story.run_steps(rounds=1)
        assert len(story.out(events.TwinAdapted)) == 1
        story.give(over)
    else:
        story.effective() if when == "effective" else story.adapt()
        if when == "in change control":
            story.decide()
            story.validate()
        story.give(over)
    said_before = len(story.memory.out())
    story.run_steps()
    assert len(story.memory.out()) == said_before
    (ended,) = story.out(events.TransferEnded)
    assert (ended.transfer, ended.run, ended.version) == (TRANSFER, "run-1", 1)
    assert ended.reason
    assert story.newest().state == "ended"


@pytest.mark.parametrize("when", ["before the twin", "proposed", "effective"])
def test_a_run_that_a_person_ended_ends_the_version(when: str) -> None:
    story = Story(FakeTwin())
    story.register()
    if when == "before the twin":
        story.give(story.released(), story.opened())
    else:
        story.effective() if when == "effective" else story.adapt()
    story.give(story.closed(loops.RUN_OUTCOME_CANCELLED, actor="head"))
    story.run_steps()
    (ended,) = story.out(events.TransferEnded)
    assert "head" in ended.reason
    assert story.newest().state == "ended"


def test_a_run_that_closed_by_itself_leaves_the_recipe_in_force() -> None:
    story = Story(FakeTwin())
    story.register()
    story.effective()
    story.give(story.closed(loops.RUN_OUTCOME_CLOSED))
    assert not story.out(events.TransferEnded)


def test_a_refused_version_does_not_end_again(story: Story) -> None:
    story.adapt()
    story.give(story.withdrawn())
    assert not story.out(events.TransferEnded)


def test_the_withdrawal_of_a_draft_concerns_no_plant(story: Story) -> None:
    story.give(rnd.ParameterSetWithdrawn(set=SET, version=1, actor="rnd", reason="no"))
    assert not story.memory.out()


def test_a_working_recipe_goes_on_until_the_later_version_is_effective(story: Story) -> None:
    story.effective()
    story.later()
    assert story.states() == [(1, "effective"), (2, "proposed")]
    assert not story.out(events.TransferEnded)
    start(story)
    story.project()
    shown = story.call("GetTransfer", transfer=TRANSFER).transfer
    assert (shown.version, shown.working_version) == (2, 1)
    story.decide()
    story.validate()
    assert story.states() == [(1, "effective"), (2, "in_change_control")]
    story.file()
    assert story.states() == [(1, "ended"), (2, "effective")]
    (ended,) = story.out(events.TransferEnded)
    assert (ended.version, ended.run, story.memory.out(events.TransferEnded)[0].run) == (1, "run-1", "run-1")
    assert "version 2 took its place" in ended.reason
    start(story, f"{PRODUCT}/L-2")
    lots = story.memory.states(LOTS)
    assert [lots[lot].transfer_version for lot in (LOT, f"{PRODUCT}/L-2")] == [1, 2]


@pytest.mark.parametrize("how", ["withdrawn", "refused"])
def test_where_the_later_version_comes_to_nothing_the_earlier_one_goes_on(how: str) -> None:
    twin = FakeTwin()
    story = Story(twin)
    story.effective()
    if how == "refused":
        twin.refusals = (events.TransferRefusal(rule="OUTSIDE_PAR", field="feed", statement="too much"),)
    story.later()
    if how == "withdrawn":
        story.give(story.withdrawn(2))
    assert story.states() == [(1, "effective"), (2, "ended" if how == "withdrawn" else "refused")]
    start(story)
    story.project()
    assert story.call("GetTransfer", transfer=TRANSFER).transfer.working_version == 1


def test_what_goes_on_beside_a_later_version_may_still_be_taken_back(story: Story) -> None:
    story.effective()
    story.later()
    story.give(story.withdrawn())
    assert story.states() == [(1, "ended"), (2, "proposed")]
    (ended,) = story.out(events.TransferEnded)
    assert ended.reason == "withdrawn by rnd: wrong"
    with pytest.raises(Rejected, match="RECIPE_NOT_EFFECTIVE"):
        start(story)


def merges(one: list[str], other: list[str]) -> Iterator[list[str]]:
    """Every way in which two topics may be read, each in its own order."""
    if not one or not other:
        yield [*one, *other]
        return
    for rest in merges(one[1:], other):
        yield [one[0], *rest]
    for rest in merges(one, other[1:]):
        yield [other[0], *rest]


@pytest.mark.parametrize("steps", ["always", "at the end"])
def test_however_the_topics_interleave_the_later_version_stands(steps: str) -> None:
    research, runs = ["released 1", "superseded 1", "released 2"], ["opened 1", "opened 2"]
    for order in merges(research, runs):
        story = Story(FakeTwin())
        story.register()
        for what in order:
            name, version = what.split()
            story.give(getattr(story, name)(int(version)))
            story.memory.look_aside(TRANSFER_EVENTS)
            if steps == "always":
                story.run_steps()
        story.memory.look_aside(TRANSFER_EVENTS)
        story.run_steps()
        held = story.memory.states(TRANSFERS)[TRANSFER]
        assert [(one.version, one.state) for one in held.versions] == [(1, "ended"), (2, "proposed")], order
