"""How alarms go on, of a run that grows: what came before is not judged again.

A run under watch gets samples every minute, and all of it must be judged, for a
deviation lasts. `monitor` says of a sample only what it and those before it
show, so the alarms of the parts are those of the whole; and how far a tag has
been out adds up. So a course that is gone on with, batch by batch, says what a
judgement of the whole run says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from services.production.domain.golden import GoldenModel
from services.production.domain.maturity import Bools, Floats, Run
from services.production.domain.monitor import (
    Alarm,
    Judged,
    Look,
    Monitor,
    Point,
    Window,
    chart_alarms,
    columns_of,
    evidence,
    look,
    start,
)


@dataclass(frozen=True)
class Extent:
    """How long a tag was out, and how far: from its alarm's first sample outside to the latest so far.

    `last_out` is the latest sample at which the rule held, in seconds since the run's start;
    `samples_out` counts the samples beyond the limit up to it, `lowest` and `highest` are their
    values, `magnitude` their largest distance in spreads. `lasting`: the tag's latest good sample is out.
    """

    last_out: float
    samples_out: int
    magnitude: float
    lowest: float
    highest: float
    lasting: bool
    evidence: tuple[Point, ...]


@dataclass(frozen=True)
class Beyond:
    """Samples beyond the limit: how many, their largest distance in spreads, and their values' range."""

    samples: int = 0
    magnitude: float = 0.0
    lowest: float = math.inf
    highest: float = -math.inf

    def __add__(self, other: Beyond) -> Beyond:
        return Beyond(
            self.samples + other.samples,
            max(self.magnitude, other.magnitude),
            min(self.lowest, other.lowest),
            max(self.highest, other.highest),
        )


_NONE = Beyond()


@dataclass(frozen=True)
class Out:
    """A tag that alarmed. `held` are the samples beyond the limit up to `last_out`, `since` those after it:
    they count when the rule holds again."""

    alarm: Alarm
    held: Beyond = _NONE
    since: Beyond = _NONE
    last_out: float = 0.0
    lasting: bool = True
    evidence: tuple[Point, ...] = ()

    @property
    def extent(self) -> Extent:
        return Extent(
            last_out=self.last_out,
            samples_out=self.held.samples,
            magnitude=max(self.alarm.magnitude, self.held.magnitude),
            lowest=self.held.lowest,
            highest=self.held.highest,
            lasting=self.lasting,
            evidence=self.evidence,
        )


@dataclass(frozen=True)
class Course:
    """A run as far as it was judged, and the tags that alarmed."""

    monitor: Monitor
    outs: Mapping[str, Out] = field(default_factory=dict)

    @property
    def found(self) -> tuple[tuple[Alarm, Extent], ...]:
        """The alarms in order of detection, each with its extent by now."""
        return tuple((out.alarm, out.extent) for out in self.outs.values())


def go_on(
    model: GoldenModel,
    limits: Mapping[str, float],
    course: Course,
    times: Floats,
    columns: Mapping[str, Floats],
) -> Course:
    """The course after more samples, as `observe` takes them."""
    seen = look(model, limits, course.monitor, times, columns)
    return course if seen is None else Course(seen.monitor, _outs(model, course, seen))


def judge_extents(
    model: GoldenModel, limits: Mapping[str, float], run: Run
) -> tuple[tuple[Alarm, Extent | None], ...]:
    """The alarms of a whole run so far, as `judge` gives them, each with its extent by now.

    With the model's charts: they need the whole run, and a tag that a chart finds first has its alarm from
    there. An extent is what the detector sees, so one that a chart alone finds has none.
    """
    course = Course(start(model, run.lot))
    seen = look(model, limits, course.monitor, np.asarray(run.times), columns_of(run))
    if seen is None:
        return ()
    found: dict[str, tuple[Alarm, Extent | None]] = {
        tag: (out.alarm, out.extent) for tag, out in _outs(model, course, seen).items()
    }
    for alarm in chart_alarms(model, limits, seen.window, seen.judged):
        by_detector, extent = found.get(alarm.tag, (None, None))
        if by_detector is None or alarm.detected < by_detector.detected:
            found[alarm.tag] = alarm, extent
    return tuple(sorted(found.values(), key=lambda pair: (pair[0].detected, pair[0].tag)))


def _outs(model: GoldenModel, course: Course, seen: Look) -> dict[str, Out]:
    place, window = model.recipe.tags.index, seen.window
    outs = {
        tag: _gone_on(out, window, seen.judged, place(tag), window.first) for tag, out in course.outs.items()
    }
    for alarm in seen.alarms:
        begin = int(np.searchsorted(window.times, alarm.first_out))
        outs[alarm.tag] = _gone_on(Out(alarm), window, seen.judged, place(alarm.tag), begin)
    return outs


def _gone_on(out: Out, window: Window, judged: Judged, tag: int, begin: int) -> Out:
    """With the samples from row `begin` on. A tag out on both charts is out once: each sample counts by
    the chart that shows it further."""
    distance = np.nan_to_num(np.abs(judged.distance[begin:, tag])).max(axis=1)
    median = judged.median[begin:, tag]
    values, beyond = window.values[begin:, tag], distance > out.alarm.limit
    known = np.flatnonzero(~np.isnan(median).all(axis=1))
    sizes = np.nan_to_num(np.abs(median))
    holds = np.flatnonzero(sizes.max(axis=1) > out.alarm.limit)
    if not len(holds):
        since = out.since + _beyond(values, distance, beyond)
        return replace(out, since=since, lasting=out.lasting and not len(known))
    last = int(holds[-1])
    upto, after = slice(last + 1), slice(last + 1, None)
    return replace(
        out,
        held=out.held + out.since + _beyond(values[upto], distance[upto], beyond[upto]),
        since=_beyond(values[after], distance[after], beyond[after]),
        last_out=float(window.times[begin + last]),
        lasting=bool(known[-1] == last),
        evidence=evidence(window, judged, tag, int(sizes[last].argmax()), begin + last, out.alarm.limit),
    )


def _beyond(values: Floats, distance: Floats, beyond: Bools) -> Beyond:
    if not beyond.any():
        return _NONE
    out = values[beyond]
    return Beyond(len(out), float(distance[beyond].max()), float(out.min()), float(out.max()))
