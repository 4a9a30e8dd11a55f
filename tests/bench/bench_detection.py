"""Detection on the real dryer runs: false alarms, planted faults, and speed.

Every run is judged by a model that it had no part in. False alarms stand
beside the yardstick that needs no model: |z| > 4 against mean and standard
deviation of the other runs at the same clock sample. Faults are planted by the
world's own code. How soon they are found is shown for narrower limits and for
control charts, each with the runs that alarm though nothing was planted:
docs/detection.md.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from services.production.domain.charting import Charts
from services.production.domain.golden import LIMIT, GoldenModel, interval, train
from services.production.domain.maturity import Floats
from services.production.domain.monitor import columns_of, observe, start
from services.production.domain.recipes import DRYER
from services.production.domain.spc.charts import Cusum, Ewma
from services.world import plant
from tests.bench.detection import page
from tests.bench.detection.cases import (
    Case,
    Measure,
    by_median,
    cases,
    plain,
    published,
    recorded,
    shift_spread,
)
from tests.bench.detection.page import Found, Price, Report
from tests.bench.detection.trials import (
    Group,
    Outcome,
    Setting,
    alarmed,
    check,
    outcome,
    planted,
    unfaulted,
)
from tests.bench.framework.machine import Machine, environment
from tests.bench.framework.rows import Row, Target, row
from tests.bench.framework.run import is_trial

FEWEST = 10  # runs at a clock sample, for a mean and spread by the clock
STEP, WANTED = 5.0, 0.999
DRIFTS = (8.0, 6.0, 5.0, 4.0)
#: The tag of nearly every step that the usual limit misses.
NARROWED = "AgitatorTorque"
#: Of so many groups of trials one is judged trial by trial, too.
CHECKED = 40

USUAL = Setting(f"limit {LIMIT:g} of every tag (usual)")
_NARROWER = (2.8, 2.6, 2.5, 2.4, 2.2, 2.0)
_ALL = {
    limit: Setting(f"limit {limit:g} of every tag", dict.fromkeys(DRYER.tags, limit))
    for limit in (6.0, 5.0, 4.0, 3.5, *_NARROWER)
}
_ONE = [Setting(f"limit {limit:g} of {NARROWED} alone", {NARROWED: limit}) for limit in _NARROWER]
_CUSUMS = [Cusum(k, h) for k, h in ((1.0, 20.0), (1.0, 8.0), (1.5, 8.0), (2.0, 5.0), (2.5, 4.0))]
_EWMAS = [Ewma(weight, width) for weight, width in ((0.2, 8.0), (0.5, 5.0), (0.7, 4.0))]
_CHARTS = [
    *(Setting(f"usual, and {rule}", charts=Charts((rule,), in_spreads=True)) for rule in ("WE1", "WE2")),
    *(
        Setting(f"usual, and CUSUM k {one.k:g} h {one.h:g}", charts=Charts(cusum=one, in_spreads=True))
        for one in _CUSUMS
    ),
    *(
        Setting(
            f"usual, and EWMA lambda {one.weight:g} L {one.width:g}", charts=Charts(ewma=one, in_spreads=True)
        )
        for one in _EWMAS
    ),
]
IN_SIGMAS = Setting("usual, and WE1 in standard deviations (by median)", charts=Charts(("WE1",)))
SETTINGS = [USUAL, *(_ALL[limit] for limit in _NARROWER), *_ONE, *_CHARTS]
BY_LIMIT = [*(_ALL[limit] for limit in _ALL if limit > LIMIT), USUAL, *(_ALL[limit] for limit in _NARROWER)]


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


def print_false_alarms(everything: list[plant.DryerRun]) -> tuple[GoldenModel, int]:
    """The model of all runs, and on how many the yardstick alarms."""
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
    return model, sum(distance > 4 for distance in naive)


def print_spreads(everything: list[plant.DryerRun], held: list[Case]) -> None:
    print(f"limits (typical sample, in the tag's unit): {LIMIT:g} spreads, beside 4 SD by the clock")
    for tag in DRYER.tags:
        shift, both = (
            LIMIT * np.median(np.concatenate([measure(case, tag) for case in held]))
            for measure in (shift_spread, published)
        )
        by_clock = 4 * np.median([np.std([r.columns[tag][n] for r in everything]) for n in range(89)])
        print(f"  {tag:22} shift {shift:7.1f}   published {both:7.1f}   by the clock {by_clock:7.1f}")


def print_detection(held: list[Case]) -> None:
    """What the usual setting finds of each tag, by what was planted."""
    print("delay in samples, the first faulty one is 1; trials whose tag had alarmed before are left out")
    for name, measure, kind, magnitude in (
        ("published", published, "step", 8.0),
        ("published", published, "step", 6.0),
        ("published", published, "step", 5.0),
        ("published", published, "step", 4.0),
        ("published", published, "drift", 6.0),
        ("shift", shift_spread, "step", 6.0),
        ("shift", shift_spread, "drift", 6.0),
    ):
        print(f"{kind} of {magnitude:g} {name} spreads")
        found = outcome(USUAL, planted(held, kind, magnitude, measure))
        for tag, late in {**found.delays, "all": found.all}.items():
            _print_row(tag, late)


def _print_row(tag: str, late: Floats) -> None:
    known = late[np.isfinite(late)]
    print(
        f"  {tag:22} found {len(known):5} of {len(late):5}  delay p50 {np.median(known):3.0f} "
        f"max {known.max():3.0f}  within 2 {(late <= 2).mean():7.2%}  within 3 {(late <= 3).mean():7.2%}"
    )


class Prices:
    """What each setting costs, counted once."""

    def __init__(self, own: Sequence[Group]) -> None:
        self._runs = {group.case.real.number for group in own}
        self._own, self._known = own, dict[str, set[int]]()

    def alarmed(self, setting: Setting) -> set[int]:
        if setting.name not in self._known:
            self._known[setting.name] = alarmed(setting, self._own)
        return self._known[setting.name]

    def of(self, setting: Setting) -> Price:
        return Price(setting, len(self.alarmed(setting)), len(self._runs))

    def found(self, setting: Setting, groups: Sequence[Group]) -> Found:
        return Found(self.of(setting), outcome(setting, groups))


def cheapest(found: Sequence[Found]) -> Found:
    """Of those that find what is wanted the one with the fewest alarms; if none does, what finds most."""
    enough = [one for one in found if one.outcome.within(2) >= WANTED]
    if not enough:
        return max(found, key=lambda one: one.outcome.within(2))
    return min(enough, key=lambda one: (one.price.alarmed, -one.outcome.within(2)))


def halves(prices: Prices, groups: Sequence[Group]) -> str:
    """The choice made on every other run, and what it finds on the rest: it must not be luck."""
    said, parts = [], [[g for g in groups if g.case.real.number % 2 == rest] for rest in (0, 1)]
    for chosen_on, tried_on in (parts, parts[::-1]):
        numbers = {group.case.real.number for group in chosen_on}
        tried = [
            Found(
                Price(setting, len(prices.alarmed(setting) & numbers), len(numbers)),
                outcome(setting, chosen_on),
            )
            for setting in SETTINGS
        ]
        best = cheapest(tried).price.setting
        said.append(f"{best.name}, which finds {outcome(best, tried_on).within(2):.2%}")
    return (
        f"Chosen on one half of the runs and tried on the other: {said[0]}; the other way round: {said[1]}."
    )


def cliff(prices: Prices) -> str:
    """What lies right below the limit that would do."""
    near, far = (prices.alarmed(one) for one in _ONE if one.limits[NARROWED] in (2.5, 2.4))
    return (
        f"{NARROWED} is a controller's programme, and between the limits 2.5 and 2.4 lie steps of that "
        f"programme itself, in {len(far - near)} runs: there is no room below, and little above."
    )


def report(held: list[Case]) -> Report:
    own = unfaulted(held)
    prices = Prices(own)
    groups = planted(held, "step", STEP, published)
    checked = check(groups, CHECKED)
    print(f"{checked} of the trials were judged one by one, too, to the same")
    steps = [prices.found(setting, groups) for setting in SETTINGS]
    best = cheapest(steps)
    sigmas = []
    measures: tuple[tuple[str, Measure], ...] = (("by median", by_median), ("plain", plain(held)))
    for name, measure in measures:
        some, size = planted(held, "step", STEP, measure), STEP * _relative(held, measure)
        sigmas += [
            (name, size, prices.found(setting, some)) for setting in (USUAL, best.price.setting, IN_SIGMAS)
        ]
    drifts = []
    for size in DRIFTS:
        some = planted(held, "drift", size, published)
        drifts.append((size, [prices.found(setting, some) for setting in BY_LIMIT]))
    around = environment()
    measured = f"Measured {around['date']} on the runs of process-improve, numpy {np.__version__}"
    return Report(measured, steps, best, f"{halves(prices, groups)} {cliff(prices)}", sigmas, drifts)


def _relative(held: Sequence[Case], measure: Measure) -> float:
    """The measure in published spreads, at the median sample."""
    both = [(measure(case, tag), published(case, tag)) for case in held for tag in DRYER.tags]
    return float(np.nanmedian(np.concatenate([np.divide(one, other) for one, other in both])))


def print_speed(model: GoldenModel, everything: list[plant.DryerRun]) -> dict[int, float]:
    """Points a second of processor time, by samples a batch."""
    runs, rates = [recorded(real) for real in everything[:20]], dict[int, float]()
    for rows in (1, 10, 60):
        points, began = 0, time.process_time()
        for run in runs:
            times, columns, monitor = np.asarray(run.times), columns_of(run), start(model, run.lot)
            for first in range(0, len(times), rows):
                batch = {tag: values[first : first + rows] for tag, values in columns.items()}
                monitor, _ = observe(model, {}, monitor, times[first : first + rows], batch)
            points += len(times) * len(DRYER.tags)
        seconds = time.process_time() - began
        rates[rows] = points / seconds
        print(f"observe, {rows:2} samples a batch: {rates[rows]:9,.0f} points/s of processor time")
    return rates


def run(_machine: Machine) -> list[Row]:
    print(f"numpy {np.__version__}")
    everything = list(plant.read_runs().values())
    model, naive = print_false_alarms(everything)
    assert model.judged_runs == len(everything) == 71, f"{model.judged_runs} of the 71 real runs were judged"
    held = cases(everything)
    print_spreads(everything, held)
    print_detection(held)
    said = report(held)
    if not is_trial():
        page.write(said)
    print(page.page(said))
    return [*_rows(model, naive, said), _speed(print_speed(model, everything))]


def _rows(model: GoldenModel, naive: int, said: Report) -> list[Row]:
    usual, best = said.steps[0], said.cheapest
    assert usual.price.alarmed == model.false_alarms, "the models that judge the trials are those of the rate"
    sigmas = [
        row(
            f"planted steps of 5 standard deviations ({name}), found within 2 samples",
            100 * found.outcome.within(2),
            "% of trials",
            note=f"a step is {size:.2f} published spreads at the median sample; {found.price.setting.name}, "
            f"alarms {found.price.text()}",
        )
        for name, size, found in said.sigmas
        if found.price.setting == USUAL
    ]
    drift = next(
        one for size, found in said.drifts if size == 6.0 for one in found if one.price.setting == USUAL
    )
    return [
        row(
            "false alarms on real runs that the model never saw",
            100 * model.false_alarms / model.judged_runs,
            "% of runs",
            yardstick=("|z| > 4 by the clock", 100 * naive / model.judged_runs),
            note=f"{model.false_alarms} of {model.judged_runs} runs, exact 95 % interval "
            f"{model.rate_low:.1%} to {model.rate_high:.1%}",
        ),
        _step_row("planted steps of 5 published spreads, found within 2 samples", usual),
        _step_row("the same, the cheapest setting that finds 99.9 %", best, said.remarks),
        *sigmas,
        row(
            "planted drifts of 6 published spreads over 20 samples, delay p50",
            page.delay_of(drift.outcome, 0.5),
            "samples",
            note=f"since it began; p90 {page.delay_of(drift.outcome, 0.9):.0f}; alarms {drift.price.text()}; "
            "other sizes and limits: detection.md",
        ),
    ]


def _step_row(name: str, found: Found, more: str = "") -> Row:
    result: Outcome = found.outcome
    soon = int((result.all <= 2).sum())
    note = (
        f"{soon:,} of {len(result.all):,} trials, 8 tags, 5 onsets, both signs; {found.price.setting.name}, "
        f"at a false-alarm rate of {found.price.text()}"
    )
    said = f"{note}. {more}" if more else note
    return row(name, 100 * result.within(2), "% of trials", target=Target(at_least=100 * WANTED), note=said)


def _speed(rates: dict[int, float]) -> Row:
    return row(
        "readings judged online, 10 samples a batch, domain code alone",
        rates[10],
        "points/s of processor time",
    )
