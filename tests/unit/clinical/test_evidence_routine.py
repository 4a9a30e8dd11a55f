"""Tables of routine outcomes against a walk day by day over generated rows, and statsmodels on its counts."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import StratifiedTable

from services.clinical.domain import adverse
from services.clinical.domain.adverse import Course, Report, Source
from services.clinical.domain.evidence import mantel_haenszel, routine
from services.clinical.domain.evidence.person_time import Pack
from services.clinical.domain.evidence.routine import Recipient, Recipients
from services.clinical.domain.evidence.study import Study, sums, totals
from services.clinical.domain.evidence.tables import ROUTINE, Stratum

DAY = timedelta(days=1)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
ROOT, BAD, WORSE = "raw/R", "tablets/BAD", "tablets/WORSE"
GOOD, FINE, OTHER_RUN = "tablets/GOOD", "tablets/FINE", "tablets/OTHER-RUN"
STUDY = Study("hospital-a", ROOT, frozenset({BAD, WORSE}), BEGIN + 20 * DAY, BEGIN + 60 * DAY)
UNTIL = 90
#: The first and the last day of the period in which packs count.
PERIOD = range(20, 60)


@dataclass(frozen=True)
class Row:
    """A patient in whole days since BEGIN; `packs`: lot, first day, days of supply."""

    stratum: Stratum
    packs: tuple[tuple[str, int, int], ...]
    outcomes: tuple[int, ...]
    died: int | None
    moved: int | None

    @property
    def as_packs(self) -> tuple[Pack, ...]:
        return tuple(Pack("tablets", lot, BEGIN + first * DAY, days) for lot, first, days in self.packs)

    def recipient(self) -> Recipient:
        return Recipient(
            product="tablets",
            age_years=self.stratum.age_from,
            sex=self.stratum.sex,
            packs=self.as_packs,
            outcomes=tuple(BEGIN + day * DAY for day in self.outcomes),
            died=None if self.died is None else BEGIN + self.died * DAY,
            moved=None if self.moved is None else BEGIN + self.moved * DAY,
        )


def generated(count: int, seed: int) -> list[Row]:
    draw, rows = random.Random(seed), []
    for _ in range(count):
        firsts = sorted(draw.sample(range(70), draw.choice((1, 1, 2, 3))))
        lots = draw.choices((BAD, WORSE, GOOD, FINE, OTHER_RUN), (3, 2, 6, 6, 1), k=len(firsts))
        rows.append(
            Row(
                Stratum(draw.choice((18, 45, 65)), draw.choice("FM")),
                tuple((lot, first, draw.randint(3, 30)) for lot, first in zip(lots, firsts, strict=True)),
                tuple(draw.sample(range(100), draw.choice((0, 0, 1, 1, 2)))),
                draw.choice((None, None, None, draw.randint(0, 95))),
                draw.choice((None, None, None, draw.randint(0, 95))),
            )
        )
    return rows


def arm(row: Row, lot: str) -> tuple[str, set[str]]:
    """The arm of a row beside the lot, and the lots that put it there; of the root all lots of the run."""
    in_period = {lot for lot, first, _ in row.packs if first in PERIOD}
    wanted = {BAD, WORSE} if lot == ROOT else {lot}
    if in_period & wanted:
        return "exposed", wanted
    if {lot for lot, _, _ in row.packs} & {BAD, WORSE, OTHER_RUN}:
        return "", set()
    return ("comparator", in_period) if in_period else ("", set())


def walked(row: Row, lots: set[str]) -> tuple[int, int] | None:
    """Is it a case, and its days on these lots; day by day, from their first pack to the first outcome."""
    start = min(first for lot, first, _ in row.packs if lot in lots and first in PERIOD)
    end = min(day for day in (UNTIL, row.died, row.moved) if day is not None)
    if end <= start:
        return None
    left = {pack: pack[2] for pack in row.packs}
    taken, lot = {}, ""
    for day in range(100):
        begun = [pack for pack in row.packs if pack[1] <= day and left[pack]]
        if begun:
            pack = max(begun, key=lambda pack: pack[1])
            left[pack] -= 1
            lot = pack[0]
        taken[day] = lot  # after the last supply the lot keeps the time: the window is longer than the walk
    first = min((day for day in row.outcomes if start <= day <= end), default=None)
    last = end if first is None else first
    case = first is not None and taken[min(first, end - 1)] in lots
    return int(case), sum(taken[day] in lots for day in range(start, last))


Counts = dict[Stratum, np.ndarray]


def brute(rows: list[Row], lot: str) -> tuple[Counts, Counts]:
    """By stratum: cases and others of both arms, and their days."""
    people: Counts = defaultdict(lambda: np.zeros((2, 2)))
    days: Counts = defaultdict(lambda: np.zeros(2))
    for row in rows:
        side, lots = arm(row, lot)
        counted = walked(row, lots) if side else None
        if counted is not None:
            place = int(side == "comparator")
            people[row.stratum][place, 1 - counted[0]] += 1
            days[row.stratum][place] += counted[1]
    return people, days


def compared(rows: list[Row]) -> Recipients:
    chosen = [row for row in rows if routine.product(STUDY, {OTHER_RUN}, row.as_packs)]
    return Recipients(BEGIN + UNTIL * DAY, tuple(row.recipient() for row in chosen))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("lot", [ROOT, BAD, WORSE])
def test_tables_are_those_of_a_walk_day_by_day(seed: int, lot: str) -> None:
    rows = generated(600, seed)
    people, days = brute(rows, lot)
    (table,) = routine.tables(STUDY, compared(rows), lot).values()
    assert table.kind == ROUTINE
    assert set(table.strata) == set(people)
    for stratum, cells in table.strata.items():
        found = np.array([[cells.a, cells.n1 - cells.a], [cells.b, cells.n0 - cells.b]])
        assert np.array_equal(found, people[stratum])
        assert (cells.t1, cells.t0) == pytest.approx(tuple(days[stratum]), rel=1e-9)


@pytest.mark.parametrize("seed", [4, 5])
def test_estimates_are_those_of_statsmodels_on_the_rows(seed: int) -> None:
    rows = generated(600, seed)
    people, _ = brute(rows, ROOT)
    reference = StratifiedTable(list(people.values()))
    total = sums(ROUTINE, routine.tables(STUDY, compared(rows), ROOT))
    assert mantel_haenszel.risk_ratio(total).value == pytest.approx(reference.riskratio_pooled, rel=1e-9)
    chi_square = mantel_haenszel.chi_square(total)
    assert chi_square == pytest.approx(reference.test_null_odds().statistic, rel=1e-9)


def test_products_are_apart_and_each_patient_is_in_one() -> None:
    """Who received several counts in that of the first pack of the arm."""
    syrup = Pack("syrup", "syrup/BAD", BEGIN + 30 * DAY, 10)
    study = Study("hospital-a", ROOT, frozenset({BAD, "syrup/BAD"}), STUDY.begin, STUDY.end)
    tablets = Pack("tablets", BAD, BEGIN + 40 * DAY, 10)
    before = Pack("tablets", GOOD, BEGIN + 25 * DAY, 10)
    assert routine.product(study, (), (before, syrup, tablets)) == "syrup"
    assert routine.product(study, (), (before,)) == "tablets"
    assert routine.product(study, (), (Pack("tablets", GOOD, BEGIN, 10),)) == ""
    recipients = Recipients(
        BEGIN + UNTIL * DAY,
        (Recipient("syrup", 50, "F", (syrup,)), Recipient("tablets", 50, "F", (tablets,))),
    )
    tables = routine.tables(study, recipients, ROOT)
    assert {name: table.strata[Stratum(45, "F")].n1 for name, table in tables.items()} == {
        "syrup": 1,
        "tablets": 1,
    }
    assert totals(tables).n1 == 2


# -- what is an outcome ---------------------------------------------------------------------


def told(name: str, onset: float, source: Source = "spontaneous", at: float | None = None) -> Report:
    began, when = (BEGIN + day * DAY for day in (onset, onset if at is None else at))
    return Report(name, source, began.isoformat(), at=when.isoformat())


def course(*reports: Report) -> Course:
    made = Course("P-1", "PL0101")
    for report in reports:
        made = adverse.reported(made, report)
    return made


def onsets(*courses: Course, until: float = UNTIL) -> list[float]:
    return [(at - BEGIN) / DAY for at in routine.outcomes(courses, BEGIN + until * DAY)]


def test_only_what_the_hospital_reports_is_an_outcome() -> None:
    assert onsets(course(told("asked", 3, "solicited"))) == []
    assert onsets(course(told("asked", 3, "solicited"), told("told", 5))) == [5]
    assert onsets(course(told("a", 3), told("b", 8), told("c", 30))) == [3, 30]


def test_an_answer_that_lies_between_two_reports_does_not_join_them() -> None:
    apart = [told("a", 0), told("b", 12)]
    assert onsets(course(*apart)) == onsets(course(*apart, told("asked", 6, "solicited"))) == [0, 12]


def test_what_is_reported_after_the_end_is_no_outcome_whenever_it_began() -> None:
    late, early = told("late", 3, at=11), told("early", 5, at=9)
    assert onsets(course(late, early), until=10) == [5]
    assert onsets(course(late, early), until=11) == [3]
    kept_before = Report("old", "spontaneous", (BEGIN + 3 * DAY).isoformat())
    assert onsets(course(kept_before), until=10) == [3]
