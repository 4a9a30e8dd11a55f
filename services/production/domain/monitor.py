"""Judging a run against its golden run, sample by sample.

What is said of a sample depends on it and the samples before it only, so the
answer for a run does not depend on how its readings were split, and a run
that has grown is simply judged again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from services.production.domain.golden import LAG, LIMIT, WINDOW, GoldenModel
from services.production.domain.maturity import Ints, Run
from services.production.domain.residuals import CHARTS, Golden, align, expected, median_of_three, places, spreads

_EVIDENCE = 20
#: The most that one corrective action narrows a limit, when every answer is a complaint.
_STRONGEST = 0.25
_RULES = ("left its own recent level", "left the golden run")


@dataclass(frozen=True)
class Point:
    """One sample of the evidence: seconds since the run's start, value, expectation, limits."""

    seconds: float
    value: float
    expected: float
    low: float
    high: float


@dataclass(frozen=True)
class Alarm:
    """A tag left its limits. Times are seconds since the run's start, magnitudes in spreads."""

    tag: str
    phase: str
    first_out: float
    detected: float
    magnitude: float
    limit: float
    rule: str
    samples_out: int
    evidence: tuple[Point, ...]


@dataclass(frozen=True)
class _Judged:
    """A run's statistics in spreads, with what they rest on (samples x tags x charts)."""

    run: Run
    each: np.ndarray
    z: np.ndarray
    expected: np.ndarray
    spread: np.ndarray
    values: np.ndarray
    phases: Ints


def judge(model: GoldenModel, limits: Mapping[str, float], run: Run) -> tuple[Alarm, ...]:
    """The alarms of a run so far, at most one a tag, in order of detection.

    `limits` are limits that a signature changed, by tag, in spreads.
    """
    if not run.times:
        return ()
    judged = _judge(model, model.golden(), run)
    found = []
    for place, tag in enumerate(model.recipe.tags):
        alarm = _alarm(model, judged, place, limits.get(tag, LIMIT))
        if alarm is not None:
            found.append(alarm)
    return tuple(sorted(found, key=lambda alarm: (alarm.detected, alarm.tag)))


def _judge(model: GoldenModel, golden: Golden, run: Run) -> _Judged:
    aligned = align(model.recipe, run, LAG, WINDOW)
    at = places(model.recipe, aligned.points)
    middle, spread = expected(golden, aligned, at), spreads(golden, at)
    each = (aligned.values[:, :, None] - middle) / spread
    z = median_of_three(each.reshape(len(each), -1)).reshape(each.shape)
    phases = aligned.points[0] // len(model.recipe.ages)
    return _Judged(run, each, z, middle, spread, aligned.values, phases)


def _alarm(model: GoldenModel, judged: _Judged, tag: int, limit: float) -> Alarm | None:
    z = np.nan_to_num(judged.z[:, tag, :], nan=0.0)
    out = np.abs(z) > limit
    if not out.any():
        return None
    row = int(out.any(axis=1).argmax())
    which = int(np.abs(z[row]).argmax())
    raw = np.nan_to_num(judged.each[:, tag, which], nan=0.0)
    side = np.sign(z[row, which])
    first = _first_out(raw, row, side, limit)
    phase = model.recipe.programme.phases[int(judged.phases[row])]
    return Alarm(
        tag=model.recipe.tags[tag],
        phase=phase,
        first_out=judged.run.times[first],
        detected=judged.run.times[row],
        magnitude=float(np.max(side * raw[first : row + 1])),
        limit=limit,
        rule=f"two of three samples {_RULES[which]} by more than {limit:g} spreads ({CHARTS[which]} chart)",
        samples_out=int(np.sum(side * raw[first : row + 1] > limit)),
        evidence=_evidence(judged, tag, which, row, limit),
    )


def _first_out(raw: np.ndarray, row: int, side: float, limit: float) -> int:
    """The first of the last three samples that lies beyond the limit on that side."""
    return next((n for n in range(max(0, row - 2), row + 1) if side * raw[n] > limit), row)


def _evidence(judged: _Judged, tag: int, which: int, row: int, limit: float) -> tuple[Point, ...]:
    points = []
    for n in range(max(0, row - _EVIDENCE + 1), row + 1):
        value, middle = judged.values[n, tag], judged.expected[n, tag, which]
        if np.isnan(value) or np.isnan(middle):
            continue
        reach = limit * judged.spread[n, tag, which]
        points.append(
            Point(
                judged.run.times[n], float(value), float(middle), float(middle - reach), float(middle + reach)
            )
        )
    return tuple(points)


def propose_limit(before: float, answered: int, affected: int, narrowest: float = 0.0) -> float:
    """A narrower limit, the more of the patients who answered report a complaint.

    By at most a quarter, never looser than before, and never below `narrowest`,
    the smallest limit that keeps the false alarms bearable.
    """
    share = affected / answered if answered else 0.0
    return min(before, max(narrowest, round(before * (1 - _STRONGEST * share), 2)))
