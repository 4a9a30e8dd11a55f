"""What a site tells, and an attacker who knows the rules and every release.

The attacker goes through all histories that would have led to exactly the
releases seen. A number of patients, or its change between two releases, is
found out when it is the same in all of them. None that is found out is 1 to 9.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import product
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.clinical.domain.evidence.mantel_haenszel import Sums, sums
from services.clinical.domain.evidence.release import Counts, Released, Row, State, Told, counts_of, release
from services.clinical.domain.evidence.tables import PROMPTED, ROUTINE, Cells, Kind, Stratum, Table
from services.refusals import Malformed

Prompted = Literal[Kind.PROMPTED]
Group = tuple[int, int]  # cases, total
Step = tuple[Group, ...]  # the groups of one moment: exposed to each lot, then comparators
Seen = tuple[Released[Prompted] | None, ...]


def sums_of(exposed: Group, comparators: Group) -> Sums[Prompted]:
    """Of one stratum: the sums that say most."""
    return sums(Table(PROMPTED, {Stratum(45, "F"): Cells(*exposed, *comparators)}))


def told(
    state: State, exposed: Group, comparators: Group, lot: str = "L1"
) -> tuple[State, Released[Prompted] | None]:
    counts = Counts(Row(lot, *exposed), Row("siblings", *comparators))
    return release(state, sums_of(exposed, comparators), counts)


def after(*steps: tuple[Group, Group]) -> tuple[State, Released[Prompted] | None]:
    """The last release of one lot's history."""
    state, released = State(), None
    for exposed, comparators in steps:
        state, released = told(state, exposed, comparators)
    return state, released


def cases_told(*exposed: Group) -> int | None:
    """The exposed cases as last told; the comparators are 50 without a case all the time."""
    _, released = after(*((one, (0, 50)) for one in exposed))
    assert released is not None
    return released.exposed.cases


# -- the rules, one by one --------------------------------------------------------


def test_nothing_is_told_before_ten_have_answered() -> None:
    state, released = told(State(), (0, 9), (0, 0))
    assert (state, released) == (State(), None)
    _, released = told(state, (0, 10), (0, 0))
    assert released is not None
    assert (released.exposed, released.comparators) == (Told("L1", 10, 0), Told("siblings", 0, 0))


def test_a_release_waits_for_ten_new_responders() -> None:
    state, _ = after(((10, 20), (0, 50)))
    assert told(state, (10, 29), (0, 50)) == (state, None)
    _, released = told(state, (10, 30), (0, 50))
    assert released is not None
    assert (released.exposed.total, released.exposed.cases) == (30, 10)


def test_all_is_told_where_no_group_is_small() -> None:
    _, released = after(((12, 40), (15, 100)))
    assert released == Released(
        PROMPTED, Told("L1", 40, 12), Told("siblings", 100, 15), sums_of((12, 40), (15, 100))
    )


@pytest.mark.parametrize("cases", [1, 9, 31, 39])
def test_a_small_group_is_withheld_and_what_it_could_be_worked_out_from(cases: int) -> None:
    _, released = after(((cases, 40), (15, 100)))
    assert released == Released(PROMPTED, Told("L1", 40, None), Told("siblings", 100, 15), None)
    _, released = after(((12, 40), (cases, 40)))
    assert released == Released(PROMPTED, Told("L1", 40, 12), Told("siblings", 40, None), None)


def test_nobody_and_everybody_are_told() -> None:
    assert cases_told((0, 40)) == 0
    assert cases_told((40, 40)) == 40


def test_two_releases_do_not_show_what_a_few_newcomers_answered() -> None:
    assert cases_told((20, 60), (21, 70)) is None
    assert cases_told((20, 60), (29, 80)) is None
    assert cases_told((20, 60), (55, 100)) is None, "5 more without a complaint"
    assert cases_told((20, 60), (20, 70)) == 20
    assert cases_told((20, 60), (30, 70)) == 30
    assert cases_told((20, 60), (30, 80)) == 30


def test_a_withheld_release_is_passed_over_in_later_comparisons() -> None:
    assert cases_told((20, 60), (21, 70), (30, 80)) == 30
    assert cases_told((20, 60), (21, 70), (29, 80)) is None


def test_after_cases_were_withheld_as_many_must_come_again() -> None:
    """Told at 41, 20 cases would show that there were 9 at 30: 11 came since, and 1 to 9 is withheld."""
    state, released = after(((9, 30), (0, 50)))
    assert released is not None
    assert released.exposed.cases is None
    assert told(state, (20, 41), (0, 50)) == (state, None)
    assert told(state, (20, 59), (0, 50)) == (state, None)
    _, released = told(state, (20, 60), (0, 50))
    assert released is not None
    assert released.exposed.cases == 20


