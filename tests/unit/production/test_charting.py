"""Control charts beside the detector: what they find, and whether their price is the true one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain.charting import Charts
from services.production.domain.course import judge_extents
from services.production.domain.golden import GoldenModel, decode, encode, train
from services.production.domain.maturity import Programme, Recipe, Run
from services.production.domain.monitor import judge
from services.production.domain.recipes import DRYER
from services.production.domain.spc.charts import Cusum, Ewma
from services.production.domain.spc.rules import WESTERN_ELECTRIC
from services.production.handlers.models import charts_of, check_price, published
from services.refusals import Malformed, Refusal
from services.world import plant

CLOCK = Recipe(("A",), Programme(("run",)), Programme(("run",)))
ROWS, RUNS = 120, 60
SMALL = Charts(cusum=Cusum(0.5, 9.0))


def noise(lot: int, shift: float = 0.0) -> Run:
    """Independent normal values around 50; from the middle on moved by so many standard deviations."""
    values = 50.0 + 2.0 * np.random.default_rng(lot).normal(size=ROWS)
    values[ROWS // 2 :] += 2.0 * shift
    return Run(f"{lot:03}", ("A",), tuple(60.0 * n for n in range(ROWS)), (tuple(values),), ((True,) * ROWS,))


@cache
def learnt(charts: Charts = SMALL) -> GoldenModel:
    return train("p", CLOCK, [noise(lot) for lot in range(RUNS)], charts=charts)


def cut(run: Run, rows: int) -> Run:
    return replace(run, times=run.times[:rows], values=(run.values[0][:rows],), good=(run.good[0][:rows],))


def test_the_price_of_a_chart_on_normal_noise_is_that_of_the_tables() -> None:
    """A point is beyond 3 sigma with probability 0.0027 (standard normal table), and a run has 110 points
    or so that have a past: one run in four alarms. A sigma that is off by a tenth makes it 0.001 to 0.007."""
    (price,) = published(learnt(Charts(("WE1",)))).chart_prices
    points = ROWS - 10
    low, high = (1 - (1 - p) ** points for p in (0.001, 0.007))
    three = 3 * np.sqrt(0.25 / RUNS)
    assert low - three < price.false_alarms / RUNS < high + three
    assert price.nominal_run_length == pytest.approx(370.4, rel=0.05)


def test_a_chart_finds_the_small_shift_that_the_detector_passes_over() -> None:
    """A shift of one standard deviation reaches h 9 after 18 samples on average (Page: h / (shift - k))."""
    model, shifted = learnt(), [noise(lot, shift=1.0) for lot in range(100, 120)]
    passed_over = [run for run in shifted if not judge(model, {}, run)]
    assert len(passed_over) >= 10
    found = [pair for run in passed_over for pair in judge_extents(model, {}, run)]
    assert len(found) >= 0.7 * len(passed_over)
    assert all(extent is None and "CUSUM" in alarm.rule for alarm, extent in found)
    assert np.median([alarm.detected for alarm, _ in found]) > 60.0 * ROWS / 2


@pytest.mark.parametrize("shift", [2.0, 9.0])
def test_what_finds_a_tag_first_does_not_depend_on_when_the_readings_came(shift: float) -> None:
    """A part of a run has the alarms of the whole that were due by then: a batch more never changes one."""
    model, run = learnt(), noise(101, shift)
    whole = judge_extents(model, {}, run)
    assert len(whole) == 1
    (last,) = (alarm for alarm, _ in whole)
    for rows in range(1, ROWS):
        due = [last] if last.detected < 60.0 * rows else []
        assert [alarm for alarm, _ in judge_extents(model, {}, cut(run, rows))] == due


def test_the_detector_finds_as_much_with_charts_as_without() -> None:
    plain = train("p", CLOCK, [noise(lot) for lot in range(RUNS)])
    assert plain.charting is None
    for lot in range(200, 230):
        run = noise(lot, shift=lot % 10)
        assert judge(learnt(), {}, run) == judge(plain, {}, run)
        earliest = {alarm.tag: alarm.detected for alarm, _ in judge_extents(learnt(), {}, run)}
        assert all(earliest[alarm.tag] <= alarm.detected for alarm in judge(plain, {}, run))


def test_the_rate_of_the_model_counts_what_the_charts_say() -> None:
    noisy, plain = learnt(Charts(WESTERN_ELECTRIC)), train("p", CLOCK, [noise(lot) for lot in range(RUNS)])
    (price,) = published(noisy).chart_prices
    assert plain.false_alarms < price.false_alarms <= noisy.false_alarms
    assert noisy.rate_low <= noisy.false_alarms / RUNS <= noisy.rate_high
    assert all(count >= price.false_alarms for count in noisy.alarms_at[0])


def test_the_dryers_residuals_are_not_normal_and_the_price_says_so() -> None:
    """Phases begin with jumps: by the table WE1 alarms once in 370 points, in truth in every good run."""
    real = list(plant.read_runs().values())[:24]
    runs = []
    for one in real:
        good = ((True,) * len(one.times),) * len(one.columns)
        runs.append(Run(f"{one.number}", tuple(one.columns), one.times, tuple(one.columns.values()), good))
    charts = Charts(("WE1",), Cusum(1.0, 20.0), in_spreads=True)
    by_sigma, by_spread = (train("d", DRYER, runs, charts=c) for c in (Charts(("WE1",)), charts))
    (sigma,) = published(by_sigma).chart_prices
    points, cusum = published(by_spread).chart_prices
    assert sigma.false_alarms > 0.9 * len(runs)
    assert cusum.false_alarms < points.false_alarms < sigma.false_alarms


def test_a_model_says_its_charts_and_is_whole_again_when_it_is_read() -> None:
    charts = Charts(("N1", "WE2"), Cusum(0.5, 5.0), Ewma(0.2, 3.0), in_spreads=True)
    asked = events.ControlCharts(rules=["N1", "WE2", "N1"], in_spreads=True)
    asked.cusum.k, asked.cusum.h, asked.ewma.weight, asked.ewma.width = 0.5, 5.0, 0.2, 3.0
    assert charts_of(asked) == charts
    model = learnt(charts)
    told = published(model)
    assert charts_of(told.charts) == charts
    assert [price.chart for price in told.chart_prices] == ["N1 WE2", "CUSUM", "EWMA"]
    assert decode(encode(model)) == model
    assert model.version != learnt().version


def test_charts_that_cost_too_much_are_refused_with_what_they_cost() -> None:
    told = published(learnt(Charts(WESTERN_ELECTRIC)))
    (price,) = told.chart_prices
    with pytest.raises(Refusal) as refused:
        check_price(told, 0.1)
    assert (refused.value.reason, refused.value.field) == ("TOO_MANY_FALSE_ALARMS", "most_false_alarms")
    assert f"{told.false_alarms} of {RUNS} good runs" in refused.value.description
    assert f"WE1 WE2 WE3 WE4 by itself on {price.false_alarms}" in refused.value.description
    check_price(told, told.false_alarms / RUNS)
    with pytest.raises(Malformed, match="a share is between"):
        check_price(told, 1.5)


@pytest.mark.parametrize(
    ("asked", "reason", "field"),
    [
        (events.ControlCharts(rules=["WE1", "WE9"]), "UNKNOWN_RULE", "charts.rules"),
        (events.ControlCharts(cusum=events.CusumChart(k=0.5)), "OUT_OF_RANGE", "charts.cusum"),
        (events.ControlCharts(cusum=events.CusumChart(k=-1, h=5)), "OUT_OF_RANGE", "charts.cusum"),
        (events.ControlCharts(cusum=events.CusumChart(k=0, h=float("nan"))), "OUT_OF_RANGE", "charts.cusum"),
        (events.ControlCharts(ewma=events.EwmaChart(weight=1.2, width=3)), "OUT_OF_RANGE", "charts.ewma"),
        (events.ControlCharts(ewma=events.EwmaChart(weight=0.2)), "OUT_OF_RANGE", "charts.ewma"),
    ],
)
def test_a_chart_that_cannot_be_is_refused(asked: events.ControlCharts, reason: str, field: str) -> None:
    with pytest.raises(Malformed) as refused:
        charts_of(asked)
    assert (refused.value.reason, refused.value.field) == (reason, field)
