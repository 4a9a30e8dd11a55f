"""A live twin: what a running lot holds that nobody measures, estimated from its readings.

Biomass, substrate and product have no sensor. Dissolved oxygen falls with what the
biomass breathes, carbon dioxide rises with what has grown, and the volume says
what was fed: a cubature Kalman filter (Arasaratnam and Haykin 2009) carries the
model's states from reading to reading and corrects them by what was read. Biomass
and substrate are carried as logarithms, so that they stay positive; one more
state, a factor of the growth rate, drifts and so takes in that a lot is not the
one the constants were fitted to.

A reading far from what was expected counts less the farther it is: a drifting
sensor must not drag the biomass along. It is told as a surprise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from services.production.domain.twin.ensemble import Equations
from services.production.domain.twin.errors import Reason, not_negative, positive, refuse, within
from services.production.domain.twin.pensim import (
    COLDEST,
    CONSTANTS,
    HOTTEST,
    Floats,
    ReducedParameters,
    evaporation_rate,
    growth_ceiling,
    transfer_factor,
)
from services.production.domain.twin.pensim_full import FullParameters

#: Order of the filter's states: ln g/L, ln g/L, g/L, g/L, L, mmol/L, ln of a factor.
_BIOMASS, _SUBSTRATE, _OXYGEN, _PRODUCT, _VOLUME, _CARBON, _GROWTH = range(7)
_STATES = 7
#: Standard deviations that the model's errors add in an hour (they grow with the root of the time).
_DRIFT = np.array([0.0025, 0.03, 0.004, 0.006, 0.02, 0.005, 0.008])
_GAS = FullParameters()
#: The logarithm of used-up substrate is no longer known than so: its mass no longer matters.
_WIDEST_SUBSTRATE = 1.0
_LEAST = 1e-6  # g/L of substrate
#: Beyond so many standard deviations a reading counts less.
SURPRISING = 3.0


@dataclass(frozen=True)
class Inputs:
    """What was set, or flowed, since the last reading: L/h, L/h, W, K and pH, as they were read."""

    feed: float
    aeration: float
    power: float
    temperature: float
    ph: float


@dataclass(frozen=True)
class Reading:
    """A moment of a lot (h since its start): its inputs since the last one, and what was measured.

    Dissolved oxygen in % of saturation, carbon dioxide in mmol/L, volume in L. None where a sensor
    said nothing good.
    """

    hour: float
    inputs: Inputs
    dissolved_oxygen: float | None = None
    carbon_dioxide: float | None = None
    volume: float | None = None


@dataclass(frozen=True)
class Noise:
    """Standard deviations of the measurements: % of saturation, share of the value, L."""

    dissolved_oxygen: float = 0.3
    carbon_dioxide: float = 0.02
    volume: float = 0.05


@dataclass(frozen=True)
class Start:
    """What a lot is thought to begin with, and the relative standard deviation of inoculum and medium."""

    biomass: float = 0.1
    substrate: float = 15.0
    oxygen: float = 1.16
    volume: float = 100.0
    carbon_dioxide: float = 0.0
    spread_biomass: float = 0.15
    spread_substrate: float = 0.05


@dataclass(frozen=True)
class Following:
    """The twin of a running lot at an hour: means and covariance (row by row) of the filter's states.

    `readings` counts what it has followed.
    """

    hour: float
    mean: tuple[float, ...]
    covariance: tuple[float, ...]
    readings: int = 0


@dataclass(frozen=True)
class Estimate:
    """What a lot holds at an hour, g/L, with standard deviations and the biomass' 95 % interval.

    `growth` is the lot's growth rate over the model's. `surprises` are, by measurement, how many standard
    deviations a reading was from what was expected, where these are more than `SURPRISING`.
    """

    hour: float
    biomass: float
    biomass_sd: float
    biomass_low: float
    biomass_high: float
    substrate: float
    product: float
    product_sd: float
    growth: float
    surprises: Mapping[str, float]


def begin(start: Start = Start()) -> Following:
    """The twin of a lot at its start."""
    refuse(
        reason
        for name in ("biomass", "substrate", "oxygen", "volume")
        for reason in positive(f"start.{name}", getattr(start, name), "L" if name == "volume" else "g/L")
    )
    mean = (
        math.log(start.biomass),
        math.log(start.substrate),
        start.oxygen,
        0.0,
        start.volume,
        start.carbon_dioxide,
        0.0,
    )
    sds = np.array(
        [start.spread_biomass, start.spread_substrate, 0.01, 1e-4, 0.01 * start.volume, 0.02, 0.05]
    )
    return Following(0.0, mean, tuple(np.diag(sds**2).ravel().tolist()))


def follow(
    held: Following,
    reading: Reading,
    parameters: ReducedParameters = CONSTANTS,
    noise: Noise = Noise(),
) -> tuple[Following, Estimate]:
    """The twin after a reading, and what it says then.

    `parameters` hold the oxygen transfer of the lot's vessel (`oxygen.parameters_in`). Readings must come in
    order: a late one is refused, and may be followed again from an earlier twin.
    """
    refuse(faults(held, reading))
    mean, covariance = np.array(held.mean), np.array(held.covariance).reshape(_STATES, _STATES)
    hours = reading.hour - held.hour
    if hours > 0:
        mean, covariance = _carried(mean, covariance, reading.inputs, parameters, hours)
    surprises = {}
    for name, value, row, usual in _measured(reading, parameters, noise):
        expected = float(row @ mean)
        spread = float(row @ covariance @ row)
        far = (value - expected) / math.sqrt(spread + usual**2)
        sd = usual
        if abs(far) > SURPRISING:
            surprises[name] = far
            sd *= (far / SURPRISING) ** 2
        gain = covariance @ row / (spread + sd**2)
        mean = mean + gain * (value - expected)
        covariance = covariance - np.outer(gain, row @ covariance)
    covariance = (covariance + covariance.T) / 2
    now = Following(reading.hour, tuple(mean.tolist()), tuple(covariance.ravel().tolist()), held.readings + 1)
    return now, _estimate(now, surprises)


def faults(held: Following, reading: Reading) -> list[Reason]:
    """What is wrong with a reading: out of order, no number, or outside of what the model knows."""
    found = []
    if not reading.hour >= held.hour or (held.readings and reading.hour == held.hour):
        rule = f"{reading.hour} h is not after the {held.hour} h that the twin has come to"
        step = "leave out what was followed already, or follow again from an earlier twin"
        found.append(Reason("OUT_OF_ORDER", "reading.hour", rule, step))
    x = reading.inputs
    found += not_negative("inputs.feed", x.feed, "L/h")
    found += positive("inputs.aeration", x.aeration, "L/h")
    found += positive("inputs.power", x.power, "W")
    step = "give the value that was read, in the twin's unit"
    found += within(
        "inputs.temperature", x.temperature, COLDEST, HOTTEST, "K", code="OUTSIDE_MODEL", step=step
    )
    found += within("inputs.ph", x.ph, 3.0, 9.0, "[pH]", code="OUTSIDE_MODEL", step=step)
    for name in ("dissolved_oxygen", "carbon_dioxide", "volume"):
        value = getattr(reading, name)
        if value is not None and not math.isfinite(value):
            rule, step = f"{value} is not a finite number", "leave out what was not measured"
            found.append(Reason("NOT_A_NUMBER", f"reading.{name}", rule, step))
    return found


@dataclass(frozen=True)
class Comparison:
    """Estimated against true biomass over a lot: root mean square and mean error in g/L, both also as a
    share of the mean truth, and the share of hours in which the truth was in the 95 % interval."""

    hours: int
    rmse: float
    bias: float
    relative_rmse: float
    covered: float


def compared(estimates: Sequence[Estimate], truth: Iterable[float]) -> Comparison:
    """The error of the estimates against the simulated truth, hour by hour (g/L of biomass)."""
    true = np.array(list(truth))
    if len(true) != len(estimates) or not len(true):
        rule = f"{len(true)} true values stand against {len(estimates)} estimates"
        refuse([Reason("DOES_NOT_FIT", "truth", rule, "give one true value for each estimate")])
    error = np.array([estimate.biomass for estimate in estimates]) - true
    inside = [e.biomass_low <= t <= e.biomass_high for e, t in zip(estimates, true.tolist(), strict=True)]
    rmse = float(np.sqrt((error**2).mean()))
    return Comparison(
        len(true), rmse, float(error.mean()), rmse / float(true.mean()), sum(inside) / len(inside)
    )


def _measured(reading: Reading, k: ReducedParameters, noise: Noise) -> list[tuple[str, float, Floats, float]]:
    """Name, value, row of the (linear) measurement and standard deviation of what was measured."""
    found = []
    for name, value, state, factor, sd in (
        ("dissolved_oxygen", reading.dissolved_oxygen, _OXYGEN, 100 / k.saturation, noise.dissolved_oxygen),
        (
            "carbon_dioxide",
            reading.carbon_dioxide,
            _CARBON,
            1.0,
            0.005 + noise.carbon_dioxide * abs(reading.carbon_dioxide or 0.0),
        ),
        ("volume", reading.volume, _VOLUME, 1.0, noise.volume),
    ):
        if value is not None:
            row = np.zeros(_STATES)
            row[state] = factor
            found.append((name, value, row, sd))
    return found


def _carried(
    mean: Floats, covariance: Floats, inputs: Inputs, k: ReducedParameters, hours: float
) -> tuple[Floats, Floats]:
    """Mean and covariance some hours on: the 14 cubature points, each run by the model."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0) * _STATES)
    points = np.concatenate((mean + root.T, mean - root.T))
    moved = _run(points, inputs, k, hours)
    centre = moved.mean(axis=0)
    off = moved - centre
    spread = off.T @ off / len(moved) + np.diag(_DRIFT**2 * hours)
    widest = math.sqrt(spread[_SUBSTRATE, _SUBSTRATE])
    if widest > _WIDEST_SUBSTRATE:
        spread[_SUBSTRATE] *= _WIDEST_SUBSTRATE / widest
        spread[:, _SUBSTRATE] *= _WIDEST_SUBSTRATE / widest
    return centre, spread


