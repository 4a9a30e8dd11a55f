"""Control charts that a product may have beside the detector: the rules of a Shewhart chart, CUSUM, EWMA.

They chart the shift residuals (see `residuals`) of each tag, in one of two
measures. *Standard deviations*: by tag and phase, 1.4826 times the median of
the absolute residuals that the model learnt from. *Spreads*: the detector's
own, which good runs stay within threefold (ADR 6); wider where residuals have
heavy tails, so that a chart in spreads is much quieter.

What a chart costs is said twice, for the two differ. Its nominal run length is
that of independent normal values of standard deviation 1: how many samples of
one tag it takes, on average, until it alarms though nothing is wrong. Residuals
of a process are neither, spreads are no standard deviations, and a run has many
tags; so the price is measured: on how many good runs, of those that had no part
in the model, the chart alarms on any tag.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from services.production.domain.calibration import Config, calibrate, folds, ranges
from services.production.domain.estimation import MIN_SAMPLES, estimate
from services.production.domain.maturity import Bools, Floats, Ints, Recipe
from services.production.domain.residuals import SHIFT, Aligned, Golden, expected, places
from services.production.domain.spc import run_length
from services.production.domain.spc.charts import Cusum, Ewma
from services.production.domain.spc.rules import RULES, chosen, signals
from services.refusals import Malformed

CUSUM, EWMA = "CUSUM", "EWMA"
_TO_SIGMA = 1.4826
#: Good to one per cent: a price in whole runs says less.
_SIMULATED = 10_000
_NEVER = 1e9


@dataclass(frozen=True)
class Charts:
    """The charts of a product: rules by name (WE1 to WE4, N1 to N8), a CUSUM, an EWMA; in standard
    deviations or `in_spreads`."""

    rules: tuple[str, ...] = ()
    cusum: Cusum | None = None
    ewma: Ewma | None = None
    in_spreads: bool = False

    @property
    def chosen(self) -> bool:
        return bool(self.rules or self.cusum or self.ewma)


@dataclass(frozen=True)
class Price:
    """What a chart costs: the good runs that it alarmed on, and its nominal run length in samples."""

    chart: str
    false_alarms: int
    nominal: float


@dataclass(frozen=True)
class Charting:
    """The charts of a model. `unit` is what residuals are measured in, tags x points of the maturity axis
    as float64 bytes; NaN where too little is known to chart the tag."""

    charts: Charts
    unit: bytes
    prices: tuple[Price, ...]

    def units(self, tags: int) -> Floats:
        """The array."""
        return np.frombuffer(self.unit, dtype=np.float64).reshape(tags, -1)


@dataclass(frozen=True)
class Signal:
    """Where something holds on a chart (samples x tags), and what: in words, and as a code and values."""

    chart: str
    words: str
    hits: Bools
    code: str
    values: tuple[tuple[str, float], ...] = ()


def check(charts: Charts) -> None:
    """Malformed names the first setting that no chart can have."""
    for name in charts.rules:
        if name not in RULES:
            raise Malformed(
                "UNKNOWN_RULE", f"no rule is {name!r}; there are {', '.join(RULES)}", "charts.rules"
            )
    if charts.cusum and not (0 <= charts.cusum.k < math.inf and 0 < charts.cusum.h < math.inf):
        raise Malformed(
            "OUT_OF_RANGE", "give k, at least 0, and h above 0, for example 0.5 and 5", "charts.cusum"
        )
    if charts.ewma and not (0 < charts.ewma.weight <= 1 and 0 < charts.ewma.width < math.inf):
        said = "give a weight (lambda) up to 1 and a width (L), both above 0, for example 0.2 and 2.86"
        raise Malformed("OUT_OF_RANGE", said, "charts.ewma")


def _deviations(recipe: Recipe, runs: Sequence[Aligned], golden: Golden, config: Config) -> Floats:
    """Standard deviations of the shift residuals, tags x points; never below what is the narrowest spread."""
    left = np.vstack([_residuals(golden, run, places(recipe, run.points)) for run in runs])
    phases = np.vstack([places(recipe, run.points) for run in runs]) // len(recipe.ages)
    count = max(len(programme.phases) for programme in recipe.programmes())
    least = config.floor * ranges(runs)[1] / config.limit
    result = np.full((left.shape[1], count), np.nan)
    for tag in range(left.shape[1]):
        for phase in range(count):
            here = np.abs(left[(phases[:, tag] == phase) & ~np.isnan(left[:, tag]), tag])
            if len(here) >= MIN_SAMPLES:
                result[tag, phase] = max(_TO_SIGMA * float(np.median(here)), least[tag])
    return np.repeat(result, len(recipe.ages), axis=1)


def _units(recipe: Recipe, runs: Sequence[Aligned], golden: Golden, charts: Charts, config: Config) -> Floats:
    if charts.in_spreads:
        return np.where(golden.learnt, golden.spread, np.nan)
    return _deviations(recipe, runs, golden, config)


def _residuals(golden: Golden, run: Aligned, at: Ints) -> Floats:
    shift: Floats = run.values - expected(golden, run, at)[:, :, SHIFT]
    return shift


def standardised(recipe: Recipe, units: Floats, residuals: Floats, points: tuple[Ints, Ints]) -> Floats:
    """The points of the charts: shift residuals (samples x tags) in their unit.

    NaN where there is none: in an upset, where no shift was learnt, where a value is not good.
    """
    z: Floats = residuals / units[np.arange(len(recipe.tags)), places(recipe, points)]
    names = recipe.programme.phases
    upset = np.isin(points[0] // len(recipe.ages), [names.index(name) for name in recipe.upsets])
    z[upset] = np.nan
    return z


def read(charts: Charts, z: Floats) -> Iterator[Signal]:
    """Every chart over a whole run. What is said of a sample depends on it and those before it only."""
    rules = chosen(charts.rules)
    by_tag = [signals(z[:, tag], rules) for tag in range(z.shape[1])]
    for rule in rules:
        hits = np.column_stack([found[rule.name] for found in by_tag])
        yield Signal(_rules(charts), f"{rule.text} ({rule.name})", hits, rule.name)
    nought, unit = np.zeros(z.shape[1]), "spreads" if charts.in_spreads else "sigma"
    if charts.cusum:
        words = f"CUSUM beyond {charts.cusum.h:g} {unit} (k {charts.cusum.k:g})"
        hits = charts.cusum.alarms(*charts.cusum.follow(z, nought, nought))
        yield Signal(
            CUSUM, words, hits, f"CUSUM_{unit.upper()}", (("h", charts.cusum.h), ("k", charts.cusum.k))
        )
    if charts.ewma:
        words = f"EWMA beyond {charts.ewma.limit:.3g} {unit} (lambda {charts.ewma.weight:g})"
        hits = charts.ewma.alarms(charts.ewma.follow(z, nought))
        values = (("limit", float(f"{charts.ewma.limit:.3g}")), ("weight", charts.ewma.weight))
        yield Signal(EWMA, words, hits, f"EWMA_{unit.upper()}", values)


def first(charts: Charts, z: Floats) -> dict[int, tuple[int, Signal]]:
    """Of each tag that alarms: the first sample, and what holds there."""
    found: dict[int, tuple[int, Signal]] = {}
    for signal in read(charts, z):
        for tag in np.flatnonzero(signal.hits.any(axis=0)).tolist():
            row = int(signal.hits[:, tag].argmax())
            if tag not in found or row < found[tag][0]:
                found[tag] = row, signal
    return found


def charted(
    recipe: Recipe, runs: Sequence[Aligned], golden: Golden, charts: Charts, config: Config
) -> tuple[Charting, Bools]:
    """The charts of a model with what they cost; and which of the runs alarm, each by a model without it."""
    names = [_rules(charts)] * bool(charts.rules) + [CUSUM] * bool(charts.cusum) + [EWMA] * bool(charts.ewma)
    alarmed = np.zeros((len(runs), len(names)), dtype=np.bool_)
    for learn, judge in folds(len(runs), config.folds):
        some = [runs[place] for place in learn]
        learnt = calibrate(recipe, some, config) if charts.in_spreads else estimate(recipe, some)
        units = _units(recipe, some, learnt, charts, config)
        for place in judge:
            run = runs[place]
            left = _residuals(learnt, run, places(recipe, run.points))
            for signal in read(charts, standardised(recipe, units, left, run.points)):
                alarmed[place, names.index(signal.chart)] |= signal.hits.any()
    counts = alarmed.sum(axis=0).tolist()
    prices = tuple(
        Price(name, count, _nominal(charts, name)) for name, count in zip(names, counts, strict=True)
    )
    whole = _units(recipe, runs, golden, charts, config)
    return Charting(charts, whole.tobytes(), prices), np.asarray(alarmed.any(axis=1), dtype=np.bool_)


def _rules(charts: Charts) -> str:
    """What the chart of all rules together is called."""
    return " ".join(charts.rules)


def _nominal(charts: Charts, name: str) -> float:
    """The nominal run length, at most _NEVER: beyond that the equations no longer hold in floating point."""
    if charts.cusum and name == CUSUM:
        length = run_length.of_cusum(charts.cusum.k, charts.cusum.h)
    elif charts.ewma and name == EWMA:
        length = run_length.of_ewma(charts.ewma.weight, charts.ewma.width)
    else:
        length = run_length.of_rules(charts.rules, runs=_SIMULATED).mean
    return length if 0 < length < _NEVER else _NEVER
