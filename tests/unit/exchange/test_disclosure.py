"""What a site refuses of a job before anything leaves, each refusal by the name of its rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.exchange.domain.disclosure import budget, cells, differencing, limits
from services.exchange.domain.disclosure.limits import PROTECTED, PUBLIC_DATA, Breach, Profile
from services.refusals import Refusal

KEY = bytes(range(32))


def rules(breaches: list[Breach]) -> list[tuple[str, str]]:
    return [(one.rule, one.reason) for one in breaches]


# --- cells, subsets, models, levels ----------------------------------------------------------------


def test_the_protected_limits_are_those_of_datashield() -> None:
    assert limits.limits_of(Profile.PROTECTED) == limits.Limits(
        minimum_cell=3,
        minimum_subset=3,
        parameter_share=0.33,
        longest_text=80,
        most_levels=40,
        level_share=0.33,
        minimum_sites=3,
    )


@pytest.mark.parametrize(("count", "passes"), [(0, True), (1, False), (2, False), (3, True)])
def test_a_cell_is_empty_or_holds_three(count: int, passes: bool) -> None:
    breaches = cells.check_cells({"arm=b": count, "arm=a": 50}, PROTECTED)
    assert rules(breaches) == ([] if passes else [("nfilter.tab 3", "CELL_TOO_SMALL")])
    assert cells.check_cells({"arm=b": count}, PUBLIC_DATA) == []


def test_a_refusal_does_not_tell_the_count_it_protects() -> None:
    two, one = (cells.check_cells({"arm=b": count}, PROTECTED) for count in (2, 1))
    assert two == one


def test_a_subset_holds_three() -> None:
    assert rules(cells.check_subset(2, PROTECTED)) == [("nfilter.subset 3", "SUBSET_TOO_SMALL")]
    assert cells.check_subset(2, PROTECTED) == cells.check_subset(0, PROTECTED)
    assert cells.check_subset(3, PROTECTED) == []


@pytest.mark.parametrize(("parameters", "passes"), [(33, True), (34, False)])
def test_a_model_has_a_third_as_many_parameters_as_patients(parameters: int, passes: bool) -> None:
    breaches = cells.check_model(parameters, 100, PROTECTED)
    assert rules(breaches) == ([] if passes else [("nfilter.glm 0.33", "MODEL_TOO_LARGE")])


def test_a_factor_has_few_short_levels() -> None:
    def broken(levels: list[str], patients: int) -> list[str]:
        return [one.rule for one in cells.check_levels(levels, patients, PROTECTED, "diagnosis")]

    forty = [f"I{number}" for number in range(40)]
    assert broken(forty, 1000) == []
    assert broken([*forty, "I40"], 1000) == ["nfilter.levels.max 40"]
    assert broken(forty, 121) == ["nfilter.levels.density 0.33"]
    assert broken(["a", "b" * 81], 1000) == ["nfilter.string 80"]
    assert len(broken([*forty, "b" * 81], 10)) == 3, "all breaches are found at once"


def test_a_binary_column_has_three_patients_of_each_value() -> None:
    columns = {
        "sex": np.array([0.0, 1.0] * 10),
        "rare": np.array([1.0, 1.0] + [0.0] * 18),
        "rarely not": np.array([0.0] + [1.0] * 19),
        "age": np.arange(20.0),
        "none here": np.zeros(20),
    }
    breaches = cells.check_design(columns, PROTECTED)
    assert [one.description.split("'")[1] for one in breaches] == ["rare=1", "rarely not=0"]


def test_two_sites_are_too_few() -> None:
    assert rules(cells.check_sites(2, PROTECTED)) == [("minimum sites 3", "TOO_FEW_SITES")]
    assert rules(cells.check_sites(2, PUBLIC_DATA)) == [("minimum sites 3", "TOO_FEW_SITES")]
    assert cells.check_sites(3, PROTECTED) == []


def test_a_wider_profile_needs_the_owner() -> None:
    assert limits.check_profile(Profile.PROTECTED, Profile.PUBLIC_DATA) == []
    assert limits.check_profile(Profile.PUBLIC_DATA, Profile.PUBLIC_DATA) == []
    refused = limits.check_profile(Profile.PUBLIC_DATA, Profile.PROTECTED)
    assert rules(refused) == [("profile", "PROFILE_NOT_GRANTED")]


def test_a_refusal_says_every_rule_that_is_broken() -> None:
    breaches = [*cells.check_subset(1, PROTECTED), *cells.check_model(9, 10, PROTECTED)]
    with pytest.raises(Refusal) as refusal:
        limits.refuse(breaches)
    assert (refusal.value.reason, refusal.value.field) == ("SUBSET_TOO_SMALL", "cohort")
    assert "nfilter.subset 3" in refusal.value.description
    assert "nfilter.glm 0.33" in refusal.value.description
    limits.refuse([])


# --- differencing ----------------------------------------------------------------------------------


def cohort(*numbers: range) -> differencing.Cohort:
    return differencing.cohort_of(KEY, (f"P-{number}" for part in numbers for number in part))


EARLIER = {"job-1": cohort(range(100))}


@pytest.mark.parametrize(
    ("new", "passes"),
    [
        (cohort(range(100)), True),
        (cohort(range(99)), False),
        (cohort(range(101)), False),
        (cohort(range(91)), False),
        (cohort(range(90)), True),
        (cohort(range(1, 101)), False),
        (cohort(range(5, 105)), True),
        (cohort(range(200, 300)), True),
    ],
    ids=["equal", "one less", "one more", "nine less", "ten less", "one other", "ten in all", "disjoint"],
)
def test_a_cohort_is_an_earlier_one_or_differs_by_ten(new: differencing.Cohort, passes: bool) -> None:
    breaches = differencing.check_cohort(new, EARLIER, PROTECTED)
    assert rules(breaches) == ([] if passes else [("minimum difference 10", "COHORT_TOO_CLOSE")])
    assert passes or "'job-1'" in breaches[0].description


@pytest.mark.parametrize(
    ("one", "other", "new", "passes"),
    [
        (cohort(range(50)), cohort(range(50, 100)), cohort(range(100)), True),
        (cohort(range(50)), cohort(range(50, 100)), cohort(range(101)), False),
        (cohort(range(50)), cohort(range(50, 100)), cohort(range(99)), False),
        (cohort(range(100)), cohort(range(50)), cohort(range(50, 101)), False),
        (cohort(range(50)), cohort(range(100)), cohort(range(51, 100)), False),
        (cohort(range(100)), cohort(range(50)), cohort(range(50, 115)), True),
    ],
    ids=["union", "union and one", "union but one", "rest and one", "rest but one", "rest and fifteen"],
)
def test_two_earlier_cohorts_do_not_single_out_a_patient(
    one: differencing.Cohort, other: differencing.Cohort, new: differencing.Cohort, passes: bool
) -> None:
    breaches = differencing.check_cohort(new, {"job-1": one, "job-2": other}, PROTECTED)
    assert [one.reason for one in breaches] == ([] if passes else ["COHORT_ISOLATES_FEW"])


@settings(deadline=None)
@given(st.sets(st.integers(0, 60)), st.lists(st.sets(st.integers(0, 60)), max_size=4))
def test_what_passes_leaves_no_difference_of_one_to_nine(new: set[int], before: list[set[int]]) -> None:
    earlier = {
        f"job-{at}": differencing.cohort_of(KEY, map(str, members)) for at, members in enumerate(before)
    }
    breaches = differencing.check_cohort(differencing.cohort_of(KEY, map(str, new)), earlier, PROTECTED)
    close = [members for members in before if 0 < len(members ^ new) < 10]
    assert sum(one.reason == "COHORT_TOO_CLOSE" for one in breaches) == len(close)
    weights = [
        [(at in new) - sign * (at in one) - other_sign * (at in other) for at in range(61)]
        for place, one in enumerate(before)
        for other in before[place + 1 :]
        for sign in (1, -1)
        for other_sign in (1, -1)
    ]
    isolates = any(0 < sum(weight != 0 for weight in row) < 10 for row in weights)
    assert any(one.reason == "COHORT_ISOLATES_FEW" for one in breaches) == isolates


def test_a_job_does_not_repeat_another_but_for_one_or_two_sites() -> None:
    members = cohort(range(50))
    earlier = {"job-1": (frozenset("abcd"), members)}

    def reasons(sites: str, mine: differencing.Cohort) -> list[tuple[str, str]]:
        return rules(differencing.check_participants(sites, mine, earlier, PROTECTED))

    refused = [("site difference 3", "SITES_TOO_CLOSE")]
    assert reasons("abcd", members) == []
    assert reasons("abc", members) == reasons("abce", members) == reasons("abcdef", members) == refused
    assert reasons("abefg", members) == []
    assert reasons("abc", cohort(range(60))) == [], "ten patients of this site are in the difference too"
    assert (
        "differs only by d"
        in differencing.check_participants("abc", members, earlier, PROTECTED)[0].description
    )


def test_a_commitment_fixes_the_cohort_and_names_nobody() -> None:
    members = cohort(range(20))
    told = differencing.commitment(KEY, "job-1", members)
    assert told == differencing.commitment(KEY, "job-1", cohort(range(19), range(19, 20)))
    others = {
        differencing.commitment(KEY, "job-1", cohort(range(19))),
        differencing.commitment(KEY, "job-2", members),
        differencing.commitment(bytes(32), "job-1", members),
    }
    assert told not in others
    assert len(others) == 3
    assert differencing.member_digest(KEY, "P-1") != differencing.member_digest(bytes(32), "P-1")


# --- budget ----------------------------------------------------------------------------------------

GRANT = budget.Grant(queries=2, rounds=40, epsilon=1.0)


def reasons(used: budget.Spent, epsilon: float = 0.0) -> list[str]:
    return [one.reason for one in budget.check_query(GRANT, used, "a/routine", epsilon)]


def test_queries_rounds_and_epsilon_add_up_over_the_jobs_of_an_analyst() -> None:
    used = budget.spent([budget.Query(7), budget.Query(16, 0.4), budget.Query(1, 0.35)])
    assert used == budget.Spent(3, 24, 0.75)
    assert budget.left(GRANT, used) == budget.Spent(0, 16, 0.25)
    assert budget.left(GRANT, budget.Spent(9, 99, 9.0)) == budget.Spent(0, 0, 0.0)


@pytest.mark.parametrize(
    ("used", "epsilon", "expected"),
    [
        (budget.Spent(), 0.0, []),
        (budget.Spent(1, 39, 0.0), 1.0, []),
        (budget.Spent(2, 8, 0.0), 0.0, ["QUERIES_SPENT"]),
        (budget.Spent(1, 40, 0.0), 0.0, ["ROUNDS_SPENT"]),
        (budget.Spent(1, 8, 0.7), 0.31, ["EPSILON_SPENT"]),
        (budget.Spent(1, 8, 0.7), 0.3, []),
        (budget.Spent(1, 8, 1.0), 0.0, []),
        (budget.Spent(2, 40, 1.0), 0.1, ["QUERIES_SPENT", "ROUNDS_SPENT", "EPSILON_SPENT"]),
    ],
)
def test_what_is_spent_is_refused_by_its_name(
    used: budget.Spent, epsilon: float, expected: list[str]
) -> None:
    assert reasons(used, epsilon) == expected


def test_a_grant_in_tenths_is_spent_exactly() -> None:
    used = budget.spent([budget.Query(1, 0.1)] * 9)
    assert reasons(replace(used, queries=0), 0.1) == []


def test_a_job_holds_rounds_ahead_and_never_more_than_there_are() -> None:
    assert [budget.held(GRANT, budget.Spent(), round_) for round_ in (1, 16, 17, 33)] == [16, 16, 32, 40]
    assert budget.held(GRANT, budget.Spent(rounds=30), 1) == 10
