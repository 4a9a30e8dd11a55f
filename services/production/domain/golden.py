"""The golden-run model of a product, and how it is calibrated.

The golden run itself is estimated robustly (`estimation`); this module adds
the spreads. They are set so that the *rule as it runs online* keeps to a
stated false-alarm rate on runs that were not used to estimate the golden run
(cross-validation): where the process varies much, the published spread is
large, and no phase or tag is left out. Theoretical limits would assume
independent normal residuals, which process data are not.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from services.production.domain.estimation import estimate
from services.production.domain.maturity import Floats, Ints, Recipe, Run
from services.production.domain.residuals import (
    CHARTS,
    Aligned,
    Golden,
    align,
    expected,
    median_of_three,
    places,
)

#: Limit of every tag, in spreads: a step of twice as many alarms within three samples.
LIMIT = 3.0
LAG, WINDOW = 6, 3
#: So many of a hundred runs may alarm on the calibration set.
_TOLERATED = 0.06
#: A limit may be narrowed by signature until so many of a hundred runs would alarm.
_BEARABLE = 0.10
_FOLDS = 5
#: The margin pays for having chosen the factors on the runs they are judged by.
_MARGIN = 1.3
#: How much the tags' factors are drawn towards the one that would serve all of them.
_SHARED = 0.5
_MIN_RUNS = 8
#: No spread is below this share of the tag's range: a sensor's resolution is no variation.
_FLOOR = 0.01
_BANDS = (6, 11)  # cells of age at which the middle and the late band of a phase begin
MIN_TRAINING_RUNS = 10


class TooFewRuns(ValueError):
    """There are not enough good runs to learn from."""


@dataclass(frozen=True)
class GoldenModel:
    """A model as it is stored: arrays are float64 bytes, tags x points of the maturity axis.

    `level` and `shift` are the spreads of the two charts (see `residuals`).
    `narrowest` is, by tag, the smallest limit that keeps to a bearable
    false-alarm rate. `rate_low` and `rate_high` are the exact 95 % interval
    (Clopper & Pearson, Biometrika 26 (1934) 404) of the false-alarm rate.
    """

    product: str
    recipe: Recipe
    calibration_lots: tuple[str, ...]
    false_alarms: int
    judged_runs: int
    rate_low: float
    rate_high: float
    narrowest: tuple[float, ...]
    points: int
    mean: bytes
    intercept: bytes
    gain: bytes
    learnt: bytes
    shift: bytes
    level: bytes
    version: str = ""

    def golden(self) -> Golden:
        """The arrays."""
        shape = (len(self.recipe.tags), self.points)

        def array(raw: bytes) -> Floats:
            return np.frombuffer(raw, dtype=np.float64).reshape(shape)

        learnt = array(self.learnt).astype(np.bool_)
        return Golden(
            array(self.mean),
            array(self.level),
            array(self.intercept),
            array(self.gain),
            array(self.shift),
            learnt,
        )

    def published_spread(self) -> Floats:
        """The spread that a fault is measured by: the larger of the two charts', so that both see it."""
        golden = self.golden()
        return np.where(golden.learnt, np.maximum(golden.band, golden.spread), golden.band)


def encode(model: GoldenModel) -> bytes:
    return msgspec.msgpack.encode(model)


def decode(raw: bytes) -> GoldenModel:
    return msgspec.msgpack.decode(raw, type=GoldenModel)


def residuals(recipe: Recipe, golden: Golden, run: Aligned) -> tuple[Floats, Ints]:
    """Distance of each sample from what each chart expects, in the tags' units (samples x tags x
    charts), and the axis points (samples x tags)."""
    at = places(recipe, run.points)
    return run.values[:, :, None] - expected(golden, run, at), at


def chart(left: Floats) -> Floats:
    """The statistic of both charts: medians of three residuals, which are in spreads (samples x tags x charts)."""
    return median_of_three(left.reshape(len(left), -1)).reshape(left.shape)


