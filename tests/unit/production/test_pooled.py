"""Estimates over sites: those of the pooled strata, by statsmodels 0.15 and by the formulas of Rothman."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import StratifiedTable

from services.production.domain import pooled
from services.production.domain.pooled import Release, Row, Sums

#: By site the strata: cases and all of the exposed, cases and all of the comparators, and their days.
SITES = {
    "a": [(12, 40, 9, 80, 4000.0, 8200.0), (5, 22, 4, 41, 2100.0, 4300.0)],
    "b": [(17, 55, 12, 97, 5600.0, 9900.0)],
}


def sums_of(strata: list[tuple[int, int, int, int, float, float]]) -> Sums:
    """As a site tells them, by Greenland and Robins 1985."""
    total = Sums()
    for a, n1, b, n0, t1, t0 in strata:
        n, t, m = n1 + n0, t1 + t0, a + b
        total += Sums(
            a * n0 / n,
            b * n1 / n,
            (n1 * n0 * m - a * b * n) / n**2,
            (a * t0 - b * t1) / t,
            t1 * t0 / t,
            (a * t0**2 + b * t1**2) / t**2,
        )
    return total


def test_the_risk_ratio_of_summed_sites_is_that_of_the_pooled_strata() -> None:
    tables = [
        np.array([[a, n1 - a], [b, n0 - b]]) for strata in SITES.values() for a, n1, b, n0, _, _ in strata
    ]
    reference = StratifiedTable(tables)
    found = pooled.risk_ratio(sums_of(SITES["a"]) + sums_of(SITES["b"]))
    assert found.value == pytest.approx(reference.riskratio_pooled, rel=1e-12)
    assert found.lower < found.value < found.upper
    assert math.sqrt(found.lower * found.upper) == pytest.approx(found.value, rel=1e-12)


def test_one_stratum_gives_the_plain_difference_of_rates() -> None:
    """With one stratum the difference is a/t1 - b/t0, its variance a/t1^2 + b/t0^2 (Rothman)."""
    (a, _, b, _, t1, t0) = SITES["b"][0]
    found = pooled.rate_difference(sums_of(SITES["b"]))
    error = math.sqrt(a / t1**2 + b / t0**2)
    assert found.value == pytest.approx(a / t1 - b / t0, rel=1e-12)
    assert found.upper - found.value == pytest.approx(1.959963984540054 * error, rel=1e-12)


def test_a_site_that_withholds_adds_nothing_and_is_said_to() -> None:
    told = Release("a", 1, Row(62, 17), Row(121, 13), sums_of(SITES["a"]))
    silent = Release("b", 1, Row(12, None), Row(30, None))
    alone, both = pooled.evidence([told]), pooled.evidence([told, silent])
    assert both.risk_ratio == alone.risk_ratio
    assert [at.pooled for at in both.sites] == [True, False]
    assert "1 of 2 sites" in pooled.said([told, silent])
    assert "withheld" in pooled.said([silent])


def test_a_site_without_a_plan_withholds_nothing() -> None:
    told = Release("a", 1, Row(62, 17), Row(121, 13), final_plans=70)
    empty = Release("b", 1, Row(), Row(), final_plans=0)
    assert "sites" not in pooled.said([told, empty])
    assert pooled.said([empty]) == "nobody was followed up"


def test_a_risk_ratio_of_some_sites_alone_is_attached_but_not_given_as_a_reason() -> None:
    """Sites tell comparators when ten of these have a complaint: those left out had fewer."""
    told = Release("a", 1, Row(62, 17), Row(121, 13), sums_of(SITES["a"]))
    partly = Release("b", 1, Row(55, 17), Row(97, None))
    assert "that of patients who received sibling lots" in pooled.said([told])
    assert "sibling" not in pooled.said([told, partly])
    assert pooled.evidence([told, partly]).risk_ratio.HasField("lower")


@pytest.mark.parametrize(
    ("sums", "reason"),
    [
        (Sums(), "NO_CASES"),
        (Sums(r=1.0, w=10.0), "NO_COMPARATOR_CASES"),
        (Sums(s=1.0, w=10.0), "NO_EXPOSED_CASES"),
    ],
)
def test_no_interval_is_made_up_where_an_arm_has_no_case(sums: Sums, reason: str) -> None:
    found = pooled.risk_ratio(sums)
    assert (found.reason, found.HasField("lower")) == (reason, False)


def test_numbers_that_are_withheld_are_not_told_as_no_cases() -> None:
    withheld = Release("a", 1, Row(28, None), Row(56, 14), final_plans=30)
    at = pooled.evidence([withheld])
    assert (at.risk_ratio.reason, at.rate_difference.reason) == ("WITHHELD", "WITHHELD")
    nobody = Release("b", 1, Row(0, 0), Row(0, 0), final_plans=0)
    assert pooled.evidence([nobody]).risk_ratio.reason == "NO_CASES"
    assert pooled.evidence([withheld, replace(nobody, sums=Sums())]).risk_ratio.reason == "NO_CASES"
