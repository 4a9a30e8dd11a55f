"""A set between contract and twin: units, names, ranges, and every reason why it is not taken."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import events_pb2 as rnd
from pharmaloop.rnd.v1 import parameter_set_pb2 as sets
from services.production import twins
from services.production.domain import calibrating
from services.production.domain.twin import adapt as adapting
from services.production.domain.twin.errors import Reason, refuse
from services.production.twins import Adapted, Place, Refusals
from services.production.twins.reading import read
from services.production.twins.telling import recipe_of
from tests.unit.production.transfer_story import VESSEL, content, parameter, range_of

PLACE = Place("line-a", events.LineDetail(**VESSEL))
SEED = 7


def adapted(said: sets.ParameterSetContent, place: Place = PLACE) -> Adapted:
    found = twins.adapt(said, place, SEED)
    assert isinstance(found, Adapted), found
    return found


def refused(said: sets.ParameterSetContent, place: Place = PLACE) -> list[events.TransferRefusal]:
    found = twins.adapt(said, place, SEED)
    assert isinstance(found, Refusals)
    return list(found.reasons)


def point(recipe: events.RecipeDetail, name: str) -> events.SetPoint:
    return next(one for one in recipe.set_points if one.parameter == name)


@pytest.fixture(scope="module")
def found() -> Adapted:
    """The reference set at the line."""
    return adapted(content())


def test_a_set_keeps_its_criterion_and_its_own_names_and_units(found: Adapted) -> None:
    gaps = {gap.quantity: gap for gap in found.gaps}
    assert gaps["kla"].ratio == pytest.approx(1.0)
    assert gaps["volume"].ratio == pytest.approx(10.0)
    assert point(found.recipe, "feed_rate").value == pytest.approx(1.26)
    assert point(found.recipe, "feed_rate").unit == "L/h"
    assert point(found.recipe, "temperature").value == pytest.approx(24.85)
    assert point(found.recipe, "temperature").unit == "Cel"
    assert point(found.recipe, "ph").value == 5.0, "the model's own where the set names none"
    assert found.model == "pensim-reduced/1"


def test_set_points_are_in_no_part_that_travels_open(found: Adapted) -> None:
    told = {gap.quantity for gap in found.gaps}
    assert not told & {"agitation", "aeration", "feed", "temperature", "ph"}


def test_no_row_of_the_gap_table_gives_the_gas_flow_away(found: Adapted) -> None:
    told = {gap.quantity: gap.target for gap in found.gaps}
    flow = point(found.recipe, "aeration").value  # L/min
    products = [1000 * told["volume"] * value for value in told.values()]
    assert all(value != pytest.approx(flow, rel=1e-3) for value in products)


@pytest.mark.parametrize("tag", ["feed", "feed_rate", "FeedRate"])
def test_a_plants_range_holds_by_whichever_name_the_twin_knows_it(found: Adapted, tag: str) -> None:
    rule = events.SeverityRule(tag=tag, critical_parameter=True, low=0.0, high=1.0, unit="L/h")
    assert [one.rule for one in twins.beyond_ranges(found.recipe, [rule])] == ["OUTSIDE_PAR"]


def test_a_plants_range_in_a_unit_that_does_not_convert_is_refused(found: Adapted) -> None:
    rule = events.SeverityRule(tag="feed_rate", critical_parameter=True, low=0.0, high=9.0, unit="W")
    (reason,) = twins.beyond_ranges(found.recipe, [rule])
    assert (reason.rule, reason.field) == ("INCONVERTIBLE", "feed_rate")
    assert "SetSeverityRules" in reason.statement


def test_a_line_that_left_the_range_of_the_correlation_is_not_signed_for(found: Adapted) -> None:
    wider = events.LineDetail(**(VESSEL | {"liquid_m3": 2.7, "volume_m3": 3.0}))
    rules = {one.rule for one in twins.beyond_line(found.recipe, wider)}
    assert "OUTSIDE_VALIDITY" in rules


@pytest.mark.parametrize(
    "names",
    [
        ("AgitatorSpeed", "AerationRate", "FeedRate", "Temperature"),
        ("Stirrer speed", "Gas flow", "Feed", "TEMPERATURE"),
    ],
)
def test_a_set_may_call_its_parameters_as_the_plants_tags_are_called(
    found: Adapted, names: tuple[str, ...]
) -> None:
    said = content()
    for one, name in zip(said.parameters, names, strict=True):
        one.parameter = name
    said.parameters.append(parameter("PH", 5.0, 4.8, 5.2, "[pH]"))
    other = adapted(said)
    assert [one.parameter for one in other.recipe.set_points] == [*names, "PH"]
    assert [one.value for one in other.recipe.set_points] == [one.value for one in found.recipe.set_points]
    assert not other.not_modelled


def test_a_critical_parameter_that_no_scale_changes_is_carried_over_and_said(found: Adapted) -> None:
    said = content()
    said.parameters.append(parameter("head_pressure", 0.5, 0.4, 0.6, "bar"))
    other = adapted(said)
    assert other.not_modelled == ("head_pressure",)
    carried = point(other.recipe, "head_pressure")
    assert (carried.value, carried.unit) == (0.5, "bar")
    assert other.predictions == found.predictions
    given, _ = read(said)
    assert given is not None
    moved = recipe_of(given.released.points.with_({"feed": 0.13}), given)
    assert point(moved, "head_pressure") == carried, "advice carries it over, too"
    rule = events.SeverityRule(tag="head_pressure", critical_parameter=True, low=0.0, high=0.3, unit="bar")
    assert [one.rule for one in twins.beyond_ranges(other.recipe, [rule])] == ["OUTSIDE_PAR"]


@pytest.mark.parametrize("unit", ["L/h", "W", "/min", "m3", "kg", "{count}", ""])
def test_a_critical_parameter_that_may_change_with_the_scale_is_not_left_out_silently(unit: str) -> None:
    said = content()
    said.parameters.append(parameter("antifoam", 0.5, 0.4, 0.6, unit))
    (reason,) = refused(said)
    assert (reason.rule, reason.field) == ("NOT_MODELLED", "parameters[4].parameter")
    assert "'antifoam'" in reason.statement
    assert "call it by one that the twin knows" in reason.statement


@pytest.mark.parametrize(("most", "rules"), [(25.4, []), (25.3, ["OUTSIDE_DESIGN_SPACE"])])
def test_what_is_carried_over_takes_its_share_of_the_design_space(most: float, rules: list[str]) -> None:
    said = content()
    said.parameters.append(parameter("head_pressure", 0.5, 0.4, 0.6, "bar"))
    bound = sets.LinearBound(coefficients={"temperature": 1.0, "head_pressure": 1.0}, most=most)
    said.design_space.CopyFrom(sets.DesignSpace(approval="EMA-1", bounds=[bound]))
    if not rules:
        adapted(said)
    else:
        assert [one.rule for one in refused(said)] == rules


@pytest.mark.parametrize(
    ("criterion", "quantity"),
    [
        (sets.SCALE_UP_CRITERION_POWER_PER_VOLUME, "power_per_volume"),
        (sets.SCALE_UP_CRITERION_TIP_SPEED, "tip_speed"),
    ],
)
def test_the_criterion_that_the_set_names_is_kept(criterion: sets.ScaleUpCriterion, quantity: str) -> None:
    said = content()
    said.process.criterion = criterion
    said.attributes[0].limits.CopyFrom(range_of(0.1, None, "g/L"))
    said.attributes[1].limits.CopyFrom(range_of(None, 99, "%"))
    gaps = {gap.quantity: gap for gap in adapted(said).gaps}
    assert gaps[quantity].ratio == pytest.approx(1.0)


def test_predictions_are_in_the_sets_units(found: Adapted) -> None:
    said = content()
    said.attributes[0].limits.CopyFrom(range_of(2200, 6000, "mg/L"))
    titre = adapted(said).predictions[0]
    assert (titre.unit, titre.low, titre.high) == ("mg/L", 2200, 6000)
    assert titre.target.value == pytest.approx(1000 * found.predictions[0].target.value)
    assert not found.predictions[1].HasField("low")


def test_ranges_in_other_units_are_the_same_ranges(found: Adapted) -> None:
    said = content()
    said.parameters[0].CopyFrom(parameter("stirrer_speed", 320 / 60, 290 / 60, 380 / 60, "/s"))
    other = adapted(said)
    assert point(other.recipe, "stirrer_speed").value * 60 == pytest.approx(
        point(found.recipe, "agitation").value
    )
    assert other.predictions == found.predictions


def _of_parameter(number: int, **changes: object) -> Callable[[sets.ParameterSetContent], None]:
    def change(said: sets.ParameterSetContent) -> None:
        for name, value in changes.items():
            setattr(said.parameters[number], name, value)

    return change


def _unit(said: sets.ParameterSetContent) -> None:
    said.parameters[2].proven.unit = "W"


def _no_feed(said: sets.ParameterSetContent) -> None:
    del said.parameters[2]


def _crossed(said: sets.ParameterSetContent) -> None:
    said.parameters[2].proven.CopyFrom(range_of(0.2, 0.1, "L/h"))


def _carried(value: float, low: float, high: float, unit: str) -> Callable[[sets.ParameterSetContent], None]:
    def change(said: sets.ParameterSetContent) -> None:
        said.parameters.append(parameter("head_pressure", value, low, high, "bar"))
        said.parameters[4].proven.unit = unit

    return change


def _twice(said: sets.ParameterSetContent) -> None:
    said.parameters.append(parameter("FeedRate", 0.126, 0.110, 0.145, "L/h"))


def _fixed_space(said: sets.ParameterSetContent) -> None:
    _carried(0.5, 0.4, 0.6, "bar")(said)
    bound = sets.LinearBound(coefficients={"head_pressure": 1.0}, most=0.45)
    said.design_space.CopyFrom(sets.DesignSpace(approval="EMA-1", bounds=[bound]))


def _attribute_unit(said: sets.ParameterSetContent) -> None:
    said.attributes[0].limits.unit = "h"


def _no_attribute(said: sets.ParameterSetContent) -> None:
    del said.attributes[:]
    said.attributes.add(attribute="colour")


def _space(said: sets.ParameterSetContent) -> None:
    bound = sets.LinearBound(coefficients={"moon": 1.0}, most=1.0)
    said.design_space.CopyFrom(sets.DesignSpace(approval="EMA-1", bounds=[bound]))


def _outside_space(said: sets.ParameterSetContent) -> None:
    bound = sets.LinearBound(coefficients={"temperature": 1.0}, most=20.0)
    said.design_space.CopyFrom(sets.DesignSpace(approval="EMA-1", bounds=[bound]))


def _process(**changes: object) -> Callable[[sets.ParameterSetContent], None]:
    def change(said: sets.ParameterSetContent) -> None:
        for name, value in changes.items():
            setattr(said.process, name, value)

    return change


def _vessel(**changes: float) -> Callable[[sets.ParameterSetContent], None]:
    def change(said: sets.ParameterSetContent) -> None:
        for name, value in changes.items():
            setattr(said.process.vessel, name, value)

    return change


def _no_vessel(said: sets.ParameterSetContent) -> None:
    said.process.ClearField("vessel")


def _slow(said: sets.ParameterSetContent) -> None:
    """Stirred with less power than van 't Riet measured."""
    said.parameters[0].CopyFrom(parameter("agitation", 150.0, 100.0, 380.0, "/min"))
    said.process.stirrer_per_s = 150 / 60


