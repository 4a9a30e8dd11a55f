"""The warfarin twin: its equations against a fine solver, its covariates, its cohort."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from services.refusals import Malformed
from services.rnd.domain.trial import cohort, warfarin
from services.rnd.domain.trial.warfarin import Patients


def patient(**given: float) -> Patients:
    """The typical patient of 60 kg and 71 years, *1/*1 and AA, unless said."""
    usual = {"age": 71, "weight": 60, "inr0": 1.13, "eta": 0, "star1": 2, "star2": 0, "star3": 0, "g": 0}
    fields: dict[str, Any] = {
        name: np.array([float(value) if name in ("age", "weight", "inr0", "eta") else int(value)])
        for name, value in {**usual, "amiodarone": 0, "female": 0, **given}.items()
    }
    return Patients(**fields)


def last(one: Patients, dose: float = 3.0, days: int = 30) -> float:
    return float(warfarin.simulate(one, np.full((days, 1), dose)).inr[-1, 0, 0])


def test_clearance_and_ec50_are_those_of_the_paper() -> None:
    assert warfarin.clearance(patient())[0] == pytest.approx(0.348)
    other = patient(star1=1, star3=1, age=51, g=1, weight=75, amiodarone=1, eta=-0.5)
    assert warfarin.clearance(other)[0] == pytest.approx((0.174 + 0.0422) * (1 + 0.00571 * 20))
    assert warfarin.clearance(patient(star1=0, star2=2))[0] == pytest.approx(2 * 0.0879)
    wanted = (4.3 + 1.14) * 1.25**1.34 * 0.398 * np.exp(-0.5 * np.sqrt(0.2712))
    assert warfarin.ec50(other)[0] == pytest.approx(wanted, rel=1e-4)


def solved(one: Patients, doses: list[float], hours: list[float]) -> list[list[float]]:
    """The equations as they are printed, by a solver that restarts at every dose."""
    cl, half = float(warfarin.clearance(one)[0]), float(warfarin.ec50(one)[0])

    def slopes(_: float, y: Any) -> list[float]:
        c = max(y[0] / 14.3, 0.0)
        free = 1 - c**1.39 / (half**1.39 + c**1.39)
        s, long = 3 / 27.2, 3 / 110.9
        first = [-cl / 14.3 * y[0], s * (free - y[1]), s * (y[1] - y[2]), s * (y[2] - y[3])]
        return [*first, long * (free - y[4]), long * (y[4] - y[5]), long * (y[5] - y[6])]

    state, course = np.array([0.0] + [1.0] * 6), []
    for dose in doses:
        state[0] += dose
        run = solve_ivp(slopes, (0, 24), state, rtol=1e-9, atol=1e-10, t_eval=[*hours, 24], method="DOP853")
        course.append((float(one.inr0[0]) + 20 * (1 - (run.y[3] + run.y[6]) / 2))[: len(hours)].tolist())
        state = run.y[:, -1]
    return course


@pytest.mark.parametrize(
    "one",
    [
        patient(),
        patient(star1=1, star3=1, age=82, amiodarone=1, eta=-1.5),
        patient(g=2, weight=106, age=1, eta=1.5),
        patient(star1=0, star3=2, age=30, weight=40),
    ],
)
def test_the_course_is_that_of_a_fine_solver(one: Patients) -> None:
    doses = [0.0, 5.0, 5.0, 2.5, 0.0, 0.0, *[3.75] * 8]
    found = warfarin.simulate(one, np.array(doses)[:, None], hours=(0, 5, 11.5, 23))
    wanted = solved(one, doses, [0, 5, 11.5, 23])
    assert np.abs(found.inr[:, :, 0] - np.array(wanted)).max() < 1e-6


def test_inr_moves_the_way_the_covariates_say() -> None:
    typical = last(patient())
    raised = [patient(star1=1, star3=1), patient(age=82), patient(amiodarone=1), patient(eta=-1)]
    lowered = [patient(g=1), patient(weight=90), patient(age=40), patient(eta=1)]
    assert all(last(one) > typical for one in raised)
    assert all(last(one) < typical for one in lowered)
    assert last(patient(star1=0, star3=2)) > last(patient(star1=1, star3=1))
    assert last(patient(g=2)) < last(patient(g=1))
    assert last(patient(), dose=6) > typical


def test_without_a_dose_inr_stays_and_after_the_last_dose_it_returns() -> None:
    none = warfarin.simulate(patient(), np.zeros((20, 1))).inr
    assert none == pytest.approx(np.full_like(none, 1.13))
    doses = np.concatenate([np.full((20, 1), 4.0), np.zeros((60, 1))])
    course = warfarin.simulate(patient(), doses).inr[:, 0, 0]
    assert course[20] > 2
    assert course[-1] == pytest.approx(1.13, abs=0.02)


def test_a_dose_shows_in_full_only_after_the_slow_chain() -> None:
    course = warfarin.simulate(patient(), np.full((60, 1), 3.0)).inr[:, 0, 0] - 1.13
    assert course[3] < 0.6 * course[-1]
    assert course[25] > 0.95 * course[-1]


def test_a_course_says_when_after_the_dose_it_was_read() -> None:
    course = warfarin.simulate(patient(), np.full((4, 1), 3.0), hours=(0, 16))
    assert course.time(3, 1) == 3 * 24 + 16
    assert course.inr.shape == (4, 2, 1)


def test_observed_inr_has_the_residual_error() -> None:
    read = warfarin.observed(np.full(200_000, 2.5), np.random.default_rng(7).standard_normal(200_000))
    assert read.mean() == pytest.approx(2.5, rel=0.01)
    assert read.std() / 2.5 == pytest.approx(0.365, rel=0.02)
    assert read.min() > 0


def test_the_cohort_looks_like_the_paper() -> None:
    drawn = cohort.sample(60_000, seed=11)
    assert (drawn.age.min() >= 1, drawn.age.max() <= 82) == (True, True)
    assert (drawn.weight.min() >= 7, drawn.weight.max() <= 106) == (True, True)
    assert drawn.age.mean() == pytest.approx(54.7, abs=1)
    assert drawn.weight.mean() == pytest.approx(59.7, abs=0.2)
    assert drawn.weight.std() == pytest.approx(11.6, abs=0.2)
    assert (drawn.star3 == 1).mean() == pytest.approx(0.057, abs=0.004)
    assert drawn.star2.max() == 0
    assert [(drawn.g == n).mean() for n in range(3)] == pytest.approx([0.803, 0.187, 0.009], abs=0.006)
    assert drawn.amiodarone.mean() == pytest.approx(0.257, abs=0.006)
    assert drawn.female.mean() == pytest.approx(0.489, abs=0.008)
    assert drawn.inr0.mean() == pytest.approx(1.13, abs=0.01)
    assert drawn.inr0.std() == pytest.approx(0.59, abs=0.02)
    assert drawn.eta.std() == pytest.approx(1, abs=0.01)


def test_the_same_seed_gives_the_same_patients_however_many_are_drawn() -> None:
    few, many = cohort.sample(500, seed=3), cohort.sample(9_000, seed=3)
    assert np.array_equal(few.eta, many.eta[:500])
    assert np.array_equal(few.age, many.age[:500])
    assert not np.array_equal(few.eta, cohort.sample(500, seed=4).eta)


def test_uncertain_estimates_spread_as_published_and_stay_possible() -> None:
    drawn = warfarin.uncertain(np.random.default_rng(5), 20_000)
    assert np.std(drawn.ec50_a) / 1.14 == pytest.approx(0.077, rel=0.05)
    assert np.mean(drawn.ec50_g) == pytest.approx(4.3, rel=0.02)
    assert np.min(drawn.amiodarone) >= -0.95
    assert np.min(drawn.variance) >= 0
    few = warfarin.uncertain(np.random.default_rng(5), 10)
    assert np.array_equal(few.ec50_a, np.asarray(drawn.ec50_a)[:10])


def test_impossible_patients_and_doses_are_refused_by_name() -> None:
    with pytest.raises(Malformed, match="two alleles") as refused:
        patient(star1=2, star3=1)
    assert refused.value.field == "star1"
    with pytest.raises(Malformed) as refused:
        patient(inr0=-0.1)
    assert refused.value.field == "inr0"
    with pytest.raises(Malformed) as refused:
        warfarin.simulate(patient(), np.array([[-1.0]]))
    assert refused.value.field == "doses"
    with pytest.raises(Malformed) as refused:
        warfarin.simulate(patient(), np.zeros((3, 2)))
    assert refused.value.field == "doses"
    with pytest.raises(Malformed) as refused:
        warfarin.simulate(patient(), np.zeros((3, 1)), hours=(25,))
    assert refused.value.field == "hours"
    with pytest.raises(Malformed) as refused:
        cohort.sample(5, seed=-1)
    assert refused.value.field == "seed"
    with pytest.raises(Malformed) as refused:
        replace(cohort.HAN_CHINESE, vkorc1_g={0: 0.5, 1: 0.2})
    assert refused.value.field == "vkorc1_g"
