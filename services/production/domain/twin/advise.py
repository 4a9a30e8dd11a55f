"""Set-point advice: where the twin expects more of an attribute, within what may be moved.

A Gaussian process learns the twin's answer over the set-points, and expected
improvement picks what to simulate next (Jones, Schonlau and Welch 1998), a few at a
time: of each pick the process' own mean is believed until it is simulated. With
an approved design space all its parameters move together; without one each moves
alone within its proven range, and the best single move is proposed.

The score of a point is the mean over a few draws of what is uncertain, not the
answer at nominal constants, which would lead to the edge of a cliff; leaving an
acceptance range costs more than any gain. What is proposed is then simulated with
all draws, beside the present set-points with the same ones. Advice is given only
where nearly all of these gain.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from services.production.domain.twin import design_space, permitted
from services.production.domain.twin import process as processes
from services.production.domain.twin.cqas import CQAS
from services.production.domain.twin.errors import Reason, refuse
from services.production.domain.twin.pensim import Floats
from services.production.domain.twin.permitted import Freedom
from services.production.domain.twin.predict import DRAWS, Interval, Scenario, gain, predict
from services.production.domain.twin.process import Process
from services.production.domain.twin.recalibrate import Correction
from services.production.domain.twin.set_points import UNITS, Range, SetPoints, range_faults

#: Draws behind a score, candidates that expected improvement is asked of, points simulated together.
_SCORED, _CANDIDATES, _TOGETHER = 6, 512, 4
#: Points to begin with and rounds: of a single parameter, and per parameter of a space.
_FIRST_ALONE, _ROUNDS_ALONE = 6, 1
_FIRST_EACH, _FIRST_MOST, _ROUNDS_SPACE = 5, 24, 5
#: Of the draws, so many must gain.
SURE = 0.9


@dataclass(frozen=True)
class Objective:
    """The attribute to raise (or lower), and the ranges that all attributes must stay in, by name."""

    cqa: str = "titre"
    raise_it: bool = True
    acceptance: Mapping[str, Range] = field(default_factory=dict)


@dataclass(frozen=True)
class Advice:
    """A proposal: takes effect only when someone approves it, and `permitted.refusals` still has none.

    `changes` are the new set-points by name. `present` and `predicted` are attributes of one run with their
    intervals; `gain` is the difference of the objective's attribute, run by run, and `sure` the share of
    draws in which it gains. `bounded_by` says what it stays within, `simulated` how many points were tried.
    """

    changes: Mapping[str, float]
    points: SetPoints
    present: Mapping[str, Interval]
    predicted: Mapping[str, Interval]
    gain: Interval
    sure: float
    bounded_by: str
    simulated: int


@dataclass(frozen=True)
class NoAdvice:
    """Why nothing is proposed."""

    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class _Search:
    """What is searched: names of the parameters, and their box (each name's low and high)."""

    names: tuple[str, ...]
    low: Floats
    high: Floats

    def unit(self, points: Floats) -> Floats:
        """Points as shares of the box: what the Gaussian process sees."""
        scaled: Floats = (points - self.low) / (self.high - self.low)
        return scaled


#: Scores of set-points: higher is better.
_Score = Callable[[Sequence[SetPoints]], Floats]


def advise(
    process: Process,
    points: SetPoints,
    freedom: Freedom,
    objective: Objective = Objective(),
    *,
    seed: int,
    draws: int = DRAWS,
    corrections: Mapping[str, Correction] | None = None,
) -> Advice | NoAdvice:
    """The best change of the present set-points that may be made, with its predicted gain.

    The same arguments give the same advice. NoAdvice where the present set-points are themselves outside
    of what is allowed, where nothing may be moved, or where no move surely gains.
    """
    refuse(_unsound(process, points, freedom, objective))
    outside = permitted.refusals(freedom, points, points)
    if outside:
        return NoAdvice(tuple(outside))
    rng = np.random.default_rng(seed)
    score = _scorer(process, freedom, objective, seed)
    searches = _searches(freedom, points)
    if not searches:
        step = "have a design space approved, or give proven acceptable ranges"
        return NoAdvice((Reason("NOTHING_FREE", "ranges", "no parameter may be moved", step),))
    tried, scores = _tried(searches, points, freedom, score, rng)
    best = tried[int(np.argmax(scores))]
    if best == points:
        return NoAdvice((_no_gain("no point that was simulated is better than the present one"),))
    return _judged(process, points, best, freedom, objective, seed, draws, corrections, len(tried))


def _unsound(process: Process, points: SetPoints, freedom: Freedom, objective: Objective) -> list[Reason]:
    found = processes.faults(process, freedom.vessel, points)
    for where, ranges, known in (
        ("ranges", freedom.ranges, UNITS),
        ("line", freedom.line, UNITS),
        ("acceptance", objective.acceptance, CQAS),
        ("objective", {objective.cqa: Range(0.0, 1.0)}, CQAS),
    ):
        for name, allowed in sorted(ranges.items()):
            if name in known:
                found += range_faults(allowed, known[name], f"{where}.{name}")
            else:
                rule = f"{name} is none of {', '.join(known)}"
                found.append(Reason("UNKNOWN", f"{where}.{name}", rule, "correct the name"))
    return found + (design_space.faults(freedom.space) if freedom.space is not None else [])


def _scorer(process: Process, freedom: Freedom, objective: Objective, seed: int) -> _Score:
    column = list(CQAS).index(objective.cqa)
    sign = 1.0 if objective.raise_it else -1.0

    def score(candidates: Sequence[SetPoints]) -> Floats:
        scenarios = [Scenario(freedom.vessel, candidate) for candidate in candidates]
        predictions = predict(process, scenarios, seed=seed, draws=_SCORED)
        means = np.array([prediction.samples.mean(axis=0) for prediction in predictions])
        worth: Floats = sign * means[:, column]
        for name, allowed in objective.acceptance.items():
            found = means[:, list(CQAS).index(name)]
            # A tenth of the range's larger end outside costs as much as the whole attribute.
            ends = [abs(end) for end in (allowed.low, allowed.high) if math.isfinite(end)]
            size = 0.1 * max([*ends, 1e-9])
            beyond = np.maximum(0.0, np.maximum(allowed.low - found, found - allowed.high))
            worth = worth - np.abs(means[:, column]) * beyond / size
        return worth

    return score


def _searches(freedom: Freedom, points: SetPoints) -> list[_Search]:
    """The space at once, or every parameter with a proven range by itself."""
    if freedom.space is None:
        return [
            _Search((name,), np.array([allowed.low]), np.array([allowed.high]))
            for name, allowed in sorted(freedom.ranges.items())
            if allowed.high > allowed.low and math.isfinite(allowed.high - allowed.low)
        ]
    names = freedom.free
    low, high = _box(freedom, names)
    wide = [i for i in range(len(names)) if high[i] > low[i]]
    if not wide:
        return []
    return [_Search(tuple(names[i] for i in wide), low[wide], high[wide])]


def _box(freedom: Freedom, names: Sequence[str]) -> tuple[Floats, Floats]:
    """The smallest box around a design space within its ranges; Refused where it has no end."""
    from scipy.optimize import linprog  # noqa: PLC0415 -- a waiting service need not hold SciPy

    assert freedom.space is not None
    rows = [[rule.weights.get(name, 0.0) for name in names] for rule in freedom.space.inequalities]
    ends = [rule.bound for rule in freedom.space.inequalities]
    every = Range(0.0, math.inf)
    ranges = [(freedom.ranges.get(name, every), freedom.line.get(name, every)) for name in names]
    bounds = [(max(a.low, b.low), min(a.high, b.high)) for a, b in ranges]
    box = np.empty((2, len(names)))
    for i, name in enumerate(names):
        for side, sign in enumerate((1.0, -1.0)):
            direction = np.zeros(len(names))
            direction[i] = sign
            found = linprog(direction, A_ub=rows or None, b_ub=ends or None, bounds=bounds)
            if not found.success:
                rule = f"{freedom.named} gives {name} no {('low', 'high')[side]} end, or nothing is inside"
                step = "complete the inequalities of the design space"
                refuse([Reason("UNBOUNDED", f"design_space.{name}", rule, step)])
            box[side, i] = found.x[i]
    return box[0], box[1]


def _tried(
    searches: Sequence[_Search], points: SetPoints, freedom: Freedom, score: _Score, rng: np.random.Generator
) -> tuple[list[SetPoints], Floats]:
    """All that was simulated, with scores; the present set-points are the first."""
    firsts = [_first(search, points, freedom, rng) for search in searches]
    tried = [points, *(candidate for first in firsts for candidate in first)]
    scores = score(tried)
    after = 1
    for search, first in zip(searches, firsts, strict=True):
        own, own_scores = [points, *first], np.append(scores[:1], scores[after : after + len(first)])
        after += len(first)
        for _ in range(_ROUNDS_ALONE if len(search.names) == 1 else _ROUNDS_SPACE):
            picked = _picked(search, own, own_scores, points, freedom, rng)
            if not picked:
                break
            more = score(picked)
            own, own_scores = own + picked, np.append(own_scores, more)
            tried, scores = tried + picked, np.append(scores, more)
    return tried, scores


def _first(search: _Search, points: SetPoints, freedom: Freedom, rng: np.random.Generator) -> list[SetPoints]:
    """What is simulated before anything is learnt: spread over a range with its ends, or over the space."""
    if len(search.names) == 1:
        grid = np.linspace(search.low, search.high, _FIRST_ALONE)
        return _allowed(search, grid, points, freedom)
    count = min(_FIRST_EACH * len(search.names), _FIRST_MOST)
    return _sampled(search, points, freedom, rng, count)


def _sampled(
    search: _Search, points: SetPoints, freedom: Freedom, rng: np.random.Generator, count: int
) -> list[SetPoints]:
    """Points that may be set, at random: straight steps, each as far as the bounds let (hit-and-run)."""
    named = points.named()
    here = np.array([named[name] for name in search.names])
    found: list[SetPoints] = []
    for _ in range(20 * count):
        if len(found) == count:
            break
        direction = rng.normal(size=len(search.names)) * (search.high - search.low)
        near, far = _chord(search, here, direction, points, freedom)
        step = here + rng.uniform(near, far) * direction
        allowed = _allowed(search, step[None, :], points, freedom)
        if allowed:
            here = step
            found += allowed
    return found


def _chord(
    search: _Search, here: Floats, direction: Floats, points: SetPoints, freedom: Freedom
) -> tuple[float, float]:
    """From a point along a direction: how far back and forth the box and the inequalities reach."""
    weights, bounds = [np.eye(len(here)), -np.eye(len(here))], [search.high, -search.low]
    if freedom.space is not None:
        named = points.named()
        for rule in freedom.space.inequalities:
            fixed = sum(w * named[name] for name, w in rule.weights.items() if name not in search.names)
            weights.append(np.array([[rule.weights.get(name, 0.0) for name in search.names]]))
            bounds.append(np.array([rule.bound - fixed]))
    rows = np.concatenate(weights)
    slope, room = rows @ direction, np.maximum(np.concatenate(bounds) - rows @ here, 0.0)
    far = np.divide(room, slope, out=np.full(len(slope), np.inf), where=slope > 0).min()
    near = np.divide(room, slope, out=np.full(len(slope), -np.inf), where=slope < 0).max()
    return float(near), float(far)


def _allowed(search: _Search, rows: Floats, points: SetPoints, freedom: Freedom) -> list[SetPoints]:
    """Of points in the search's parameters, those that may be set and are not the present ones."""
    candidates = [points.with_(dict(zip(search.names, row, strict=True))) for row in rows.tolist()]
    return [
        candidate
        for candidate in candidates
        if candidate != points and not permitted.refusals(freedom, points, candidate)
    ]


def _picked(
    search: _Search,
    tried: Sequence[SetPoints],
    scores: Floats,
    points: SetPoints,
    freedom: Freedom,
    rng: np.random.Generator,
) -> list[SetPoints]:
    """The points with the largest expected improvement, each chosen as if the former were known."""
    if len(search.names) == 1:
        grid = np.linspace(search.low, search.high, _CANDIDATES)
        candidates = _allowed(search, grid, points, freedom)
    else:
        candidates = _sampled(search, points, freedom, rng, _CANDIDATES)
    if not candidates:
        return []
    known, answers = search.unit(_matrix(search, tried)), scores
    asked = search.unit(_matrix(search, candidates))
    process, picked = _process(known, answers, None, rng), []
    for _ in range(_TOGETHER):
        mean, sd = process.predict(asked, return_std=True)
        best = int(np.argmax(_improvement(mean, sd, float(answers.max()))))
        picked.append(candidates[best])
        known, answers = np.vstack((known, asked[best])), np.append(answers, mean[best])
        process = _process(known, answers, process.kernel_, rng)
    return list(dict.fromkeys(picked))


def _matrix(search: _Search, points: Sequence[SetPoints]) -> Floats:
    return np.array([[point.named()[name] for name in search.names] for point in points])


def _process(known: Floats, answers: Floats, kernel: Any, rng: np.random.Generator) -> Any:
    """A Gaussian process over the unit box; with a kernel given, its lengths are taken as they are."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 -- 70 MB that only advice needs
    from sklearn.gaussian_process import GaussianProcessRegressor  # noqa: PLC0415
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern  # noqa: PLC0415

    lengths = np.ones(known.shape[1])
    start = ConstantKernel(1.0, (1e-2, 1e3)) * Matern(lengths, (0.05, 20.0), nu=2.5)
    process = GaussianProcessRegressor(
        kernel or start,
        alpha=1e-6,
        normalize_y=True,
        optimizer=None if kernel is not None else "fmin_l_bfgs_b",
        random_state=int(rng.integers(2**31)),
    )
    with warnings.catch_warnings():
        # A length at its end says that a parameter does not matter, or matters sharply: both are answers.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return process.fit(known, answers)


def _improvement(mean: Floats, sd: Floats, best: float) -> Floats:
    """Expected improvement over the best score."""
    from scipy.special import ndtr  # noqa: PLC0415 -- a waiting service need not hold SciPy

    sd = np.maximum(sd, 1e-12)
    z = (mean - best) / sd
    found: Floats = (mean - best) * ndtr(z) + sd * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    return found


def _judged(
    process: Process,
    points: SetPoints,
    best: SetPoints,
    freedom: Freedom,
    objective: Objective,
    seed: int,
    draws: int,
    corrections: Mapping[str, Correction] | None,
    simulated: int,
) -> Advice | NoAdvice:
    """The best point beside the present one, with all draws."""
    scenarios = Scenario(freedom.vessel, points), Scenario(freedom.vessel, best)
    # Other draws than those that chose the point: a point chosen for its luck does not keep it.
    present, predicted = predict(process, scenarios, seed=seed + 1, draws=draws, corrections=corrections)
    gained, rising = gain(present, predicted, objective.cqa)
    sure = rising if objective.raise_it else 1 - rising
    if sure < SURE:
        return NoAdvice((_no_gain(f"of the draws only {sure:.0%} gain, {SURE:.0%} must"),))
    for name, allowed in sorted(objective.acceptance.items()):
        if not allowed.holds(predicted.cqas[name].mean):
            return NoAdvice((_no_gain(f"{name} would leave its acceptance range"),))
    changes = {name: best.named()[name] for name in permitted.changed(points, best)}
    return Advice(changes, best, present.cqas, predicted.cqas, gained, sure, freedom.named, simulated)


def _no_gain(rule: str) -> Reason:
    return Reason("NO_GAIN", "set_points", rule, "keep the present set-points")
