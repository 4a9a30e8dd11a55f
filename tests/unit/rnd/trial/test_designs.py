"""Designs of trials against rpact 3.3.4, BOIN 2.7.2 and scipy, and the ways in which looks go astray."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from services.refusals import Malformed
from services.rnd.domain.trial import boin, distributions, sequential, sizes
from services.rnd.domain.trial.boin import Boin
from services.rnd.domain.trial.sequential import Design, Kind, characteristics, equal_steps


@pytest.mark.parametrize(
    ("kind", "critical", "inflation", "asn_h1", "asn_h0"),
    [
        ("pocock", (2.2895, 2.2895, 2.2895), 1.1664, 0.8186, 1.1431),
        ("obrien_fleming", (3.4711, 2.4544, 2.0040), 1.0174, 0.8562, 1.0124),
    ],
)
def test_three_looks_are_those_of_rpact(
    kind: Kind, critical: tuple[float, ...], inflation: float, asn_h1: float, asn_h0: float
) -> None:
    found = characteristics(equal_steps(kind, 3, alpha=0.05), power=0.8)
    assert found.critical == pytest.approx(critical, abs=5e-5)
    assert (found.inflation, found.asn_h1, found.asn_h0) == pytest.approx(
        (inflation, asn_h1, asn_h0), abs=5e-5
    )
    assert found.reached[-1] == pytest.approx(0.8, abs=1e-10)


@pytest.mark.parametrize(
    ("count", "alpha", "pocock", "obrien_fleming"),
    [  # Jennison and Turnbull 2000, tables 2.1 and 2.3
        (2, 0.05, 2.178, 1.977),
        (5, 0.05, 2.413, 2.040),
        (10, 0.05, 2.555, 2.087),
        (3, 0.01, 2.873, 2.595),
        (5, 0.10, 2.122, 1.751),
        (20, 0.05, 2.672, 2.126),
    ],
)
def test_constants_are_those_of_the_tables(
    count: int, alpha: float, pocock: float, obrien_fleming: float
) -> None:
    for kind, constant in (("pocock", pocock), ("obrien_fleming", obrien_fleming)):
        last = sequential.boundaries(equal_steps(kind, count, alpha))[-1]  # type: ignore[arg-type]
        assert last == pytest.approx(constant, abs=6e-4)


def test_wang_tsiatis_holds_both_ends() -> None:
    for shape, kind in ((0.5, "pocock"), (0.0, "obrien_fleming")):
        same = sequential.boundaries(equal_steps(kind, 4))  # type: ignore[arg-type]
        assert sequential.boundaries(equal_steps("wang_tsiatis", 4, shape=shape)) == pytest.approx(same)
    # Jennison and Turnbull 2000, table 2.9: shape 0.25, alpha 0.05.
    for count, constant in ((2, 2.038), (3, 2.083), (4, 2.113), (5, 2.136)):
        last = sequential.boundaries(equal_steps("wang_tsiatis", count, shape=0.25))[-1]
        assert last == pytest.approx(constant, abs=6e-4)


@pytest.mark.parametrize("kind", ["pocock", "obrien_fleming", "wang_tsiatis", "spend_obf", "spend_pocock"])
@pytest.mark.parametrize("sides", [1, 2])
def test_uneven_looks_spend_exactly_alpha(kind: Kind, sides: int) -> None:
    design = Design(kind, (0.15, 0.5, 0.6, 0.97, 1.0), alpha=0.04, sides=sides)
    found = characteristics(design, power=0.9)
    assert found.spent[-1] == pytest.approx(0.04 / sides, abs=1e-10)
    assert found.inflation > 1
    assert found.asn_h1 < found.inflation


def test_the_chances_of_the_integration_are_those_of_simulated_trials() -> None:
    looks, bounds, drift = (0.3, 0.55, 1.0), (2.6, 2.3, 2.05), 1.9
    rng = np.random.default_rng(8)
    steps = np.diff(looks, prepend=0.0)
    walk = np.cumsum(np.sqrt(steps) * rng.standard_normal((400_000, 3)) + drift * steps, axis=1)
    z = walk / np.sqrt(looks)
    alive, found = np.ones(len(z), dtype=bool), []
    for look, bound in enumerate(bounds):
        found.append(float((alive & (z[:, look] >= bound)).mean()))
        alive &= np.abs(z[:, look]) < bound
    assert sequential.crossings(looks, bounds, drift, 2).upper == pytest.approx(found, abs=3e-3)


@pytest.mark.parametrize(
    ("kind", "bounds"),
    [  # DeMets and Lan, Stat Med 1994;13:1341, five equal looks, two-sided 0.05
        ("spend_obf", (4.877, 3.357, 2.680, 2.290, 2.031)),
        ("spend_pocock", (2.438, 2.427, 2.410, 2.397, 2.386)),
    ],
)
def test_spending_bounds_are_the_published_ones(kind: Kind, bounds: tuple[float, ...]) -> None:
    found = sequential.boundaries(equal_steps(kind, 5, alpha=0.025, sides=1))
    assert found == pytest.approx(bounds, abs=1e-3)


def test_a_skipped_look_and_an_additional_one_cost_no_alpha_under_spending() -> None:
    design = equal_steps("spend_obf", 4, alpha=0.025, sides=1)
    for fractions in ([0.25, 0.75, 1.0], [0.1, 0.25, 0.4, 0.5, 0.66, 0.75, 0.9, 1.0], [0.5, 1.2]):
        bounds: list[float] = []
        for index, now in enumerate(fractions):
            bounds.append(sequential.next_boundary(design, fractions[:index], bounds, now))
        crossed = sequential.crossings(fractions, bounds, 0.0, 1)
        assert sum(crossed.upper) == pytest.approx(0.025, abs=1e-9)


def test_after_the_last_look_nothing_is_left_and_fixed_forms_do_not_bend() -> None:
    with pytest.raises(Malformed) as refused:
        sequential.next_boundary(equal_steps("spend_obf", 2), [0.5, 1.0], [2.9, 2.0], 1.1)
    assert (refused.value.field, refused.value.reason) == ("now", "STOPPED")
    with pytest.raises(Malformed) as refused:
        sequential.next_boundary(equal_steps("pocock", 2), [], [], 0.4)
    assert refused.value.field == "kind"


def test_a_look_too_early_to_spend_never_stops_the_trial() -> None:
    bounds = sequential.boundaries(Design("spend_obf", (0.01, 1.0), alpha=0.025, sides=1))
    assert bounds[0] == math.inf
    assert bounds[1] == pytest.approx(1.95996, abs=1e-4)


def test_one_look_is_the_fixed_design() -> None:
    for kind in ("pocock", "obrien_fleming", "spend_obf"):
        found = characteristics(equal_steps(kind, 1), power=0.9)
        assert found.critical[0] == pytest.approx(1.959964, abs=1e-6)
        assert (found.inflation, found.asn_h1, found.asn_h0) == pytest.approx((1, 1, 1), abs=1e-9)


def test_conditional_power_at_the_trend_and_at_the_plan() -> None:
    # Lan and Wittes, Biometrics 1988;44:579: B(t) = Z sqrt(t), trend B(t) / t.
    assert sequential.conditional_power(2.0, 0.25, 1.96) == pytest.approx(
        stats.norm.sf((1.96 - 1.0 - 4.0 * 0.75) / math.sqrt(0.75))
    )
    assert sequential.conditional_power(0.0, 0.5, 1.96, drift=0.0) == pytest.approx(
        stats.norm.sf(1.96 / math.sqrt(0.5))
    )


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("kind", lambda: Design("haybittle", (0.5, 1.0))),  # type: ignore[arg-type]
        ("looks", lambda: Design("pocock", (0.5, 0.9))),
        ("looks", lambda: Design("pocock", (0.5, 0.4, 1.0))),
        ("looks", lambda: equal_steps("pocock", 0)),
        ("alpha", lambda: equal_steps("pocock", 2, alpha=1.0)),
        ("sides", lambda: equal_steps("pocock", 2, sides=3)),
        ("power", lambda: characteristics(equal_steps("pocock", 2), power=0.01)),
        ("difference", lambda: sizes.means(0, 1)),
        ("deviation", lambda: sizes.means(0.5, -1)),
        ("second", lambda: sizes.rates(0.2, 0.2)),
        ("hazard_ratio", lambda: sizes.events(1)),
        ("target", lambda: Boin(0.7)),
        ("low", lambda: Boin(0.3, low=0.29)),
        ("patients", lambda: boin.boundary(Boin(0.3), 0)),
        ("toxicities", lambda: boin.after_cohort(Boin(0.3), [3, 0], [4, 0], 0)),
        ("level", lambda: boin.after_cohort(Boin(0.3), [3, 0], [0, 0], 1, open_levels=1)),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(field: str, call: object) -> None:
    assert callable(call)
    with pytest.raises(Malformed) as refused:
        call()
    assert refused.value.field == field


def test_two_means_need_what_rpact_says() -> None:
    assert sizes.means(0.5, 1, alpha=0.025, power=0.8) == pytest.approx(127.5316, abs=1e-4)
    assert sizes.means(-0.5, 1, alpha=0.05, power=0.8, sides=2) == pytest.approx(127.5316, abs=1e-4)
    assert sizes.means(0.5, 1, normal=True) == pytest.approx(125.5821, abs=1e-4)


@pytest.mark.parametrize(
    ("difference", "power", "ratio"), [(0.3, 0.9, 1.0), (1.5, 0.8, 1.0), (0.7, 0.85, 2.0)]
)
def test_the_size_of_two_means_has_the_power_by_scipy(difference: float, power: float, ratio: float) -> None:
    total = sizes.means(difference, 1.0, power=power, ratio=ratio)
    noncentrality = difference * math.sqrt(total * ratio) / (1 + ratio)
    critical = stats.t.isf(0.025, total - 2)
    assert stats.nct.sf(critical, total - 2, noncentrality) == pytest.approx(power, abs=1e-8)


def test_rates_and_events_are_those_of_the_formulas_in_use() -> None:
    # Fleiss, Statistical Methods for Rates and Proportions: 0.6 against 0.4, two-sided 5 %, 80 %: 97 an arm.
    assert sizes.whole(sizes.rates(0.6, 0.4)) == (97, 97)
    # Schoenfeld: hazard ratio 0.5, two-sided 5 %, 80 %: 66 events.
    assert math.ceil(sizes.events(0.5)) == 66
    assert sizes.whole(127.5316) == (64, 64)
    assert sizes.whole(90.0, ratio=2) == (60, 30)


@pytest.mark.parametrize("df", [1.0, 2.5, 7.0, 40.0, 1e4])
def test_student_t_is_that_of_scipy(df: float) -> None:
    for t in (-2.0, 0.3, 1.7, 4.0):
        assert distributions.t_upper(t, df) == pytest.approx(stats.t.sf(t, df), abs=1e-10)
        assert distributions.t_upper(t, df, 2.8) == pytest.approx(stats.nct.sf(t, df, 2.8), abs=1e-9)
    for upper in (0.001, 0.025, 0.4, 0.8):
        assert distributions.t_quantile(upper, df) == pytest.approx(stats.t.isf(upper, df), rel=1e-8)


def test_boin_boundaries_are_those_of_the_package() -> None:
    design = Boin(0.3)
    assert (design.lambda_e, design.lambda_d) == pytest.approx((0.2364907, 0.3585195), abs=5e-8)
    rows = boin.table(design, range(3, 31, 3))
    assert [one.escalate for one in rows] == [0, 1, 2, 2, 3, 4, 4, 5, 6, 7]
    assert [one.de_escalate for one in rows] == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert [one.eliminate for one in rows] == [3, 4, 5, 7, 8, 9, 10, 11, 12, 14]
    assert boin.boundary(design, 2).eliminate is None


def test_boin_never_asks_for_more_toxicities_to_leave_a_dose_than_to_eliminate_it() -> None:
    for target in (0.05, 0.1, 0.2, 0.25, 0.4, 0.6):
        for one in boin.table(Boin(target), (1, 2, 3, 4, 7, 20, 41, 60)):
            assert one.escalate < one.de_escalate
            assert one.eliminate is None or one.de_escalate <= one.eliminate
            if one.eliminate is not None:
                tails = [stats.beta.sf(target, 1 + y, 1 + one.patients - y) for y in range(one.patients + 1)]
                assert tails[one.eliminate] > 0.95 >= tails[one.eliminate - 1]


def test_boin_moves_over_the_doses_with_cohorts_of_any_size() -> None:
    design = Boin(0.3)

    def after(
        patients: list[int], toxicities: list[int], level: int, still: int | None = None
    ) -> tuple[object, ...]:
        found = boin.after_cohort(design, patients, toxicities, level, still)
        return found.decision, found.level, found.open_levels

    assert after([3, 0, 0], [0, 0, 0], 0) == ("escalate", 1, 3)
    assert after([3, 4, 0], [0, 1, 0], 1) == ("stay", 1, 3)
    assert after([3, 2, 0], [0, 1, 0], 1) == ("de-escalate", 0, 3)
    assert after([3, 3, 0], [0, 3, 0], 1) == ("eliminate", 0, 1)
    assert after([6, 3, 0], [0, 3, 0], 0, 1) == ("stay", 0, 1)
    assert after([3, 0, 0], [2, 0, 0], 0) == ("stay", 0, 3)
    assert after([3, 0, 0], [3, 0, 0], 0) == ("stop", None, 0)
    assert after([3, 3, 3], [0, 0, 0], 2) == ("stay", 2, 3)


def test_boin_selects_the_dose_closest_to_the_target_after_pooling() -> None:
    design = Boin(0.3)
    assert boin.selected(design, [3, 6, 9, 3], [0, 1, 3, 2]) == 2
    assert boin.selected(design, [3, 0, 0], [3, 0, 0]) is None
    assert boin.selected(design, [0, 0], [0, 0]) is None
    assert boin.selected(design, [6, 6], [2, 1]) == 1  # pooled to the same rate, below the target: the higher
