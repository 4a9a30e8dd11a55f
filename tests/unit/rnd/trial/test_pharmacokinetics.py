"""One compartment by mouth: published values, superposition, and the edge where ka equals ke."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from services.refusals import Malformed
from services.rnd.domain.trial.pharmacokinetics import Oral, auc, concentrations, peak, peak_time

THEOPHYLLINE = Oral.of(1.57, 2.76, 31.5)


def single(ka: float, cl: float, v: float, dose: float, t: float) -> float:
    ke = cl / v
    if t < 0:
        return 0.0
    return float(dose * ka / (v * (ka - ke)) * (np.exp(-ke * t) - np.exp(-ka * t)))


def test_one_dose_of_theophylline_has_the_published_area_and_peak() -> None:
    assert auc(320, THEOPHYLLINE)[0] == pytest.approx(115.942, abs=5e-4)
    assert peak_time(THEOPHYLLINE)[0] == pytest.approx(1.947, abs=5e-4)
    assert peak(320, THEOPHYLLINE)[0] == pytest.approx(8.5657, abs=5e-5)


def test_the_curve_has_its_peak_and_area_where_the_formulas_say() -> None:
    at = float(peak_time(THEOPHYLLINE)[0])
    curve = concentrations(THEOPHYLLINE, [0], 320, [at - 0.01, at, at + 0.01])[:, 0]
    assert curve[1] == pytest.approx(peak(320, THEOPHYLLINE)[0], rel=1e-12)
    assert curve[1] > max(curve[0], curve[2])
    times = np.linspace(0, 200, 4_001)
    assert np.trapezoid(concentrations(THEOPHYLLINE, [0], 320, times.tolist())[:, 0], times) == pytest.approx(
        115.942, rel=1e-4
    )


def test_repeated_doses_are_shifted_copies_added_up() -> None:
    rng = np.random.default_rng(4)
    ka, cl, v = rng.uniform(0.3, 3, 40), rng.uniform(1, 5, 40), rng.uniform(15, 60, 40)
    dose_times, times = [0.0, 7.5, 24.0, 24.5, 60.0], [0.0, 3.0, 7.5, 20.0, 24.2, 59.9, 61.7, 100.0]
    doses = rng.uniform(0, 500, (5, 40))
    found = concentrations(Oral.of(ka, cl, v), dose_times, doses, times)
    for subject in range(40):
        for row, at in enumerate(times):
            wanted = sum(
                single(ka[subject], cl[subject], v[subject], doses[k, subject], at - begun)
                for k, begun in enumerate(dose_times)
            )
            assert found[row, subject] == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("apart", [0.0, 1e-15, 1e-12, 1e-9, 1e-6, -1e-9])
def test_where_ka_is_close_to_ke_no_digits_are_lost(apart: float) -> None:
    ke, v, dose = 0.2, 10.0, 100.0
    subject = Oral.of(ke * (1 + apart), ke * v, v)
    times = [0.5, 2.0, 5.0, 13.0]
    limit = [dose * ke * t * np.exp(-ke * t) / v for t in times]
    assert concentrations(subject, [0], dose, times)[:, 0] == pytest.approx(limit, rel=3e-6)
    assert peak_time(subject)[0] == pytest.approx(1 / ke, rel=1e-5)
    twice = concentrations(subject, [0, 6], dose, [8.0])[0, 0]
    assert twice == pytest.approx(dose * ke / v * (8 * np.exp(-ke * 8) + 2 * np.exp(-ke * 2)), rel=3e-6)


def test_absorption_slower_than_elimination_follows_the_equations() -> None:
    ka, cl, v = 0.05, 20.0, 10.0
    solved = solve_ivp(
        lambda t, y: [-ka * y[0], ka * y[0] - cl / v * y[1]], (0, 40), [250, 0], rtol=1e-10, atol=1e-12
    )
    found = concentrations(Oral.of(ka, cl, v), [0], 250, [40.0])[0, 0]
    assert found == pytest.approx(solved.y[1, -1] / v, rel=1e-6)


def test_more_subjects_than_a_block_holds_are_each_their_own() -> None:
    cl = np.linspace(1, 5, 2_500)
    found = concentrations(Oral.of(1.57, cl, 31.5), [0, 12], 320, [5.0, 20.0])
    alone = concentrations(Oral.of(1.57, cl[2_000], 31.5), [0, 12], 320, [5.0, 20.0])
    assert found.shape == (2, 2_500)
    assert found[:, 2_000] == pytest.approx(alone[:, 0], rel=1e-14)


def test_before_the_first_dose_there_is_nothing() -> None:
    assert concentrations(THEOPHYLLINE, [5], 320, [0, 4.9, 5])[:, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("ka", lambda: Oral.of(0, 2, 30)),
        ("cl", lambda: Oral.of(1, [2, float("nan")], 30)),
        ("ka", lambda: Oral.of([1, 1, 1], [2, 2], 30)),
        ("dose_times", lambda: concentrations(THEOPHYLLINE, [0, 0], 320, [1])),
        ("times", lambda: concentrations(THEOPHYLLINE, [0], 320, [])),
        ("doses", lambda: concentrations(THEOPHYLLINE, [0], -1, [1])),
        ("doses", lambda: concentrations(THEOPHYLLINE, [0, 1], [1, 2, 3], [1])),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(field: str, call: object) -> None:
    assert callable(call)
    with pytest.raises(Malformed) as refused:
        call()
    assert refused.value.field == field
