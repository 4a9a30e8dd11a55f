"""Very many planted faults, judged at once.

A fault of one tag changes that tag's residuals alone, and what a limit says of
them follows from the distances. So the faulty copies of a tag stand beside
each other as if they were tags of one run, the platform's own code computes
their distances once, and every limit and every chart is read from these.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from services.production.domain import charting
from services.production.domain.charting import Charts
from services.production.domain.golden import CONFIG, LIMIT
from services.production.domain.maturity import Bools, Floats, Stage, follow
from services.production.domain.monitor import judge
from services.production.domain.recipes import DRYER
from services.production.domain.residuals import (
    SHIFT,
    Aligned,
    Golden,
    expected,
    median_of_three,
    places,
    references,
    spreads,
)
from services.world import plant
from tests.bench.detection.cases import Case, Measure, by_median, recorded

ONSETS = (0.12, 0.3, 0.5, 0.7, 0.85)


@dataclass(frozen=True)
class Distances:
    """Copies of one tag beside each other (samples x copies): the larger |median of three| of the two
    charts, in spreads; the shift residuals, NaN in an upset; and the spread of these, by sample."""

    sizes: Floats
    residuals: Floats
    spread: Floats


def distances(case: Case, tag: str, copies: Floats) -> Distances:
    """Of copies of a tag in a run (samples x copies), by the code that judges a run."""
    place, width = DRYER.tags.index(tag), copies.shape[1]
    at = np.repeat(places(DRYER, case.aligned.points)[:, place : place + 1], width, axis=1)
    upset = _upsets(case, tag, copies)
    past = references(np.where(upset, np.nan, copies), CONFIG.lag, CONFIG.window)
    golden, run = _repeated(case.model.golden(), place, width), Aligned(copies, past, case.aligned.points)
    left = copies[:, :, None] - expected(golden, run, at)
    spread = spreads(golden, at)
    distance = left / spread
    median = median_of_three(distance.reshape(len(distance), -1)).reshape(distance.shape)
    sizes = np.nan_to_num(np.fmax.reduce(np.abs(median), axis=2))
    return Distances(sizes, np.where(upset, np.nan, left[:, :, SHIFT]), spread[:, 0, SHIFT])


def _repeated(golden: Golden, place: int, width: int) -> Golden:
    def wide(array: Floats) -> Floats:
        return np.repeat(array[place : place + 1], width, axis=0)

    return Golden(
        wide(golden.mean),
        wide(golden.band),
        wide(golden.intercept),
        wide(golden.gain),
        wide(golden.spread),
        np.repeat(golden.learnt[place : place + 1], width, axis=0),
    )


def _upsets(case: Case, tag: str, copies: Floats) -> Bools:
    """Which samples are an upset in each copy: a fault of the programme's own tag changes the phases."""
    names = DRYER.programme.phases
    upsets = [names.index(name) for name in DRYER.upsets]
    if tag not in DRYER.programme.signals():
        phases = case.aligned.points[0] // len(DRYER.ages)
        return np.repeat(np.isin(phases, upsets)[:, None], copies.shape[1], axis=1)
    times = np.asarray(case.real.times)
    held = {name: np.asarray(values) for name, values in case.real.columns.items()}
    found = [follow(DRYER.programme, Stage(0, 0.0), times, {**held, tag: copy})[0] for copy in copies.T]
    return np.isin(np.column_stack(found), upsets)


@dataclass(frozen=True)
class Group:
    """A tag of a run, and copies of it with a fault from `onsets` (sample, by copy) on."""

    case: Case
    tag: str
    onsets: tuple[int, ...]
    copies: Floats
    distances: Distances


def unfaulted(held: Iterable[Case]) -> list[Group]:
    """Every tag as it is."""
    found = []
    for case in held:
        for tag in DRYER.tags:
            own = np.asarray(case.real.columns[tag])[:, None]
            found.append(Group(case, tag, (0,), own, distances(case, tag, own)))
    return found


