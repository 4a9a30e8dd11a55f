"""What a site tells others about a lot, so that no group of 1 to 9 patients can be worked out.

A table has two rows: the followed patients exposed to a lot, and their
comparators. A row is a total and, of it, cases and others. One rule serves
every number of a row:

    A number is told only if it is the same as, or at least 10 away from, every
    number told before in its place. The first number in every place is 0.

So 1 to 9 is never told (it is too near to 0), and the difference of any two
releases is never 1 to 9 either. Which attack each part prevents:

- *Small groups.* "3 of 40 had a complaint" singles out three people: withheld.
- *Subtraction* (complementary suppression). "40 patients, 37 without a
  complaint" shows the same three. Cases and others are told together or not at
  all, and no total over rows is ever told.
- *Differencing in time.* "20 of 60" today and "21 of 70" next week show what
  ten newcomers answered, who may be known by when they came. Cases are withheld
  until cases and others have both grown by 10, or one of them not at all.
- *Bounds from both sides.* Cases withheld at 30 patients and told as 20 at 41
  were at least 9 at 30, since only 11 came later, and at most 9, since they were
  withheld. After cases were withheld a row is told again only when as many
  patients came since as had come between the last telling and the withholding:
  then all of the smaller group may have come in either stretch.
- *Differencing between tables.* Two lots of a run share their comparators; told
  at 57 with one lot and at 60 with the other, three people stand out. A row has
  one history over all tables that show it, kept in one State of the site. Rows
  must be the same or not nested: none may be the sum of others.
- *Watching the moment.* When a table is told depends only on totals, and on what
  was withheld before, which others know; never on the cases at hand. Otherwise
  the moment at which silence ends would say what the last patient answered.
- *Solving the sums.* With one stratum the sums are the cells in other words
  (R = a n0 / N). They are told only with all four cells.

What it does not prevent: the thresholds are those of the site's totals, and a
stratum may hold fewer than 10 patients. It is never told by itself, but someone
who knows all but a few patients of it may learn more from the sums than from
the totals. Prompted and routine tables are told apart, so the difference of
their totals shows how many did not answer. A row that shrinks while its cases
are withheld (erasures, newly implicated lots) is not told until it has regrown.

`tests/unit/clinical/test_evidence_release.py` plays the attacker, who knows
these rules and every release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Generic

from services.clinical.domain.evidence.mantel_haenszel import Sums
from services.clinical.domain.evidence.tables import K, Kind, Table
from services.refusals import Malformed

#: The smallest group that may be told, and the fewest new responders of a release.
SMALLEST = 10


@dataclass(frozen=True)
class Row:
    """Patients of one arm at the site. `name`: the lot, or whose comparators they are."""

    name: str
    cases: int
    total: int

    @property
    def others(self) -> int:
        return self.total - self.cases


@dataclass(frozen=True)
class Counts:
    """The totals of one table over its strata."""

    exposed: Row
    comparators: Row

    @property
    def total(self) -> int:
        return self.exposed.total + self.comparators.total


@dataclass(frozen=True)
class Told:
    """A row as others see it; `cases` is None where withheld."""

    name: str
    total: int
    cases: int | None


@dataclass(frozen=True)
class Released(Generic[K]):
    """What may leave the site; `sums` only where nothing is withheld."""

    kind: K
    exposed: Told
    comparators: Told
    sums: Sums[K] | None


@dataclass(frozen=True)
class History:
    """All numbers told in the places of one row; nothing was there before the first.

    `latest`: the total told last. `settled`: the total when cases were told last.
    """

    totals: frozenset[int] = frozenset({0})
    cases: frozenset[int] = frozenset({0})
    others: frozenset[int] = frozenset({0})
    latest: int = 0
    settled: int = 0


@dataclass(frozen=True)
class State:
    """What the site has told so far: by kind and row, and of each table (by kind and lot) its
    responders at the last release."""

    rows: Mapping[tuple[Kind, str], History] = field(default_factory=dict)
    responders: Mapping[tuple[Kind, str], int] = field(default_factory=dict)


def counts_of(table: Table[K], lot: str, comparators: str) -> Counts:
    """The totals of a table. `comparators` names the group, the same for every lot that shares it."""
    strata = table.strata.values()
    return Counts(
        Row(lot, sum(cells.a for cells in strata), sum(cells.n1 for cells in strata)),
        Row(comparators, sum(cells.b for cells in strata), sum(cells.n0 for cells in strata)),
    )


def release(state: State, sums: Sums[K], counts: Counts) -> tuple[State, Released[K] | None]:
    """What is told now, and the state after it; None, and the state as it was, while it is too early.

    Needs 10 new responders since this table was last told, and both rows due.
    Raises Malformed for cases beyond a row's total, or two rows of one name.
    """
    _check(counts)
    table = (sums.kind, counts.exposed.name)
    rows = {
        row: state.rows.get((sums.kind, row.name), History()) for row in (counts.exposed, counts.comparators)
    }
    if counts.total - state.responders.get(table, 0) < SMALLEST:
        return state, None
    if not all(_due(row, history) for row, history in rows.items()):
        return state, None
    told = {row: _told(row, history) for row, history in rows.items()}
    exposed, comparators = told.values()
    whole = exposed.cases is not None and comparators.cases is not None
    released = Released(sums.kind, exposed, comparators, sums if whole else None)
    return told_too(state, released), released


def told_too(state: State, released: Released[K]) -> State:
    """The state after a release."""
    rows: dict[tuple[Kind, str], History] = {
        (released.kind, row.name): _after(state.rows.get((released.kind, row.name), History()), row)
        for row in (released.exposed, released.comparators)
    }
    table = (released.kind, released.exposed.name)
    total = released.exposed.total + released.comparators.total
    return State({**state.rows, **rows}, {**state.responders, table: total})


def _check(counts: Counts) -> None:
    if counts.exposed.name == counts.comparators.name:
        said = "exposed and comparators are two groups; give each its own name"
        raise Malformed("SAME_NAME", said, "comparators.name")
    for arm, row in (("exposed", counts.exposed), ("comparators", counts.comparators)):
        if not 0 <= row.cases <= row.total:
            said = f"cases are 0 to {row.total}, the patients of the row; not {row.cases}"
            raise Malformed("OUT_OF_RANGE", said, f"{arm}.cases")


def _free(number: int, before: frozenset[int]) -> bool:
    """May the number be told beside those told before?"""
    return all(number == other or abs(number - other) >= SMALLEST for other in before)


def _due(row: Row, history: History) -> bool:
    """May the row's total be told? This rests on totals alone."""
    if row.total == history.latest:
        return True
    since, before = row.total - history.latest, history.latest - history.settled
    return _free(row.total, history.totals) and (before == 0 or since >= before)


def _told(row: Row, history: History) -> Told:
    free = _free(row.cases, history.cases) and _free(row.others, history.others)
    return Told(row.name, row.total, row.cases if free else None)


def _after(history: History, told: Told) -> History:
    after = replace(history, totals=history.totals | {told.total}, latest=told.total)
    if told.cases is None:
        return after
    cases, others = history.cases | {told.cases}, history.others | {told.total - told.cases}
    return replace(after, cases=cases, others=others, settled=told.total)
