"""What a run will give, with an interval: Monte Carlo over what is not known of the process and its vessels.

Constants vary from run to run, each log-normally by its own spread; so does the
kLa factor of each vessel. The draws are a Latin hypercube, and every scenario
is run with the same ones: two scales, or two set-points, differ by what was
changed and not by chance. The kLa draw belongs to the vessel. An interval is
that of a single run, 95 %, widened and moved by what earlier predictions were off
(`recalibrate`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from services.production.domain.twin.cqas import CQAS, attributes
from services.production.domain.twin.ensemble import Member, run_many
from services.production.domain.twin.pensim import Floats
from services.production.domain.twin.process import Process, member
from services.production.domain.twin.recalibrate import Correction
from services.production.domain.twin.set_points import SetPoints
from services.production.domain.twin.vessels import Vessel

#: Runs for an interval: its ends are then steady to a few per cent of its width.
DRAWS = 200
_COVERED = (2.5, 97.5)


@dataclass(frozen=True)
class Scenario:
    """A vessel and its set-points."""

    vessel: Vessel
    points: SetPoints


@dataclass(frozen=True)
class Interval:
    """Mean, standard deviation, and the ends of the 95 % interval of one run."""

    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class Prediction:
    """The attributes of a scenario: by name, in the units of `CQAS`. `samples` are the draws x attributes."""

    cqas: Mapping[str, Interval]
    samples: Floats = field(repr=False, compare=False)


def predict(
    process: Process,
    scenarios: Sequence[Scenario],
    *,
    seed: int,
    draws: int = DRAWS,
    corrections: Mapping[str, Correction] | None = None,
) -> tuple[Prediction, ...]:
    """A prediction for every scenario, of all of them in one go. The scenarios must have been checked."""
    vessels = list(dict.fromkeys(scenario.vessel.name for scenario in scenarios))
    normal = latin_normal(draws, len(process.spread) + 1 + len(vessels), np.random.default_rng(seed))
    first = len(process.spread)
    members = [
        _drawn(
            process, scenario, normal[i], float(normal[i, first + 1 + vessels.index(scenario.vessel.name)])
        )
        for scenario in scenarios
        for i in range(draws)
    ]
    runs = run_many(members)
    found = attributes(runs, [each.parameters.saturation for each in members])
    # One more column of draws carries the scatter that no constant explains: the same run has the same.
    samples = [
        _corrected(part, normal[:, first], corrections or {})
        for part in found.reshape(len(scenarios), draws, len(CQAS))
    ]
    return tuple(Prediction(intervals(part), part) for part in samples)


def nominal(process: Process, scenarios: Sequence[Scenario]) -> Floats:
    """The attributes of every scenario at the constants' own values (scenarios x attributes)."""
    members = [member(process, scenario.vessel, scenario.points) for scenario in scenarios]
    return attributes(run_many(members), [each.parameters.saturation for each in members])


def gain(before: Prediction, after: Prediction, cqa: str) -> tuple[Interval, float]:
    """What an attribute gains from one prediction to another, and the share of draws in which it rises.

    Both must come from one call of `predict`: draw by draw, only what was changed differs.
    """
    column = list(CQAS).index(cqa)
    difference = after.samples[:, column] - before.samples[:, column]
    return _interval(difference), float((difference > 0).mean())


def latin_normal(count: int, dimensions: int, rng: np.random.Generator) -> Floats:
    """Standard normal draws (count x dimensions), in every dimension one from each of `count` strata."""
    from scipy.special import ndtri  # noqa: PLC0415 -- a waiting service need not hold SciPy

    strata = np.stack([rng.permutation(count) for _ in range(dimensions)], axis=1)
    drawn: Floats = ndtri((strata + rng.uniform(1e-9, 1 - 1e-9, strata.shape)) / count)
    return drawn


def intervals(samples: Floats) -> dict[str, Interval]:
    """Per attribute, from draws x attributes."""
    return {name: _interval(samples[:, i]) for i, name in enumerate(CQAS)}


def _interval(drawn: Floats) -> Interval:
    low, high = np.percentile(drawn, _COVERED)
    return Interval(float(drawn.mean()), float(drawn.std(ddof=1)), float(low), float(high))


def _drawn(process: Process, scenario: Scenario, normal: Floats, kla: float) -> Member:
    """The run of a scenario with the constants of one draw."""
    changed = {
        name: getattr(process.parameters, name) * _lognormal(spread, float(normal[i]))
        for i, (name, spread) in enumerate(sorted(process.spread.items()))
    }
    vessel = scenario.vessel
    drawn = replace(vessel, kla_factor=vessel.kla_factor * _lognormal(vessel.kla_spread, kla))
    return member(process, drawn, scenario.points, replace(process.parameters, **changed))


def _lognormal(relative: float, normal: float) -> float:
    """A factor of median 1 with a relative standard deviation."""
    return float(np.exp(np.sqrt(np.log1p(relative**2)) * normal))


def _corrected(samples: Floats, normal: Floats, corrections: Mapping[str, Correction]) -> Floats:
    """The samples moved by each attribute's bias and widened by what the model does not explain."""
    moved = samples.copy()
    for i, name in enumerate(CQAS):
        if name in corrections:
            moved[:, i] += corrections[name].bias + corrections[name].extra_sd * normal
    return moved
