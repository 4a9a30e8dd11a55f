"""The full model: what holds temperature and pH, what happens where nothing does, what it refuses."""

from __future__ import annotations

import pytest

from services.production.domain.twin.errors import Refused
from services.production.domain.twin.pensim import BIOMASS, PRODUCT, VOLUME, Recipe, run
from services.production.domain.twin.pensim_full import (
    CARBON_DIOXIDE,
    PH,
    TEMPERATURE,
    Control,
    FullParameters,
    heat_release,
    heat_removed,
    proton_rate,
    run_full,
)

K = FullParameters()


def test_with_its_loops_closed_the_full_model_is_the_reduced_one() -> None:
    full, reduced = run_full(), run()
    assert full.states[:, TEMPERATURE] == pytest.approx(298.0, abs=0.1)
    assert full.states[:, PH] == pytest.approx(5.0, abs=0.02)
    assert full.last()[PRODUCT] == pytest.approx(reduced.last()[PRODUCT], rel=1e-3)
    assert full.last()[BIOMASS] == pytest.approx(reduced.last()[BIOMASS], rel=1e-3)
    assert full.last()[VOLUME] == pytest.approx(reduced.last()[VOLUME], rel=1e-3)
    assert full.switch is not None
    assert full.switch.hour == pytest.approx(44.011, abs=0.02)


def test_carbon_dioxide_is_what_growth_and_biomass_gave_off() -> None:
    full = run_full(carbon_dioxide=0.5)
    grown = full.states[:, BIOMASS] - full.states[0, BIOMASS]
    assert full.states[:, CARBON_DIOXIDE] == pytest.approx(0.5 + 0.143 * grown + 1e-4 * full.times, abs=3e-3)


def test_growth_takes_cooling_and_base() -> None:
    flows = run_full().flows
    assert (flows >= 0).all()
    assert flows[30:44, 0].min() > 10 * flows[5, 0]
    assert flows[30:44, 2].min() > flows[5, 2]
    assert (flows[:, 1] * flows[:, 2] == 0).all()


def test_nobody_cools_and_nobody_sweetens() -> None:
    open_loops = run_full(control=Control(held=False))
    assert open_loops.states[40, TEMPERATURE] > 298.1
    assert open_loops.states[40, PH] < 4.7
    assert not open_loops.flows.any()


def test_heat_is_taken_by_colder_water_alone() -> None:
    assert heat_release(K, 0.3, 6.0, 100.0) == pytest.approx((60 * 0.3 + 1.6783e-4 * 6) * 100)
    flow = 0.5
    taken = 1000 * flow**0.6 / (1 + 1000 * flow**-0.4 / 2000) * (298.0 - 283.15)
    assert heat_removed(K, flow, 298.0) == pytest.approx(taken)
    assert heat_removed(K, 0.0, 298.0) == 0
    assert heat_removed(K, flow, 283.15) == 0


def test_base_takes_protons_and_acid_brings_them() -> None:
    still = proton_rate(K, 1e-5, 0.0, 100.0, (0.0, 0.0), 0.02)
    assert still == pytest.approx(0.0, abs=1e-15)
    assert proton_rate(K, 1e-5, 0.4, 100.0, (0.0, 0.0), 0.02) == pytest.approx(4e-6, rel=1e-6)
    # 1e-4 L/h of 3 mol/L in 100 L.
    assert proton_rate(K, 1e-5, 0.0, 100.0, (0.0, 1e-4), 0.02) == pytest.approx(-3e-6, rel=1e-3)
    assert proton_rate(K, 1e-5, 0.0, 100.0, (1e-4, 0.0), 0.02) == pytest.approx(3e-6, rel=1e-3)


def test_a_broth_that_leaves_the_models_range_is_refused() -> None:
    hot = FullParameters(heat_of_growth=6000.0)
    with pytest.raises(Refused) as refused:
        run_full(parameters=hot, control=Control(held=False))
    assert refused.value.field == "recipe.temperature"


def test_a_control_that_cannot_be_is_refused_with_the_recipe() -> None:
    with pytest.raises(Refused) as refused:
        run_full(Recipe(power=0.0), control=Control(interval=0.0))
    assert {reason.field for reason in refused.value.reasons} == {"recipe.power", "control.interval"}
