"""A parameter set on its way to a plant: what the twin finds, what people decide, what becomes of a lot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.kit.envelope import Event
from services.kit.errors import Invalid, Rejected, Unknown
from services.production.views import LOTS, TRANSFERS
from tests.unit.production.memory import minutes, said
from tests.unit.production.transfer_story import (
    EQUIPMENT,
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
    measured,
    parameter,
    result,
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


def later(story: Story) -> None:
    """A second version is released, and comes as far as a proposal."""
    story.give(story.superseded(), story.released(2), story.opened(2))
    story.run_steps()


def states(story: Story) -> list[tuple[int, str]]:
    return [(one.version, one.state) for one in story.memory.states(TRANSFERS)[TRANSFER].versions]


def test_a_working_recipe_goes_on_until_the_later_version_is_effective(story: Story) -> None:
    story.effective()
    later(story)
    assert states(story) == [(1, "effective"), (2, "proposed")]
    assert not story.out(events.TransferEnded)
    start(story)
    story.project()
    shown = story.call("GetTransfer", transfer=TRANSFER).transfer
    assert (shown.version, shown.working_version) == (2, 1)
    story.decide()
    story.validate()
    assert states(story) == [(1, "effective"), (2, "in_change_control")]
    story.file()
    assert states(story) == [(1, "ended"), (2, "effective")]
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
    later(story)
    if how == "withdrawn":
        story.give(story.withdrawn(2))
    assert states(story) == [(1, "effective"), (2, "ended" if how == "withdrawn" else "refused")]
    start(story)
    story.project()
    assert story.call("GetTransfer", transfer=TRANSFER).transfer.working_version == 1


def test_what_goes_on_beside_a_later_version_may_still_be_taken_back(story: Story) -> None:
    story.effective()
    later(story)
    story.give(story.withdrawn())
    assert states(story) == [(1, "ended"), (2, "proposed")]
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


# -- what people decide --------------------------------------------------------------


def test_the_accepted_proposal_becomes_the_recipe_when_it_is_validated_and_filed(story: Story) -> None:
    story.register()
    story.adapt()
    story.decide()
    story.file(category=events.FILING_CATEGORY_PRIOR_APPROVAL, reference="EMA-77")
    assert not story.out(events.RecipeEffective)
    story.validate()
    (effective,) = story.out(events.RecipeEffective)
    opened = story.payloads.kept(effective.recipe, events.RecipeDetail)
    assert {one.parameter: one.value for one in opened.set_points}["agitation"] == 270
    assert (effective.product, effective.line, effective.version) == (PRODUCT, LINE, 1)


def test_a_refused_proposal_leaves_the_adapted_recipe_to_change_control(story: Story) -> None:
    story.register()
    story.adapt()
    story.decide(accepted=False, reason="we know this line")
    story.validate()
    story.file()
    (decided,) = story.out(events.OptimisationDecided)
    assert (decided.accepted, decided.reason, decided.actor) == (False, "we know this line", "qa")
    (effective,) = story.out(events.RecipeEffective)
    opened = story.payloads.kept(effective.recipe, events.RecipeDetail)
    assert {one.parameter: one.value for one in opened.set_points}["agitation"] == 250


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"accepted": False, "reason": " "}, "REQUIRED", "reason"),
        ({"meaning": ""}, "REQUIRED", "meaning"),
        ({"proposal": "another"}, "NOT_LATEST_PROPOSAL", "proposal"),
    ],
)
def test_a_decision_that_says_too_little_is_refused(
    story: Story, changes: dict[str, Any], reason: str, field: str
) -> None:
    story.register()
    story.adapt()
    with pytest.raises(Rejected) as refused:
        story.decide(**changes)
    assert (refused.value.reason, refused.value.field) == (reason, field)
    assert not story.out(events.OptimisationDecided)


def test_nobody_decides_twice_and_nothing_is_decided_that_is_not_there(story: Story) -> None:
    with pytest.raises(Unknown, match="UNKNOWN_TRANSFER"):
        story.call("DecideTransfer", transfer=TRANSFER, proposal="p", meaning="m", accepted=True)
    with pytest.raises(Unknown, match="UNKNOWN_TRANSFER"):
        story.validate()
    story.register()
    story.adapt()
    with pytest.raises(Rejected, match="ILLEGAL_TRANSITION"):
        story.validate()
    with pytest.raises(Rejected, match="ILLEGAL_TRANSITION"):
        story.file()
    story.decide()
    with pytest.raises(Rejected, match="ILLEGAL_TRANSITION"):
        story.decide()
    story.validate()
    with pytest.raises(Rejected, match="ALREADY_RECORDED"):
        story.validate()


def test_a_line_that_can_do_less_by_now_refuses_what_it_was_advised(story: Story) -> None:
    """The old proposal was made for another vessel: the new one is the latest, and does not fit either."""
    story.register()
    story.adapt()
    old = story.newest().proposal().proposal
    story.register(stirrer_max_per_s=4.0)  # 240 a minute; 270 are proposed
    with pytest.raises(Rejected, match="RANGE_NARROWED") as refused:
        story.decide(proposal=old)
    assert "max_speed" in refused.value.description
    story.run_steps()
    with pytest.raises(Rejected, match="NOT_LATEST_PROPOSAL"):
        story.decide(proposal=old)
    story.register()
    story.run_steps()
    story.decide()
    assert story.newest().accepted


def test_a_proven_range_that_the_plant_narrowed_refuses_what_is_outside_of_it(story: Story) -> None:
    story.register()
    story.adapt()
    rule = events.SeverityRule(
        tag="agitation",
        severity=events.SEVERITY_MAJOR,
        critical_parameter=True,
        low=100,
        high=260,
        unit="/min",
    )
    story.call("SetSeverityRules", product=PRODUCT, rules=[rule])
    with pytest.raises(Rejected, match="RANGE_NARROWED"):
        story.decide()
    story.decide(accepted=False, reason="the range was narrowed")
    assert not story.newest().accepted


@pytest.mark.parametrize(
    ("method", "changes", "field"),
    [
        ("validate", {"record": ""}, "record"),
        ("validate", {"statement": " "}, "statement"),
        ("file", {"category": 0}, "category"),
        ("file", {"statement": ""}, "statement"),
        ("file", {"category": events.FILING_CATEGORY_NOTIFICATION}, "reference"),
    ],
)
def test_change_control_wants_to_know_where_and_why(
    story: Story, method: str, changes: dict[str, Any], field: str
) -> None:
    story.register()
    story.adapt()
    story.decide()
    with pytest.raises(Invalid) as refused:
        getattr(story, method)(**changes)
    assert refused.value.field == field


# -- lots and outcomes -------------------------------------------------------------


def test_a_lot_is_started_by_an_effective_recipe_of_its_product_alone(story: Story) -> None:
    story.register()
    with pytest.raises(Unknown, match="UNKNOWN_TRANSFER"):
        start(story)
    story.adapt()
    with pytest.raises(Rejected, match="RECIPE_NOT_EFFECTIVE"):
        start(story)
    story.decide()
    story.validate()
    story.file()
    other = "maker/item/OTHER"
    with pytest.raises(Rejected, match="WRONG_PRODUCT"):
        story.call("StartLot", lot=f"{other}/1", equipment=EQUIPMENT, transfer=TRANSFER)
    start(story)
    held = story.memory.states(LOTS)[LOT]
    assert (held.transfer, held.transfer_version) == (TRANSFER, 1)
    assert story.call("GetLot", lot=LOT).lot.transfer == TRANSFER
    start(story, f"{PRODUCT}/old", transfer="")
    assert story.memory.states(LOTS)[f"{PRODUCT}/old"].transfer == ""


def test_the_outcome_is_told_when_every_predicted_attribute_is_tested(story: Story) -> None:
    story.effective()
    start(story)
    measured(story, result("titre", 4.1), result("assay", 99.0))
    assert not story.out(events.TransferOutcomeRecorded)
    measured(story, result("impurity", 0.9))
    (told,) = story.out(events.TransferOutcomeRecorded)
    assert (told.lot, told.run, told.version, told.plant) == (LOT, "run-1", 1, PLANT)
    found = {one.attribute: (one.predicted.value, one.actual) for one in told.outcomes}
    assert found == {"titre": (pytest.approx(4.3), 4.1), "impurity": (pytest.approx(0.7), 0.9)}
    assert story.newest().state == "concluded"


def test_one_outcome_is_told_of_a_transfer_and_lots_go_on(story: Story) -> None:
    story.effective()
    second = f"{PRODUCT}/L-2"
    start(story)
    start(story, second)
    for lot in (second, LOT):
        measured(story, result("titre", 4.1, lot), result("impurity", 0.9, lot))
    assert [told.lot for told in story.out(events.TransferOutcomeRecorded)] == [second]
    start(story, f"{PRODUCT}/L-3")


def test_results_of_other_lots_say_nothing_of_a_transfer(story: Story) -> None:
    story.effective()
    start(story, transfer="")
    measured(story, result("titre", 4.1), result("impurity", 0.9))
    assert not story.out(events.TransferOutcomeRecorded)


@pytest.mark.parametrize(("unit", "value"), [("mg/L", 4100.0), ("mg/mL", 4.1), ("kg/m3", 4.1), ("g/L", 4.1)])
def test_a_result_in_a_unit_that_converts_is_compared_in_the_predictions(
    story: Story, unit: str, value: float
) -> None:
    story.effective()
    start(story)
    measured(story, result("titre", value, unit=unit), result("impurity", 0.009, unit="1"))
    (told,) = story.out(events.TransferOutcomeRecorded)
    assert [(one.unit, one.actual) for one in told.outcomes] == [("g/L", 4.1), ("%", pytest.approx(0.9))]
    assert not story.out(events.TransferOutcomeWithheld)


def test_a_result_in_a_unit_that_does_not_convert_is_said_not_to_count_once(story: Story) -> None:
    story.effective()
    start(story)
    measured(
        story, result("titre", 9.0, unit="[iU]/mL"), result("impurity", 0.9), result("assay", 1, unit="W")
    )
    (told,) = story.out(events.TransferOutcomeWithheld)
    assert (told.lot, told.version, told.rule, told.field) == (LOT, 1, "INCONVERTIBLE", "results.titre.unit")
    assert "does not convert to g/L" in told.statement
    assert "; record the result in" in told.statement
    story.project()
    shown = story.call("GetTransfer", transfer=TRANSFER)
    assert (shown.history[-1].event, LOT in shown.history[-1].statement) == ("TransferOutcomeWithheld", True)
    assert not story.out(events.TransferOutcomeRecorded)
    measured(story, result("titre", 4.1))
    assert len(story.out(events.TransferOutcomeRecorded)) == 1


def disposed(
    story: Story, bad: tuple[Event, str], outcome: events.InvestigationOutcome, test: str = "titre"
) -> None:
    """The laboratory investigates a result, and a person says what was found."""
    about: dict[str, Any] = {"lot": LOT, "investigation": f"of {bad[0].id}", "result": bad[0].id}
    opened = events.LaboratoryInvestigationOpened(**about, test=test)
    story.memory.apply(LOTS, LOT, opened)
    assert not story.out(events.TransferOutcomeRecorded)
    closed = events.InvestigationClosed(**about, outcome=outcome, actor="qa", reason="looked")
    story.memory.apply(LOTS, LOT, closed)
    story.give(closed)


def found(story: Story) -> list[float]:
    return [one.actual for told in story.out(events.TransferOutcomeRecorded) for one in told.outcomes]


def test_a_result_out_of_specification_counts_when_it_stands(story: Story) -> None:
    story.effective()
    start(story)
    measured(story, result("impurity", 0.9))
    bad = said(result("titre", 2.0, low=2.2), minutes(500))
    story.memory.give(TRANSFER_EVENTS, [bad])
    disposed(story, bad, events.INVESTIGATION_OUTCOME_CONFIRMED)
    assert found(story) == [2.0, 0.9]


def test_nothing_is_concluded_while_a_result_out_of_specification_is_not_explained(story: Story) -> None:
    """A first result was within specification, the next one is not: the retest is what counts."""
    story.effective()
    start(story)
    bad = said(result("titre", 2.0, minute=510, low=2.2), minutes(510))
    story.memory.give(TRANSFER_EVENTS, [bad])
    measured(story, result("titre", 4.1), result("impurity", 0.9))
    assert not found(story), "it is open, though the laboratory has not opened its investigation yet"
    disposed(story, bad, events.INVESTIGATION_OUTCOME_LABORATORY_ERROR)
    assert not found(story), "what was tested before it is not the retest"
    measured(story, result("titre", 3.9, minute=520, low=2.2))
    assert found(story) == [3.9, 0.9]


def test_an_investigation_of_what_nobody_predicted_is_waited_for_too(story: Story) -> None:
    story.effective()
    start(story)
    bad = said(result("assay", 80.0, low=95.0), minutes(500))
    story.memory.give(TRANSFER_EVENTS, [bad])
    measured(story, result("titre", 4.1), result("impurity", 0.9))
    disposed(story, bad, events.INVESTIGATION_OUTCOME_LABORATORY_ERROR, "assay")
    assert found(story) == [4.1, 0.9]


def test_a_result_and_the_end_of_its_investigation_do_not_miss_each_other(story: Story) -> None:
    """Another worker hears that the result stands between what this one reads and its commit."""
    story.effective()
    start(story)
    measured(story, result("impurity", 0.9))
    bad = said(result("titre", 2.0, low=2.2), minutes(500))
    about: dict[str, Any] = {"lot": LOT, "investigation": "i1", "result": bad[0].id}
    closed = events.InvestigationClosed(
        **about, outcome=events.INVESTIGATION_OUTCOME_CONFIRMED, actor="qa", reason="looked"
    )

    def meanwhile() -> None:
        story.memory.apply(LOTS, LOT, events.LaboratoryInvestigationOpened(**about, test="titre"))
        story.memory.apply(LOTS, LOT, closed)
        story.memory.give(TRANSFER_EVENTS, [said(closed, minutes(501), seq=9, subject="i1")], 1)

    story.memory.store.interrupt = meanwhile
    story.memory.give(TRANSFER_EVENTS, [bad])
    (told,) = story.out(events.TransferOutcomeRecorded)
    assert [one.actual for one in told.outcomes] == [2.0, 0.9]


def test_what_a_lot_of_an_ended_version_is_found_to_be_is_of_the_version_that_made_it(story: Story) -> None:
    story.effective()
    start(story)
    later(story)
    story.decide()
    story.validate()
    story.file()
    assert states(story) == [(1, "ended"), (2, "effective")]
    measured(story, result("titre", 4.1), result("impurity", 0.9))
    (told,) = story.out(events.TransferOutcomeRecorded)
    assert (told.version, told.run, told.lot) == (1, "run-1", LOT)
    assert states(story) == [(1, "ended"), (2, "effective")], "it says nothing of the next"
    start(story, f"{PRODUCT}/L-2")
    measured(story, result("titre", 4.2, f"{PRODUCT}/L-2"), result("impurity", 0.9, f"{PRODUCT}/L-2"))
    assert [one.version for one in story.out(events.TransferOutcomeRecorded)] == [1, 2]
    assert states(story) == [(1, "ended"), (2, "concluded")]


def test_what_a_lot_of_a_withdrawn_version_is_found_to_be_is_recorded_once(story: Story) -> None:
    story.effective()
    start(story)
    start(story, f"{PRODUCT}/L-2")
    story.give(story.withdrawn())
    for lot in (LOT, f"{PRODUCT}/L-2"):
        measured(story, result("titre", 4.1, lot), result("impurity", 0.9, lot))
    assert [one.lot for one in story.out(events.TransferOutcomeRecorded)] == [LOT]
    assert states(story) == [(1, "ended")]
