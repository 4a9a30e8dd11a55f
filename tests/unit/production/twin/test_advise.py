"""Advice: it gains, it stays inside what may be moved, and it is silent where it should be."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from services.production.domain.twin import permitted, reference
from services.production.domain.twin.advise import Advice, NoAdvice, Objective, advise
from services.production.domain.twin.design_space import DesignSpace, Inequality, box, scaled
from services.production.domain.twin.errors import Refused
from services.production.domain.twin.permitted import Freedom
from services.production.domain.twin.set_points import Range, SetPoints, scaled_ranges

POINTS = reference.SET_POINTS
OBJECTIVE = Objective(acceptance=reference.ACCEPTANCE)
TWO = {"feed": Range(0.118, 0.132), "agitation": Range(310.0, 330.0)}


def advised(freedom: Freedom, objective: Objective = OBJECTIVE, points: SetPoints = POINTS) -> Advice:
    found = advise(reference.PROCESS, points, freedom, objective, seed=2, draws=16)
    assert isinstance(found, Advice), found
    return found


def test_without_a_design_space_one_parameter_moves_within_its_proven_range() -> None:
    freedom = Freedom(reference.PILOT, TWO)
    found = advised(freedom)
    assert len(found.changes) == 1
    for name, value in found.changes.items():
        assert TWO[name].holds(value)
        assert value != POINTS.named()[name]
    assert found.gain.mean > 0
    assert found.predicted["titre"].mean > found.present["titre"].mean
    assert found.sure >= 0.9
    assert found.bounded_by == "proven acceptable ranges"
    assert not permitted.refusals(freedom, POINTS, found.points)


def test_in_a_design_space_parameters_move_together_and_none_leaves_it() -> None:
    """The corner where both are high is cut off."""
    cut = Inequality({"feed": 1000.0, "agitation": 1.0}, 455.0)
    space = DesignSpace("DS-7", (*box("", TWO).inequalities, cut))
    found = advised(Freedom(reference.PILOT, TWO, space))
    assert set(found.changes) <= {"feed", "agitation"}
    assert all(TWO[name].holds(value) for name, value in found.changes.items())
    assert not space.outside(found.points)
    assert found.bounded_by == "design space DS-7"
    alone = advised(Freedom(reference.PILOT, {"agitation": TWO["agitation"]}))
    assert found.gain.mean > 0.5 * alone.gain.mean


def test_a_design_space_does_not_widen_what_was_proven() -> None:
    wide = box("DS-8", {"agitation": Range(100.0, 500.0)})
    freedom = Freedom(reference.PILOT, TWO, wide)
    reasons = permitted.refusals(freedom, POINTS, POINTS.with_({"agitation": 340.0}))
    assert [reason.code for reason in reasons] == ["OUTSIDE_PAR"]
    assert TWO["agitation"].holds(advised(freedom).points.agitation)


def test_one_sided_acceptance_holds_advice_back() -> None:
    """More feed gives more product and less oxygen: what oxygen is needed for bounds the advice."""
    freedom = Freedom(reference.PILOT, {"feed": Range(0.12, 0.145)})
    low = Objective(acceptance={"oxygen_limited_hours": Range(-math.inf, 100.0)})
    found = advise(reference.PROCESS, POINTS, freedom, low, seed=2, draws=16)
    if isinstance(found, Advice):
        assert found.predicted["oxygen_limited_hours"].mean <= 100.0
    else:
        assert found.reasons[0].code == "NO_GAIN"


def test_the_same_question_has_the_same_answer() -> None:
    freedom = Freedom(reference.PILOT, {"agitation": TWO["agitation"]})
    assert advised(freedom) == advised(freedom)


def test_what_the_line_cannot_do_is_not_advised() -> None:
    slow = replace(reference.PILOT, max_speed_rpm=322.0)
    found = advised(Freedom(slow, {"agitation": TWO["agitation"]}))
    assert found.changes["agitation"] <= 322.0
    weak = Freedom(reference.PILOT, {"agitation": TWO["agitation"]}, line={"agitation": Range(300.0, 325.0)})
    assert advised(weak).changes["agitation"] <= 325.0


def test_an_attribute_can_be_lowered() -> None:
    near_cliff = POINTS.with_({"agitation": 292.0})
    freedom = Freedom(reference.PILOT, {"agitation": Range(290.0, 330.0)})
    found = advised(freedom, Objective("impurity", raise_it=False), near_cliff)
    assert found.changes["agitation"] > 292.0
    assert found.gain.mean < 0


@pytest.mark.parametrize(
    ("freedom", "points", "code"),
    [
        (Freedom(reference.PILOT), POINTS, "NOTHING_FREE"),
        (Freedom(reference.PILOT, {"ph": Range(5.0, 5.0)}), POINTS, "NOTHING_FREE"),
        (Freedom(reference.PILOT, {"ph": Range(4.0, 4.9)}), POINTS, "OUTSIDE_PAR"),
        (
            Freedom(reference.PILOT, {}, box("DS-1", {"ph": Range(5.1, 5.2)})),
            POINTS,
            "OUTSIDE_DESIGN_SPACE",
        ),
        # The best is where the set-point is already.
        (
            Freedom(reference.PILOT, {"agitation": Range(300.0, 330.0)}),
            POINTS.with_({"agitation": 330.0}),
            "NO_GAIN",
        ),
    ],
)
def test_where_nothing_can_be_gained_nothing_is_advised(
    freedom: Freedom, points: SetPoints, code: str
) -> None:
    found = advise(reference.PROCESS, points, freedom, OBJECTIVE, seed=2, draws=16)
    assert isinstance(found, NoAdvice)
    assert found.reasons[0].code == code


@pytest.mark.parametrize(
    ("freedom", "objective", "field"),
    [
        (Freedom(reference.PILOT, {"ph": Range(5.2, 4.8)}), OBJECTIVE, "ranges.ph.low"),
        (Freedom(reference.PILOT, {"colour": Range(0.0, 1.0)}), OBJECTIVE, "ranges.colour"),
        (Freedom(reference.PILOT, TWO), Objective("colour"), "objective.colour"),
        (
            Freedom(reference.PILOT, {}, DesignSpace("DS-1", (Inequality({"ph": -1.0}, -4.8),))),
            OBJECTIVE,
            "design_space.ph",
        ),
    ],
)
def test_bounds_that_are_none_are_refused(freedom: Freedom, objective: Objective, field: str) -> None:
    with pytest.raises(Refused) as refused:
        advise(reference.PROCESS, POINTS, freedom, objective, seed=2)
    assert refused.value.field == field


def test_advice_is_not_approved_once_its_range_was_narrowed() -> None:
    after = POINTS.with_({"feed": 0.131})
    assert not permitted.refusals(Freedom(reference.PILOT, TWO), POINTS, after)
    narrowed = Freedom(reference.PILOT, {"feed": Range(0.118, 0.130)})
    reasons = permitted.refusals(narrowed, POINTS, after)
    assert [(reason.code, reason.field) for reason in reasons] == [("OUTSIDE_PAR", "set_points.feed")]


def test_proven_ranges_do_not_allow_two_changes_at_once() -> None:
    both = POINTS.with_({"feed": 0.130, "agitation": 325.0})
    freedom = Freedom(reference.PILOT, TWO)
    assert [reason.code for reason in permitted.refusals(freedom, POINTS, both)] == ["MORE_THAN_ONE"]
    assert not permitted.refusals(replace(freedom, space=box("DS-1", TWO)), POINTS, both)
    unproven = POINTS.with_({"ph": 5.1})
    assert [reason.code for reason in permitted.refusals(freedom, POINTS, unproven)] == ["NO_RANGE"]


def test_ranges_and_spaces_go_along_with_the_scale() -> None:
    after = POINTS.with_({"feed": POINTS.feed * 10, "agitation": POINTS.agitation / 2})
    ranges = scaled_ranges(TWO, POINTS, after)
    assert ranges["feed"].high == pytest.approx(1.32)
    assert ranges["agitation"].low == pytest.approx(155.0)
    space = scaled(box("DS-1", TWO), POINTS, after)
    assert not space.outside(after.with_({"feed": 1.32, "agitation": 155.0}))
    assert space.outside(after.with_({"feed": 1.33}))
