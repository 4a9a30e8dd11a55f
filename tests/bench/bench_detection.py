"""Detection on the real dryer runs: false alarms, planted faults, and speed.

Every run is judged by a model that it had no part in (five folds). False
alarms stand beside the yardstick that needs no model: |z| > 4 against mean
and standard deviation of the other runs at the same clock sample. Faults are
planted by the world's own code and sized in the published spread.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.production.domain.golden import CONFIG, LIMIT, GoldenModel, interval, train
from services.production.domain.maturity import Run
from services.production.domain.monitor import columns_of, judge, observe, start
from services.production.domain.recipes import DRYER
from services.production.domain.residuals import align, places, spreads
from services.world import plant
from tests.bench.framework.machine import Machine
from tests.bench.framework.rows import Row, Target, row

FOLDS = 5
FEWEST = 10  # runs at a clock sample, for a mean and spread by the clock
ONSETS = (0.12, 0.3, 0.5, 0.7, 0.85)


@dataclass(frozen=True)
class Case:
    """A run, what it is made of, and the model that never saw it."""

    real: plant.DryerRun
    run: Run
    model: GoldenModel


def recorded(real: plant.DryerRun) -> Run:
    """A world's run as the platform records it."""
    good = tuple((True,) * len(real.times) for _ in real.columns)
    return Run(f"{real.number:02}", tuple(real.columns), real.times, tuple(real.columns.values()), good)


def cases(everything: list[plant.DryerRun]) -> list[Case]:
    """Each run with the model of the other folds. Two folds do: its own rate is not shown."""
    quick = replace(CONFIG, folds=2)
    found = []
    for fold in range(FOLDS):
        others = [recorded(real) for place, real in enumerate(everything) if place % FOLDS != fold]
        model = train("dryer", DRYER, others, quick)
        found += [Case(real, recorded(real), model) for real in everything[fold::FOLDS]]
    return found


def naive_distances(everything: list[plant.DryerRun], tags: Sequence[str], seen: bool = False) -> list[float]:
    """The largest |z| of each run at a clock sample, against the others; with `seen`, against all."""
    return [
        max(_naive(real, [run for run in everything if seen or run is not real], tag) for tag in tags)
        for real in everything
    ]


def _naive(real: plant.DryerRun, others: list[plant.DryerRun], tag: str) -> float:
    table = np.full((len(others), len(real.times)), np.nan)
    for place, other in enumerate(others):
        column = other.columns[tag][: len(real.times)]
        table[place, : len(column)] = column
    known = (~np.isnan(table)).sum(axis=0) >= FEWEST
    mean, spread = np.nanmean(table[:, known], axis=0), np.nanstd(table[:, known], axis=0, ddof=1)
    distance = np.abs(np.asarray(real.columns[tag])[known] - mean) / np.maximum(spread, 1e-9)
    return float(distance.max())


def delays(held: Iterable[Case], tag: str, kind: str, magnitude: float, which: str) -> Iterator[int | None]:
    """Samples from the onset (of a drift: from its full size) to the alarm on the tag; None when missed."""
    for case in held:
        spread = _spread(case, tag, which)
        for share in ONSETS:
            onset = int(share * len(case.real.times))
            for size in (magnitude, -magnitude):
                try:
                    faulty = plant.plant_fault(case.real, tag, kind, onset, size, spread)
                except ValueError:  # too late in the run for this kind
                    continue
                full = onset if kind == "step" else onset + plant.DRIFT_SAMPLES - 1
                alarms = [alarm for alarm in judge(case.model, {}, recorded(faulty)) if alarm.tag == tag]
                yield round(alarms[0].detected / plant.SAMPLE_SECONDS) - full + 1 if alarms else None


def _spread(case: Case, tag: str, which: str) -> tuple[float, ...]:
    place = DRYER.tags.index(tag)
    if which == "published":
        return plant.spread_along(case.real, tag, case.model.published_spread()[place].tolist())
    aligned = align(DRYER, case.run, CONFIG.lag, CONFIG.window)
    along = spreads(case.model.golden(), places(DRYER, aligned.points))[:, place, 0]
    return tuple(along.tolist())


def print_false_alarms(everything: list[plant.DryerRun]) -> GoldenModel:
    began = time.perf_counter()
    model = train("dryer", DRYER, [recorded(real) for real in everything])
    seconds = time.perf_counter() - began
    alarms, judged = model.false_alarms, model.judged_runs
    print(
        f"false alarms, cross-validated: {alarms} of {judged} runs ({alarms / judged:.1%}), "
        f"exact 95 % interval {model.rate_low:.1%} to {model.rate_high:.1%}; trained in {seconds:.1f} s"
    )
    naive = naive_distances(everything, DRYER.tags)
    for limit in (4.0, 6.0):
        beyond = sum(distance > limit for distance in naive)
        low, high = interval(beyond, judged)
        print(f"  yardstick |z| > {limit:g} by the clock: {beyond} of {judged}, {low:.1%} to {high:.1%}")
    known = naive_distances(everything, [tag for tag in DRYER.tags if tag != "AgitatorTorque"], seen=True)
    beyond = sum(distance > 4 for distance in known)
    print(f"  the same on the runs it was made from, without AgitatorTorque: {beyond} of {judged}")
    alike = sorted(naive, reverse=True)[alarms]
    print(f"  yardstick: to alarm on as few runs, its limit must be |z| > {alike:.1f}")
    return model


