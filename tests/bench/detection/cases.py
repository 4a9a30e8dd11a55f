"""The real runs, each with a model that it had no part in, and what a fault can be sized in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.production.domain.charting import Charts
from services.production.domain.estimation import MIN_SAMPLES
from services.production.domain.golden import CONFIG, GoldenModel, train
from services.production.domain.maturity import Floats, Ints, Run
from services.production.domain.recipes import DRYER
from services.production.domain.residuals import SHIFT, Aligned, align, expected, places
from services.world import plant


def recorded(real: plant.DryerRun) -> Run:
    """A world's run as the platform records it."""
    good = tuple((True,) * len(real.times) for _ in real.columns)
    return Run(f"{real.number:02}", tuple(real.columns), real.times, tuple(real.columns.values()), good)


@dataclass(frozen=True)
class Case:
    """A run, how it is aligned, and the model that never saw it."""

    real: plant.DryerRun
    aligned: Aligned
    model: GoldenModel

    def at(self, tag: str) -> Ints:
        """The tag's point of the maturity axis at each sample."""
        found: Ints = places(DRYER, self.aligned.points)[:, DRYER.tags.index(tag)]
        return found

    def phases(self, tag: str) -> list[int]:
        found: list[int] = (self.at(tag) // len(DRYER.ages)).tolist()
        return found

    def shift(self, tag: str) -> Floats:
        """The shift residuals; NaN where there are none, and in an upset."""
        middle = expected(self.model.golden(), self.aligned, places(DRYER, self.aligned.points))
        left: Floats = (self.aligned.values - middle[:, :, SHIFT])[:, DRYER.tags.index(tag)]
        upsets = [DRYER.programme.phases.index(name) for name in DRYER.upsets]
        return np.where(np.isin(self.aligned.points[0] // len(DRYER.ages), upsets), np.nan, left)


def cases(everything: Iterable[plant.DryerRun]) -> list[Case]:
    """Each run with the model of the other folds: the folds that the published false alarms come from."""
    quick = replace(CONFIG, folds=2)  # of its own rate, which is not shown
    ordered = sorted(everything, key=lambda real: recorded(real).lot)
    found = []
    for fold in range(CONFIG.folds):
        others = [recorded(real) for place, real in enumerate(ordered) if place % CONFIG.folds != fold]
        model = train("dryer", DRYER, others, quick, Charts(rules=("WE1",)))  # for its standard deviations
        for real in ordered[fold :: CONFIG.folds]:
            found.append(Case(real, align(DRYER, recorded(real), CONFIG.lag, CONFIG.window), model))
    return found


#: What a fault is sized in: by sample of a run, in the tag's unit; NaN where there is none.
Measure = Callable[[Case, str], Sequence[float]]


def published(case: Case, tag: str) -> Sequence[float]:
    """The spread that the platform publishes, by the world's own reading of it."""
    along = case.model.published_spread()[DRYER.tags.index(tag)].tolist()
    return plant.spread_along(case.real, tag, along)


def shift_spread(case: Case, tag: str) -> Sequence[float]:
    """The spread of the quick chart alone."""
    return _along(case, tag, case.model.golden().spread)


def by_median(case: Case, tag: str) -> Sequence[float]:
    """1.4826 times the median of the absolute shift residuals, as control charts have it."""
    assert case.model.charting is not None, "made with charts"
    return _along(case, tag, case.model.charting.units(len(DRYER.tags)))


def _along(case: Case, tag: str, by_point: Floats) -> Sequence[float]:
    found: list[float] = by_point[DRYER.tags.index(tag), case.at(tag)].tolist()
    return found


def plain(held: Sequence[Case]) -> Measure:
    """The standard deviation of the shift residuals of unseen runs, by tag and phase."""
    left: dict[tuple[str, int], list[float]] = {}
    for case in held:
        for tag in DRYER.tags:
            for phase, residual in zip(case.phases(tag), case.shift(tag).tolist(), strict=True):
                if not math.isnan(residual):
                    left.setdefault((tag, phase), []).append(residual)
    sizes = {key: float(np.std(some, ddof=1)) for key, some in left.items() if len(some) >= MIN_SAMPLES}

    def measure(case: Case, tag: str) -> Sequence[float]:
        return [sizes.get((tag, phase), np.nan) for phase in case.phases(tag)]

    return measure
