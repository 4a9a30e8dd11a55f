"""What people decide on a transfer, and what its line does to that meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import parameter_set_pb2 as sets
from services.kit.errors import Invalid, Rejected, Unknown
from services.production.twins import Adapted, Place, Refusals
from tests.unit.production.transfer_story import (
    EQUIPMENT,
    LINE,
    PLANT,
    PRODUCT,
    TRANSFER,
    VESSEL,
    FakeTwin,
    Story,
)


@pytest.fixture
def story() -> Story:
    """A plant whose twin answers what it is told to."""
    return Story(FakeTwin())


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


@pytest.mark.parametrize("when", ["adapted", "proposed", "in change control", "validated"])
def test_a_version_is_adapted_again_when_its_line_changes_before_it_is_effective(when: str) -> None:
    twin = FakeTwin()
    story = Story(twin)
    story.register()
    story.give(story.released(), story.opened())
    story.run_steps(rounds=1 if when == "adapted" else 8)
    old = story.newest()
    if when in ("in change control", "validated"):
        story.decide()
    if when == "validated":
        story.validate()
    story.register(stirrer_max_per_s=5.5)
    if when == "proposed":
        with pytest.raises(Rejected, match="LINE_CHANGED") as refused:
            story.decide(proposal=old.proposal().proposal)
        assert (refused.value.field, "adapts it again" in refused.value.description) == ("transfer", True)
    if when == "in change control":
        with pytest.raises(Rejected, match="LINE_CHANGED"):
            story.validate()
    if when in ("in change control", "validated"):
        with pytest.raises(Rejected, match="LINE_CHANGED"):
            story.file()
    assert not story.out(events.RecipeEffective)
    story.run_steps()
    now = story.newest()
    assert (now.state, now.decided, now.validated) == ("proposed", b"", b"")
    first, second = story.out(events.TwinAdapted)
    assert first.line_version != second.line_version
    assert (second.line, second.equipment, second.run) == (LINE, EQUIPMENT, "run-1")
    if old.proposed:
        with pytest.raises(Rejected, match="NOT_LATEST_PROPOSAL"):
            story.decide(proposal=old.proposal().proposal)
    story.decide()
    story.validate()
    story.file()
    assert story.newest().state == "effective"
    assert [line for line, _ in twin.asked] == [LINE] * 2


def test_a_version_that_fits_its_changed_line_no_more_is_refused(story: Story) -> None:
    twin = FakeTwin()
    story = Story(twin)
    story.register()
    story.adapt()
    twin.refusals = (events.TransferRefusal(rule="OUTSIDE_LINE_LIMIT", field="target", statement="too fast"),)
    story.register(stirrer_max_per_s=4.0)
    story.run_steps()
    (refused,) = story.out(events.TransferRefused)
    assert [one.rule for one in refused.reasons] == ["OUTSIDE_LINE_LIMIT"]
    assert story.newest().state == "refused"


def test_a_line_that_makes_the_product_no_more_gives_its_transfers_to_another(story: Story) -> None:
    story.register()
    story.register("line-b")
    story.adapt()
    story.call(
        "RegisterLine",
        plant=PLANT,
        line=LINE,
        equipment=EQUIPMENT,
        products=["maker/item/OTHER"],
        detail=events.LineDetail(**VESSEL),
    )
    with pytest.raises(Rejected, match="LINE_CHANGED"):
        story.decide()
    story.run_steps()
    assert [one.line for one in story.out(events.TwinAdapted)] == [LINE, "line-b"]


@pytest.mark.parametrize("what", ["another line", "another product", "effective"])
def test_a_change_that_does_not_concern_a_version_leaves_it_as_it_is(story: Story, what: str) -> None:
    if what == "effective":
        story.effective()
        story.register(stirrer_max_per_s=5.5)
    else:
        story.register()
        story.adapt()
        changes = (
            {"line": "line-b"} if what == "another line" else {"products": [PRODUCT, "maker/item/OTHER"]}
        )
        asked: dict[str, Any] = {"plant": PLANT, "line": LINE, "equipment": EQUIPMENT, "products": [PRODUCT]}
        story.call("RegisterLine", **(asked | changes), detail=events.LineDetail(**VESSEL))
    before = story.newest()
    story.run_steps()
    assert story.newest() == before
    assert len(story.out(events.TwinAdapted)) == 1


def test_a_line_that_changes_while_the_twin_is_at_it_is_looked_at_again() -> None:
    asked: list[float] = []

    class Slow(FakeTwin):
        def adapt(self, set: sets.ParameterSetContent, place: Place, seed: int) -> Adapted | Refusals:
            asked.append(place.detail.stirrer_max_per_s)
            if len(asked) == 1:
                plant.register(stirrer_max_per_s=5.5)
            return super().adapt(set, place, seed)

    plant = Story(Slow())
    plant.register()
    plant.adapt()
    assert asked == [5.8, 5.5]
    assert plant.newest().state == "proposed"
    assert len({one.line_version for one in plant.out(events.TwinAdapted)}) == 2


def test_advice_on_the_line_as_it_was_is_not_put_before_people(story: Story) -> None:
    """The twin takes some seconds for it: the line may have changed, and the set been adapted again."""
    story.register()
    story.adapt()
    (old,) = story.out(events.OptimisationProposed)
    story.register(stirrer_max_per_s=5.5)
    story.run_steps(rounds=1)
    assert story.newest().state == "adapted"
    story.memory.ask("ProposeOptimisation", old, actor="platform")
    assert not story.newest().proposed
    story.run_steps()
    first, second = story.out(events.OptimisationProposed)
    assert story.newest().proposal().proposal == second.proposal != first.proposal
    assert second.line_version == story.newest().adaptation().line_version


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
        ("validate", {"version": 0}, "version"),
        ("file", {"version": 0}, "version"),
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


@pytest.mark.parametrize("first", ["validate", "file"])
def test_validation_and_filing_are_signed_by_two_people(story: Story, first: str) -> None:
    story.register()
    story.adapt()
    story.decide()
    second = "file" if first == "validate" else "validate"
    getattr(story, first)(who="qa")
    with pytest.raises(Rejected, match="SAME_SIGNER") as refused:
        getattr(story, second)(who="qa")
    assert refused.value.field == "actor"
    assert refused.value.description.startswith("qa ")
    assert "; another person" in refused.value.description
    assert not story.out(events.RecipeEffective)
    getattr(story, second)(who="another")
    assert len(story.out(events.RecipeEffective)) == 1


@pytest.mark.parametrize("who", ["head of development", "reviewer"])
def test_who_signed_a_version_at_research_does_not_decide_on_it_for_the_plant(story: Story, who: str) -> None:
    story.register()
    story.adapt()
    for accepted in (True, False):
        with pytest.raises(Rejected, match="SAME_SIGNER") as refused:
            story.decide(accepted, who=who)
        assert (refused.value.field, who in refused.value.description) == ("actor", True)
    assert not story.out(events.OptimisationDecided)
    story.decide(who="plant manager")
    assert [(one.actor, one.version) for one in story.out(events.OptimisationDecided)] == [
        ("plant manager", 1)
    ]


@pytest.mark.parametrize("what", ["validate", "file"])
def test_what_is_signed_of_a_version_that_a_later_one_came_after_is_refused(story: Story, what: str) -> None:
    """Who looked at the first version has not seen what the second one says."""
    story.register()
    story.adapt()
    story.decide()
    story.later()
    story.decide()
    with pytest.raises(Rejected, match="OUTDATED_VERSION") as refused:
        getattr(story, what)(version=1)
    assert (refused.value.field, "which is 2" in refused.value.description) == ("version", True)
    getattr(story, what)(version=2)
    signed = [*story.out(events.RecipeValidated), *story.out(events.RecipeFilingAssessed)]
    assert [one.version for one in signed] == [2]
