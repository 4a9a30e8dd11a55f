"""Who counts in which arm, and for what."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest

from services.clinical.domain.evidence.cohort import Comparison, Followed, arm_of, table
from services.clinical.domain.evidence.person_time import Observation, Pack
from services.clinical.domain.evidence.tables import PROMPTED, ROUTINE, Cells, Kind, Stratum, stratum_of
from services.refusals import Malformed

DAY = timedelta(days=1)
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
COMPARISON = Comparison(
    kind=PROMPTED,
    site="hospital-a",
    product="tablets",
    lot="BAD",
    implicated=frozenset({"BAD", "BAD-TOO"}),
    begin=BEGIN,
    end=BEGIN + 30 * DAY,
    follow_up="question-1",
    window=5 * DAY,
)


def day(number: float) -> datetime:
    return BEGIN + number * DAY


def pack(lot: str, start: float = 1, days: float = 20, product: str = "tablets") -> Pack:
    return Pack(product, lot, day(start), days)


def patient(
    *packs: Pack, outcomes: tuple[float, ...] = (), age: int = 50, sex: str = "F"
) -> Followed[Literal[Kind.PROMPTED]]:
    return Followed(
        kind=PROMPTED,
        site="hospital-a",
        follow_up="question-1",
        age_years=age,
        sex=sex,
        packs=packs,
        observation=Observation(day(0), day(60)),
        outcomes=tuple(day(number) for number in outcomes),
    )


def test_the_lot_of_the_period_makes_exposed() -> None:
    assert arm_of(patient(pack("BAD")), COMPARISON) == "exposed"
    assert arm_of(patient(pack("BAD"), pack("GOOD")), COMPARISON) == "exposed"
    assert arm_of(patient(pack("BAD", start=0)), COMPARISON) == "exposed"
    assert arm_of(patient(pack("BAD", start=30)), COMPARISON) is None


def test_a_sibling_lot_of_the_same_product_and_period_makes_a_comparator() -> None:
    assert arm_of(patient(pack("GOOD")), COMPARISON) == "comparator"
    assert arm_of(patient(pack("GOOD", product="syrup")), COMPARISON) is None
    assert arm_of(patient(pack("GOOD", start=-1)), COMPARISON) is None
    assert arm_of(patient(pack("GOOD", start=30)), COMPARISON) is None
    assert arm_of(patient(), COMPARISON) is None


@pytest.mark.parametrize(
    "implicated",
    [
        pack("BAD-TOO"),
        pack("BAD-TOO", product="syrup"),
        pack("BAD-TOO", start=-90),
        pack("BAD", start=-90),
        pack("BAD", start=50),
    ],
)
def test_whoever_received_an_implicated_lot_at_any_time_is_no_comparator(implicated: Pack) -> None:
    assert arm_of(patient(pack("GOOD"), implicated), COMPARISON) is None


def test_both_arms_are_of_one_site_and_followed_in_the_same_way() -> None:
    for packs in ((pack("BAD"),), (pack("GOOD"),)):
        one = patient(*packs)
        assert arm_of(replace(one, site="hospital-b"), COMPARISON) is None
        assert arm_of(replace(one, follow_up="question-2"), COMPARISON) is None
        assert arm_of(replace(one, kind=ROUTINE), COMPARISON) is None  # type: ignore[arg-type]


def test_each_stratum_counts_patients_cases_and_time_of_both_arms() -> None:
    result = table(
        COMPARISON,
        [
            patient(pack("BAD"), outcomes=(8,)),
            patient(pack("BAD")),
            patient(pack("GOOD"), outcomes=(11,)),
            patient(pack("GOOD"), pack("FINE", start=21)),
            patient(pack("BAD"), age=17),
            patient(pack("BAD"), sex="M"),
            patient(pack("OTHER", start=40)),
        ],
    )
    assert result.kind == PROMPTED
    assert dict(result.strata) == {
        Stratum(45, "F"): Cells(a=1, n1=2, b=1, n0=2, t1=7 + 25, t0=10 + 45),
        Stratum(12, "F"): Cells(a=0, n1=1, b=0, n0=0, t1=25),
        Stratum(45, "M"): Cells(a=0, n1=1, b=0, n0=0, t1=25),
    }


def only(*packs: Pack, outcomes: tuple[float, ...]) -> Cells:
    (cells,) = table(COMPARISON, [patient(*packs, outcomes=outcomes)]).strata.values()
    return cells


def test_an_outcome_in_time_of_a_sibling_lot_is_no_case_of_the_lot() -> None:
    switched = (pack("BAD", start=0, days=10), pack("GOOD", start=10, days=10))
    assert only(*switched, outcomes=(15,)) == Cells(0, 1, 0, 0, t1=10)
    assert only(*switched, outcomes=(9,)) == Cells(1, 1, 0, 0, t1=9)
    assert only(*switched, outcomes=(10,)) == Cells(0, 1, 0, 0, t1=10)


def test_an_outcome_counts_in_the_risk_window_and_not_after_it() -> None:
    assert only(pack("BAD"), outcomes=(25,)) == Cells(1, 1, 0, 0, t1=24)
    assert only(pack("BAD"), outcomes=(26,)) == Cells(0, 1, 0, 0, t1=25)


def test_the_first_outcome_while_observed_is_the_one_that_counts() -> None:
    assert only(pack("BAD"), outcomes=(12, 5)) == Cells(1, 1, 0, 0, t1=4)
    assert only(pack("BAD"), outcomes=(-3, 70, 12)) == Cells(1, 1, 0, 0, t1=11)
    assert only(pack("BAD", start=10), outcomes=(5, 12)) == Cells(0, 1, 0, 0)


def test_a_comparator_is_not_compared_in_time_of_another_period() -> None:
    assert only(pack("GOOD"), pack("LATE", start=35), outcomes=(40,)) == Cells(0, 0, 0, 1, t0=25)


def test_another_product_taken_beside_it_takes_no_time_from_the_lot() -> None:
    beside = pack("SYRUP-1", start=5, days=30, product="syrup")
    assert only(pack("BAD"), beside, outcomes=(8,)) == Cells(1, 1, 0, 0, t1=7)


def test_age_bands_begin_with_their_first_year() -> None:
    ages = (0, 1, 2, 11, 12, 17, 18, 44, 45, 64, 65, 74, 75, 130)
    bands = [stratum_of(age, "U").age_from for age in ages]
    assert bands == [0, 0, 2, 2, 12, 12, 18, 18, 45, 45, 65, 65, 75, 75]
    with pytest.raises(Malformed) as refused:
        stratum_of(-1, "U")
    assert refused.value.field == "age_years"


@pytest.mark.parametrize(
    ("cells", "field"),
    [
        ((3, 2, 0, 0), "a"),
        ((0, 0, -1, 5), "b"),
        ((0, 1, 0, 1, -1.0), "t1"),
        ((0, 1, 0, 1, 1.0, float("nan")), "t0"),
    ],
)
def test_impossible_cells_are_refused(cells: tuple[float, ...], field: str) -> None:
    with pytest.raises(Malformed) as refused:
        Cells(*cells)  # type: ignore[arg-type]
    assert refused.value.field == field
