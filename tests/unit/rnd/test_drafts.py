"""What a draft may not say: each rule with its field and next step, and all of them at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import parameter_set_pb2 as content
from services.kit.errors import Invalid, Rejected, Unknown
from services.kit.rpc.errors import status_of
from services.kit.units import conversion
from services.rnd.domain.parameter_sets.checks import violations
from tests.unit.rnd.memory import Research
from tests.unit.rnd.penicillin import draft, known, limits, says

Said = content.ParameterSetContent
FEED, HEAT = "parameters[0]", "parameters[1]"
VESSEL = "process.vessel"


def put(path: str, value: Any) -> Callable[[Said], None]:
    """Sets one field of a content."""

    def change(said: Said) -> None:
        *way, last = path.split(".")
        place: Any = said
        for step in way:
            name, _, number = step.rstrip("]").partition("[")
            place = getattr(place, name)[int(number)] if number else getattr(place, name)
        if isinstance(value, content.Range):
            getattr(place, last).CopyFrom(value)
        else:
            setattr(place, last, value)

    return change


def leave_out(path: str) -> Callable[[Said], None]:
    def change(said: Said) -> None:
        *way, last = path.split(".")
        place: Any = said
        for step in way:
            name, _, number = step.rstrip("]").partition("[")
            place = getattr(place, name)[int(number)] if number else getattr(place, name)
        place.ClearField(last)

    return change


def bound(name: str, value: float) -> Callable[[Said], None]:
    def change(said: Said) -> None:
        said.design_space.bounds[0].coefficients[name] = value

    return change


NAN, INF = math.nan, math.inf
BAD = [
    (put(f"{FEED}.set_point", 0.06), "OUTSIDE_PAR", f"{FEED}.set_point"),
    (put(f"{FEED}.set_point", 0.03), "OUTSIDE_PAR", f"{FEED}.set_point"),
    (put(f"{HEAT}.set_point", 299.0), "OUTSIDE_NOR", f"{HEAT}.set_point"),
    (put(f"{HEAT}.normal", limits(290, 298.5, "K")), "NOR_OUTSIDE_PAR", f"{HEAT}.normal"),
    (bound("feed_rate", 2000.0), "OUTSIDE_DESIGN_SPACE", "design_space.bounds[0]"),
    (put("design_space.bounds[0].most", NAN), "NOT_FINITE", "design_space.bounds[0].most"),
    (bound("temperature", NAN), "NOT_FINITE", "design_space.bounds[0].coefficients[temperature]"),
    (bound("pH", 1.0), "UNKNOWN_PARAMETER", "design_space.bounds[0].coefficients[pH]"),
    (leave_out("design_space.bounds[0].coefficients"), "REQUIRED", "design_space.bounds[0].coefficients"),
    (leave_out(VESSEL), "MISSING_GEOMETRY", VESSEL),
    (leave_out(f"{VESSEL}.impeller_diameter_m"), "MISSING_GEOMETRY", f"{VESSEL}.impeller_diameter_m"),
    (leave_out(f"{VESSEL}.impellers"), "MISSING_GEOMETRY", f"{VESSEL}.impellers"),
    (put(f"{VESSEL}.tank_diameter_m", -0.4), "MISSING_GEOMETRY", f"{VESSEL}.tank_diameter_m"),
    (put(f"{VESSEL}.liquid_m3", NAN), "NOT_FINITE", f"{VESSEL}.liquid_m3"),
    (put(f"{VESSEL}.liquid_m3", 0.2), "OUT_OF_RANGE", f"{VESSEL}.liquid_m3"),
    (put(f"{VESSEL}.impeller_diameter_m", 0.5), "OUT_OF_RANGE", f"{VESSEL}.impeller_diameter_m"),
    (put(f"{VESSEL}.stirrer_min_per_s", 20.0), "LOW_ABOVE_HIGH", f"{VESSEL}.stirrer_min_per_s"),
    (put(f"{VESSEL}.power_max_w", 0.0), "REQUIRED", f"{VESSEL}.power_max_w"),
    (put("process.stirrer_per_s", 15.0), "OUT_OF_RANGE", "process.stirrer_per_s"),
    (put("process.gas_m3_per_s", 0.01), "OUT_OF_RANGE", "process.gas_m3_per_s"),
    (put("process.criterion", 0), "REQUIRED", "process.criterion"),
    (put("process.criterion", 9), "REQUIRED", "process.criterion"),
    (put("process.model", " "), "REQUIRED", "process.model"),
    (put("process.duration_h", INF), "NOT_FINITE", "process.duration_h"),
    (put("process.duration_h", 0.0), "OUT_OF_RANGE", "process.duration_h"),
    (leave_out("process"), "REQUIRED", "process"),
    (put("attributes[0].limits", limits(2, 1, "g/L")), "LOW_ABOVE_HIGH", "attributes[0].limits.low"),
    (put("attributes[0].limits", limits(NAN, None, "g/L")), "NOT_FINITE", "attributes[0].limits.low"),
    (put("attributes[0].limits", limits(1, None, "")), "REQUIRED", "attributes[0].limits.unit"),
    (put(f"{HEAT}.normal", limits(298.5, 297.5, "K")), "LOW_ABOVE_HIGH", f"{HEAT}.normal.low"),
    (put(f"{HEAT}.proven", limits(300, 295, "K")), "LOW_ABOVE_HIGH", f"{HEAT}.proven.low"),
    (put(f"{HEAT}.proven", limits(295, 300, "kg")), "INCONVERTIBLE", f"{HEAT}.proven.unit"),
    (put(f"{FEED}.set_point", NAN), "NOT_FINITE", f"{FEED}.set_point"),
    (put(f"{FEED}.set_point", -INF), "NOT_FINITE", f"{FEED}.set_point"),
    (leave_out(f"{FEED}.proven"), "REQUIRED", f"{FEED}.proven"),
    (leave_out(f"{FEED}.normal"), "REQUIRED", f"{FEED}.normal"),
    (put(f"{HEAT}.parameter", "feed_rate"), "DUPLICATE", f"{HEAT}.parameter"),
    (leave_out("attributes"), "REQUIRED", "attributes"),
    (leave_out("parameters"), "REQUIRED", "parameters"),
    (leave_out("targets"), "REQUIRED", "targets"),
    (put("targets[0].target", ""), "REQUIRED", "targets[0].target"),
    (put("statement", ""), "REQUIRED", "statement"),
    (put("product", ""), "REQUIRED", "product"),
]


@pytest.mark.parametrize(("change", "rule", "field"), BAD)
def test_a_broken_rule_is_named_with_its_field(change: Callable[[Said], None], rule: str, field: str) -> None:
    said = says()
    change(said)
    found = [(one.rule, one.field) for one in violations(said, conversion)]
    assert (rule, field) in found


def test_a_good_draft_breaks_none() -> None:
    assert violations(says(), conversion) == []
    one_sided = says()
    one_sided.parameters[0].proven.ClearField("low")
    del one_sided.design_space.bounds[:]
    assert violations(one_sided, conversion, says()) == []


def test_a_set_point_on_a_bound_is_inside() -> None:
    said = says()
    said.parameters[0].set_point = 0.044
    said.parameters[1].set_point = 298.5
    said.design_space.bounds[0].most = 0.044 * 1000 + 298.5
    assert violations(said, conversion) == []


def test_a_unit_of_another_dimension_than_before_is_refused() -> None:
    said = says()
    said.attributes[0].limits.unit = "K"
    said.parameters[0].normal.unit = said.parameters[0].proven.unit = "kg"
    told = {(one.rule, one.field) for one in violations(said, conversion, says())}
    assert ("INCONVERTIBLE", "attributes[0].limits.unit") in told
    assert ("INCONVERTIBLE", f"{FEED}.normal.unit") in told
    said = says()
    said.attributes[0].limits.unit = "kg/L"
    assert violations(said, conversion, says()) == []


def test_every_reason_of_a_draft_is_told_at_once(research: Research) -> None:
    known(research)
    said = says(product="not canonical")
    for change, _, _ in BAD[0], BAD[2], BAD[9], BAD[26]:
        change(said)
    with pytest.raises(Invalid) as refused:
        draft(research, said)
    told = [(one.reason, one.field) for one in (refused.value, *refused.value.others)]
    assert set(told) == {
        ("NOT_CANONICAL", "content.product"),
        ("LOW_ABOVE_HIGH", "content.attributes[0].limits.low"),
        ("OUTSIDE_PAR", f"content.{FEED}.set_point"),
        ("OUTSIDE_NOR", f"content.{HEAT}.set_point"),
        ("OUTSIDE_DESIGN_SPACE", "content.design_space.bounds[0]"),
        ("MISSING_GEOMETRY", f"content.{VESSEL}"),
    }
    sentence = status_of(refused.value).details
    assert all(field in sentence for _, field in told[1:])
    assert not research.told(events.ParameterSetDrafted)


def test_a_draft_of_many_mistakes_fits_into_an_answer() -> None:
    others = tuple(Invalid("REQUIRED", "give it " + "x" * 80, f"f{number}") for number in range(200))
    sentence = status_of(Invalid("REQUIRED", "give it", "f", others)).details
    assert sentence.endswith("; and 185 more")
    assert len(sentence) < 4000


def test_a_set_keeps_its_product_and_says_something_new(research: Research) -> None:
    known(research)
    with pytest.raises(Unknown, match="UNKNOWN_PRODUCT"):
        draft(research, says(product="maker-1/item/other"))
    draft(research, says())
    with pytest.raises(Rejected, match="UNCHANGED"):
        draft(research, says())
    with pytest.raises(Invalid, match="MALFORMED"):
        draft(research, says(), set="a|b")
