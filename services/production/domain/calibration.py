"""How wide the spreads must be: calibrated on residuals of runs that the estimate has not seen.

The spread of a stretch of a phase comes from the largest sustained residual
(median of three) that a good run shows there, not from a standard deviation:
process residuals have heavy tails, and a limit must hold for them. The spreads
of each chart and tag are then raised by a factor, so that few runs would
alarm, each judged by spreads that it had no part in. So a spread is what the
process really does: a third of what its good runs stay within. What the factor
brings is not assumed but measured, in `held_out`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from services.production.domain.estimation import estimate
from services.production.domain.maturity import Floats, Ints, Recipe
from services.production.domain.residuals import (
    CHARTS,
    LEVEL,
    SHIFT,
    Aligned,
    Golden,
    expected,
    median_of_three,
    places,
    spreads,
)

Tails: TypeAlias = npt.NDArray[np.float64]  # runs x charts x tags x stretches; NaN where a run never was
Widths: TypeAlias = npt.NDArray[np.float64]  # charts x tags x stretches; NaN where too few runs were


@dataclass(frozen=True)
class Config:
    """How a model is trained. Shares are of the number of runs.

    `lag`, `window`: samples, see `residuals`. `limit`: in spreads. `set_aside`:
    runs that shape no spread, the oddest ones. `allowance`: runs that may
    alarm in calibration; `aim`: the same, as promised. `floor`: the narrowest
    spread's limit, as a share of the tag's span. `borrow`: how far a stretch
    is drawn to the tag's average width. `stretches`: seconds at which a phase
    is cut. `min_runs`: fewer runs than these teach nothing of a stretch.
    `least` and `most` bound the factors: the next run may go beyond all so far, and
    one wild run among few must not make the limits useless.
    """

    lag: int = 10
    window: int = 3
    limit: float = 3.0
    set_aside: float = 0.05
    allowance: float = 0.06
    aim: float = 0.10
    floor: float = 0.03
    borrow: float = 0.3
    stretches: tuple[float, ...] = (0.0, 240.0, 600.0)
    min_runs: int = 8
    least: float = 1.25
    most: float = 4.0
    folds: int = 7
    inner_folds: int = 5


def folds(count: int, parts: int) -> Iterator[tuple[Ints, Ints]]:
    """Which runs to learn from and which to judge, so that each is judged once.

    Every parts-th run is in the same fold, so that a plant's slow change over
    time is in each of them.
    """
    index = np.arange(count)
    for part in range(min(parts, count)):
        yield index[index % parts != part], index[index % parts == part]


def calibrate(recipe: Recipe, runs: Sequence[Aligned], config: Config) -> Golden:
    """The golden run with its spreads, from good runs.

    Where too few runs were to learn from, the tag's median and whole range
    stand in: little is found there, and the published spread says so.
    """
    golden = estimate(recipe, runs)
    tails = _tails(recipe, runs, config)
    middle, span, whole = ranges(runs)
    widths = _factors(tails, span, config) * _widths(tails, span, config)
    shift, level = np.minimum(widths, whole[:, None])[:, :, _stretch(recipe, config)] / config.limit
    blind = np.isnan(level)
    band = np.where(blind, whole[:, None] / config.limit, level)
    learnt = golden.learnt & ~np.isnan(shift) & ~blind
    mean = np.where(blind, middle[:, None], golden.mean)
    return replace(golden, mean=mean, band=band, spread=np.where(learnt, shift, band), learnt=learnt)


def statistics(recipe: Recipe, run: Aligned, golden: Golden) -> Floats:
    """For each tag, the largest distance (median of three, in spreads) that a run reaches on either chart."""
    at = places(recipe, run.points)
    distance = (run.values[:, :, None] - expected(golden, run, at)) / spreads(golden, at)
    medians = np.stack([np.abs(median_of_three(distance[:, :, chart])) for chart in (SHIFT, LEVEL)])
    result: Floats = np.nan_to_num(np.fmax.reduce(medians, axis=(0, 1)))
    return result


def held_out(recipe: Recipe, runs: Sequence[Aligned], config: Config) -> Floats:
    """`statistics` of every run (runs x tags), each by a model that never saw the run."""
    result = np.zeros((len(runs), len(recipe.tags)))
    for learn, judge in folds(len(runs), config.folds):
        golden = calibrate(recipe, [runs[place] for place in learn], config)
        for place in judge:
            result[place] = statistics(recipe, runs[place], golden)
    return result


def _tails(recipe: Recipe, runs: Sequence[Aligned], config: Config) -> Tails:
    """The largest sustained residual of each run in each stretch, by estimates that never saw the run."""
    count = len(config.stretches) * max(len(programme.phases) for programme in recipe.programmes())
    tails = np.full((len(runs), len(CHARTS), len(recipe.tags), count), np.nan)
    for learn, judge in folds(len(runs), config.inner_folds):
        golden = estimate(recipe, [runs[place] for place in learn])
        for place in judge:
            at = places(recipe, runs[place].points)
            residuals = runs[place].values[:, :, None] - expected(golden, runs[place], at)
            stretch = _stretch(recipe, config)[at]
            for chart in (SHIFT, LEVEL):
                sustained = np.abs(median_of_three(residuals[:, :, chart]))
                _largest(sustained, stretch, tails[place, chart])
    tails[..., _upsets(recipe, config)] = np.nan
    return tails


def _largest(sustained: Floats, stretch: Ints, into: Floats) -> None:
    """Writes the largest value of each tag in each stretch."""
    for tag in range(sustained.shape[1]):
        column = np.where(np.isnan(sustained[:, tag]), -1.0, sustained[:, tag])
        top = np.full(into.shape[1], -1.0)
        np.maximum.at(top, stretch[:, tag], column)
        into[tag] = np.where(top < 0, np.nan, top)


def _stretch(recipe: Recipe, config: Config) -> Ints:
    """Stretch of each point of the axis."""
    within = np.searchsorted(config.stretches, recipe.ages, side="right") - 1
    phases = max(len(programme.phases) for programme in recipe.programmes())
    return (np.arange(phases)[:, None] * len(config.stretches) + within).ravel()


def _upsets(recipe: Recipe, config: Config) -> list[int]:
    per_phase = len(config.stretches)
    first = [recipe.programme.phases.index(name) * per_phase for name in recipe.upsets]
    return [place + part for place in first for part in range(per_phase)]


def ranges(runs: Sequence[Aligned]) -> tuple[Floats, Floats, Floats]:
    """Of each tag: the median, the span from the 2nd to the 98th percentile, and the whole range.

    Neither is ever nought, also for a constant tag.
    """
    values = np.vstack([run.values for run in runs])
    values = np.where(np.isnan(values).all(axis=0), 0.0, values)
    least, low, middle, high, most = np.nanquantile(values, [0.0, 0.02, 0.5, 0.98, 1.0], axis=0)
    span = np.maximum.reduce([high - low, 0.01 * np.abs(middle), np.full_like(middle, 1e-6)])
    return middle, span, np.maximum(most - least, span)


def _widths(tails: Tails, span: Floats, config: Config) -> Widths:
    """What the limits must leave room for, before the common factor."""
    floor = config.floor * span[None, :, None]
    kept = _kept(tails, floor, config)
    seen = (~np.isnan(tails)).sum(axis=0) >= min(config.min_runs, max(3, len(tails) // 5))
    widths = np.where(seen, np.fmax(np.fmax.reduce(tails[kept], axis=0), floor), np.nan)
    logs = np.log(widths)
    count = np.maximum(seen.sum(axis=2, keepdims=True), 1)
    average = np.where(seen, logs, 0.0).sum(axis=2, keepdims=True) / count
    drawn = np.exp((1 - config.borrow) * logs + config.borrow * average)
    result: Widths = np.fmax(widths, drawn)
    return result


def _kept(tails: Tails, floor: Floats, config: Config) -> npt.NDArray[np.bool_]:
    """All runs but the oddest: those furthest beyond what nine in ten runs do, over all stretches."""
    usual = np.fmax(_ninth_tenth(tails), floor)
    with np.errstate(invalid="ignore"):
        odd = np.nansum(np.log(np.fmax(tails / usual, 1.0)), axis=(1, 2, 3))
    kept = np.ones(len(tails), dtype=np.bool_)
    kept[np.argsort(-odd, kind="stable")[: int(np.ceil(config.set_aside * len(tails)))]] = False
    return kept


def _ninth_tenth(tails: Tails) -> Floats:
    """The 90th percentile over the runs that were there; nought where none was."""
    there = ~np.isnan(tails)
    order = np.sort(np.where(there, tails, np.inf), axis=0)
    place = np.floor(0.9 * np.maximum(there.sum(axis=0) - 1, 0)).astype(np.intp)
    value = np.take_along_axis(order, place[None], axis=0)[0]
    return np.where(np.isfinite(value), value, 0.0)


def _factors(tails: Tails, span: Floats, config: Config) -> Widths:
    """The factor of each chart and tag: half way (in logarithms) between the one factor that would
    serve all, which the worst tag sets, and the tag's own, which few runs set."""
    reached = np.zeros(tails.shape[:3])
    for place in range(len(tails)):
        widths = _widths(np.delete(tails, place, axis=0), span, config)
        reached[place] = np.nan_to_num(np.fmax.reduce(tails[place] / widths, axis=2))
    allowed = min(int(config.allowance * len(tails)), len(tails) - 1)
    common = np.sort(reached.max(axis=(1, 2)))[::-1][allowed]
    own = _without(reached, allowed).max(axis=0)
    factors: Widths = np.clip(
        np.sqrt(np.maximum(common, 1.0) * np.maximum(own, 1.0)), config.least, config.most
    )
    return factors[:, :, None]


def _without(reached: Widths, allowed: int) -> Widths:
    """The runs but those few whose going narrows the tags' own factors most."""
    for _ in range(allowed):
        order = np.sort(reached, axis=0)
        top, second = np.maximum(order[-1], 1.0), np.maximum(order[-2], 1.0)
        gain = np.where(reached >= top, np.log(top / second), 0.0).sum(axis=(1, 2))
        reached = np.delete(reached, int(gain.argmax()), axis=0)
    return reached