def _together(said: sets.ParameterSetContent) -> None:
    """Each set-point is in its proven range; together they are outside of what was approved."""
    bound = sets.LinearBound(coefficients={"agitation": 1.0, "aeration": 10.0}, most=470.0)
    said.design_space.CopyFrom(sets.DesignSpace(approval="EMA-1", bounds=[bound]))


@pytest.mark.parametrize(
    ("change", "rule", "field"),
    [
        (_process(model="alchemy"), "UNKNOWN_MODEL", "process.model"),
        (_process(criterion=0), "NO_CRITERION", "process.criterion"),
        (_process(duration_h=0), "NOT_POSITIVE", "process.duration"),
        (_process(duration_h=math.nan), "NOT_A_NUMBER", "process.duration"),
        (_of_parameter(0, set_point=300.0), "CONTRADICTION", "parameters[0].set_point"),
        (_of_parameter(2, set_point=math.nan), "NOT_A_NUMBER", "parameters[2]"),
        (_of_parameter(2, set_point=0.2), "OUTSIDE_PAR", "set_points.feed"),
        (_unit, "INCONVERTIBLE", "parameters[2].proven"),
        (_no_feed, "MISSING", "parameters.feed"),
        (_crossed, "LOW_ABOVE_HIGH", "ranges.feed.low"),
        (_attribute_unit, "INCONVERTIBLE", "attributes[0].limits.unit"),
        (_no_attribute, "NOTHING_PREDICTED", "attributes"),
        (_space, "UNKNOWN", "design_space.bounds[0].coefficients"),
        (_outside_space, "OUTSIDE_DESIGN_SPACE", "set_points.temperature"),
        (_together, "OUTSIDE_DESIGN_SPACE", "set_points.aeration"),
        (_slow, "OUTSIDE_VALIDITY", "source.power_per_volume"),
        (_slow, "OUTSIDE_VALIDITY", "target.power_per_volume"),
        (_vessel(impeller_diameter_m=0.0), "NOT_POSITIVE", "source.impeller_diameter"),
        (_vessel(liquid_m3=0.0), "NOT_POSITIVE", "source.liquid_volume"),
        (_vessel(blade_width_m=-0.1), "NOT_POSITIVE", "source.blade_width"),
        (_vessel(power_number=math.nan), "NOT_A_NUMBER", "source.power_number"),
        (_vessel(liquid_m3=0.2), "DOES_NOT_FIT", "source.liquid_volume"),
        (_vessel(liquid_m3=0.001), "OUTSIDE_VALIDITY", "source.liquid_volume"),
        (_twice, "DUPLICATE", "parameters[4].parameter"),
        (_carried(0.7, 0.4, 0.6, "bar"), "OUTSIDE_PAR", "parameters[4].set_point"),
        (_carried(0.5, 0.6, 0.4, "bar"), "LOW_ABOVE_HIGH", "parameters[4].proven.low"),
        (_carried(0.5, 0.4, 0.6, "W"), "INCONVERTIBLE", "parameters[4].proven"),
        (_carried(math.nan, 0.4, 0.6, "bar"), "NOT_A_NUMBER", "parameters[4].set_point"),
        (_fixed_space, "OUTSIDE_DESIGN_SPACE", "design_space.bounds[0].coefficients"),
    ],
)
def test_a_set_that_cannot_be_taken_is_refused_by_field_and_rule(
    change: Callable[[sets.ParameterSetContent], None], rule: str, field: str
) -> None:
    said = content()
    change(said)
    reasons = refused(said)
    assert (rule, field) in [(one.rule, one.field) for one in reasons]
    assert all(";" in one.statement for one in reasons), "the rule, and the next step"


