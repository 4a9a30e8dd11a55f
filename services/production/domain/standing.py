"""How near a run is to its limits, sample by sample: what the wall and the charts show.

The detector says when a tag is out. People want to see it coming: the statistic
that the detector judges, over the limit in force. So this looks with the
detector's own eyes (`monitor.look`) and keeps, of each sample and tag, that
ratio; above 1 the rule holds. It decides nothing: a deviation is opened by the
detector alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from services.production.domain.golden import LIMIT, GoldenModel, interval
from services.production.domain.golden import LIMITS as PRICED
from services.production.domain.maturity import Floats, Ints
from services.production.domain.monitor import RULES, Judged, Monitor, look, start
from services.production.domain.residuals import CHARTS, REACH
from services.production.domain.samples import Samples

#: Asked for again with every row of the wall.
_interval = lru_cache(maxsize=1024)(interval)


@dataclass(frozen=True)
class Standing:
    """Where a tag stands. Times are seconds since the run's start, values in spreads."""

    tag: str
    rule: str
    value: float
    limit: float
    ratio: float
    at: float
    worst_ratio: float
    worst_at: float


@dataclass(frozen=True)
class Course:
    """A run as far as it was looked at: of each sample, its time, and by tag the larger of both charts'
    statistics in spreads (NaN where nothing can be judged) with the chart that it is of."""

    monitor: Monitor
    seconds: Floats
    sizes: Floats
    charts: Ints

    @property
    def size(self) -> int:
        """Bytes of the arrays."""
        return self.seconds.nbytes + self.sizes.nbytes + self.charts.nbytes


@dataclass(frozen=True)
class FalseAlarms:
    """Good runs that alarm, of those judged, with the exact 95 % interval of the rate. `at_most`: limits were
    changed since the training."""

    alarmed: int
    runs: int
    low: float
    high: float
    at_most: bool


def begun(model: GoldenModel, lot: str) -> Course:
    """A run of which nothing has been heard."""
    tags = len(model.recipe.tags)
    return Course(start(model, lot), np.empty(0), np.empty((0, tags)), np.empty((0, tags), dtype=np.intp))


def followed(course: Course, model: GoldenModel, samples: Samples) -> Course:
    """The course after the samples that are later than what it has seen; all of them give what they give
    part by part."""
    first = len(course.seconds)
    table = {tag: values[first:] for tag, values in samples.table().items()}
    seen = look(model, {}, course.monitor, samples.seconds()[first:], table)
    if seen is None:
        return course
    fresh = slice(seen.window.first, None)
    sizes, charts = statistics(seen.judged)
    return Course(
        seen.monitor,
        np.concatenate([course.seconds, seen.window.times[fresh]]),
        np.vstack([course.sizes, sizes[fresh]]),
        np.vstack([course.charts, charts[fresh]]),
    )


def statistics(judged: Judged) -> tuple[Floats, Ints]:
    """Of each sample and tag: the larger of both charts' statistics, without sign, and whose it is."""
    both = np.abs(judged.median)
    charts = np.nan_to_num(both, nan=-1.0).argmax(axis=2)
    return np.take_along_axis(both, charts[:, :, None], axis=2)[:, :, 0], charts


def ratios(course: Course, model: GoldenModel, limits: Mapping[str, float]) -> Floats:
    """The statistics over the limits in force, samples x tags."""
    by_tag: Floats = course.sizes / np.array([limits.get(tag, LIMIT) for tag in model.recipe.tags])
    return by_tag


def standings(course: Course, model: GoldenModel, limits: Mapping[str, float]) -> list[Standing]:
    """Where each tag stands now, the largest ratio first. A tag that nothing can be said of by the last
    few samples does not stand anywhere."""
    found = []
    table = ratios(course, model, limits)
    for place, tag in enumerate(model.recipe.tags):
        known = np.flatnonzero(~np.isnan(table[:, place]))
        if not len(known) or known[-1] < len(table) - REACH:
            continue
        last, limit = int(known[-1]), limits.get(tag, LIMIT)
        worst = int(np.nanargmax(table[:, place]))
        found.append(
            Standing(
                tag=tag,
                rule=f"{RULES[course.charts[last, place]]} ({CHARTS[course.charts[last, place]]} chart)",
                value=float(course.sizes[last, place]),
                limit=limit,
                ratio=float(table[last, place]),
                at=float(course.seconds[last]),
                worst_ratio=float(table[worst, place]),
                worst_at=float(course.seconds[worst]),
            )
        )
    return sorted(found, key=lambda one: (-one.ratio, one.tag))


def line(
    course: Course, model: GoldenModel, limits: Mapping[str, float], most: int
) -> tuple[list[float], list[float]]:
    """The largest ratio of any tag over the run, as (seconds, ratios) of at most so many points: the
    largest of each of so many equal stretches of time."""
    table = ratios(course, model, limits)
    known = np.flatnonzero(~np.isnan(table).all(axis=1))
    if not len(known):
        return [], []
    worst = np.nanmax(table[known], axis=1)
    seconds = course.seconds[known]
    long = max(float(course.seconds[-1]), 1e-9)
    stretch = np.minimum((seconds / long * most).astype(np.intp), most - 1)
    order = np.lexsort((-worst, stretch))
    firsts = order[np.unique(stretch[order], return_index=True)[1]]
    return seconds[firsts].tolist(), worst[firsts].tolist()


def price(model: GoldenModel, limits: Mapping[str, float]) -> FalseAlarms:
    """What the rules in force cost. With limits that were changed: at most what each change adds by itself,
    at the next narrower limit whose price is known."""
    alarmed = model.false_alarms
    changed = [tag for tag in model.recipe.tags if limits.get(tag, LIMIT) != LIMIT]
    for tag in changed:
        place = model.recipe.tags.index(tag)
        known = [at for at, limit in enumerate(PRICED) if limit <= limits[tag]]
        at = known[0] if known else len(PRICED) - 1
        alarmed += max(0, model.alarms_at[place][at] - model.false_alarms)
    alarmed = min(alarmed, model.judged_runs)
    low, high = _interval(alarmed, model.judged_runs)
    return FalseAlarms(alarmed, model.judged_runs, low, high, bool(changed))
