"""The numbers that are published of the model and the correlations, each as it stands there.

Fermentation: Birol, Undey and Cinar (2002). Oxygen transfer: van 't Riet (1979).
Gassed power: Hughmark (1980). The public transcriptions of the first disagree,
so that its constants are pinned one by one.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from services.production.domain.twin import oxygen, reference
from services.production.domain.twin.errors import Refused
from services.production.domain.twin.pensim import GAS_CONSTANT, PUBLISHED, ReducedParameters, transfer_factor
from services.production.domain.twin.pensim_full import FullParameters
from services.production.domain.twin.power import hughmark, ungassed
from services.production.domain.twin.scale_up import similar_speed
from services.production.domain.twin.tip_speed import speed_for_tip, tip_speed
from services.production.domain.twin.vessels import Broth

CONSTANTS = {
    **{"mu_x": 0.092, "k_x": 0.15, "k_ox": 2e-2, "k_g": 7e3, "e_g": 5100.0, "k_d": 1e33, "e_d": 50_000.0},
    **{"y_xs": 0.45, "y_xo": 0.04, "y_ps": 0.90, "y_po": 0.20, "k_1": 1e-10, "k_2": 7e-5},
    **{"mu_p": 0.005, "k_p": 2e-4, "k_i": 0.10, "k_op": 5e-4, "p": 3.0, "hydrolysis": 0.04},
    **{"m_x": 0.014, "m_o": 0.467, "saturation": 1.16, "alpha": 70.0, "beta": 0.4, "gas_exponent": 0.5},
    **{"evaporation": 2.5e-4, "t_0": 273.15, "t_v": 373.15, "feed_substrate": 600.0},
}
BALANCES = {
    **{"gamma": 1e-5, "acid_base": 3.0, "feed_temperature": 298.0},
    **{"heat_of_growth": 60.0, "heat_of_biomass": 1.6783e-4, "broth": 1500.0, "water": 1000.0},
    **{"coil": 1000.0, "coil_exponent": 0.60, "water_temperature": 283.15},
    **{"carbon_of_growth": 0.143, "carbon_of_biomass": 4e-7, "carbon_of_itself": 1e-4},
}


def test_the_constants_of_the_model_are_the_published_ones() -> None:
    assert vars(ReducedParameters()) == CONSTANTS
    assert {name: value for name, value in vars(FullParameters()).items() if name != "reduced"} == BALANCES
    assert FullParameters().reduced == ReducedParameters()
    assert GAS_CONSTANT == 1.987


def test_the_published_run_begins_and_is_held_as_published() -> None:
    assert PUBLISHED.begin() == (0.1, 15.0, 1.16, 0.0, 100.0)
    held = (PUBLISHED.feed, PUBLISHED.aeration, PUBLISHED.power, PUBLISHED.temperature, PUBLISHED.ph)
    assert held == (0.042, 8.0, 29.9, 298.0, 5.0)
    assert (PUBLISHED.threshold, PUBLISHED.hours) == (0.3, 400.0)


@pytest.mark.parametrize(
    ("broth", "per_second", "per_hour"),
    [(Broth.COALESCING, 0.02914, 104.9), (Broth.NON_COALESCING, 0.08726, 314.1)],
)
def test_oxygen_transfer_is_as_published_by_the_second_and_by_the_hour(
    broth: Broth, per_second: float, per_hour: float
) -> None:
    found = oxygen.van_t_riet(1000.0, 0.005, broth, 0.1)
    assert (round(found, 5), round(3600 * found, 1)) == (per_second, per_hour)


@pytest.mark.parametrize(
    ("broth", "factor", "power", "gas"),
    [(Broth.COALESCING, 0.026, 0.4, 0.5), (Broth.NON_COALESCING, 0.002, 0.7, 0.2)],
)
@pytest.mark.parametrize(("intensity", "velocity"), [(500.0, 0.002), (2500.0, 0.01), (10_000.0, 0.03)])
def test_the_correlation_has_the_published_exponents(
    broth: Broth, factor: float, power: float, gas: float, intensity: float, velocity: float
) -> None:
    found = oxygen.van_t_riet(intensity, velocity, broth, 1.0)
    assert found == pytest.approx(factor * intensity**power * velocity**gas, rel=1e-12)


@pytest.mark.parametrize(
    ("intensity", "liquid"), [(499.0, 0.1), (10_001.0, 0.1), (1000.0, 0.0019), (1000.0, 2.61)]
)
def test_just_outside_the_published_ranges_it_is_refused_with_field_rule_and_next_step(
    intensity: float, liquid: float
) -> None:
    with pytest.raises(Refused) as refused:
        oxygen.van_t_riet(intensity, 0.005, Broth.COALESCING, liquid)
    (reason,) = refused.value.reasons
    assert reason.code == "OUTSIDE_VALIDITY"
    assert reason.field in ("vessel.power_per_volume", "vessel.liquid_volume")
    assert "is outside" in reason.rule
    assert reason.next_step.startswith("choose")


def test_the_models_own_transfer_is_alpha_by_the_root_of_the_gas_and_the_power() -> None:
    """kLa = alpha sqrt(fg) (Pw/V)^beta, at the published 8 L/h, 29.9 W and 100 L."""
    found = transfer_factor(ReducedParameters(), 8.0, 29.9) * 100.0**-0.4
    assert found == pytest.approx(70 * math.sqrt(8) * (29.9 / 100) ** 0.4, rel=1e-12)


def test_power_goes_by_the_cube_of_the_speed_and_the_fifth_power_of_the_diameter() -> None:
    """P = Np rho N^3 d^5."""
    one = replace(reference.PILOT, impellers=1, power_number=5.0, density_kg_m3=1000.0)
    for speed, diameter in ((60.0, 0.1), (300.0, 0.16), (90.0, 1.2)):
        found = ungassed(replace(one, impeller_diameter_m=diameter), speed)
        assert found == pytest.approx(5 * 1000 * (speed / 60) ** 3 * diameter**5, rel=1e-12)


def test_gassed_power_has_the_published_exponents() -> None:
    """P_g/P = 0.10 (Q/(N V))^-0.25 (N^2 d^4 / (g B V^(2/3)))^-0.20."""
    for n, q, v, d, b in ((5.0, 0.001, 0.1, 0.16, 0.032), (2.0, 0.01, 1.0, 0.3447, 0.06894)):
        froude = n**2 * d**4 / (9.80665 * b * v ** (2 / 3))
        assert hughmark(n, q, v, d, b) == pytest.approx(0.10 * (q / (n * v)) ** -0.25 * froude**-0.20)


def test_the_tip_moves_pi_by_speed_by_diameter() -> None:
    vessel = replace(reference.PILOT, impeller_diameter_m=0.5)
    assert tip_speed(vessel, 120.0) == pytest.approx(math.pi * 2 * 0.5, rel=1e-12)
    assert speed_for_tip(vessel, math.pi) == pytest.approx(120.0, rel=1e-12)


def test_equal_power_per_volume_of_similar_vessels_goes_by_the_two_thirds_of_the_diameters() -> None:
    """N2 = N1 (d1/d2)^(2/3)."""
    assert similar_speed(300.0, 0.16, 0.3447) == pytest.approx(300 * (0.16 / 0.3447) ** (2 / 3), rel=1e-12)
    assert similar_speed(800.0, 1.0, 8.0) == pytest.approx(200.0, rel=1e-12)