def test_a_corrected_answer_does_not_stand_out() -> None:
    assert cases_told((20, 60), (19, 70)) is None
    assert cases_told((20, 60), (10, 70)) == 10
    assert cases_told((20, 60), (30, 80), (21, 90)) is None, "1 from the first release"


def test_a_row_that_grew_by_a_few_holds_the_table_back() -> None:
    state, _ = after(((20, 60), (15, 100)))
    assert told(state, (20, 63), (15, 110)) == (state, None)
    assert told(state, (20, 59), (15, 120)) == (state, None)
    assert told(state, (20, 60), (15, 110))[1] is not None


def test_comparators_shared_by_two_lots_have_one_history() -> None:
    state, first = told(State(), (12, 40), (15, 57), lot="L1")
    assert first is not None
    assert told(state, (12, 40), (15, 60), lot="L2") == (state, None)
    _, second = told(state, (12, 40), (15, 57), lot="L2")
    assert second is not None
    assert second.comparators == first.comparators


def test_prompted_and_routine_tables_are_told_independently() -> None:
    state, _ = after(((12, 40), (15, 57)))
    counts = Counts(Row("L1", 13, 41), Row("siblings", 15, 60))
    _, routine = release(state, Sums(ROUTINE), counts)
    assert routine is not None
    assert (routine.kind, routine.exposed.cases) == (ROUTINE, 13)


_groups = st.tuples(st.integers(0, 90), st.integers(0, 90)).map(lambda pair: (min(pair), max(pair)))


@given(st.lists(st.tuples(_groups, _groups), min_size=1, max_size=8), st.data())
def test_whether_something_is_told_now_never_depends_on_cases(
    steps: list[tuple[Group, Group]], data: st.DataObject
) -> None:
    state = State()
    for exposed, comparators in steps:
        changed = [(data.draw(st.integers(0, total)), total) for _, total in (exposed, comparators)]
        _, otherwise = told(state, changed[0], changed[1])
        state, released = told(state, exposed, comparators)
        assert (released is None) == (otherwise is None)


def test_counts_are_the_totals_over_strata() -> None:
    table = Table(PROMPTED, {Stratum(18, "F"): Cells(1, 5, 2, 7), Stratum(45, "M"): Cells(3, 4, 0, 6)})
    assert counts_of(table, "L1", "siblings") == Counts(Row("L1", 4, 9), Row("siblings", 2, 13))


def test_impossible_counts_are_refused() -> None:
    for exposed, comparators, field in (
        ((3, 2), (0, 0), "exposed.cases"),
        ((0, 0), (-1, 2), "comparators.cases"),
    ):
        with pytest.raises(Malformed) as refused:
            release(State(), Sums(PROMPTED), Counts(Row("L1", *exposed), Row("siblings", *comparators)))
        assert refused.value.field == field
    with pytest.raises(Malformed, match="its own name") as refused:
        release(State(), Sums(PROMPTED), Counts(Row("L1", 0, 0), Row("L1", 0, 0)))
    assert refused.value.field == "comparators.name"


# -- the attacker -----------------------------------------------------------------


def found_out(histories: Iterable[tuple[Step, ...]]) -> Iterator[str]:
    """Small numbers that are the same in all histories; each is the groups at every release."""
    numbers: dict[tuple[int, int, int, str], set[int]] = defaultdict(set)
    for history in histories:
        nothing = tuple((0, 0) for _ in history[0])
        moments = (nothing, *history)
        for now in range(1, len(moments)):
            for before in range(now):
                for place, ((c1, n1), (c0, n0)) in enumerate(zip(moments[now], moments[before], strict=True)):
                    numbers[before, now, place, "total"].add(n1 - n0)
                    numbers[before, now, place, "cases"].add(c1 - c0)
                    numbers[before, now, place, "others"].add((n1 - c1) - (n0 - c0))
    for where, values in numbers.items():
        if len(values) == 1 and 1 <= abs(min(values)) <= 9:
            yield f"{where}: {values}"


def attack(histories: Iterable[tuple[Step, ...]]) -> tuple[list[str], int]:
    """What is found out over all histories, and how many times a row was withheld."""
    consistent: dict[Seen, list[tuple[Step, ...]]] = defaultdict(list)
    for history in histories:
        state, seen = State(), []
        for exposed, comparators in history:
            state, released = told(state, exposed, comparators)
            seen.append(released)
        consistent[tuple(seen)].append(
            tuple(step for step, released in zip(history, seen, strict=True) if released)
        )
    found = [line for alike in consistent.values() if alike[0] for line in found_out(alike)]
    withheld = sum(r is not None and r.exposed.cases is None for seen in consistent for r in seen)
    return found, withheld


