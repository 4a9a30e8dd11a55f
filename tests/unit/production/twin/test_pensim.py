"""The twin's fermentation model against the published model's own numbers, and where it must refuse."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from services.production.domain.twin.ensemble import Member, run_many
from services.production.domain.twin.errors import Refused
from services.production.domain.twin.pensim import (
    BIOMASS,
    OXYGEN,
    PRODUCT,
    SUBSTRATE,
    VOLUME,
    Recipe,
    ReducedParameters,
    run,
    temperature_factor,
)
from services.world.pensim import Inputs, ferment


def test_the_feed_begins_where_the_substrate_is_used_up() -> None:
    switch = run().switch
    assert switch is not None
    assert round(switch.hour, 3) == 44.011
    states = switch.states
    assert (round(states[BIOMASS], 4), round(states[PRODUCT], 5)) == (6.4067, 0.01150)
    assert round(states[VOLUME], 3) == 97.325
    assert states[SUBSTRATE] == pytest.approx(0.3, abs=1e-9)


def test_the_harvest_is_the_models() -> None:
    last = run().last()
    assert (round(last[BIOMASS], 4), round(last[PRODUCT], 4), round(last[VOLUME], 3)) == (
        14.2503,
        1.6151,
        91.584,
    )
    assert round(temperature_factor(ReducedParameters(), 298.0), 6) == 1.271842


@pytest.mark.parametrize(
    ("change", "product"),
    [
        ({"feed": 0.035}, 1.377),
        ({"feed": 0.042}, 1.615),
        ({"feed": 0.050}, 1.872),
        ({"temperature": 300.0}, 1.668),
        ({"power": 20.0}, 1.615),
    ],
)
def test_one_factor_changed_moves_the_harvest_as_known(change: dict[str, float], product: float) -> None:
    assert round(run(replace(Recipe(), **change)).last()[PRODUCT], 3) == product


def test_the_switch_does_not_depend_on_the_times_that_are_asked_for() -> None:
    """A feed that begins between two looks must not begin at the later one."""
    coarse = run(times=np.array([0.0, 200.0, 400.0]))
    assert coarse.switch is not None
    assert coarse.switch.hour == pytest.approx(44.011468, abs=1e-5)
    assert coarse.states[1] == pytest.approx(run().states[200], rel=1e-6)


def test_a_run_that_ends_before_the_substrate_does_is_never_fed() -> None:
    short = run(Recipe(hours=20.0))
    assert short.switch is None
    assert len(short.times) == 21
    assert (short.states[:, SUBSTRATE] > 0.3).all()


def test_without_feed_substrate_and_growth_stay_at_nought() -> None:
    """Maintenance cannot eat what is not there: no debt, no growth, the product decays."""
    starved = run(Recipe(feed=0.0))
    assert starved.states[60:, SUBSTRATE] == pytest.approx(0.0, abs=1e-6)
    grown = starved.states[:, BIOMASS] * starved.states[:, VOLUME]
    assert grown[60:] == pytest.approx(grown[60], rel=1e-6)
    assert (np.diff(starved.states[60:, PRODUCT]) < 0).all()


def test_a_broth_without_air_has_no_oxygen_and_no_less() -> None:
    airless = run(Recipe(aeration=0.01, power=0.01))
    assert airless.states[10:, OXYGEN].max() < 0.01
    assert airless.states[:, OXYGEN].min() > -1e-6
    assert airless.last()[PRODUCT] < 0.01


def test_many_runs_at_once_are_the_runs_one_by_one() -> None:
    """Each with its own switch, one without any."""
    recipes = [Recipe(), Recipe(feed=0.05, substrate=12.0), Recipe(temperature=300.0), Recipe(hours=30.0)]
    constants = [ReducedParameters(), ReducedParameters(mu_x=0.08), ReducedParameters(), ReducedParameters()]
    runs = run_many([Member(recipe, k) for recipe, k in zip(recipes, constants, strict=True)])
    for i, (recipe, k) in enumerate(zip(recipes, constants, strict=True)):
        alone = run(recipe, k)
        assert runs.times[i, -1] == pytest.approx(recipe.hours)
        assert runs.states[i, -1] == pytest.approx(alone.last(), rel=2e-3)


def test_the_twin_and_the_simulated_plant_solve_the_same_equations() -> None:
    """Two codes of one page: where they part, one of them is wrong."""
    batch = ferment(lambda hour: Inputs(feed=0.05, temperature=299.0, ph=5.1), np.array([0.0, 30.0, 400.0]))
    twin = run(Recipe(feed=0.05, temperature=299.0, ph=5.1), times=np.array([0.0, 30.0, 400.0]))
    assert twin.states == pytest.approx(batch.states, rel=1e-4)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"temperature": 25.0}, "recipe.temperature"),
        ({"temperature": math.nan}, "recipe.temperature"),
        ({"ph": 12.0}, "recipe.ph"),
        ({"power": 0.0}, "recipe.power"),
        ({"feed": -0.1}, "recipe.feed"),
        ({"volume": 0.0}, "recipe.volume"),
        ({"substrate": 0.2}, "recipe.substrate"),
    ],
)
def test_a_recipe_outside_the_model_is_refused_by_field(change: dict[str, float], field: str) -> None:
    with pytest.raises(Refused) as refused:
        run(replace(Recipe(), **change))
    assert refused.value.field == field
    assert refused.value.reasons[0].next_step


def test_every_fault_of_a_recipe_is_named_at_once() -> None:
    with pytest.raises(Refused) as refused:
        run(Recipe(temperature=25.0, ph=12.0, power=-1.0))
    assert {reason.field for reason in refused.value.reasons} == {
        "recipe.temperature",
        "recipe.ph",
        "recipe.power",
    }