def train(product: str, recipe: Recipe, runs: Sequence[Run]) -> GoldenModel:
    """Learn the golden run from good runs. TooFewRuns below MIN_TRAINING_RUNS."""
    if len(runs) < MIN_TRAINING_RUNS:
        raise TooFewRuns(f"{len(runs)} runs were given; give at least {MIN_TRAINING_RUNS} good ones")
    ordered = sorted(runs, key=lambda run: run.lot)
    aligned = [align(recipe, run, LAG, WINDOW) for run in ordered]
    floor = _floors(aligned)
    held_out = _held_out(recipe, aligned)
    peaks = np.stack([_peaks(recipe, *run) for run in held_out])
    ratios = _ratios(recipe, held_out, peaks, floor)
    kappa = _inflation(ratios)
    alarms = _nested_alarms(ratios)
    spread = _base(peaks, floor) * kappa[:, :, None] / LIMIT
    golden = estimate(recipe, aligned)
    low, high = interval(alarms, len(ordered))
    bands = _segments(np.arange(golden.mean.shape[1]), len(recipe.ages))
    model = GoldenModel(
        product=product,
        recipe=recipe,
        calibration_lots=tuple(run.lot for run in ordered),
        false_alarms=alarms,
        judged_runs=len(ordered),
        rate_low=low,
        rate_high=high,
        narrowest=_narrowest((ratios / kappa).max(axis=1) * LIMIT),
        points=golden.mean.shape[1],
        mean=golden.mean.tobytes(),
        intercept=golden.intercept.tobytes(),
        gain=golden.gain.tobytes(),
        learnt=golden.learnt.astype(np.float64).tobytes(),
        shift=spread[0][:, bands].tobytes(),
        level=spread[1][:, bands].tobytes(),
    )
    return replace(model, version=hashlib.sha256(encode(model)).hexdigest()[:16])


def _segments(points: Ints, ages: int) -> Ints:
    """Phase and band of age of axis points: spreads are estimated for these together."""
    return points // ages * (len(_BANDS) + 1) + np.searchsorted(_BANDS, points % ages, side="right")


def _floors(aligned: Sequence[Aligned]) -> Floats:
    """By tag: the smallest spread that is believed, from the range of good values."""
    values = np.vstack([run.values for run in aligned])
    good = [column[~np.isnan(column)] for column in values.T]
    ranges = [float(np.ptp(np.percentile(column, [2, 98]))) if len(column) else 0.0 for column in good]
    floors: Floats = np.maximum(_FLOOR * np.asarray(ranges), 1e-9) * LIMIT
    return floors


def _held_out(recipe: Recipe, aligned: Sequence[Aligned]) -> list[tuple[Floats, Ints]]:
    """Residuals and segments of each run, judged by a golden run that was estimated without it."""
    result: list[tuple[Floats, Ints]] = [(np.empty(0), np.empty(0, dtype=np.intp))] * len(aligned)
    for fold in range(_FOLDS):
        golden = estimate(recipe, [run for n, run in enumerate(aligned) if n % _FOLDS != fold])
        for n in range(fold, len(aligned), _FOLDS):
            left, at = residuals(recipe, golden, aligned[n])
            result[n] = left, _segments(at, len(recipe.ages))
    return result


def _peaks(recipe: Recipe, left: Floats, where: Ints) -> Floats:
    """charts x tags x segments: the largest median of three in the tag's unit; NaN where the run has none."""
    segments = (len(_BANDS) + 1) * max(len(programme.phases) for programme in recipe.programmes())
    size = np.abs(chart(left))
    result = np.full((len(CHARTS), len(recipe.tags), segments), -1.0)
    for which in range(len(CHARTS)):
        for tag in range(len(recipe.tags)):
            known = ~np.isnan(size[:, tag, which])
            np.maximum.at(result[which, tag], where[known, tag], size[known, tag, which])
    return np.where(result < 0, np.nan, result)


