"""The plant's real dryer runs, and faults planted into copies of them.

The 71 runs are those of the wheel process-improve 2.2.0 (García-Muñoz, PhD
thesis, McMaster 2004); the wheel is read, never imported. A fault is sized in
the spread that the platform publishes for the tag. So this module finds a
run's places on the published axis by itself, from what is said of the axis in
`points`, and shares no code with the platform that has to find the fault.
"""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeAlias

SAMPLE_SECONDS = 60.0
#: A drift grows to its full size over so many samples and stays.
DRIFT_SAMPLES = 20
#: A fault is of its full size in at least so many samples.
FULL_SAMPLES = 3

#: Minutes since a phase began at which the points of the published axis begin.
_AGES = (0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 30, 40, 55, 75)
_WARM_UP = 10
_PROGRAMME = "AgitatorTorque"  # the column of the agitator's speed controller, which follows a programme

Row: TypeAlias = Mapping[str, float]


@dataclass(frozen=True)
class DryerRun:
    """A run: seconds since its start, and by tag one value for each."""

    number: int
    times: tuple[float, ...]
    columns: Mapping[str, tuple[float, ...]]


@cache
def read_runs() -> dict[int, DryerRun]:
    """The real runs by number; FileNotFoundError where the wheel is not installed."""
    spec = importlib.util.find_spec("process_improve")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the data package 'process-improve' is not installed; run 'make setup'")
    path = Path(spec.submodule_search_locations[0], "datasets", "batch", "dryer.csv")
    runs: dict[int, dict[str, list[float]]] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            columns = runs.setdefault(int(row.pop("batch_id")), {})
            for tag, value in row.items():
                columns.setdefault(tag, []).append(float(value))
    return {number: _run(number, columns) for number, columns in runs.items()}


def _run(number: int, columns: Mapping[str, list[float]]) -> DryerRun:
    times = tuple(SAMPLE_SECONDS * clock for clock in columns["ClockTime"])
    return DryerRun(number, times, {tag: tuple(c) for tag, c in columns.items() if tag != "ClockTime"})


def points(run: DryerRun, tag: str) -> list[int]:
    """The place of each sample on the axis that a tag's spread is published on.

    The axis is phase by phase; each phase begins a point at every age of
    `_AGES`. Phases follow from the set-points and the agitator's programme;
    for the programme's own tag from the set-points alone.
    """
    follow = _by_heating if tag == _PROGRAMME else _by_programme
    phase, since, places = 0, 0, []
    rows = [dict(zip(run.columns, values, strict=True)) for values in zip(*run.columns.values(), strict=True)]
    for now, row in enumerate(rows):
        following = follow(phase, row, now - since)
        while following != phase:
            phase, since = following, now
            following = follow(phase, row, 0)
        places.append(phase * len(_AGES) + sum(age <= now - since for age in _AGES) - 1)
    return places


DRY, STIR, QUENCH, COOL, DISCHARGE, END, PAUSE, HELD = range(8)
HEAT, COOLED = range(2)


def _off(row: Row) -> bool:
    return row["JacketTemperatureSP"] < 42 or row["DryerTemperatureSP"] < 80


def _on(row: Row) -> bool:
    return row["JacketTemperatureSP"] >= 45 and row["DryerTemperatureSP"] >= 80


def _by_heating(phase: int, row: Row, age: int) -> int:
    if phase == HEAT:
        return COOLED if _off(row) and age >= _WARM_UP else HEAT
    return HEAT if _on(row) else COOLED


def _by_programme(phase: int, row: Row, age: int) -> int:
    speed = row[_PROGRAMME]
    if speed < 4:
        return {DISCHARGE: END, END: END, PAUSE: PAUSE, HELD: HELD}.get(phase, PAUSE)
    ways: dict[int, Callable[[], int]] = {
        DRY: lambda: STIR if 24 <= speed < 40 else HELD if _off(row) and age >= _WARM_UP else DRY,
        STIR: lambda: QUENCH if _off(row) else STIR,
        QUENCH: lambda: COOL if speed < 12 else QUENCH,
        COOL: lambda: DISCHARGE if speed >= 40 else COOL,
        DISCHARGE: lambda: DISCHARGE,
        END: lambda: DISCHARGE if speed >= 40 else END,
        PAUSE: lambda: STIR if 24 <= speed < 40 else DISCHARGE if speed >= 40 else PAUSE,
        HELD: lambda: DRY if _on(row) else HELD,
    }
    return ways[phase]()


def spread_along(run: DryerRun, tag: str, published: Sequence[float]) -> tuple[float, ...]:
    """The published spread of a tag at each sample of a run: one number for each point of the axis,
    or a single one that holds everywhere."""
    if len(published) == 1:
        return (published[0],) * len(run.times)
    places = points(run, tag)
    if places and max(places) >= len(published):
        raise ValueError(f"{tag}: a spread of {len(published)} points is not on the dryer's axis")
    return tuple(published[place] for place in places)


def plant_fault(
    run: DryerRun, tag: str, kind: str, onset: int, magnitude: float, spread: Sequence[float]
) -> DryerRun:
    """The run with a lasting fault from sample `onset` on, of `magnitude` spreads with its sign.

    A "step" is there at once, a "drift" grows evenly over DRIFT_SAMPLES. What
    is added is one size in the tag's unit: so large that it is at least
    `magnitude` spreads in each of the first FULL_SAMPLES samples that have it
    in full. ValueError when the run ends before.
    """
    ramp = {"step": 1, "drift": DRIFT_SAMPLES}[kind]
    full = onset + ramp - 1
    if not 0 <= onset <= full <= len(run.times) - FULL_SAMPLES:
        raise ValueError(f"run {run.number} of {len(run.times)} samples is too short for a {kind} at {onset}")
    size = magnitude * max(spread[full : full + FULL_SAMPLES])
    values = tuple(
        value + size * min(1.0, max(0.0, (now - onset + 1) / ramp))
        for now, value in enumerate(run.columns[tag])
    )
    return replace(run, columns={**run.columns, tag: values})