@pytest.mark.parametrize(
    ("change", "detail", "sealed"),
    [
        (lambda said: setattr(said.parameters[2], "set_point", 0.2), {}, ("0.2", "0.11", "0.145")),
        (lambda said: setattr(said.parameters[0], "set_point", 300.0), {}, ("300", "320")),
        (_crossed, {}, ("0.2", "0.1")),
        (_outside_space, {}, ("24.85", "298", "EMA-1")),
        (lambda said: None, {"stirrer_max_per_s": 3.0}, ("180", "191")),
        (lambda said: None, {"liquid_m3": 1.75, "volume_m3": 1.25}, ("1.75", "1.25")),
    ],
)
def test_a_refusal_tells_nobody_what_travels_sealed(
    change: Callable[[sets.ParameterSetContent], object], detail: dict[str, float], sealed: tuple[str, ...]
) -> None:
    said = content()
    change(said)
    reasons = refused(said, Place("line-a", events.LineDetail(**(VESSEL | detail))))
    told = " ".join(one.statement for one in reasons if one.rule != "OUTSIDE_VALIDITY")
    assert told
    assert not [number for number in sealed if number in told], told


def test_what_cannot_be_reckoned_with_is_refused_and_not_tried_for_ever() -> None:
    """A step that raises is repeated, and its run waits."""
    far = Place("line-a", events.LineDetail(**(VESSEL | {"kla_calibration": 1e-200})))
    assert [one.rule for one in refused(content(), far)] == ["NOT_SOLVABLE"]


