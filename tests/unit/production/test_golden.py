"""The golden run and its monitor on the real dryer runs, with faults that the world itself plants."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.production.domain.golden import CONFIG, LIMITS, GoldenModel, train
from services.production.domain.maturity import Between, Entry, Floats, Programme, Recipe, Run, Stage, follow
from services.production.domain.monitor import Alarm, Monitor, columns_of, judge, observe, start
from services.production.domain.recipes import DRYER
from services.production.domain.residuals import align, median_of_three, places, references
from services.world import plant

FOLDS = 3


def recorded(real: plant.DryerRun) -> Run:
    good = tuple((True,) * len(real.times) for _ in real.columns)
    return Run(f"{real.number:02}", tuple(real.columns), real.times, tuple(real.columns.values()), good)


@cache
def unseen(fold: int = 0) -> tuple[GoldenModel, tuple[plant.DryerRun, ...]]:
    """A model of two thirds of the 71 runs, and the runs that it never saw."""
    everything = list(plant.read_runs().values())
    seen = [recorded(real) for place, real in enumerate(everything) if place % FOLDS != fold]
    return train("dryer", DRYER, seen, replace(CONFIG, folds=2)), tuple(everything[fold::FOLDS])


@cache
def quiet(fold: int = 0) -> tuple[plant.DryerRun, ...]:
    """The unseen runs that do not alarm by themselves."""
    model, real = unseen(fold)
    return tuple(run for run in real if not judge(model, {}, recorded(run)))


def planted(model: GoldenModel, real: plant.DryerRun, tag: str, kind: str, onset: int, size: float) -> Run:
    published = model.published_spread()[DRYER.tags.index(tag)].tolist()
    return recorded(plant.plant_fault(real, tag, kind, onset, size, plant.spread_along(real, tag, published)))


# --- the promise -------------------------------------------------------------------------------


def test_few_unseen_runs_alarm() -> None:
    judged = sum(len(unseen(fold)[1]) for fold in range(FOLDS))
    assert judged == 71
    assert judged - sum(len(quiet(fold)) for fold in range(FOLDS)) <= 0.10 * judged


@pytest.mark.parametrize("tag", DRYER.tags)
@pytest.mark.parametrize("size", [6.0, -6.0, 8.0, -8.0])
def test_a_step_of_six_spreads_is_found_within_three_samples(tag: str, size: float) -> None:
    model, _ = unseen()
    late = []
    for real in random.Random(tag).sample(quiet(), 8):
        for share in (0.05, 0.15, 0.3, 0.5, 0.7, 0.9):
            onset = int(share * len(real.times))
            alarms = judge(model, {}, planted(model, real, tag, "step", onset, size))
            seconds = [alarm.detected for alarm in alarms if alarm.tag == tag]
            if not seconds or not onset <= seconds[0] / plant.SAMPLE_SECONDS <= onset + 2:
                late.append((real.number, onset, seconds))
    assert late == []


@pytest.mark.parametrize("tag", DRYER.tags)
@pytest.mark.parametrize("size", [6.0, -6.0])
def test_a_drift_to_six_spreads_is_found_before_it_is_three_samples_old(tag: str, size: float) -> None:
    model, _ = unseen(1)
    late = []
    for real in random.Random(tag).sample(quiet(1), 8):
        for share in (0.1, 0.4, 0.7):
            onset = int(share * len(real.times))
            alarms = judge(model, {}, planted(model, real, tag, "drift", onset, size))
            seconds = [alarm.detected for alarm in alarms if alarm.tag == tag]
            full = onset + plant.DRIFT_SAMPLES - 1
            if not seconds or seconds[0] / plant.SAMPLE_SECONDS > full + 2:
                late.append((real.number, onset, seconds))
    assert late == []


def test_a_fault_of_one_tag_is_blamed_on_no_other() -> None:
    model, _ = unseen()
    for real in quiet()[:6]:
        for tag in DRYER.tags:
            if tag != "AgitatorTorque":  # it moves the phases: see the module's text on signals
                run = planted(model, real, tag, "step", len(real.times) // 2, 8.0)
                assert [alarm.tag for alarm in judge(model, {}, run)] == [tag]


def test_the_world_and_the_platform_read_the_same_axis() -> None:
    """They share no code; what one publishes is what the other plants by."""
    for real in plant.read_runs().values():
        run = align(DRYER, recorded(real), CONFIG.lag, CONFIG.window)
        at = places(DRYER, run.points)
        for place, tag in enumerate(DRYER.tags):
            assert plant.points(real, tag) == at[:, place].tolist()


def test_what_a_narrower_limit_costs_is_known() -> None:
    model, _ = unseen()
    for counts, narrowest in zip(model.alarms_at, model.narrowest, strict=True):
        assert len(counts) == len(LIMITS)
        assert list(counts) == sorted(counts)
        assert counts[0] == model.false_alarms
        few_more = model.false_alarms + 0.05 * model.judged_runs
        assert counts[LIMITS.index(narrowest)] <= max(CONFIG.aim * model.judged_runs, few_more)


# --- batches: split, repeated, incomplete ----------------------------------------------------------


def fed(model: GoldenModel, run: Run, cuts: list[int], repeats: int = 0) -> tuple[Monitor, list[Alarm]]:
    """The run in batches that end at the cuts; each begins `repeats` samples before, as given already."""
    times, columns = np.asarray(run.times), columns_of(run)
    alarms: list[Alarm] = []
    monitor, first = start(model, run.lot), 0
    for stop in [*sorted(cuts), len(times)]:
        rows = slice(max(0, first - repeats), stop)
        part = {tag: values[rows] for tag, values in columns.items()}
        monitor, fresh = observe(model, {}, monitor, times[rows], part)
        alarms += fresh
        first = stop
    return monitor, alarms


@cache
def faulty() -> Run:
    """A run with two faults, lost points, and a tag that comes late."""
    model, _ = unseen()
    real = quiet()[0]
    run = planted(model, real, "DryerTemp", "step", 50, 8.0)
    power = columns_of(planted(model, real, "AgitatorPower", "drift", 60, -8.0))["AgitatorPower"]
    good = [list(flags) for flags in run.good]
    for place, tag in enumerate(run.tags):
        for row in random.Random(tag).sample(range(len(run.times)), 12):
            good[place][row] = False
    good[run.tags.index("DryerPressure")][:20] = [False] * 20
    values = list(run.values)
    values[run.tags.index("AgitatorPower")] = tuple(power.tolist())
    return replace(run, values=tuple(values), good=tuple(map(tuple, good)))


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 80), max_size=12), repeats=st.integers(0, 50))
def test_splits_and_repeats_change_nothing(cuts: list[int], repeats: int) -> None:
    model, _ = unseen()
    whole = fed(model, faulty(), [])
    assert {alarm.tag for alarm in whole[1]} == {"DryerTemp", "AgitatorPower"}
    assert fed(model, faulty(), cuts, repeats) == whole
    assert tuple(whole[1]) == judge(model, {}, faulty())


def test_the_same_samples_again_leave_the_monitor_as_it_is() -> None:
    model, _ = unseen()
    run = faulty()
    monitor, _ = fed(model, run, [])
    assert observe(model, {}, monitor, np.asarray(run.times), columns_of(run)) == (monitor, ())
    assert observe(model, {}, monitor, np.empty(0), {}) == (monitor, ())


def test_times_that_run_backwards_are_left_out() -> None:
    model, _ = unseen()
    run = recorded(quiet()[1])
    times, columns = np.asarray(run.times), columns_of(run)
    order = np.array([0, 1, 2, 1, 0, 3, 2, *range(4, len(times))])
    shuffled = {tag: values[order] for tag, values in columns.items()}
    again = observe(model, {}, start(model, run.lot), times[order], shuffled)
    assert again == observe(model, {}, start(model, run.lot), times, columns)


def test_a_monitor_follows_one_model_only() -> None:
    (model, _), (other, _) = unseen(0), unseen(1)
    with pytest.raises(ValueError, match="follows model"):
        observe(other, {}, start(model, "lot"), np.array([0.0]), {})


def test_a_tag_alarms_once_in_a_run() -> None:
    model, _ = unseen()
    run = planted(model, quiet()[0], "JacketTemperature", "step", 40, 9.0)
    _, alarms = fed(model, run, list(range(0, 80, 5)))
    assert [alarm.tag for alarm in alarms] == ["JacketTemperature"]
    (alarm,) = alarms
    assert [point.seconds for point in alarm.evidence][-1] == alarm.detected
    assert len(alarm.evidence) == 20


# --- odd material ------------------------------------------------------------------------------------


CLOCK = Recipe(("A", "B"), Programme(("run",)), Programme(("run",)))


def made_up(lot: int, rows: int = 60) -> Run:
    """A tag with noise around a ramp, and a constant one."""
    noise = np.random.default_rng(lot).normal(size=rows)
    values = tuple((np.arange(rows) * 0.1 + noise).tolist()), (7.0,) * rows
    return Run(f"{lot:03}", ("A", "B"), tuple(60.0 * n for n in range(rows)), values, ((True,) * rows,) * 2)


def test_a_constant_tag_has_a_spread_and_alarms_when_it_moves() -> None:
    model = train("p", CLOCK, [made_up(lot) for lot in range(20)])
    assert np.all(model.published_spread() > 0)
    run = made_up(99)
    assert all(alarm.tag != "B" for alarm in judge(model, {}, run))
    moved = replace(run, values=(run.values[0], (*(7.0,) * 30, *(8.0,) * 30)))
    assert [alarm.tag for alarm in judge(model, {}, moved) if alarm.tag == "B"] == ["B"]


def test_a_tag_that_training_never_saw_does_not_alarm_by_being_there() -> None:
    runs = [made_up(lot) for lot in range(20)]
    lost = [replace(run, good=(run.good[0], (False,) * len(run.times))) for run in runs]
    model = train("p", CLOCK, lost)
    assert all(alarm.tag != "B" for alarm in judge(model, {}, lost[0]))


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 12, 40])
def test_a_run_that_stops_early_is_judged_as_far_as_it_goes(rows: int) -> None:
    model, _ = unseen()
    run = recorded(quiet()[0])
    short = replace(
        run,
        times=run.times[:rows],
        values=tuple(column[:rows] for column in run.values),
        good=tuple(flags[:rows] for flags in run.good),
    )
    assert judge(model, {}, short) == ()


def test_a_run_without_its_set_points_is_judged_and_nothing_breaks() -> None:
    model, _ = unseen()
    run = recorded(quiet()[0])
    kept = [place for place, tag in enumerate(run.tags) if tag in DRYER.tags]
    bare = replace(
        run,
        tags=tuple(run.tags[place] for place in kept),
        values=tuple(run.values[place] for place in kept),
        good=tuple(run.good[place] for place in kept),
    )
    assert {alarm.tag for alarm in judge(model, {}, bare)} <= set(DRYER.tags)


# --- the parts -----------------------------------------------------------------------------------------


def column(*values: float) -> Floats:
    return np.array(values)[:, None]


def test_the_median_of_three_waits_for_three_near_points() -> None:
    nan = float("nan")
    assert median_of_three(column(1, 9, 2, 3))[2:, 0].tolist() == [2.0, 3.0]
    gaps = median_of_three(column(1, nan, 9, nan, 2, 3))
    assert np.isnan(gaps[:4]).all()
    assert gaps[4:, 0].tolist() == [2.0, 3.0]
    far = median_of_three(column(1, 9, nan, nan, nan, nan, 2, 3))
    assert np.isnan(far).all()


def test_a_reference_is_the_mean_of_what_is_good_in_its_window() -> None:
    values = column(1, 2, 3, float("nan"), 5, 6)
    found = references(values, lag=2, window=2)[:, 0]
    assert np.isnan(found[:2]).all()
    assert found[2:].tolist() == [1.0, 1.5, 2.5, 3.0]


def test_phases_follow_their_signals_and_wait_out_their_dwell() -> None:
    programme = Programme(
        ("one", "two", "three"),
        (
            Entry("two", ("one",), (Between("S", low=5.0),), dwell=120.0),
            Entry("three", ("two",), (Between("S", low=8.0), Between("T", high=1.0))),
        ),
    )
    times = np.arange(0.0, 360.0, 60.0)
    signals = {"S": np.array([9.0, 9, 9, 9, 9, np.nan]), "T": np.array([0.0, 0, 2, 2, 0, 0])}
    phases, ages, stage = follow(programme, Stage(0, 0.0), times, signals)
    assert phases.tolist() == [0, 0, 1, 1, 2, 2]
    assert ages.tolist() == [0, 60, 0, 60, 0, 60]
    assert stage == Stage(2, 240.0)
