"""Where a run stands: its phase, and how long it has been in it.

Runs of a batch process take unequal time, so a run is compared with golden
runs at the same maturity and not at the same clock time (Nomikos & MacGregor,
Technometrics 37 (1995) 41: batch trajectories are aligned before they are
compared). Maturity here is the phase of the recipe, read from set-points and
programme steps, and the seconds since that phase began.

A signal is never judged by an alignment that it takes part in: a fault of the
signal would move the alignment and hide itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.intp]
Bools: TypeAlias = npt.NDArray[np.bool_]

_OPEN = 1e300  # "no bound", finite so that every store and wire can hold it
_MINUTES = (0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 30, 40, 55, 75)


@dataclass(frozen=True)
class Run:
    """A recorded run: per tag one value and one quality flag for each time (seconds since the start)."""

    lot: str
    tags: tuple[str, ...]
    times: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    good: tuple[tuple[bool, ...], ...]


@dataclass(frozen=True)
class Between:
    """Holds when `low <= value < high`; a missing or bad value never does."""

    tag: str
    low: float = -_OPEN
    high: float = _OPEN


@dataclass(frozen=True)
class Entry:
    """A way into a phase: from one of `after` that has lasted `dwell` seconds, when all of `when` hold."""

    phase: str
    after: tuple[str, ...]
    when: tuple[Between, ...]
    dwell: float = 0.0


@dataclass(frozen=True)
class Programme:
    """Phases in the order of the recipe (a run begins in the first) and the ways into them, in order."""

    phases: tuple[str, ...]
    entries: tuple[Entry, ...] = ()

    def signals(self) -> frozenset[str]:
        return frozenset(test.tag for entry in self.entries for test in entry.when)


@dataclass(frozen=True)
class Recipe:
    """What is monitored, and how runs are aligned.

    Tags that are signals of `programme` are aligned by `coarse`, which must
    not use them. `upsets` are phases that no good run needs: what a run does
    there says nothing of what it will do later. `ages` are the cells of the maturity axis: seconds since the
    phase began. `step` is the usual time between samples, in seconds.
    """

    tags: tuple[str, ...]
    programme: Programme
    coarse: Programme
    upsets: tuple[str, ...] = ()
    step: float = 60.0
    ages: tuple[float, ...] = field(default=tuple(60.0 * minute for minute in _MINUTES))

    def programmes(self) -> tuple[Programme, Programme]:
        """Both alignments; a signal of the first is judged by the second."""
        return (self.programme, self.coarse)

    def signals(self) -> tuple[str, ...]:
        """Every tag that some alignment reads."""
        return tuple(sorted(self.programme.signals() | self.coarse.signals()))


@dataclass(frozen=True)
class Stage:
    """The phase (index) that a run is in, and when it began, in seconds since the run's start."""

    phase: int
    since: float


def follow(
    programme: Programme, stage: Stage, times: Floats, signals: Mapping[str, Floats]
) -> tuple[Ints, Floats, Stage]:
    """Phase and age of each sample, and the stage after the last one.

    The result does not depend on how the samples are split into calls.
    """
    phases, since = np.empty(len(times), dtype=np.intp), np.empty(len(times))
    ways = _ways(programme, times, signals)
    row, entered = 0, {stage.phase}
    while row < len(times):
        at, phase = _first(ways, stage, times, row, entered)
        phases[row:at], since[row:at] = stage.phase, stage.since
        if phase is None:
            break
        entered = {phase} if at > row else entered | {phase}
        row, stage = at, Stage(phase, float(times[at]))
    return phases, times - since, stage


@dataclass(frozen=True)
class _Way:
    phase: int
    after: frozenset[int]
    dwell: float
    holds: Bools


def _ways(programme: Programme, times: Floats, signals: Mapping[str, Floats]) -> list[_Way]:
    index = {name: place for place, name in enumerate(programme.phases)}
    nothing = np.full(len(times), np.nan)
    ways = []
    for entry in programme.entries:
        holds = np.ones(len(times), dtype=np.bool_)
        for test in entry.when:
            values = signals.get(test.tag, nothing)
            holds &= (values >= test.low) & (values < test.high)
        if holds.any():
            after = frozenset(index[name] for name in entry.after)
            ways.append(_Way(index[entry.phase], after, entry.dwell, holds))
    return ways


def _first(
    ways: Sequence[_Way], stage: Stage, times: Floats, row: int, entered: set[int]
) -> tuple[int, int | None]:
    """The first row from `row` on at which a phase is entered, and that phase.

    At one row a phase is entered once, so that a recipe cannot go in circles.
    """
    best: tuple[int, int | None] = (len(times), None)
    for way in ways:
        if stage.phase not in way.after:
            continue
        holds = way.holds[row:] & (times[row:] - stage.since >= way.dwell)
        if way.phase in entered and len(holds):
            holds[0] = False
        at = row + int(holds.argmax())
        if holds.any() and at < best[0]:
            best = (at, way.phase)
    return best


def cells(recipe: Recipe, phases: Ints, ages: Floats) -> Ints:
    """Point of the maturity axis: phase by phase, the ages within."""
    edges = np.asarray(recipe.ages)
    within = np.searchsorted(edges, ages, side="right") - 1
    return phases * len(edges) + np.maximum(within, 0)