def planted(held: Iterable[Case], kind: str, magnitude: float, measure: Measure) -> list[Group]:
    """Every tag of every run with a fault at each of ONSETS, of both signs, by the world's own code."""
    found = []
    for case in held:
        for tag in DRYER.tags:
            faults = list(_faults(case, tag, kind, magnitude, measure(case, tag)))
            if faults:
                copies = np.array([values for _, values in faults]).T
                onsets = tuple(onset for onset, _ in faults)
                found.append(Group(case, tag, onsets, copies, distances(case, tag, copies)))
    return found


def _faults(
    case: Case, tag: str, kind: str, magnitude: float, spread: Sequence[float]
) -> Iterator[tuple[int, tuple[float, ...]]]:
    for share in ONSETS:
        onset = int(share * len(case.real.times))
        full = onset + (plant.DRIFT_SAMPLES - 1 if kind == "drift" else 0)
        if not all(map(math.isfinite, spread[full : full + plant.FULL_SAMPLES])):
            continue
        for size in (magnitude, -magnitude):
            try:
                yield onset, plant.plant_fault(case.real, tag, kind, onset, size, spread).columns[tag]
            except ValueError:  # too late in the run for this kind
                continue


@dataclass(frozen=True)
class Setting:
    """How runs are judged: limits that are not the usual one, by tag, and charts beside them."""

    name: str
    limits: Mapping[str, float] = field(default_factory=dict)
    charts: Charts = field(default_factory=Charts)

    def out(self, group: Group) -> Bools:
        """Where it would alarm (samples x copies)."""
        held = group.distances
        out = np.asarray(held.sizes > self.limits.get(group.tag, LIMIT), dtype=np.bool_)
        if self.charts.chosen:
            unit = held.spread if self.charts.in_spreads else by_median(group.case, group.tag)
            for signal in charting.read(self.charts, held.residuals / np.asarray(unit)[:, None]):
                out |= signal.hits
        return out


def alarmed(setting: Setting, groups: Iterable[Group]) -> set[int]:
    """The runs (numbers) that alarm on any tag."""
    return {group.case.real.number for group in groups if setting.out(group).any()}


@dataclass(frozen=True)
class Outcome:
    """What became of trials: the delay of each in samples, the first faulty one counted as 1, infinite
    where it was missed; by tag. A trial whose tag had alarmed before its onset is `left` out."""

    delays: Mapping[str, Floats]
    left: int

    @property
    def all(self) -> Floats:
        return np.concatenate(list(self.delays.values()))

    def within(self, samples: int) -> float:
        """Share of the trials found so soon."""
        return float((self.all <= samples).mean())


def outcome(setting: Setting, groups: Iterable[Group]) -> Outcome:
    delays: dict[str, list[Floats]] = {}
    left = 0
    for group in groups:
        out, onsets = setting.out(group), np.asarray(group.onsets)
        rows = np.arange(len(out))[:, None]
        fresh = ~(out & (rows < onsets)).any(axis=0)
        late = np.where(out.any(axis=0), out.argmax(axis=0) - onsets + 1.0, np.inf)
        delays.setdefault(group.tag, []).append(late[fresh])
        left += int((~fresh).sum())
    return Outcome({tag: np.concatenate(found) for tag, found in delays.items()}, left)


def check(groups: Sequence[Group], every: int) -> int:
    """Judge some of the trials by themselves, as the platform does; answers how many.

    AssertionError where that alarms at another sample, or not.
    """
    checked = 0
    for group in groups[::every]:
        for copy in range(len(group.onsets)):
            values = tuple(group.copies[:, copy].tolist())
            faulty = plant.DryerRun(
                group.case.real.number,
                group.case.real.times,
                {**group.case.real.columns, group.tag: values},
            )
            said = [
                alarm.detected
                for alarm in judge(group.case.model, {}, recorded(faulty))
                if alarm.tag == group.tag
            ]
            out = np.flatnonzero(Setting("usual").out(group)[:, copy])
            wanted = [group.case.real.times[out[0]]] if len(out) else []
            assert said == wanted, f"run {group.case.real.number}, {group.tag}: {said}, not {wanted}"
            checked += 1
    return checked