def growing(totals: Sequence[int]) -> Iterator[tuple[Group, ...]]:
    """All histories of a row in which cases and others only become more."""
    for cases in product(*(range(total + 1) for total in totals)):
        rows = tuple(zip(cases, totals, strict=True))
        others = [total - one for one, total in rows]
        if list(cases) == sorted(cases) and others == sorted(others):
            yield rows


def corrected(totals: Sequence[int]) -> Iterator[tuple[Group, ...]]:
    """All histories of a row, also those in which answers were changed."""
    for cases in product(*(range(total + 1) for total in totals)):
        yield tuple(zip(cases, totals, strict=True))


@pytest.mark.parametrize(
    "totals",
    [(10, 20, 40), (10, 21, 31), (11, 22, 44), (19, 38, 48), (10, 11, 30), (20, 20, 40)],
)
def test_no_small_group_is_found_out_among_the_exposed(totals: tuple[int, ...]) -> None:
    """The comparators: 20, then 30 who answered, none with a complaint; their row tells everything."""
    others = ((0, 20), *[(0, 30)] * (len(totals) - 1))
    found, withheld = attack(tuple(zip(row, others, strict=True)) for row in growing(totals))
    assert withheld, "nothing to attack"
    assert found == []


@pytest.mark.parametrize("totals", [(10, 20, 40), (12, 12, 24)])
def test_no_small_group_is_found_out_where_answers_are_corrected(totals: tuple[int, ...]) -> None:
    others = ((0, 20), *[(0, 30)] * (len(totals) - 1))
    found, withheld = attack(tuple(zip(row, others, strict=True)) for row in corrected(totals))
    assert withheld, "nothing to attack"
    assert found == []


def test_no_small_group_is_found_out_from_both_rows_and_their_sums() -> None:
    rows = product(growing((12, 24)), growing((10, 20)))
    found, withheld = attack(tuple(zip(exposed, comparators, strict=True)) for exposed, comparators in rows)
    assert withheld, "nothing to attack"
    assert found == []


Counted = tuple[int, int, int]
Site = Callable[[State, Counted], tuple[State, tuple[Released[Prompted], ...]]]


def every_order(site: Site, limit: int) -> Iterator[set[tuple[Counted, ...]]]:
    """Responders of three sorts come one by one, in any order, and the site looks after each.

    Gives, for each series of releases that can be seen, what may have been
    counted at those releases. Left out is where fewer than 9 more could come:
    there the attacker would profit from the limit of the test.
    """
    known: dict[tuple[object, ...], tuple[State, set[tuple[Counted, tuple[Counted, ...]]]]]
    known = {(): (State(), {((0, 0, 0), ())})}
    ends: dict[tuple[object, ...], set[tuple[Counted, ...]]] = defaultdict(set)
    for _ in range(limit):
        later: dict[tuple[object, ...], tuple[State, set[tuple[Counted, tuple[Counted, ...]]]]] = {}
        for seen, (state, paths) in known.items():
            judge = cache(partial(site, state))
            for (x, y, z), past in paths:
                for now in ((x + 1, y, z), (x, y + 1, z), (x, y, z + 1)):
                    after, released = judge(now)
                    also_seen = (*seen, released) if released else seen
                    _, others = later.setdefault(also_seen, (after, set()))
                    others.add((now, (*past, now) if released else past))
        known = later
        for seen, (_, paths) in known.items():
            ends[seen] |= {past for _, past in paths}
    for seen, pasts in ends.items():
        if seen and min(sum(past[-1]) for past in pasts) <= limit - 9:
            yield pasts


def test_the_moments_of_two_lots_releases_give_no_small_total_away() -> None:
    """Exposed to L1, exposed to L2, comparators; none has a complaint."""

    def site(state: State, now: Counted) -> tuple[State, tuple[Released[Prompted], ...]]:
        state, first = told(state, (0, now[0]), (0, now[2]), lot="L1")
        state, second = told(state, (0, now[1]), (0, now[2]), lot="L2")
        return state, tuple(released for released in (first, second) if released)

    attacked = 0
    for pasts in every_order(site, limit=32):
        attacked += 1
        assert list(found_out([tuple(tuple((0, n) for n in now) for now in past) for past in pasts])) == []
    assert attacked > 30


def test_the_moments_of_releases_give_no_small_group_away() -> None:
    """Exposed with a complaint, exposed without, comparators without."""

    def site(state: State, now: Counted) -> tuple[State, tuple[Released[Prompted], ...]]:
        state, released = told(state, (now[0], now[0] + now[1]), (0, now[2]))
        return state, (released,) if released else ()

    attacked = 0
    for pasts in every_order(site, limit=34):
        attacked += 1
        histories = [tuple(((a, a + c), (0, n0)) for a, c, n0 in past) for past in pasts]
        assert list(found_out(histories)) == []
    assert attacked > 50