def print_spreads(everything: list[plant.DryerRun], held: list[Case]) -> None:
    print(f"limits (typical sample, in the tag's unit): {LIMIT:g} spreads, beside 4 SD by the clock")
    for tag in DRYER.tags:
        shift = np.median(np.concatenate([_spread(case, tag, "shift") for case in held])) * LIMIT
        both = np.median(np.concatenate([_spread(case, tag, "published") for case in held])) * LIMIT
        by_clock = 4 * np.median([np.std([r.columns[tag][n] for r in everything]) for n in range(89)])
        print(f"  {tag:22} shift {shift:7.1f}   published {both:7.1f}   by the clock {by_clock:7.1f}")


def print_detection(held: list[Case]) -> dict[tuple[str, str, float], list[int | None]]:
    """The delays of all tags, by what was planted."""
    planted: dict[tuple[str, str, float], list[int | None]] = {}
    quiet = [case for case in held if not judge(case.model, {}, case.run)]
    print(f"planted in {len(quiet)} unseen runs that do not alarm by themselves, onsets {ONSETS}, both signs")
    print("delay in samples, the first faulty one (of a drift: the first of full size) counted as 1")
    for which, kind, magnitude in (
        ("published", "step", 6.0),
        ("published", "step", 8.0),
        ("published", "drift", 6.0),
        ("published", "step", 5.0),
        ("published", "step", 4.0),
        ("shift", "step", 6.0),
        ("shift", "drift", 6.0),
    ):
        print(f"{kind} of {magnitude:g} {which} spreads")
        everything: list[int | None] = []
        for tag in DRYER.tags:
            found = list(delays(quiet, tag, kind, magnitude, which))
            everything += found
            _print_row(tag, found)
        _print_row("all", everything)
        planted[which, kind, magnitude] = everything
    return planted


def _print_row(tag: str, found: list[int | None]) -> None:
    late = [delay for delay in found if delay is not None]
    within = [sum(delay <= samples for delay in late) / len(found) for samples in (2, 3)]
    print(
        f"  {tag:22} found {len(late):5} of {len(found):5}  delay p50 {np.median(late):3.0f} "
        f"max {max(late):3}  within 2 {within[0]:7.2%}  within 3 {within[1]:7.2%}"
    )


def print_speed(model: GoldenModel, everything: list[plant.DryerRun]) -> dict[int, float]:
    """Points a second on one core, by samples a batch."""
    runs, rates = [recorded(real) for real in everything[:20]], dict[int, float]()
    for rows in (1, 10, 60):
        points, began = 0, time.perf_counter()
        for run in runs:
            times, columns, monitor = np.asarray(run.times), columns_of(run), start(model, run.lot)
            for first in range(0, len(times), rows):
                batch = {tag: values[first : first + rows] for tag, values in columns.items()}
                monitor, _ = observe(model, {}, monitor, times[first : first + rows], batch)
            points += len(times) * len(DRYER.tags)
        seconds = time.perf_counter() - began
        rates[rows] = points / seconds
        print(f"observe, {rows:2} samples a batch: {rates[rows]:9,.0f} points/s on one core")
    return rates


def run(_machine: Machine) -> list[Row]:
    print(f"numpy {np.__version__}")
    everything = list(plant.read_runs().values())
    model = print_false_alarms(everything)
    held = cases(everything)
    print_spreads(everything, held)
    planted = print_detection(held)
    rates = print_speed(model, everything)
    judged = model.judged_runs
    assert judged == len(everything) == 71, f"{judged} of the 71 real runs were judged"
    naive = sum(distance > 4 for distance in naive_distances(everything, DRYER.tags))
    steps = planted["published", "step", 5.0]
    quick = sum(delay is not None and delay <= 2 for delay in steps)
    return [
        row(
            "false alarms on real runs that the model never saw",
            100 * model.false_alarms / judged,
            "% of runs",
            yardstick=("|z| > 4 by the clock", 100 * naive / judged),
            note=f"{model.false_alarms} of {judged} runs, exact 95 % interval "
            f"{model.rate_low:.1%} to {model.rate_high:.1%}",
        ),
        row(
            "planted steps of 5 published spreads, found within 2 samples",
            100 * quick / len(steps),
            "% of trials",
            target=Target(at_least=99.9),
            note=f"{len(steps)} trials, 8 tags, 5 onsets, both signs, at the false-alarm rate above",
        ),
        row("readings judged online, 10 samples a batch, domain code alone", rates[10], "points/s"),
    ]