def _run(points: Floats, inputs: Inputs, k: ReducedParameters, hours: float) -> Floats:
    """The filter's states (points x states) some hours on."""
    count = len(points)
    equations = Equations(
        {constant.name: np.full(count, getattr(k, constant.name)) for constant in fields(k)},
        growth_ceiling(k, inputs.temperature, inputs.ph) * np.exp(points[:, _GROWTH]),
        np.full(count, evaporation_rate(k, inputs.temperature)),
        np.full(count, transfer_factor(k, inputs.aeration, inputs.power)),
        np.full(count, inputs.feed),
    )
    start = points[:, :_CARBON].copy()
    start[:, :2] = np.exp(start[:, :2])
    start[:, _OXYGEN] = np.maximum(start[:, _OXYGEN], 0.0)
    start[:, _VOLUME] = np.maximum(start[:, _VOLUME], 1e-3)
    runs = equations.solve(start, np.zeros(count), np.full(count, hours))
    end, biomass = runs.states[:, -1], runs.states[:, :, _BIOMASS]
    standing = ((biomass[:, 1:] + biomass[:, :-1]) / 2 * np.diff(runs.times, axis=1)).sum(axis=1)
    moved = points.copy()
    moved[:, :_CARBON] = end
    moved[:, :2] = np.log(np.maximum(end[:, :2], _LEAST))
    moved[:, _CARBON] += (
        _GAS.carbon_of_growth * (end[:, _BIOMASS] - start[:, _BIOMASS])
        + _GAS.carbon_of_biomass * standing
        + _GAS.carbon_of_itself * hours
    )
    return moved


def _estimate(now: Following, surprises: Mapping[str, float]) -> Estimate:
    """In g/L: the median of a log-normal, and its interval."""
    covariance = np.array(now.covariance).reshape(_STATES, _STATES)
    sds = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    biomass, spread = math.exp(now.mean[_BIOMASS]), float(sds[_BIOMASS])
    return Estimate(
        hour=now.hour,
        biomass=biomass,
        biomass_sd=biomass * spread,
        biomass_low=biomass * math.exp(-1.96 * spread),
        biomass_high=biomass * math.exp(1.96 * spread),
        substrate=math.exp(now.mean[_SUBSTRATE]),
        product=max(0.0, now.mean[_PRODUCT]),
        product_sd=float(sds[_PRODUCT]),
        growth=math.exp(now.mean[_GROWTH]),
        surprises=dict(surprises),
    )
