"""Judging a run against its golden run, batch by batch.

What is said of a sample depends on it and the samples before it only: the
answer does not depend on how the readings were split, and what comes again
changes nothing. So a run may be judged as it grows (`observe`), or as a whole
(`judge`); both give the same alarms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from services.production.domain import charting
from services.production.domain.golden import LAG, LIMIT, WINDOW, GoldenModel
from services.production.domain.maturity import Bools, Floats, Ints, Run, Stage, cells, follow
from services.production.domain.residuals import (
    CHARTS,
    REACH,
    SHIFT,
    Cube,
    expected,
    median_of_three,
    places,
    prepare,
    spreads,
)

_EVIDENCE = 20
#: Samples that must be at hand to judge the next one, and to show the evidence of an alarm on it.
_MEMORY = _EVIDENCE + LAG + WINDOW
_BEFORE = -1e300  # earlier than any sample
#: The most that one corrective action narrows a limit, when every answer is a complaint.
_STRONGEST = 0.25
RULES = ("left its own recent level", "left the golden run")


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
    """A tag left its limits. Times are seconds since the run's start, magnitudes in spreads.

    `magnitude` is the largest distance up to the detection; `samples_out` says
    how many of the last three good samples were beyond the limit.
    """

    tag: str
    phase: str
    first_out: float
    detected: float
    magnitude: float
    limit: float
    rule: str
    samples_out: int
    evidence: tuple[Point, ...]
    #: The rule as a code with its values, for readers of other languages.
    code: str = ""
    values: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Monitor:
    """A run under watch, as far as the next samples need it: its last samples and what has alarmed.

    `times` are seconds since the run's start, of the last samples; `points`
    their places on the maturity axis, by programme; `values` and `good` are by
    tag, a value that is not good is kept as nought. No sample up to `seen` is
    looked at again.
    """

    lot: str
    version: str
    stages: tuple[Stage, Stage]
    seen: float = _BEFORE
    times: tuple[float, ...] = ()
    points: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    values: tuple[tuple[float, ...], ...] = ()
    good: tuple[tuple[bool, ...], ...] = ()
    alarmed: tuple[str, ...] = ()


def start(model: GoldenModel, lot: str) -> Monitor:
    """A run of which nothing has been heard."""
    nothing: tuple[tuple[float, ...], ...] = ((),) * len(model.recipe.tags)
    return Monitor(
        lot, model.version, (Stage(0, 0.0), Stage(0, 0.0)), values=nothing, good=((),) * len(nothing)
    )


def columns_of(run: Run) -> dict[str, Floats]:
    """A recorded run as `observe` takes it: by tag, NaN where a value is not good."""
    return {
        tag: np.where(good, values, np.nan)
        for tag, values, good in zip(run.tags, run.values, run.good, strict=True)
    }


def judge(model: GoldenModel, limits: Mapping[str, float], run: Run) -> tuple[Alarm, ...]:
    """The alarms of a run so far, at most one a tag, in order of detection."""
    return observe(model, limits, start(model, run.lot), np.asarray(run.times), columns_of(run))[1]


def observe(
    model: GoldenModel,
    limits: Mapping[str, float],
    monitor: Monitor,
    times: Floats,
    columns: Mapping[str, Floats],
) -> tuple[Monitor, tuple[Alarm, ...]]:
    """The monitor after a columnar batch, and the alarms that are new with it, at most one a tag in a run.

    `times` are seconds since the run's start. A column has one value for each,
    NaN where it is not good; a column that is missing is not good throughout.
    Samples that are not later than all before them are left out. `limits` are
    limits that a signature changed, by tag, in spreads.
    """
    seen = look(model, limits, monitor, times, columns)
    return (seen.monitor, seen.alarms) if seen else (monitor, ())


@dataclass(frozen=True)
class Window:
    """The remembered samples and the new ones, which begin at row `first`."""

    first: int
    times: Floats
    values: Floats
    points: tuple[Ints, Ints]
    stages: tuple[Stage, Stage]


@dataclass(frozen=True)
class Judged:
    """Of each sample, tag and chart: expectation, spread, distance in spreads, and its median of three."""

    middle: Cube
    spread: Cube
    distance: Cube
    median: Cube


@dataclass(frozen=True)
class Look:
    """A look at samples that are new: the monitor after them, what alarms, and what they were judged by."""

    monitor: Monitor
    alarms: tuple[Alarm, ...]
    window: Window
    judged: Judged


def look(
    model: GoldenModel,
    limits: Mapping[str, float],
    monitor: Monitor,
    times: Floats,
    columns: Mapping[str, Floats],
) -> Look | None:
    """What `observe` sees; None where no sample is new."""
    if monitor.version != model.version:
        raise ValueError(f"the monitor follows model {monitor.version}, not {model.version}")
    later = _later(times, monitor.seen)
    if not later.any():
        return None
    fresh = {tag: values[later] for tag, values in columns.items()}
    window = _extend(model, monitor, times[later], fresh)
    judged = _judged(model, window)
    alarms = _alarms(model, limits, monitor, window, judged)
    alarmed = (*monitor.alarmed, *(alarm.tag for alarm in alarms))
    return Look(replace(_remembered(monitor, window), alarmed=alarmed), alarms, window, judged)


def _later(times: Floats, seen: float) -> Bools:
    before = np.concatenate(([seen], np.maximum(np.maximum.accumulate(times[:-1]), seen)))
    return np.asarray(times > before[: len(times)], dtype=np.bool_)


def _extend(model: GoldenModel, monitor: Monitor, times: Floats, fresh: Mapping[str, Floats]) -> Window:
    recipe = model.recipe
    nothing = np.full(len(times), np.nan)
    held = np.where(monitor.good, monitor.values, np.nan).T
    values = np.vstack([held, np.column_stack([fresh.get(tag, nothing) for tag in recipe.tags])])
    points, stages = [], []
    for programme, stage, known in zip(recipe.programmes(), monitor.stages, monitor.points, strict=True):
        phases, ages, stage_after = follow(programme, stage, times, fresh)
        points.append(np.concatenate([np.asarray(known, dtype=np.intp), cells(recipe, phases, ages)]))
        stages.append(stage_after)
    all_times = np.concatenate([monitor.times, times])
    return Window(len(held), all_times, values, (points[0], points[1]), (stages[0], stages[1]))


def _remembered(monitor: Monitor, window: Window) -> Monitor:
    last = window.values[-_MEMORY:].T
    return replace(
        monitor,
        seen=float(window.times[-1]),
        stages=window.stages,
        times=tuple(window.times[-_MEMORY:].tolist()),
        points=(tuple(window.points[0][-_MEMORY:].tolist()), tuple(window.points[1][-_MEMORY:].tolist())),
        values=tuple(map(tuple, np.nan_to_num(last).tolist())),
        good=tuple(map(tuple, (~np.isnan(last)).tolist())),
    )


def _judged(model: GoldenModel, window: Window) -> Judged:
    golden = model.golden()
    run = prepare(model.recipe, window.values, window.points, LAG, WINDOW)
    at = places(model.recipe, run.points)
    middle, spread = expected(golden, run, at), spreads(golden, at)
    distance = (run.values[:, :, None] - middle) / spread
    median = median_of_three(distance.reshape(len(distance), -1)).reshape(distance.shape)
    return Judged(middle, spread, distance, median)


def _alarms(
    model: GoldenModel, limits: Mapping[str, float], monitor: Monitor, window: Window, judged: Judged
) -> tuple[Alarm, ...]:
    by_tag = np.array([limits.get(tag, LIMIT) for tag in model.recipe.tags])
    size = np.nan_to_num(np.abs(judged.median[window.first :]))
    out: Bools = np.any(size > by_tag[:, None], axis=2)
    found = [
        _alarm(model, window, judged, place, window.first + int(out[:, place].argmax()), float(by_tag[place]))
        for place in np.flatnonzero(out.any(axis=0)).tolist()
        if model.recipe.tags[place] not in monitor.alarmed
    ]
    return tuple(sorted(found, key=lambda alarm: (alarm.detected, alarm.tag)))


def chart_alarms(
    model: GoldenModel, limits: Mapping[str, float], window: Window, judged: Judged
) -> Iterator[Alarm]:
    """The first alarm of each tag of a whole run on a control chart, in spreads like any other's."""
    if model.charting is None:
        return
    tags, charts = model.recipe.tags, model.charting.charts
    units = model.charting.units(len(tags))
    left = window.values - judged.middle[:, :, SHIFT]
    z = charting.standardised(model.recipe, units, left, window.points)
    for place, (row, signal) in charting.first(charts, z).items():
        limit = limits.get(tags[place], LIMIT)
        yield Alarm(
            tag=tags[place],
            phase=model.recipe.programme.phases[int(window.points[0][row]) // len(model.recipe.ages)],
            first_out=float(window.times[row]),
            detected=float(window.times[row]),
            magnitude=float(np.abs(judged.distance[row, place, SHIFT])),
            limit=limit,
            rule=f"control chart: {signal.words}",
            samples_out=0,
            evidence=evidence(window, judged, place, SHIFT, row, limit),
            code=signal.code,
            values=signal.values,
        )


def _alarm(model: GoldenModel, window: Window, judged: Judged, tag: int, row: int, limit: float) -> Alarm:
    chart = int(np.nan_to_num(np.abs(judged.median[row, tag])).argmax())
    side = float(np.sign(judged.median[row, tag, chart]))
    begin = max(0, row - REACH + 1)
    known = begin + np.flatnonzero(~np.isnan(judged.distance[begin : row + 1, tag, chart]))
    last = known[-3:]
    beyond = side * judged.distance[last, tag, chart]
    return Alarm(
        tag=model.recipe.tags[tag],
        phase=model.recipe.programme.phases[int(window.points[0][row]) // len(model.recipe.ages)],
        first_out=float(window.times[last[int((beyond > limit).argmax())]]),
        detected=float(window.times[row]),
        magnitude=float(beyond.max()),
        limit=limit,
        rule=f"two of three samples {RULES[chart]} by more than {limit:g} spreads ({CHARTS[chart]} chart)",
        samples_out=int((beyond > limit).sum()),
        evidence=evidence(window, judged, tag, chart, row, limit),
        code=f"TWO_OF_THREE_{CHARTS[chart].upper()}",
        values=(("limit", limit),),
    )


def evidence(
    window: Window, judged: Judged, tag: int, chart: int, row: int, limit: float
) -> tuple[Point, ...]:
    rows = np.arange(max(0, row - _EVIDENCE + 1), row + 1)
    rows = rows[~np.isnan(judged.distance[rows, tag, chart])]
    middle, reach = judged.middle[rows, tag, chart], limit * judged.spread[rows, tag, chart]
    table = np.column_stack(
        [window.times[rows], window.values[rows, tag], middle, middle - reach, middle + reach]
    )
    return tuple(Point(*line) for line in table.tolist())


def propose_limit(before: float, answered: int, affected: int, narrowest: float = 0.0) -> float:
    """A narrower limit, the more of the patients who answered report a complaint.

    By at most a quarter, never looser than before, and never below `narrowest`,
    the smallest limit that keeps the false alarms bearable.
    """
    share = affected / answered if answered else 0.0
    return min(before, max(narrowest, round(before * (1 - _STRONGEST * share), 2)))