def test_a_model_that_cannot_be_solved_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsolved(*_: object, **__: object) -> None:
        refuse([Reason("NOT_SOLVABLE", "recipe", "no step is small enough", "give other inputs")])

    monkeypatch.setattr(adapting, "predict", unsolved)
    assert [(one.rule, one.field) for one in refused(content())] == [("NOT_SOLVABLE", "recipe")]


def test_a_set_without_its_vessel_is_told_every_size_that_is_missing() -> None:
    said = content()
    _no_vessel(said)
    missing = {one.field for one in refused(said) if one.rule == "NOT_POSITIVE"}
    sizes = {"volume", "liquid_volume", "tank_diameter", "impeller_diameter", "blade_width", "power_number"}
    assert missing >= {f"source.{size}" for size in sizes}


def test_a_line_that_is_larger_than_the_correlation_was_measured_in_is_refused() -> None:
    large = events.LineDetail(**(VESSEL | {"liquid_m3": 2.7, "volume_m3": 3.0}))
    reasons = refused(content(), Place("line-a", large))
    assert ("OUTSIDE_VALIDITY", "target.liquid_volume") in [(one.rule, one.field) for one in reasons]


def test_every_reason_is_told_at_once() -> None:
    said = content()
    said.process.criterion = sets.SCALE_UP_CRITERION_UNSPECIFIED
    said.process.model = "alchemy"
    said.attributes[0].limits.unit = "h"
    assert {one.rule for one in refused(said)} == {"NO_CRITERION", "UNKNOWN_MODEL", "INCONVERTIBLE"}


