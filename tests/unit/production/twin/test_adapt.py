"""A released set at a line: what it becomes there, or every reason why it does not go."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from services.production.domain.twin import reference
from services.production.domain.twin.adapt import Adapted, Line, NotAdapted, Released, adapt
from services.production.domain.twin.cqas import CQAS
from services.production.domain.twin.design_space import DesignSpace, Inequality, box
from services.production.domain.twin.process import Process
from services.production.domain.twin.recalibrate import Correction
from services.production.domain.twin.scale_up import Criterion
from services.production.domain.twin.set_points import Range

SET = Released(
    reference.PROCESS,
    reference.PILOT,
    reference.SET_POINTS,
    Criterion.KLA,
    ranges=reference.RANGES,
    acceptance=reference.ACCEPTANCE,
)
LINE = Line(reference.PLANT)


def adapted(released: Released = SET, line: Line = LINE, **options: object) -> Adapted:
    found = adapt(released, line, seed=1, draws=24, **options)  # type: ignore[arg-type]
    assert isinstance(found, Adapted), found
    return found


def refused(released: Released = SET, line: Line = LINE) -> NotAdapted:
    found = adapt(released, line, seed=1, draws=24)
    assert isinstance(found, NotAdapted)
    return found


def test_at_equal_oxygen_transfer_the_product_stays_the_same() -> None:
    found = adapted()
    assert set(found.target) == set(CQAS)
    assert found.target["titre"].mean == pytest.approx(found.source["titre"].mean, rel=0.02)
    for interval in (*found.source.values(), *found.target.values()):
        assert interval.low <= interval.mean <= interval.high
    assert {gap.quantity for gap in found.gaps} >= {"kla", "power_per_volume", "tip_speed"}


def test_at_equal_tip_speed_the_broth_lacks_oxygen_and_the_set_is_refused() -> None:
    """The reference process is limited by oxygen: a criterion that loses transfer loses product."""
    found = refused(replace(SET, criterion=Criterion.TIP_SPEED))
    assert "target.titre" in {reason.field for reason in found.reasons}
    assert {reason.code for reason in found.reasons} == {"CQA_NOT_ACCEPTED"}
    assert found.gaps
    assert found.target["titre"].mean < 0.7 * found.source["titre"].mean


def test_the_same_set_line_and_seed_give_the_same_answer() -> None:
    assert adapted() == adapted()


def test_an_interval_that_leaves_its_acceptance_range_is_told_not_refused() -> None:
    mean = adapted().target["titre"].mean
    found = adapted(replace(SET, acceptance={"titre": Range(mean - 0.05, 9.0)}))
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith("titre")


def test_what_earlier_predictions_were_off_moves_and_widens_the_next() -> None:
    plain = adapted().target["titre"]
    correction = Correction("titre", -0.3, 0.4, 5, -0.5, 0.4, 0.6)
    moved = adapted(replace(SET, acceptance={}), corrections={"titre": correction}).target["titre"]
    assert moved.mean == pytest.approx(plain.mean - 0.3, abs=0.02)
    assert moved.sd > plain.sd


def test_every_reason_is_given_at_once() -> None:
    found = refused(
        replace(
            SET,
            points=SET.points.with_({"ph": 6.0, "agitation": 500.0}),
            validated={"tip_speed": Range(0.0, 1.0)},
        ),
        Line(replace(reference.PLANT, max_speed_rpm=50.0), {"temperature": Range(300.0, 305.0)}),
    )
    assert {(reason.code, reason.field) for reason in found.reasons} >= {
        ("OUTSIDE_PAR", "set_points.ph"),
        ("OUTSIDE_PAR", "set_points.agitation"),
        ("OUTSIDE_VALIDATED", "target.tip_speed"),
        ("OUTSIDE_LINE_LIMIT", "target.max_speed"),
        ("OUTSIDE_LINE_LIMIT", "target.temperature"),
    }
    assert all(reason.rule and reason.next_step for reason in found.reasons)


def test_a_scale_up_out_of_the_correlations_range_is_refused() -> None:
    large = replace(reference.PLANT, volume_m3=6.0, liquid_m3=4.0)
    codes = {reason.code for reason in refused(line=Line(large)).reasons}
    assert "OUTSIDE_VALIDITY" in codes


@pytest.mark.parametrize(
    ("released", "field"),
    [
        (replace(SET, ranges={"ph": Range(5.2, 4.8)}), "ranges.ph.low"),
        (replace(SET, ranges={"ph": Range(math.nan, 4.8)}), "ranges.ph.low"),
        (replace(SET, ranges={"pressure": Range(1.0, 2.0)}), "ranges.pressure"),
        (replace(SET, points=SET.points.with_({"feed": math.nan})), "set_points.feed"),
        (replace(SET, points=SET.points.with_({"agitation": 0.0})), "set_points.agitation"),
        (replace(SET, source=replace(SET.source, blade_width_m=math.nan)), "source.blade_width"),
        (replace(SET, acceptance={"colour": Range(0.0, 1.0)}), "acceptance.colour"),
        (replace(SET, points=SET.points.with_({"temperature": 25.0}), ranges={}), "process.temperature"),
        (replace(SET, process=replace(SET.process, spread={"mu": 0.1})), "process.spread.mu"),
        (
            replace(SET, process=Process(replace(SET.process.parameters, y_xs=math.nan))),
            "process.parameters.y_xs",
        ),
        (
            replace(SET, space=DesignSpace("DS-1", (Inequality({"colour": 1.0}, 2.0),))),
            "design_space.inequalities[0]",
        ),
    ],
)
def test_a_set_that_is_not_sound_is_refused_by_field(released: Released, field: str) -> None:
    assert field in {reason.field for reason in refused(released).reasons}


def test_set_points_outside_the_design_space_are_refused_and_inside_are_not() -> None:
    inside = box("DS-1", {"agitation": Range(300.0, 340.0), "feed": Range(0.11, 0.13)})
    adapted(replace(SET, space=inside))
    slanted = DesignSpace("DS-2", (Inequality({"agitation": 1.0, "aeration": 10.0}, 470.0),))
    reason = refused(replace(SET, space=slanted)).reasons[0]
    assert reason.code == "OUTSIDE_DESIGN_SPACE"
    assert "DS-2" in reason.rule
