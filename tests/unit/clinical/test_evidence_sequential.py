"""Sequential testing: boundaries against R and the literature, error rates against simulated lots.

References: the O'Brien-Fleming-type boundaries of Lan and DeMets as published for
`ldbounds` (five equal looks, two-sided 0.05), and `getDesignGroupSequential(typeOfDesign
= "asOF", sided = 1)` with `getDesignCharacteristics` of rpact 3.3.4 under R 4.2.2.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from services.clinical.domain.evidence.mantel_haenszel import Sums, sums
from services.clinical.domain.evidence.sequential import (
    Design,
    Expected,
    Look,
    boundaries,
    crossing,
    drift_for,
    look,
    sized,
    spent,
)
from services.clinical.domain.evidence.tables import PROMPTED, Cells, Kind, Stratum, Table
from services.refusals import Malformed

Prompted = Literal[Kind.PROMPTED]
FIVE, THREE = (0.2, 0.4, 0.6, 0.8, 1.0), (1 / 3, 2 / 3, 1.0)
QUARTERS, UNEVEN = (0.25, 0.5, 0.75, 1.0), (0.3, 0.55, 0.8, 1.0)


# -- the boundaries -------------------------------------------------------------


def test_five_equal_looks_have_the_published_boundaries() -> None:
    assert boundaries(FIVE, 0.025) == pytest.approx((4.8769, 3.3569, 2.6803, 2.2898, 2.0310), abs=1.5e-4)


@pytest.mark.parametrize(
    ("looks", "alpha", "wanted"),
    [
        ((1.0,), 0.025, (1.95996398454,)),
        (THREE, 0.025, (3.71030287326, 2.51142748445, 1.99304748327)),
        (FIVE, 0.025, (4.87688494879, 3.35701192170, 2.68028006703, 2.28981677443, 2.03103206307)),
        (UNEVEN, 0.05, (3.39295135467, 2.40416152030, 1.94477229565, 1.73705542833)),
    ],
)
def test_boundaries_are_those_of_rpact(
    looks: tuple[float, ...], alpha: float, wanted: tuple[float, ...]
) -> None:
    assert boundaries(looks, alpha) == pytest.approx(wanted, abs=1e-7)


@pytest.mark.parametrize(
    ("looks", "alpha", "power", "shift", "cumulative"),
    [
        ((1.0,), 0.025, 0.9, 10.5074230614, (0.9,)),
        (THREE, 0.025, 0.9, 10.63196505941, (0.0337932018515, 0.5603069109179, 0.9)),
        (
            FIVE,
            0.025,
            0.9,
            10.74991691577,
            (0.000324097236615, 0.099691669056006, 0.446278595812568, 0.745939278326383, 0.9),
        ),
        (UNEVEN, 0.05, 0.8, 6.38883580106, (0.0222940422886, 0.2991160028642, 0.6320832123750, 0.8)),
    ],
)
def test_the_information_for_a_power_is_that_of_rpact(
    looks: tuple[float, ...], alpha: float, power: float, shift: float, cumulative: tuple[float, ...]
) -> None:
    drift = drift_for(looks, alpha, power)
    assert drift**2 == pytest.approx(shift, abs=1e-6)
    found = np.cumsum(crossing(looks, boundaries(looks, alpha), drift))
    assert tuple(found) == pytest.approx(cumulative, abs=1e-7)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(10, 999), unique=True, max_size=6),
    st.floats(0.001, 0.1),
)
def test_whatever_the_looks_exactly_alpha_is_spent(marks: list[int], alpha: float) -> None:
    looks = (*(mark / 1000 for mark in sorted(marks)), 1.0)
    assume(all(after - before > 0.0015 for before, after in pairwise(looks)))
    chances = crossing(looks, boundaries(looks, alpha), 0.0)
    assert np.cumsum(chances) == pytest.approx([spent(fraction, alpha) for fraction in looks], abs=1e-9)


def test_crossing_agrees_with_simulated_paths() -> None:
    """Independent of the quadrature: Brownian motion with drift, drawn 200,000 times."""
    looks, drift = (0.1, 0.15, 0.7, 1.0), 2.0
    bounds = (1.8, 1.6, 2.2, 1.2)
    steps = np.diff((0.0, *looks))
    moves = np.random.default_rng(7).normal(drift * steps, np.sqrt(steps), (200_000, 4))
    beyond = np.cumsum(moves, axis=1) / np.sqrt(looks) >= bounds
    first = np.where(beyond.any(axis=1), beyond.argmax(axis=1), 4)
    shares = np.bincount(first, minlength=5)[:4] / len(first)
    assert crossing(looks, bounds, drift) == pytest.approx(shares, abs=4.5 * math.sqrt(0.25 / 200_000))


# -- the looks ------------------------------------------------------------------


def test_looks_taken_as_planned_have_the_boundaries_of_the_plan() -> None:
    design = Design(80.0, UNEVEN, 0.05)
    taken: list[Look] = []
    for fraction in UNEVEN:
        taken.append(look(design, taken, score=0.0, information=80 * fraction))
    assert [one.boundary for one in taken] == pytest.approx(boundaries(UNEVEN, 0.05))
    assert [one.signal for one in taken] == [False] * 4


def test_a_skipped_look_costs_no_alpha() -> None:
    design = Design(40.0, QUARTERS)
    first = look(design, [], 0.0, 21.0)
    assert first.boundary == pytest.approx(boundaries((21 / 40, 1.0), 0.025)[0])
    second = look(design, [first], 0.0, 40.0)
    assert second.boundary == pytest.approx(boundaries((21 / 40, 1.0), 0.025)[1])


def test_beyond_the_maximum_is_the_last_look_and_spends_what_is_left() -> None:
    design = Design(40.0, (0.5, 1.0))
    first = look(design, [], 0.0, 20.0)
    last = look(design, [first], 0.0, 50.0)
    chances = crossing((20 / 50, 1.0), (first.boundary, last.boundary), 0.0)
    assert sum(chances) == pytest.approx(0.025, abs=1e-9)
    with pytest.raises(Malformed, match="last look") as refused:
        look(design, [first, last], 0.0, 60.0)
    assert refused.value.reason == "STOPPED"


def test_a_score_at_its_boundary_signals_and_ends_the_test() -> None:
    design = Design(40.0, (0.5, 1.0))
    bound = look(design, [], 0.0, 20.0).boundary
    assert not look(design, [], (bound - 1e-6) * math.sqrt(20), 20.0).signal
    signalled = look(design, [], (bound + 1e-9) * math.sqrt(20), 20.0)
    assert signalled.signal
    with pytest.raises(Malformed, match="has signalled") as refused:
        look(design, [signalled], 0.0, 40.0)
    assert refused.value.reason == "STOPPED"


def test_fewer_cases_than_expected_never_signal() -> None:
    assert not look(Design(40.0, (1.0,)), [], -100.0, 40.0).signal


@pytest.mark.parametrize(
    ("taken", "information", "due"),
    [
        ((), 9.9, "10"),
        ((), 0.0, "10"),
        ((), float("nan"), "10"),
        ((), float("inf"), "10"),
        ((10.0,), 10.0, "20"),
        ((10.0,), 19.9, "20"),
        ((10.0,), 5.0, "20"),
        ((25.0,), 29.0, "30"),
        ((19.99,), 20.0, "20.03"),
    ],
)
def test_a_look_that_is_not_planned_is_refused(
    taken: tuple[float, ...], information: float, due: str
) -> None:
    design = Design(40.0, QUARTERS)
    before = [Look(one, 0.0, 4.0) for one in taken]
    with pytest.raises(Malformed, match=f"planned at information {due}, ") as refused:
        look(design, before, 50.0, information)
    assert (refused.value.reason, refused.value.field) == ("NOT_PLANNED", "information")


@pytest.mark.parametrize(
    ("information", "looks", "alpha", "field"),
    [
        (0.0, (1.0,), 0.025, "max_information"),
        (float("inf"), (1.0,), 0.025, "max_information"),
        (10.0, (), 0.025, "looks"),
        (10.0, (0.5,), 0.025, "looks"),
        (10.0, (0.5, 0.5, 1.0), 0.025, "looks"),
        (10.0, (0.0, 1.0), 0.025, "looks"),
        (10.0, (0.5, 1.0, 1.5), 0.025, "looks"),
        (10.0, (1.0,), 0.5, "alpha"),
        (10.0, (1.0,), 0.0, "alpha"),
    ],
)
def test_an_impossible_design_is_refused(
    information: float, looks: tuple[float, ...], alpha: float, field: str
) -> None:
    with pytest.raises(Malformed) as refused:
        Design(information, looks, alpha)
    assert refused.value.field == field


def test_one_look_is_sized_as_the_two_proportions_test() -> None:
    """Patients for a test of two proportions with pooled variance under no effect (Fleiss, Statistical
    Methods for Rates and Proportions, equal arms), times what one patient adds to V."""
    low, high, power = 0.1, 0.18, 0.85
    mean = (low + high) / 2
    z_alpha, z_power = 1.959963985, 1.036433389
    root = z_alpha * math.sqrt(2 * mean * (1 - mean)) + z_power * math.sqrt(
        low * (1 - low) + high * (1 - high)
    )
    per_arm = (root / (high - low)) ** 2
    found = sized(high / low, [Expected(1, 0.5, low)], (1.0,), power=power)
    assert found.max_information == pytest.approx(2 * per_arm * mean * (1 - mean) / 4, rel=1e-7)


@pytest.mark.parametrize(
    ("ratio", "strata", "power", "field"),
    [
        (1.0, [Expected(1, 0.3, 0.1)], 0.9, "risk_ratio"),
        (2.0, [], 0.9, "strata"),
        (2.0, [Expected(1, 0.3, 0.1), Expected(1, 0.3, 0.6)], 0.9, "strata[1].risk"),
        (2.0, [Expected(1, 0.3, 0.0)], 0.9, "strata[0].risk"),
        (2.0, [Expected(1, 1.0, 0.1)], 0.9, "strata[0].exposed_share"),
        (2.0, [Expected(0, 0.3, 0.1)], 0.9, "strata[0].weight"),
        (2.0, [Expected(1, 0.3, 0.1)], 0.02, "power"),
    ],
)
def test_an_impossible_size_is_refused(
    ratio: float, strata: list[Expected], power: float, field: str
) -> None:
    with pytest.raises(Malformed) as refused:
        sized(ratio, strata, QUARTERS, power=power)
    assert refused.value.field == field


# -- error rates over simulated lots ----------------------------------------------

LOTS, BATCHES, BATCH = 2500, 120, 20
RATIO, SHARE = 1.5, 0.4
#: Shares of the patients and comparators' risks in four strata.
SHARES, RISKS = (0.4, 0.3, 0.2, 0.1), (0.12, 0.2, 0.3, 0.32)
DESIGN = sized(RATIO, [Expected(one, SHARE, risk) for one, risk in zip(SHARES, RISKS, strict=True)], QUARTERS)
#: What is promised of a lot without harm, over all planned looks.
FALSE_ALARMS = 0.035


def growing(chance: np.random.Generator, ratio: float) -> Iterator[Callable[[int], Sums[Prompted]]]:
    """Lots, one after the other; each says what is known after any number of batches of patients."""
    for _ in range(LOTS):
        patients = chance.multinomial(BATCH, SHARES, BATCHES)
        exposed = chance.binomial(patients, SHARE)
        cases = chance.binomial(exposed, np.array(RISKS) * ratio)
        others = chance.binomial(patients - exposed, RISKS)
        cells = np.cumsum(np.stack((cases, exposed, others, patients - exposed), axis=2), axis=0).tolist()

        def known(batches: int, cells: list[list[list[int]]] = cells) -> Sums[Prompted]:
            strata = {Stratum(age, "F"): Cells(*row) for age, row in enumerate(cells[batches])}
            return sums(Table(PROMPTED, strata))

        yield known


def signals(known: Callable[[int], Sums[Prompted]]) -> bool:
    """Does the lot signal at any look? Each is taken as soon as it is due."""
    taken: list[Look] = []
    for fraction in DESIGN.looks:
        due = fraction * DESIGN.max_information
        total = known(bisect_left(range(BATCHES), due, key=lambda batches: known(batches).v))
        taken.append(look(DESIGN, taken, total.score, total.v))
        if taken[-1].signal:
            return True
    return False


def alarms(ratio: float, seed: int) -> int:
    return sum(map(signals, growing(np.random.default_rng(seed), ratio)))


def test_lots_without_harm_alarm_no_more_often_than_promised() -> None:
    """The exact 99 % limit (Clopper and Pearson, one-sided) of the share that alarms at any look."""
    _, upper = proportion_confint(alarms(1.0, seed=1), LOTS, alpha=0.02, method="beta")
    assert upper <= FALSE_ALARMS


def test_lots_with_the_planted_harm_are_found_with_the_stated_power() -> None:
    lower, upper = proportion_confint(alarms(RATIO, seed=2), LOTS, alpha=0.01, method="beta")
    assert lower <= 0.9 <= upper
