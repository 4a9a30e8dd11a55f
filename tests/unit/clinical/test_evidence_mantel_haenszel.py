"""Mantel-Haenszel estimates against statsmodels on rows, and against values frozen from R.

R 4.2.2, metafor 3.8-1: `rma.mh(measure="RR")` and `rma.mh(measure="IRD")`, with
`mantelhaen.test(correct=FALSE)` of R itself. The third table was checked with
`epi.2by2` of epiR 2.0.57 too, which gives the same 12 digits.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import StratifiedTable

from services.clinical.domain.evidence import cohort
from services.clinical.domain.evidence.cohort import Comparison, Followed
from services.clinical.domain.evidence.mantel_haenszel import (
    Estimate,
    Sums,
    chi_square,
    rate_difference,
    risk_ratio,
    sums,
)
from services.clinical.domain.evidence.person_time import Observation, Pack
from services.clinical.domain.evidence.tables import PROMPTED, ROUTINE, Cells, Kind, Stratum, Table
from services.refusals import Malformed

Prompted = Literal[Kind.PROMPTED]
START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def table(*cells: Cells) -> Table[Prompted]:
    return Table(PROMPTED, {Stratum(age, "F"): one for age, one in enumerate(cells)})


#: Deaths in the University Group Diabetes Program, by age: tolbutamide against placebo
#: (Rothman, Greenland and Lash, Modern Epidemiology, 3rd edition, table 15-1).
DIABETES = table(Cells(8, 106, 5, 120), Cells(22, 98, 16, 85))
#: Deaths by person-years, by age: current against past users of clozapine (same, table 15-2).
CLOZAPINE = table(Cells(196, 196, 111, 111, t1=62119, t0=15763), Cells(167, 167, 157, 157, t1=6085, t0=2780))
#: Thirteen trials of BCG against tuberculosis (`dat.bcg` of metafor).
BCG = table(
    Cells(4, 123, 11, 139),
    Cells(6, 306, 29, 303),
    Cells(3, 231, 11, 220),
    Cells(62, 13598, 248, 12867),
    Cells(33, 5069, 47, 5808),
    Cells(180, 1541, 372, 1451),
    Cells(8, 2545, 10, 629),
    Cells(505, 88391, 499, 88391),
    Cells(29, 7499, 45, 7277),
    Cells(17, 1716, 65, 1665),
    Cells(186, 50634, 141, 27338),
    Cells(5, 2498, 3, 2341),
    Cells(27, 16913, 29, 17854),
)
#: Made up: few cases, cells with none, person-time in days.
SPARSE = table(
    Cells(3, 31, 1, 44, t1=812.5, t0=1210),
    Cells(0, 18, 2, 29, t1=500, t0=830.5),
    Cells(5, 40, 0, 35, t1=1100.25, t0=905),
    Cells(1, 12, 1, 30, t1=301, t0=877),
    Cells(2, 25, 3, 51, t1=640, t0=1500.5),
    Cells(4, 37, 2, 60, t1=990.75, t0=1633),
)


@pytest.mark.parametrize(
    ("data", "level", "ratio", "lower", "upper", "error"),
    [
        (DIABETES, 0.95, 1.32555532416, 0.797907040146, 2.20213236504, 0.258981628015),
        (DIABETES, 0.99, 1.32555532416, 0.680273073792, 2.58292880475, 0.258981628015),
        (BCG, 0.95, 0.635267185078, 0.588128729691, 0.68618378267, 0.0393373668713),
        (BCG, 0.90, 0.635267185078, 0.59546431569, 0.67773061425, 0.0393373668713),
        (SPARSE, 0.95, 2.68263306838, 1.13048711571, 6.36585776124, 0.440901053042),
    ],
)
def test_the_risk_ratio_and_its_interval_are_those_of_r(
    data: Table[Prompted], level: float, ratio: float, lower: float, upper: float, error: float
) -> None:
    found = risk_ratio(sums(data), level)
    assert (found.value, found.lower, found.upper, found.standard_error) == pytest.approx(
        (ratio, lower, upper, error), rel=1e-11
    )


@pytest.mark.parametrize(
    ("data", "difference", "lower", "upper", "error"),
    [
        (CLOZAPINE, -0.00719988287612, -0.00895961549316, -0.00544015025907, 0.000897839261806),
        (SPARSE, 0.00217729507361, 0.000282460412812, 0.0040721297344, 0.000966770142585),
    ],
)
def test_the_rate_difference_and_its_interval_are_those_of_r(
    data: Table[Prompted], difference: float, lower: float, upper: float, error: float
) -> None:
    found = rate_difference(sums(data))
    assert (found.value, found.lower, found.upper, found.standard_error) == pytest.approx(
        (difference, lower, upper, error), rel=1e-11
    )


@pytest.mark.parametrize(("data", "statistic"), [(DIABETES, 1.19140018728), (SPARSE, 5.46385086053)])
def test_the_chi_square_is_that_of_r_without_correction(data: Table[Prompted], statistic: float) -> None:
    assert chi_square(sums(data)) == pytest.approx(statistic, rel=1e-11)


Row = tuple[str, int, str, bool, bool]  # site, age, sex, exposed, case


def random_rows(chance: random.Random) -> list[Row]:
    risk = chance.uniform(0.05, 0.4)
    ratio = chance.uniform(0.5, 2.0)
    rows = []
    for _ in range(chance.randint(150, 600)):
        exposed = chance.random() < 0.4
        case = chance.random() < risk * (ratio if exposed else 1)
        rows.append((chance.choice("xyz"), chance.randint(0, 99), chance.choice("FMU"), exposed, case))
    return rows


def followed(row: Row) -> Followed[Prompted]:
    site, age, sex, exposed, case = row
    return Followed(
        kind=PROMPTED,
        site=site,
        follow_up="question-1",
        age_years=age,
        sex=sex,
        packs=(Pack("tablets", "BAD" if exposed else "GOOD", START, 28),),
        observation=Observation(START, START + 28 * DAY),
        outcomes=(START + 3 * DAY,) if case else (),
    )


def sums_of_site(site: str, rows: list[Row]) -> Sums[Prompted]:
    comparison = Comparison(
        PROMPTED, site, "tablets", "BAD", frozenset({"BAD"}), START, START + DAY, "question-1", timedelta()
    )
    return sums(cohort.table(comparison, map(followed, rows)))


def stratified(rows: list[Row]) -> StratifiedTable:
    bands = [0, 2, 12, 18, 45, 65, 75]
    counts: dict[object, list[list[int]]] = defaultdict(lambda: [[0, 0], [0, 0]])
    for site, age, sex, exposed, case in rows:
        band = sum(age >= first for first in bands)
        counts[site, band, sex][not exposed][not case] += 1
    both = [one for one in counts.values() if sum(one[0]) and sum(one[1])]
    return StratifiedTable([np.array(one, dtype=float) for one in both])


@pytest.mark.parametrize("seed", range(20))
def test_sums_of_sites_give_what_statsmodels_gives_on_the_pooled_rows(seed: int) -> None:
    rows = random_rows(random.Random(seed))
    total = sum((sums_of_site(site, rows) for site in "xyz"), Sums(PROMPTED))
    reference = stratified(rows)
    found = risk_ratio(total)
    assert found.value == pytest.approx(reference.riskratio_pooled, rel=1e-9)
    assert chi_square(total) == pytest.approx(reference.test_null_odds(correction=False).statistic, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_sums_of_sites_are_the_sums_of_one_table_of_all_strata(seed: int) -> None:
    chance = random.Random(seed)

    def cells() -> Cells:
        n1, n0 = chance.randint(0, 40), chance.randint(0, 90)
        a, b = chance.randint(0, n1), chance.randint(0, n0)
        return Cells(a, n1, b, n0, t1=chance.uniform(0, 30) * n1, t0=chance.uniform(0, 30) * n0)

    sites = [[cells() for _ in range(12)] for _ in range(6)]
    by_site = sum((sums(table(*site)) for site in sites), Sums(PROMPTED))
    pooled = sums(table(*(one for site in sites for one in site)))
    for estimate in (risk_ratio, rate_difference):
        one, other = estimate(by_site), estimate(pooled)
        assert (one.value, one.lower, one.upper) == pytest.approx(
            (other.value, other.lower, other.upper), rel=1e-13
        )
    assert by_site.v == pytest.approx(pooled.v, rel=1e-13)


def test_prompted_and_routine_outcomes_are_never_pooled() -> None:
    prompted, routine = Sums(PROMPTED, r=1.0), Sums(ROUTINE, r=1.0)
    # Were the kinds no part of the type, mypy would call this comment unused.
    with pytest.raises(Malformed, match="not pooled") as refused:
        prompted + routine  # type: ignore[operator]
    assert refused.value.field == "kind"


def test_zero_cells_give_a_reason_and_no_invented_half() -> None:
    def of(*cells: Cells) -> Estimate:
        return risk_ratio(sums(table(*cells)))

    assert of(Cells(0, 20, 0, 30)) == Estimate(None, reason="NO_CASES")
    assert of(Cells(3, 20, 0, 30)) == Estimate(None, reason="NO_COMPARATOR_CASES")
    assert of(Cells(0, 20, 3, 30)) == Estimate(0.0, reason="NO_EXPOSED_CASES")
    assert of() == of(Cells(5, 20, 0, 0)) == of(Cells(0, 0, 5, 20)) == Estimate(None, reason="NO_CASES")
    assert chi_square(sums(table(Cells(0, 20, 0, 30)))) is None
    assert chi_square(sums(table(Cells(1, 1, 0, 0)))) is None


def test_rates_without_time_or_cases_give_a_reason() -> None:
    def of(*cells: Cells) -> Estimate:
        return rate_difference(sums(table(*cells)))

    assert of(Cells(3, 20, 2, 30)) == Estimate(None, reason="NO_PERSON_TIME")
    assert of(Cells(3, 20, 0, 0, t1=100)) == Estimate(None, reason="NO_PERSON_TIME")
    assert of(Cells(0, 20, 0, 30, t1=100, t0=150)) == Estimate(0.0, reason="NO_CASES")


def test_a_stratum_with_one_arm_changes_nothing() -> None:
    alone = [Cells(4, 9, 0, 0, t1=80), Cells(0, 0, 2, 7, t0=60)]
    assert sums(table(*SPARSE.strata.values(), *alone)) == sums(SPARSE)


def test_one_stratum_is_the_plain_ratio_and_difference() -> None:
    one = sums(table(Cells(6, 40, 5, 100, t1=400, t0=1000)))
    assert risk_ratio(one).value == pytest.approx(3.0)
    assert risk_ratio(one).standard_error == pytest.approx(math.sqrt(1 / 6 - 1 / 40 + 1 / 5 - 1 / 100))
    assert rate_difference(one).value == pytest.approx(0.01)
    assert rate_difference(one).standard_error == pytest.approx(math.sqrt(6 / 400**2 + 5 / 1000**2))


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, float("nan")])
def test_a_level_that_is_none_is_refused(level: float) -> None:
    for estimate in (risk_ratio, rate_difference):
        with pytest.raises(Malformed, match=r"for example 0\.95") as refused:
            estimate(sums(SPARSE), level)
        assert refused.value.field == "level"
