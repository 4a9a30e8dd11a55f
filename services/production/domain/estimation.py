"""What golden runs do, estimated robustly: medians and re-weighted regressions, point by point.

A few odd runs among the good ones must not become the golden run, so no plain
mean or least-squares fit is used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.production.domain.maturity import Floats, Ints, Recipe
from services.production.domain.residuals import Aligned, Golden, places

#: A point of the axis with fewer samples than this shares its estimate with its neighbour.
MIN_SAMPLES = 30
_PULL = 0.02  # how firmly the gain is held to 1 ("as it was") when the data say little
_STEPS = 4


def estimate(recipe: Recipe, runs: Sequence[Aligned]) -> Golden:
    """Means, intercepts and gains of the golden run; its spreads are still nought."""
    values = np.vstack([run.values for run in runs])
    past = np.vstack([run.references for run in runs])
    at = np.vstack([places(recipe, run.points) for run in runs])
    columns = [_column(recipe, at[:, tag], values[:, tag], past[:, tag]) for tag in range(len(recipe.tags))]
    mean, intercept, gain, learnt = (np.stack(part) for part in zip(*columns, strict=True))
    nought = np.zeros_like(mean)
    return Golden(mean, nought, intercept, gain, nought, learnt.astype(np.bool_))


def _column(recipe: Recipe, at: Ints, values: Floats, past: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """One tag at every point: mean, intercept, gain, and whether a shift was learnt."""
    order = np.argsort(at, kind="stable")
    order = order[~np.isnan(values[order])]
    at, values, past = at[order], values[order], past[order]
    per_phase = len(recipe.ages)
    size = per_phase * max(len(programme.phases) for programme in recipe.programmes())
    mean, intercept, gain, learnt = (
        np.full(size, _middle(values)),
        np.zeros(size),
        np.ones(size),
        np.zeros(size),
    )
    for first in range(0, size, per_phase):
        for points in _groups(at, first, first + per_phase):
            rows = slice(*np.searchsorted(at, (points.start, points.stop)))
            here, before = values[rows], past[rows]
            if not len(here):
                continue
            mean[points] = _middle(here)
            both = ~np.isnan(before)
            if both.sum() >= MIN_SAMPLES:
                intercept[points], gain[points] = _line(before[both], here[both])
                learnt[points] = 1.0
    return mean, intercept, gain, learnt


def _middle(values: Floats) -> float:
    """The median; numpy's own spends most of its time on cases that do not arise here."""
    if not len(values):
        return 0.0
    ordered, half = np.sort(values), len(values) // 2
    return float(ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2)


def _groups(at: Ints, first: int, stop: int) -> list[slice]:
    """Neighbouring points of one phase, joined until each group has MIN_SAMPLES; the rest joins the last."""
    counts = np.bincount(at[(at >= first) & (at < stop)] - first, minlength=stop - first)
    groups, begin, held = [], first, 0
    for place in range(first, stop):
        held += int(counts[place - first])
        if held >= MIN_SAMPLES:
            groups.append(slice(begin, place + 1))
            begin, held = place + 1, 0
    if not groups:
        return [slice(first, stop)]
    groups[-1] = slice(groups[-1].start, stop)
    return groups


def _line(past: Floats, values: Floats) -> tuple[float, float]:
    """Intercept and gain by iteratively re-weighted least squares: beyond 1.5 spreads counts less."""
    x, y = past - _middle(past), values - _middle(values)
    pull = _PULL * (_spread(x) ** 2 * len(x) + 1e-9)
    weights = np.ones(len(x))
    for _ in range(_STEPS):
        gain = float((np.sum(weights * x * y) + pull) / (np.sum(weights * x * x) + pull))
        left = y - gain * x
        left = left - _middle(left)
        size = 1.5 * _spread(left) + 1e-9
        weights = np.minimum(1.0, size / np.maximum(np.abs(left), size)) ** 2
    return _middle(values - gain * past), gain


def _spread(values: Floats) -> float:
    """Standard deviation by the median of absolute deviations (1.4826 for a normal distribution)."""
    return 1.4826 * _middle(np.abs(values - _middle(values)))
