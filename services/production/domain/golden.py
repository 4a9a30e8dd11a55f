"""The golden-run model of a product: what its good runs do, and how much they differ.

Training reads recorded runs only. The model says how often its own rule
alarms on runs that it was not trained on, and how often it would with a
narrower limit, so that nobody narrows a limit without knowing the price.
Theoretical limits would assume independent normal residuals, which process
data are not.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from services.production.domain.calibration import Config, calibrate, held_out
from services.production.domain.charting import Charting, Charts, charted
from services.production.domain.maturity import Bools, Floats, Recipe, Run
from services.production.domain.residuals import Golden, align

CONFIG = Config()
#: Limit of every tag, in spreads: a step of twice as many alarms within three samples.
LIMIT = CONFIG.limit
LAG, WINDOW = CONFIG.lag, CONFIG.window
#: The limits whose price is known, widest first.
LIMITS = tuple(round(LIMIT - 0.1 * step, 1) for step in range(21))
MIN_TRAINING_RUNS = 10
#: A signature may narrow a limit until so large a share of runs alarms beyond those that do now.
_FEW_MORE = 0.05


class TooFewRuns(ValueError):
    """There are not enough good runs to learn from."""


@dataclass(frozen=True)
class GoldenModel:
    """A model as it is stored: arrays are float64 bytes, tags x points of the maturity axis.

    The axis is the phases of the tag's programme, each with every age of the
    recipe. `level` and `shift` are the spreads of the two charts (see
    `residuals`). `false_alarms` of `judged_runs` alarmed in cross-validation;
    `rate_low` and `rate_high` are the exact 95 % interval of that rate.
    `alarms_at` says, by tag and for each of LIMITS, how many runs would alarm
    with that limit of the tag, the others' unchanged; `narrowest` is, by tag,
    the smallest limit at which these are no more than the aim, or few more than
    now where the aim is missed. A run that `charting` alarms on counts as alarmed.
    """

    product: str
    recipe: Recipe
    calibration_lots: tuple[str, ...]
    false_alarms: int
    judged_runs: int
    rate_low: float
    rate_high: float
    alarms_at: tuple[tuple[int, ...], ...]
    narrowest: tuple[float, ...]
    points: int
    mean: bytes
    intercept: bytes
    gain: bytes
    learnt: bytes
    shift: bytes
    level: bytes
    charting: Charting | None = None
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


def train(
    product: str,
    recipe: Recipe,
    runs: Sequence[Run],
    config: Config = CONFIG,
    charts: Charts | None = None,
) -> GoldenModel:
    """Learn the golden run from good runs. TooFewRuns below MIN_TRAINING_RUNS.

    `charts` judge a run beside the detector.

    The false alarms are those of runs that had no part in the model that
    judged them: neither in its golden run, nor in its spreads.
    """
    if len(runs) < MIN_TRAINING_RUNS:
        raise TooFewRuns(f"{len(runs)} runs were given; give at least {MIN_TRAINING_RUNS} good ones")
    ordered = sorted(runs, key=lambda run: run.lot)
    aligned = [align(recipe, run, config.lag, config.window) for run in ordered]
    golden = calibrate(recipe, aligned, config)
    reached = held_out(recipe, aligned, config)
    charting, also = None, np.zeros(len(ordered), dtype=np.bool_)
    if charts and charts.chosen:
        charting, also = charted(recipe, aligned, golden, charts, config)
    alarms = int(((reached > config.limit).any(axis=1) | also).sum())
    low, high = interval(alarms, len(ordered))
    alarms_at = _alarms_at(reached, also)
    bearable = max(config.aim * len(ordered), alarms + _FEW_MORE * len(ordered))
    model = GoldenModel(
        product=product,
        recipe=recipe,
        calibration_lots=tuple(run.lot for run in ordered),
        false_alarms=alarms,
        judged_runs=len(ordered),
        rate_low=low,
        rate_high=high,
        alarms_at=alarms_at,
        narrowest=tuple(_narrowest(counts, bearable) for counts in alarms_at),
        points=golden.mean.shape[1],
        mean=golden.mean.tobytes(),
        intercept=golden.intercept.tobytes(),
        gain=golden.gain.tobytes(),
        learnt=golden.learnt.astype(np.float64).tobytes(),
        shift=golden.spread.tobytes(),
        level=golden.band.tobytes(),
        charting=charting,
    )
    return replace(model, version=hashlib.sha256(encode(model)).hexdigest()[:16])


def _alarms_at(reached: Floats, also: Bools) -> tuple[tuple[int, ...], ...]:
    """By tag and for each of LIMITS: runs that would alarm. `reached` is runs x tags, in spreads;
    `also` are runs that alarm whatever the limits."""
    result = []
    for tag in range(reached.shape[1]):
        others = also | (np.delete(reached, tag, axis=1) > LIMIT).any(axis=1)
        result.append(tuple(int((others | (reached[:, tag] > limit)).sum()) for limit in LIMITS))
    return tuple(result)


def _narrowest(counts: Sequence[int], bearable: float) -> float:
    """The smallest of LIMITS, from the usual one down, at which no more runs than bearable alarm."""
    narrowest = LIMIT
    for limit, alarms in sorted(zip(LIMITS, counts, strict=True), reverse=True):
        if limit > LIMIT:
            continue
        if alarms > bearable:
            break
        narrowest = limit
    return narrowest


def interval(hits: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a binomial rate (Clopper & Pearson, Biometrika 26 (1934) 404)."""

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