@pytest.mark.parametrize(
    ("detail", "field"),
    [
        ({"stirrer_max_per_s": 3.0}, "target.max_speed"),
        ({"stirrer_min_per_s": 5.5}, "target.min_speed"),
        ({"gas_max_m3_per_s": 0.0005}, "target.max_gas_flow"),
        ({"power_max_w": 900.0}, "target.max_power"),
    ],
)
def test_what_the_line_cannot_do_is_refused(detail: dict[str, float], field: str) -> None:
    reasons = refused(content(), Place("line-a", events.LineDetail(**(VESSEL | detail))))
    assert ("OUTSIDE_LINE_LIMIT", field) in [(one.rule, one.field) for one in reasons]


def test_an_attribute_outside_its_specification_at_the_plant_is_refused() -> None:
    said = content()
    said.attributes[0].limits.CopyFrom(range_of(4.0, 6.0, "g/L"))
    assert [(one.rule, one.field) for one in refused(said)] == [("CQA_NOT_ACCEPTED", "attributes.titre")]


def test_what_lots_were_off_by_decides_whether_an_attribute_is_accepted() -> None:
    """The specification is for the product, and so for the calibrated prediction."""
    calibration = rnd.AttributeCalibration(attribute="titre", bias=-1.5, spread=0.2, outcomes=3, unit="g/L")
    place = Place("line-a", PLACE.detail, calibrations={"titre": calibration})
    assert [one.rule for one in refused(content(), place)] == ["CQA_NOT_ACCEPTED"]
    calibration.unit = "mg/L"
    assert adapted(content(), place).predictions[0].calibrated_by == 0.0


def test_the_plants_own_proven_ranges_hold_too() -> None:
    rule = events.SeverityRule(tag="feed_rate", critical_parameter=True, low=0.0, high=1.0, unit="L/h")
    place = Place("line-a", PLACE.detail, rules=(rule,))
    assert [(one.rule, one.field) for one in refused(content(), place)] == [("OUTSIDE_PAR", "feed_rate")]
    other = events.SeverityRule(tag="feed_rate", low=0.0, high=1.0, unit="L/h")
    adapted(content(), Place("line-a", PLACE.detail, rules=(other,)))


