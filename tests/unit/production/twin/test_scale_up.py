"""Power, oxygen transfer and scale-up: published values, what stays equal, and where it must refuse."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.production.domain.twin import oxygen, reference, vessels
from services.production.domain.twin.errors import Refused
from services.production.domain.twin.gaps import gap_table, state_of
from services.production.domain.twin.pensim import ReducedParameters, transfer_factor
from services.production.domain.twin.power import gassed, gassed_ratio, speed_for_gassed, ungassed
from services.production.domain.twin.quantities import Quantity, convert
from services.production.domain.twin.scale_up import Criterion, Gas, Scaled, scale_up, similar_speed
from services.production.domain.twin.set_points import Range, read_range
from services.production.domain.twin.tip_speed import tip_speed
from services.production.domain.twin.vessels import Broth, Vessel

SOURCE, TARGET, POINTS = reference.PILOT, reference.PLANT, reference.SET_POINTS


def scaled(criterion: Criterion, target: Vessel = TARGET, gas: Gas = Gas.VELOCITY) -> Scaled:
    return scale_up(SOURCE, target, POINTS, criterion, gas)


@pytest.mark.parametrize(("broth", "kla"), [(Broth.COALESCING, 0.02914), (Broth.NON_COALESCING, 0.08726)])
def test_the_correlation_of_oxygen_transfer_is_the_published_one(broth: Broth, kla: float) -> None:
    assert round(oxygen.van_t_riet(1000.0, 0.005, broth, 0.1), 5) == kla


@pytest.mark.parametrize(
    ("power", "liquid", "field"),
    [
        (299.0, 0.1, "vessel.power_per_volume"),
        (10_001.0, 0.1, "vessel.power_per_volume"),
        (math.nan, 0.1, "vessel.power_per_volume"),
        (1000.0, 0.001, "vessel.liquid_volume"),
        (1000.0, 3.0, "vessel.liquid_volume"),
    ],
)
def test_outside_its_ranges_the_correlation_is_refused(power: float, liquid: float, field: str) -> None:
    with pytest.raises(Refused) as refused:
        oxygen.van_t_riet(power, 0.005, Broth.COALESCING, liquid)
    assert refused.value.field == field


def test_the_ends_of_the_ranges_are_inside() -> None:
    for power, liquid in ((500.0, 0.002), (10_000.0, 2.6)):
        assert oxygen.van_t_riet(power, 0.005, Broth.COALESCING, liquid) > 0


def test_power_is_that_of_the_turbulent_stirrer() -> None:
    """5 x 1000 kg/m3 x (5 /s)^3 x (0.16 m)^5, twice."""
    assert ungassed(SOURCE, 300.0) == pytest.approx(2 * 5 * 1000 * 125 * 0.16**5)


def test_gas_takes_load_off_the_stirrer_as_in_the_correlation() -> None:
    ratio = gassed_ratio(SOURCE, 300.0, 60.0)
    flow = (0.001 / (5.0 * 0.1)) ** -0.25
    froude = (25 * 0.16**4 / (9.80665 * 0.032 * 0.1 ** (2 / 3))) ** -0.20
    assert ratio == pytest.approx(0.10 * flow * froude)
    assert ratio < 1
    assert gassed_ratio(SOURCE, 300.0, 0.0) == 1.0
    assert gassed_ratio(SOURCE, 300.0, 1e-3) == 1.0


@given(speed=st.floats(30.0, 600.0), gas=st.floats(0.0, 100.0))
def test_the_speed_for_a_power_brings_that_power(speed: float, gas: float) -> None:
    power = gassed(SOURCE, speed, gas)
    assert gassed(SOURCE, speed_for_gassed(SOURCE, power, gas), gas) == pytest.approx(power, rel=1e-9)


def test_equal_power_per_volume_of_similar_vessels_is_the_closed_form() -> None:
    similar = replace(
        TARGET,
        liquid_m3=SOURCE.liquid_m3 * 8,
        impeller_diameter_m=SOURCE.impeller_diameter_m * 2,
        diameter_m=SOURCE.diameter_m * 2,
        blade_width_m=SOURCE.blade_width_m * 2,
    )
    speed = scaled(Criterion.POWER_PER_VOLUME, similar).set_points.agitation
    assert speed == pytest.approx(similar_speed(POINTS.agitation, 1.0, 2.0), rel=1e-12)
    assert speed == pytest.approx(POINTS.agitation * 0.5 ** (2 / 3), rel=1e-12)


@pytest.mark.req("G1c")
def test_two_litres_become_two_thousand_as_by_hand() -> None:
    """Similar vessels, ten times as long: equal power per volume and equal kLa by the published formulas."""
    sizes = (0.002, 2.0)
    vessels = [
        replace(
            TARGET,
            volume_m3=liquid * 1.5,
            liquid_m3=liquid,
            diameter_m=0.13 * length,
            impeller_diameter_m=0.0434 * length,
            blade_width_m=0.00868 * length,
            min_speed_rpm=0.0,
            max_speed_rpm=1500.0,
            max_gas_l_min=10_000.0,
            max_feed_l_h=100.0,
        )
        for liquid, length in zip(sizes, (1.0, 10.0), strict=True)
    ]
    bench = replace(POINTS, agitation=750.0, aeration=1.0)
    small, large = vessels
    by_power = scale_up(small, large, bench, Criterion.POWER_PER_VOLUME).set_points
    assert by_power.agitation == pytest.approx(750.0 * 10 ** (-2 / 3), rel=0.01)
    assert by_power.aeration == pytest.approx(1.0 * 100, rel=0.01)  # gas velocity goes by the cross-section
    by_kla = scale_up(small, large, bench, Criterion.KLA).set_points
    transferred = []
    for vessel, points in ((small, bench), (large, by_kla)):
        power = gassed(vessel, points.agitation, points.aeration) / vessel.liquid_m3
        velocity = points.aeration / 60_000 / (math.pi / 4 * vessel.diameter_m**2)
        transferred.append(0.002 * power**0.7 * velocity**0.2)
    assert transferred[1] == pytest.approx(transferred[0], rel=0.01)


@pytest.mark.parametrize(
    ("criterion", "quantity"),
    [
        (Criterion.KLA, "kla"),
        (Criterion.POWER_PER_VOLUME, "power_per_volume"),
        (Criterion.TIP_SPEED, "tip_speed"),
    ],
)
@pytest.mark.parametrize(
    ("gas", "kept"), [(Gas.VELOCITY, "gas_velocity"), (Gas.PER_VOLUME, "gas_per_volume")]
)
def test_what_the_criterion_names_stays_equal_and_the_rest_is_a_gap(
    criterion: Criterion, quantity: str, gas: Gas, kept: str
) -> None:
    after = scaled(criterion, gas=gas).set_points
    rows = {row.quantity: row for row in gap_table(SOURCE, TARGET, POINTS, after)}
    assert rows[quantity].ratio == pytest.approx(1.0, rel=1e-9)
    assert rows[kept].ratio == pytest.approx(1.0, rel=1e-9)
    others = {"kla", "power_per_volume", "tip_speed"} - {quantity}
    assert all(abs(rows[other].ratio - 1) > 0.01 for other in others)
    assert rows["feed"].ratio == pytest.approx(TARGET.liquid_m3 / SOURCE.liquid_m3)


def test_the_table_says_what_is_in_the_validated_range() -> None:
    after = scaled(Criterion.KLA).set_points
    tip = tip_speed(TARGET, after.agitation)
    ranges = {"tip_speed": Range(0.0, tip - 0.1), "kla": Range(50.0, 90.0)}
    rows = {row.quantity: row for row in gap_table(SOURCE, TARGET, POINTS, after, ranges)}
    assert (rows["tip_speed"].inside, rows["kla"].inside, rows["ph"].inside) == (False, True, None)
    assert rows["gassed_power_per_volume"].inside is True


@pytest.mark.parametrize(
    ("limit", "field"),
    [
        ({"max_speed_rpm": 100.0}, "target.max_speed"),
        ({"min_speed_rpm": 300.0}, "target.min_speed"),
        ({"max_gas_l_min": 10.0}, "target.max_gas_flow"),
        ({"max_feed_l_h": 1.0}, "target.max_feed"),
        ({"max_power_w": 500.0}, "target.max_power"),
    ],
)
def test_what_the_line_cannot_do_is_a_reason(limit: dict[str, Any], field: str) -> None:
    reasons = scaled(Criterion.KLA, replace(TARGET, **limit)).reasons
    assert [reason.field for reason in reasons] == [field]
    assert reasons[0].code == "OUTSIDE_LINE_LIMIT"


def test_every_reason_is_given_at_once() -> None:
    small = replace(TARGET, max_speed_rpm=100.0, max_gas_l_min=10.0, liquid_m3=3.0, volume_m3=4.0)
    fields = {reason.field for reason in scaled(Criterion.KLA, small).reasons}
    assert {"target.max_speed", "target.max_gas_flow", "target.liquid_volume"} <= fields


def test_the_published_process_lies_below_the_correlation_and_the_reference_process_within() -> None:
    """299 W/m3 is refused; what transfers are judged on is inside the range at both scales."""
    assert oxygen.faults(299.0, 0.1)
    for vessel, points in ((SOURCE, POINTS), (TARGET, scaled(Criterion.KLA).set_points)):
        intensity = state_of(vessel, points)["gassed_power_per_volume"]
        assert not oxygen.faults(intensity, vessel.liquid_m3)


def test_a_vessel_is_calibrated_by_its_measured_transfer_and_the_model_gets_it() -> None:
    measured = 0.03
    vessel = oxygen.calibrated(SOURCE, 300.0, 20.0, measured)
    assert oxygen.kla(vessel, 300.0, 20.0) == pytest.approx(measured)
    constants = oxygen.parameters_in(vessel, ReducedParameters())
    power = gassed(vessel, 300.0, 20.0)
    per_hour = transfer_factor(constants, 20.0 * 60, power) * 100.0**-constants.beta
    assert per_hour == pytest.approx(3600 * measured)


def test_a_range_may_have_one_end_and_is_read_in_any_unit() -> None:
    both, _ = read_range("temperature", "K", Quantity(24.0, "Cel"), Quantity(299.0, "K"))
    assert both == Range(297.15, 299.0)
    open_above, _ = read_range("titre", "g/L", Quantity(2200.0, "mg/L"), None)
    assert open_above is not None
    assert open_above.holds(1e9)
    assert not open_above.holds(2.1)


@pytest.mark.parametrize(
    ("low", "high", "code"),
    [
        (None, None, "MISSING"),
        (Quantity(5.2, "[pH]"), Quantity(4.8, "[pH]"), "LOW_ABOVE_HIGH"),
        (Quantity(math.nan, "[pH]"), Quantity(4.8, "[pH]"), "NOT_A_NUMBER"),
        (Quantity(4.8, "K"), None, "INCONVERTIBLE"),
    ],
)
def test_a_range_that_is_none_is_refused(low: Quantity | None, high: Quantity | None, code: str) -> None:
    found, reasons = read_range("ph", "[pH]", low, high)
    assert found is None
    assert [reason.code for reason in reasons] == [code]


def test_a_model_is_found_by_its_name_or_refused() -> None:
    process, _ = reference.process_named("pensim-reduced", 300.0)
    assert process is not None
    assert process.hours == 300.0
    none, reasons = reference.process_named("monod", math.nan)
    assert none is None
    assert {reason.field for reason in reasons} == {"process.model", "process.duration"}


SHEET = {
    "volume": Quantity(150.0, "L"),
    "liquid_volume": Quantity(0.1, "m3"),
    "tank_diameter": Quantity(48.0, "cm"),
    "impeller_diameter": Quantity(160.0, "mm"),
    "blade_width": Quantity(32.0, "mm"),
    "power_number": Quantity(5.0, "1"),
    "max_speed": Quantity(10.0, "/s"),
    "max_gas_flow": Quantity(3.6, "m3/h"),
    "max_power": Quantity(1.1, "kW"),
    "impellers": Quantity(2.0, "1"),
}


def test_a_vessels_sheet_is_read_in_any_unit_that_converts() -> None:
    vessel, reasons = vessels.read("pilot", SHEET)
    assert not reasons
    assert vessel is not None
    assert vessel.impeller_diameter_m == pytest.approx(0.16)
    assert vessel.max_speed_rpm == pytest.approx(600.0)
    assert vessel.max_gas_l_min == pytest.approx(60.0)
    assert vessel.max_power_w == pytest.approx(1100.0)
    assert vessel.volume_m3 == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"blade_width": None}, "MISSING", "vessel.blade_width"),
        ({"impeller_diameter": Quantity(160.0, "W")}, "INCONVERTIBLE", "vessel.impeller_diameter"),
        ({"impeller_diameter": Quantity(math.nan, "m")}, "NOT_A_NUMBER", "vessel.impeller_diameter"),
        ({"impeller_diameter": Quantity(160.0, "cm")}, "DOES_NOT_FIT", "vessel.impeller_diameter"),
        ({"liquid_volume": Quantity(1.0, "m3")}, "DOES_NOT_FIT", "vessel.liquid_volume"),
        ({"power_number": Quantity(-5.0, "1")}, "NOT_POSITIVE", "vessel.power_number"),
        ({"impellers": Quantity(1.5, "1")}, "NOT_WHOLE", "vessel.impellers"),
    ],
)
def test_a_sheet_that_is_no_vessel_is_refused_by_field(
    change: dict[str, Quantity | None], code: str, field: str
) -> None:
    sheet = {key: value for key, value in (SHEET | change).items() if value is not None}
    vessel, reasons = vessels.read("pilot", sheet)
    assert vessel is None
    assert (code, field) in [(reason.code, reason.field) for reason in reasons]


@pytest.mark.parametrize(
    ("value", "unit", "to", "expected"),
    [
        (25.0, "Cel", "K", 298.15),
        (77.0, "[degF]", "Cel", 25.0),
        (1.5, "kW", "W", 1500.0),
        (2.0, "/s", "/min", 120.0),
        (0.02, "/s", "/h", 72.0),
        (1.0, "kW/m3", "W/L", 1.0),
        (60.0, "L/h", "L/min", 1.0),
    ],
)
def test_units_convert(value: float, unit: str, to: str, expected: float) -> None:
    assert convert(value, unit, to) == pytest.approx(expected)


@pytest.mark.parametrize(("unit", "to"), [("W", "K"), ("kW", "W/m3"), ("", "m"), ("rpm", "/min")])
def test_what_measures_something_else_does_not_convert(unit: str, to: str) -> None:
    assert convert(1.0, unit, to) is None