def _base(peaks: Floats, floor: Floats) -> Floats:
    """charts x tags x segments: what all but the odd runs stay within.

    A segment that few runs visited takes the widest of its tag.
    """
    seen = (~np.isnan(peaks)).sum(axis=0)
    filled = np.where(np.isnan(peaks), -1.0, peaks)
    ordered = np.sort(filled, axis=0)
    place = np.maximum(len(peaks) - 1 - np.floor(0.05 * seen).astype(np.intp), 0)
    base = np.take_along_axis(ordered, place[None], axis=0)[0]
    base = np.maximum(base, floor[None, :, None])
    known = np.where(seen >= _MIN_RUNS, base, 0.0)
    wide: Floats = np.where(seen >= _MIN_RUNS, base, np.maximum(known.max(axis=2, keepdims=True), base))
    return wide


def _ratios(recipe: Recipe, held_out: Sequence[tuple[Floats, Ints]], peaks: Floats, floor: Floats) -> Floats:
    """runs x charts x tags: how far each run goes beyond what the others stay within, by the online rule."""
    tags = np.arange(len(recipe.tags))
    rows = []
    for n, (left, where) in enumerate(held_out):
        base = _base(np.delete(peaks, n, axis=0), floor)
        scale = np.stack([base[which][tags, where] for which in range(len(CHARTS))], axis=2)
        rows.append(np.nan_to_num(np.abs(chart(left / scale)), nan=0.0).max(axis=0).T)
    return np.stack(rows)


def _inflation(ratios: Floats) -> Floats:
    """The factor on the spreads of each chart and tag that leaves the tolerated share of runs outside.

    The runs left outside are those whose going lowers the factors most.
    """
    inside = np.ones(len(ratios), dtype=np.bool_)
    for _ in range(math.floor(_TOLERATED * len(ratios))):
        ordered = np.sort(ratios[inside], axis=0)
        top, second = np.maximum(ordered[-1], 1.0), np.maximum(ordered[-2], 1.0)
        gain = np.where(ratios >= top, np.log(top / second), 0.0).sum(axis=(1, 2))
        inside[int(np.argmax(np.where(inside, gain, -1.0)))] = False
    own = np.maximum(ratios[inside].max(axis=0), 1.0)
    worst = np.sort(ratios.max(axis=(1, 2)))[::-1]
    common = max(1.0, float(worst[math.floor(_TOLERATED * len(worst))]))
    factors: Floats = own ** (1 - _SHARED) * common**_SHARED * _MARGIN
    return factors


def _nested_alarms(ratios: Floats) -> int:
    """Runs that alarm when the factors, too, are set without them."""
    return sum(bool((run > _inflation(np.delete(ratios, n, axis=0))).any()) for n, run in enumerate(ratios))


def _narrowest(reach: Floats) -> tuple[float, ...]:
    """By tag: the smallest limit at which the share of alarming runs is bearable, others unchanged.

    `reach` is runs x tags: the largest statistic of each run, in spreads.
    """
    result = []
    for tag in range(reach.shape[1]):
        others = (np.delete(reach, tag, axis=1) > LIMIT).any(axis=1)
        limit = LIMIT
        while limit > 1.0 and np.mean(others | (reach[:, tag] > limit - 0.1)) <= _BEARABLE:
            limit = round(limit - 0.1, 1)
        result.append(limit)
    return tuple(result)


def interval(hits: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Exact (Clopper-Pearson) interval of a binomial rate, by bisection of the binomial tail."""

    def at_most(k: int, rate: float) -> float:
        return sum(math.comb(trials, i) * rate**i * (1 - rate) ** (trials - i) for i in range(k + 1))

    def solve(k: int, target: float) -> float:
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if at_most(k, middle) > target else (low, middle)
        return (low + high) / 2

    tail = (1 - level) / 2
    lower = 0.0 if hits == 0 else solve(hits - 1, 1 - tail)
    upper = 1.0 if hits == trials else solve(hits, tail)
    return lower, upper
