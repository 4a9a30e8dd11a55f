"""The live twin beside simulated lots: how near its biomass comes, and what a bad sensor does to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from services.production.domain.twin.errors import Refused
from services.production.domain.twin.follow import (
    Estimate,
    Inputs,
    Noise,
    Reading,
    Start,
    begin,
    compared,
    follow,
)
from services.production.domain.twin.pensim import (
    BIOMASS,
    OXYGEN,
    PRODUCT,
    VOLUME,
    Recipe,
    ReducedParameters,
    run,
)
from services.world.fermentations import FAULTS, SAMPLES, Trouble, profile
from services.world.names import Names
from services.world.worldgen.lines import conditions

SET = Inputs(0.0, 8.0, 29.9, 298.0, 5.0)
#: A lot that the constants were not fitted to: more inoculum, faster growth, less hungry for oxygen.
OTHER = replace(ReducedParameters(), mu_x=0.092 * 1.04, m_o=0.467 * 0.98)
Change = Callable[[Reading], Reading]


def followed(
    change: Change = lambda reading: reading, step: float = 5.0
) -> tuple[list[Estimate], np.ndarray]:
    """The estimates of a lot, and the true states at the same hours."""
    times = np.arange(0.0, 400.1, step)
    truth = run(Recipe(biomass=0.115, substrate=15.3), OTHER, times=times)
    assert truth.switch is not None
    rng = np.random.default_rng(5)
    held, estimates = begin(), []
    for hour, states in zip(times.tolist(), truth.states, strict=True):
        grown = states[BIOMASS] - truth.states[0, BIOMASS]
        reading = Reading(
            hour,
            replace(SET, feed=0.042 if hour > truth.switch.hour else 0.0),
            dissolved_oxygen=float(100 * states[OXYGEN] / 1.16 + rng.normal(0, 0.3)),
            carbon_dioxide=float((0.143 * grown + 1e-4 * hour) * (1 + rng.normal(0, 0.02))),
            volume=float(states[VOLUME] + rng.normal(0, 0.05)),
        )
        held, estimate = follow(held, change(reading))
        estimates.append(estimate)
    return estimates, truth.states


def test_biomass_that_nobody_measures_is_found() -> None:
    estimates, truth = followed()
    error = compared(estimates, truth[:, BIOMASS])
    assert error.relative_rmse < 0.03
    assert abs(error.bias) < 0.2
    assert error.covered >= 0.9
    assert estimates[-1].product == pytest.approx(truth[-1, PRODUCT], rel=0.06)
    assert estimates[8].growth > 1.01


def test_a_drifting_sensor_is_told_and_does_not_drag_the_biomass_along() -> None:
    def drifted(reading: Reading) -> Reading:
        if reading.hour < 200 or reading.dissolved_oxygen is None:
            return reading
        return replace(reading, dissolved_oxygen=reading.dissolved_oxygen - 12.0)

    estimates, truth = followed(drifted)
    assert compared(estimates, truth[:, BIOMASS]).relative_rmse < 0.05
    assert not any("dissolved_oxygen" in estimate.surprises for estimate in estimates[2:40])
    assert all(estimate.surprises["dissolved_oxygen"] < -3 for estimate in estimates[41:])


def test_a_silent_sensor_leaves_a_wider_interval() -> None:
    heard, truth = followed()
    silent, _ = followed(lambda reading: replace(reading, dissolved_oxygen=None, carbon_dioxide=None))
    grown = 8  # 40 h, before the substrate is used up: then the feed alone says much
    assert silent[grown].biomass_sd > 2 * heard[grown].biomass_sd
    assert silent[grown].biomass_low < truth[grown, BIOMASS] < silent[grown].biomass_high


def test_no_reading_at_all_is_the_model_alone() -> None:
    held = begin(Start(spread_biomass=1e-6, spread_substrate=1e-6))
    held = replace(held, covariance=(0.0,) * 49)
    _, estimate = follow(held, Reading(20.0, SET))
    assert estimate.biomass == pytest.approx(run(times=np.array([0.0, 20.0])).last()[BIOMASS], rel=1e-3)


@pytest.mark.parametrize(
    ("reading", "field"),
    [
        (Reading(5.0, SET), "reading.hour"),
        (Reading(10.0, SET), "reading.hour"),
        (Reading(float("nan"), SET), "reading.hour"),
        (Reading(20.0, replace(SET, power=0.0)), "inputs.power"),
        (Reading(20.0, replace(SET, temperature=25.0)), "inputs.temperature"),
        (Reading(20.0, SET, dissolved_oxygen=float("nan")), "reading.dissolved_oxygen"),
    ],
)
def test_a_reading_that_cannot_be_followed_is_refused_by_field(reading: Reading, field: str) -> None:
    held, _ = follow(begin(), Reading(10.0, SET), noise=Noise())
    with pytest.raises(Refused) as refused:
        follow(held, reading)
    assert refused.value.field == field


@pytest.mark.parametrize("kind", [None, "feed-loss", "temperature-drift", "agitation-loss", "sensor-drift"])
def test_in_the_simulated_plant_it_comes_as_near_as_its_biomass_probe(kind: str | None) -> None:
    """Lots that differ, sensors with noise, a planted fault from 125 h on; the probe itself is 1.5 % off."""
    trouble = Trouble(kind, FAULTS[kind].size, 50) if kind else None
    tags = profile(conditions(Names(7, "test"), 3), trouble)
    held, estimates = begin(), []
    for i in range(SAMPLES):
        now = {name: values[i] for name, values in tags.items()}
        feed = max(0.0, now["FeedRate"])
        inputs = Inputs(
            feed, now["AerationRate"], now["AgitatorPower"], now["Temperature"] + 273.15, now["PH"]
        )
        measured = now["DissolvedOxygen"], now["CarbonDioxide"], now["Volume"]
        held, estimate = follow(held, Reading(2.5 * i, inputs, *measured))
        estimates.append(estimate)
    error = compared(estimates, tags["Biomass"])
    assert error.relative_rmse < 0.04


def test_a_truth_of_another_length_is_refused() -> None:
    estimates, _ = followed(step=100.0)
    with pytest.raises(Refused):
        compared(estimates, [1.0])
