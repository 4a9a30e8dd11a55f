"""How far a run is from what golden runs of the same maturity do.

Two charts judge each tag, because one spread cannot serve both:

*shift* compares the run with its own recent past: the expected value is
`intercept + gain * reference`, where the reference is the mean of `window`
samples that end `lag` samples ago. What differs from run to run (the batch's
size, an offset of a sensor) cancels, so its spread is small. Whatever changes
within `lag` samples is seen in full; later the reference has learnt it.

*level* compares the run with the golden mean itself. Its spread is that
between runs, hence wide, but it never forgets: it sees what comes slowly, and
it judges where a run has no past yet.

Each chart's statistic is the median of the last three good residuals, in
spreads. A median of three passes its limit when two of the three do, so one
odd point never alarms; and as it moves by exactly what is added to all three,
a run that is within `L` spreads by itself is beyond `L` three samples after a
step of `2 L` or more. That is the promise of the detector, by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from services.production.domain.maturity import Floats, Ints, Recipe, Run, Stage, cells, follow

SHIFT, LEVEL = 0, 1
CHARTS = ("shift", "level")
#: The three points of a median lie within so many samples: older ones say nothing of now.
REACH = 6

Cube: TypeAlias = npt.NDArray[np.float64]  # samples x tags x charts


@dataclass(frozen=True)
class Aligned:
    """A run ready to be judged: values (samples x tags, NaN where bad), references alike,
    and each sample's point of the maturity axis, by programme."""

    values: Floats
    references: Floats
    points: tuple[Ints, Ints]


@dataclass(frozen=True)
class Golden:
    """What golden runs do at each point of the axis; every array is tags x points.

    `band` and `spread` are the spreads of level and shift. Where `learnt` is
    false there is no shift to judge.
    """

    mean: Floats
    band: Floats
    intercept: Floats
    gain: Floats
    spread: Floats
    learnt: npt.NDArray[np.bool_]


def references(values: Floats, lag: int, window: int) -> Floats:
    """Mean of the good values among the `window` samples that end `lag` samples before each.

    Summed in one order whatever stands before, so that a run cut anywhere
    gives the same numbers.
    """
    total, count = np.zeros_like(values), np.zeros(values.shape)
    for back in range(lag, lag + window):
        past = values[:-back] if back < len(values) else values[:0]
        known = ~np.isnan(past)
        total[len(values) - len(past) :] += np.where(known, past, 0.0)
        count[len(values) - len(past) :] += known
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, total / count, np.nan)


def align(recipe: Recipe, run: Run, lag: int, window: int) -> Aligned:
    """A whole recorded run."""
    times = np.asarray(run.times, dtype=np.float64)
    held = {
        tag: np.where(good, values, np.nan)
        for tag, values, good in zip(run.tags, run.values, run.good, strict=True)
    }
    values = np.column_stack([held.get(tag, np.full(len(times), np.nan)) for tag in recipe.tags])
    begin = Stage(0, 0.0)
    points = []
    for programme in recipe.programmes():
        phases, ages, _ = follow(programme, begin, times, held)
        points.append(cells(recipe, phases, ages))
    return prepare(recipe, values, (points[0], points[1]), lag, window)


def prepare(recipe: Recipe, values: Floats, points: tuple[Ints, Ints], lag: int, window: int) -> Aligned:
    """Samples with their references; what was measured in an upset is nobody's reference."""
    names = recipe.programme.phases
    upset = np.isin(points[0] // len(recipe.ages), [names.index(name) for name in recipe.upsets])
    past = np.where(upset[:, None], np.nan, values)
    return Aligned(values, references(past, lag, window), points)


def places(recipe: Recipe, points: tuple[Ints, Ints]) -> Ints:
    """Point of the axis for each sample and tag: each tag by the alignment that may judge it."""
    signals = recipe.programme.signals()
    return np.column_stack([points[int(tag in signals)] for tag in recipe.tags])


def expected(golden: Golden, run: Aligned, at: Ints) -> Cube:
    """What each chart expects; NaN where it has nothing to compare with."""
    tags = np.arange(at.shape[1])
    shift = golden.intercept[tags, at] + golden.gain[tags, at] * run.references
    shift[~golden.learnt[tags, at]] = np.nan
    return np.stack([shift, golden.mean[tags, at]], axis=2)


def spreads(golden: Golden, at: Ints) -> Cube:
    """Spread of each chart at each sample, in the tag's unit."""
    tags = np.arange(at.shape[1])
    return np.stack([golden.spread[tags, at], golden.band[tags, at]], axis=2)


def median_of_three(residuals: Floats) -> Floats:
    """Down each column: the median of a residual and the two good ones before it.

    NaN where the residual itself is missing, where there are not yet three,
    and where the three lie further apart than REACH.
    """
    if not np.isnan(residuals).any():
        result = np.full(residuals.shape, np.nan)
        result[2:] = _median(residuals[:-2], residuals[1:-1], residuals[2:])
        return result
    return np.column_stack([_median_with_gaps(column) for column in residuals.T])


def _median(first: Floats, second: Floats, third: Floats) -> Floats:
    low, high = np.minimum(first, second), np.maximum(first, second)
    return np.maximum(low, np.minimum(high, third))


def _median_with_gaps(column: Floats) -> Floats:
    result = np.full(column.shape, np.nan)
    known = np.flatnonzero(~np.isnan(column))
    if len(known) > 2:
        good = column[known]
        near = known[2:] - known[:-2] < REACH
        result[known[2:]] = np.where(near, _median(good[:-2], good[1:-1], good[2:]), np.nan)
    return result