def test_a_recipe_beyond_the_line_says_by_what(found: Adapted) -> None:
    assert twins.beyond_line(found.recipe, PLACE.detail) == []
    weaker = events.LineDetail(**(VESSEL | {"stirrer_max_per_s": 3.0}))
    assert [one.field for one in twins.beyond_line(found.recipe, weaker)] == ["target.max_speed"]
    whole = events.RecipeDetail(set_points=[one for one in found.recipe.set_points if one.parameter != "ph"])
    assert [one.rule for one in twins.beyond_line(whole, PLACE.detail)] == ["MISSING"]


# -- advice ------------------------------------------------------------------------


def test_advice_moves_one_parameter_within_its_range_and_gains() -> None:
    said = content()
    said.parameters[1].proven.CopyFrom(range_of(None, None, "L/min"))
    found = adapted(said)
    advice = twins.advise(said, PLACE, found.recipe, found.predictions, SEED)
    assert advice.basis == events.ADVICE_BASIS_PROVEN_RANGE
    assert len(advice.moved) == 1
    assert advice.attribute == "titre"
    assert advice.gain is not None
    assert advice.gain.value > 0
    ratio = {
        name: point(advice.recipe, name).value / point(found.recipe, name).value
        for name in ("agitation", "aeration", "feed_rate")
    }
    assert ratio["aeration"] == pytest.approx(1.0), "without a range it is not moved"
    assert 290 / 320 <= ratio["agitation"] <= 380 / 320
    assert 0.110 / 0.126 <= ratio["feed_rate"] <= 0.145 / 0.126
    assert [one.source for one in advice.predictions] == [one.source for one in found.predictions]
    again = twins.advise(said, PLACE, found.recipe, found.predictions, SEED)
    assert again == advice


def test_where_nothing_may_be_moved_the_adapted_recipe_stays() -> None:
    said = content()
    for one in said.parameters:
        one.ClearField("proven")
        one.ClearField("normal")
    for one, unit in zip(said.parameters, ("/min", "L/min", "L/h", "Cel"), strict=True):
        one.normal.unit = unit
    found = adapted(said)
    advice = twins.advise(said, PLACE, found.recipe, found.predictions, SEED)
    assert (advice.basis, advice.moved) == (events.ADVICE_BASIS_UNCHANGED, ())
    assert advice.recipe == found.recipe
    assert advice.predictions == found.predictions


def test_the_plants_own_range_bounds_advice() -> None:
    found = adapted(content())
    now = point(found.recipe, "agitation").value
    rule = events.SeverityRule(
        tag="agitation", critical_parameter=True, low=0.9 * now, high=1.001 * now, unit="/min"
    )
    place = Place("line-a", PLACE.detail, rules=(rule,))
    advice = twins.advise(content(), place, found.recipe, found.predictions, SEED)
    assert twins.beyond_ranges(advice.recipe, [rule]) == []


# -- calibration -----------------------------------------------------------------


def test_a_calibration_moves_the_value_and_pools_the_width() -> None:
    predicted = common.Estimate(value=4.0, lower=4.0 - 1.959964, upper=4.0 + 1.959964)  # a deviation of 1
    one = calibrating.calibrated(predicted, rnd.AttributeCalibration(bias=0.5, outcomes=1))
    assert one.value == 4.5
    assert one.upper - one.lower == pytest.approx(2 * 1.959964)
    # Four degrees of freedom of the twin with variance 1, four of the outcomes with variance 0.04.
    five = calibrating.calibrated(predicted, rnd.AttributeCalibration(bias=0.5, spread=0.2, outcomes=5))
    assert five.upper - five.lower == pytest.approx(2 * 1.959964 * math.sqrt((4 + 4 * 0.04) / 8))
    wide = calibrating.calibrated(predicted, rnd.AttributeCalibration(spread=3.0, outcomes=50))
    assert wide.upper - wide.lower > 2 * (predicted.upper - predicted.lower)
