"""Counts of people as they may be published: attacked by whoever can do linear algebra."""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import pytest

from services.traceability.domain.dossier.published import SMALLEST, People, published

#: What the page decides on, and those that hold everybody of whom a site released something.
MEASURES = tuple(name for name in People._fields if name != "released")
WHOLE = ("dispenses", "patients", "plans", "answered")
Table = dict[str, People]


def drawn(seed: int) -> Table:
    """Nested counts of up to three sites, with many that are close to one another or to nothing."""
    draw = random.Random(seed)
    table = {}
    for site in ("a", "b", "c")[: draw.randint(1, 3)]:
        patients = draw.choice([0, draw.randint(1, 12), draw.randint(10, 60)])

        def part(whole: int) -> int:
            return draw.choice([whole, 0, max(0, whole - draw.randint(0, 15)), draw.randint(0, whole)])

        plans = part(patients)
        answered = part(plans)
        dispenses = patients + draw.choice([0, 3, 20]) * bool(patients)
        released = draw.choice([0, max(0, answered - draw.randint(0, 25))])
        released = released if released >= SMALLEST else 0
        table[site] = People(dispenses, patients, plans, part(patients), answered, part(answered), released)
    return table


def small_groups_beside_releases(table: Table) -> list[str]:
    """Brute force: a count that is shown, over all sites or at one, less what any of these sites released."""
    shown = published(table)
    cells = [(tuple(table), measure) for measure in shown.in_all if measure in WHOLE]
    cells += [((site,), measure) for site in table for measure in shown.by_site if measure in WHOLE]
    found = []
    for sites, measure in cells:
        count = sum(getattr(table[site], measure) for site in sites)
        for size in range(1, len(sites) + 1):
            for less in combinations(sites, size):
                left = count - sum(table[site].released for site in less)
                if 0 < left < SMALLEST:
                    found.append(f"{measure} at {sites} less {less}: {left}")
    return found


def small_groups_that_follow(table: Table) -> list[str]:
    """Brute force: every group of sites, counted once or less another count, that the shown cells
    determine (it lies in the span of what is shown), and that has 1 to 9 people."""
    shown = published(table)
    cells = [(site, measure) for site in table for measure in MEASURES]
    place = {cell: number for number, cell in enumerate(cells)}
    truth = np.array([getattr(table[site], measure) for site, measure in cells])

    def vector(sites: tuple[str, ...], measure: str) -> np.ndarray:
        found = np.zeros(len(cells))
        found[[place[site, measure] for site in sites]] = 1
        return found

    known = [vector(tuple(table), measure) for measure in shown.in_all]
    known += [vector((site,), measure) for site in table for measure in shown.by_site]
    basis = np.array(known).reshape(-1, len(cells))
    rank = np.linalg.matrix_rank(basis) if known else 0
    found = []
    for size in range(1, len(table) + 1):
        for sites in combinations(table, size):
            counts = {measure: vector(sites, measure) for measure in MEASURES}
            groups = {measure: counts[measure] for measure in MEASURES}
            groups |= {f"{a}-{b}": counts[a] - counts[b] for a, b in combinations(MEASURES, 2)}
            for name, group in groups.items():
                people = abs(int(group @ truth))
                if 0 < people < SMALLEST and np.linalg.matrix_rank(np.vstack([basis, group])) == rank:
                    found.append(f"{name} at {sites}: {people}")
    return found


@pytest.mark.parametrize("start", range(0, 400, 50))
def test_no_small_group_follows_from_what_is_shown(start: int) -> None:
    for seed in range(start, start + 50):
        assert not small_groups_that_follow(drawn(seed)), drawn(seed)
        assert not small_groups_beside_releases(drawn(seed)), drawn(seed)


def test_who_answered_where_nothing_was_released_does_not_follow_from_the_sum() -> None:
    # 37 answered in all, and one of two hospitals released 30: at the other 7 answered.
    result = published({"a": People(100, 100, 100, 100, 30, 0, 30), "b": People(100, 100, 100, 100, 7)})
    assert "answered" not in result.in_all
    assert "plans" in result.by_site


def test_what_was_released_of_all_who_answered_withholds_nothing() -> None:
    result = published({"a": People(90, 90, 60, 90, 40, 0, 40), "b": People(90, 90, 60, 90, 20, 0, 20)})
    assert {"answered", "plans", "patients"} <= result.by_site


@pytest.mark.parametrize(("released", "told"), [(10, False), (13, False), (15, True)])
def test_whether_answers_are_told_follows_from_how_many_the_release_caught(released: int, told: bool) -> None:
    """A site looks when its tenth patient answered, and releases what it holds by then: 10, or some more
    where answers come at once. A release holds for good while fewer than ten came after it."""
    people = People(dispenses=16, patients=16, plans=16, notified=16, answered=15, released=released)
    shown = published({"hospital-a": people})
    assert ("answered" in shown.in_all) == told
    assert not {"patients", "plans", "notified", "dispenses"} & shown.in_all  # they would tell who did not


def test_the_attack_finds_what_a_careless_page_would_tell() -> None:
    # 30 patients in all, 25 of them at one hospital: the other has 5. Shown is the sum alone.
    table = {"a": People(25, 25), "b": People(5, 5)}
    result = published(table)
    assert ("patients" in result.in_all, "patients" in result.by_site) == (True, False)
    assert not small_groups_that_follow(table)


def test_large_counts_are_shown_everywhere() -> None:
    table = {"a": People(100, 90, 80, 60, 50, 30), "b": People(0, 0, 0, 0, 0, 0)}
    result = published(table)
    assert result.by_site == result.in_all == set(MEASURES)
    assert result.total == table["a"]


def test_those_who_did_not_answer_are_a_group_too() -> None:
    result = published({"a": People(100, 100, 40, 100, 36, 20)})
    assert "answered" in result.in_all
    assert "plans" not in result.in_all


@pytest.mark.parametrize(("answered", "affected"), [(9, 0), (20, 9), (20, 11), (1, 1)])
def test_answers_and_complaints_are_withheld_together(answered: int, affected: int) -> None:
    # The same cases as `publishable` of production withholds; it is what research hears.
    result = published({"a": People(200, 200, 100, 200, answered, affected)})
    assert not {"answered", "affected"} & result.in_all
