"""What each site contributed: fair by the axioms, told by an evaluator apart, paid without negative pay."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pharmaloop.exchange.v1 import events_pb2 as exchange
from services.exchange.domain.contribution import evaluation, quality, shapley
from services.exchange.domain.contribution.evaluation import Evaluation, NotValued, Utility
from services.exchange.domain.contribution.quality import Quality, Ratio
from services.exchange.domain.contribution.shapley import NOBODY, Coalition
from services.kit import hpke
from services.kit.errors import Invalid
from services.refusals import Absent, Malformed, Refusal

SITES = ("a", "b", "c", "d")


def game(value: Callable[[Coalition], float], sites: tuple[str, ...] = SITES) -> dict[Coalition, float]:
    return {one: value(one) for one in (NOBODY, *shapley.coalitions(sites))}


@st.composite
def games(draw: st.DrawFn) -> tuple[tuple[str, ...], dict[Coalition, float]]:
    sites = SITES[: draw(st.integers(1, 4))]
    return sites, game(lambda _: draw(st.floats(-1, 1)), sites)


# --- Shapley ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ((8, 11, 13, 18), (2, 3, 4, 9)),
        ((18, 8, 13, 11), (9, 2, 4, 3)),
        ((6, 6), (3, 3)),
        ((0, 6, 9), (0, 3, 6)),
    ],
)
def test_the_airport_game(costs: tuple[int, ...], expected: tuple[int, ...]) -> None:
    cost = dict(zip(SITES, costs, strict=False))
    values = game(lambda members: max((cost[one] for one in members), default=0), tuple(cost))
    assert tuple(shapley.exact(tuple(cost), values).values()) == expected


@pytest.mark.req("H3")
@given(games())
def test_the_values_sum_to_what_all_together_are_worth(
    drawn: tuple[tuple[str, ...], dict[Coalition, float]],
) -> None:
    sites, values = drawn
    total = sum(shapley.exact(sites, values).values())
    assert total == Fraction(values[frozenset(sites)]) - Fraction(values[NOBODY])


@pytest.mark.req("H3")
@given(games(), st.floats(-1, 1))
def test_one_who_changes_nothing_has_no_value_and_one_who_adds_alike_has_that(
    drawn: tuple[tuple[str, ...], dict[Coalition, float]], adds: float
) -> None:
    sites, values = drawn
    with_one = values | {members | {"z"}: value for members, value in values.items()}
    found = shapley.exact((*sites, "z"), with_one)
    assert found["z"] == 0
    assert {site: found[site] for site in sites} == shapley.exact(sites, values)


@given(games())
def test_names_do_not_matter(drawn: tuple[tuple[str, ...], dict[Coalition, float]]) -> None:
    sites, values = drawn
    other = dict(zip(sites, reversed(sites), strict=True))
    renamed = {frozenset(other[one] for one in members): value for members, value in values.items()}
    found, again = shapley.exact(sites, values), shapley.exact(sites, renamed)
    assert all(again[other[site]] == found[site] for site in sites)


@pytest.mark.req("H3")
@given(st.dictionaries(st.integers(0, 4), st.floats(-1, 1), min_size=5), st.floats(0, 1))
def test_two_sites_that_can_stand_for_each_other_get_the_same(
    by_size: dict[int, float], extra: float
) -> None:
    # a and b are exchangeable; c and d bring something of their own.
    values = game(
        lambda members: by_size[len(members)] + extra * ("c" in members) - extra**2 * ("d" in members)
    )
    found = shapley.exact(SITES, values)
    assert found["a"] == found["b"]


def test_a_missing_coalition_and_too_many_sites_are_refused() -> None:
    values = game(len)
    del values[frozenset("ab")]
    with pytest.raises(Refusal, match=r"NO_VALUE.*a, b"):
        shapley.exact(SITES, values)
    with pytest.raises(Refusal, match="NO_VALUE"):
        shapley.exact(SITES, values | {frozenset("ab"): float("nan")})
    with pytest.raises(Malformed, match="TOO_MANY_SITES"):
        shapley.exact([f"s{number}" for number in range(13)], {})


# --- shares ----------------------------------------------------------------------------------------

VALUES = st.dictionaries(st.sampled_from(SITES), st.fractions(-1, 1, max_denominator=1000), min_size=1)


@given(VALUES, st.sampled_from([Fraction(0), Fraction(1, 100)]))
def test_shares_sum_to_one_and_nobody_pays(values: dict[str, Fraction], unit: Fraction) -> None:
    shares = shapley.shares(values, unit)
    assert all(share >= 0 for share in shares.values())
    assert sum(shares.values()) == (1 if any(shares.values()) else 0)
    if max(values.values()) > 0 and not unit:
        assert all(shares[site] == 0 for site, value in values.items() if value <= 0)
    paid = [shares[site] for site, _ in sorted(values.items(), key=lambda item: item[1])]
    assert paid == sorted(paid), "more is not paid less"


def test_a_negative_value_takes_nothing_from_others() -> None:
    shares = shapley.shares({"a": Fraction(3), "b": Fraction(1), "c": Fraction(-8)})
    assert shares == {"a": Fraction(3, 4), "b": Fraction(1, 4), "c": 0}
    assert shapley.shares({"a": Fraction(-1), "b": Fraction(0)}) == {"a": 0, "b": 0}


def test_ties_are_paid_alike() -> None:
    values = {"a": Fraction(300, 1000), "b": Fraction(3005, 10000), "c": Fraction(4, 10)}
    shares = shapley.shares(values, Fraction(1, 1000))
    assert shares["a"] == shares["b"] < shares["c"]
    apart = shapley.shares(values)
    assert apart["a"] < apart["b"]
    whole = {"a": Fraction(2), "b": Fraction(3), "c": Fraction(4), "d": Fraction(9)}
    assert shapley.shares(whole, Fraction(1)) == {site: value / 18 for site, value in whole.items()}


def test_an_interval_is_over_the_replicates() -> None:
    replicates = [{"a": Fraction(number), "b": Fraction(1)} for number in range(101)]
    assert shapley.interval(replicates, 0.9) == {"a": (5.0, 95.0), "b": (1.0, 1.0)}
    with pytest.raises(Malformed, match="NO_REPLICATES"):
        shapley.interval([])


# --- the evaluator ---------------------------------------------------------------------------------

KEYS = hpke.generate()
OWNERS = ("hospital-a", "hospital-b", "hospital-c")


def agreed(consents: tuple[str, ...] = OWNERS, evaluator: str = "auditor") -> Evaluation | NotValued:
    return evaluation.agreed("job-1", OWNERS, consents, evaluator, "exchange", Utility.AUC)


def consented() -> Evaluation:
    made = agreed()
    assert isinstance(made, Evaluation)
    return made


def _seal(plain: bytes, info: bytes, aad: bytes) -> bytes:
    return hpke.seal(KEYS.public, plain, info, aad)


_open = partial(hpke.open_sealed, KEYS.private)


def test_without_the_consent_of_every_owner_a_job_is_not_valued() -> None:
    refused = agreed(("hospital-a", "hospital-c"))
    assert isinstance(refused, NotValued)
    assert (refused.reason, refused.missing) == ("NOT_ALL_CONSENT", ("hospital-b",))
    assert "hospital-b" in refused.description


@pytest.mark.parametrize("evaluator", ["exchange", "hospital-a", ""])
def test_the_evaluator_is_neither_the_coordinator_nor_an_owner(evaluator: str) -> None:
    with pytest.raises(Malformed, match="EVALUATOR_NOT_APART"):
        agreed(evaluator=evaluator)


def test_a_job_is_valued_from_sealed_statistics_and_only_rounded_values_leave() -> None:
    # Linear regression: X'X, X'y of each site are enough to fit any coalition.
    random = np.random.default_rng(4)
    truth = np.array([1.0, -2.0, 0.5])
    sent, fits = {}, 0
    for owner, patients in zip(OWNERS, (200, 80, 30), strict=True):
        x = random.normal(size=(patients, 3))
        y = x @ truth + random.normal(size=patients)
        sent[owner] = np.concatenate([(x.T @ x).ravel(), x.T @ y])
    test = random.normal(size=(500, 3))
    outcomes = test @ truth + random.normal(size=500) > 0
    running = consented()
    for coalition in running.remaining():
        running = evaluation.begin(running, coalition)
        received = {
            site: evaluation.sealed(sent[site], "job-1", coalition, 1, site, _seal) for site in coalition
        }
        total = np.sum(list(evaluation.opened(running, coalition, 1, received, _open).values()), axis=0)
        beta = np.linalg.solve(total[:9].reshape(3, 3), total[9:])
        running = evaluation.valued(running, coalition, evaluation.auc(test @ beta, outcomes))
        fits += 1
    told = evaluation.told(running)
    assert fits == running.budget == 7
    assert told[NOBODY] == 0.5
    assert all(value == round(value, 3) for value in told.values())
    values = shapley.exact(OWNERS, told)
    assert sum(values.values()) == Fraction(told[frozenset(OWNERS)]) - Fraction(1, 2)
    assert sum(shapley.shares(values, running.unit).values()) == 1


def test_a_coalition_is_fitted_once() -> None:
    running = evaluation.begin(consented(), OWNERS[:1])
    assert evaluation.begin(running, OWNERS[:1]) == running, "a fit that did not end is resumed"
    running = evaluation.valued(running, OWNERS[:1], 0.71234)
    assert running.values == {frozenset(OWNERS[:1]): 0.712}
    for again in (
        lambda: evaluation.begin(running, OWNERS[:1]),
        lambda: evaluation.valued(running, OWNERS[:1], 0.8),
        lambda: evaluation.opened(running, OWNERS[:1], 1, {OWNERS[0]: b""}, _open),
    ):
        with pytest.raises(Refusal, match=r"FIT_SPENT|NOT_BEGUN"):
            again()
    with pytest.raises(Refusal, match=r"NOT_COMPLETE.*6 of 7"):
        evaluation.told(running)


def test_statistics_open_for_their_own_fit_round_and_site_and_for_nobody_else() -> None:
    running = evaluation.begin(evaluation.begin(consented(), OWNERS[:2]), OWNERS[:1])
    pair = {site: evaluation.sealed(np.ones(3), "job-1", OWNERS[:2], 1, site, _seal) for site in OWNERS[:2]}
    assert evaluation.opened(running, OWNERS[:2], 1, pair, _open)[OWNERS[0]].tolist() == [1, 1, 1]
    exchanged = {OWNERS[0]: pair[OWNERS[1]], OWNERS[1]: pair[OWNERS[0]]}
    for coalition, round_, received in (
        (OWNERS[:2], 2, pair),
        (OWNERS[:2], 1, exchanged),
        (OWNERS[:1], 1, {OWNERS[0]: pair[OWNERS[0]]}),
    ):
        with pytest.raises(Invalid, match="NOT_OPENED"):
            evaluation.opened(running, coalition, round_, received, _open)
    third = partial(hpke.open_sealed, hpke.generate().private)
    with pytest.raises(Invalid, match="NOT_OPENED"):
        evaluation.opened(running, OWNERS[:2], 1, pair, third)


def test_what_does_not_belong_to_a_fit_is_refused() -> None:
    running = evaluation.begin(consented(), OWNERS[:2])

    def sent(site: str, vector: np.ndarray) -> bytes:
        return evaluation.sealed(vector, "job-1", OWNERS[:2], 1, site, _seal)

    one, two = OWNERS[:2]
    for received, expected in (
        ({one: sent(one, np.ones(3))}, "WRONG_SITES"),
        ({one: sent(one, np.ones(3)), two: sent(two, np.ones(4))}, "WRONG_LENGTH"),
        ({one: sent(one, np.ones(3)), two: sent(two, np.full(3, np.nan))}, "NOT_A_VECTOR"),
    ):
        with pytest.raises(Refusal, match=expected):
            evaluation.opened(running, OWNERS[:2], 1, received, _open)
    with pytest.raises(Absent, match="NOT_AN_OWNER"):
        evaluation.begin(running, ["hospital-z"])
    with pytest.raises(Malformed, match="NOBODY"):
        evaluation.begin(running, [])
    for unbounded in (-3.7, 1.2, float("nan")):
        with pytest.raises(Malformed, match="UNBOUNDED"):
            evaluation.valued(running, OWNERS[:2], unbounded)


def test_a_utility_is_bounded_and_knows_what_nobody_is_worth() -> None:
    assert (Utility.AUC.nobody, Utility.AUC.bounds) == (0.5, (0.0, 1.0))
    assert (Utility.ACCURACY_OVER_MAJORITY.nobody, Utility.ACCURACY_OVER_MAJORITY.bounds) == (
        0.0,
        (-1.0, 1.0),
    )
    assert Utility.CONCORDANCE.nobody == 0.5


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=20))
def test_auc_is_the_share_of_pairs_in_order(rows: list[tuple[int, bool]]) -> None:
    scores, outcomes = np.array([float(s) for s, _ in rows]), np.array([o for _, o in rows])
    pairs = [
        1.0 if high > low else 0.5 if high == low else 0.0
        for high in scores[outcomes]
        for low in scores[~outcomes]
    ]
    assert evaluation.auc(scores, outcomes) == pytest.approx(np.mean(pairs) if pairs else 0.5)


def test_saying_the_commonest_class_is_worth_nothing() -> None:
    outcomes = np.array([True] * 9 + [False])
    assert evaluation.accuracy_over_majority(np.ones(10, dtype=bool), outcomes) == 0
    assert evaluation.accuracy_over_majority(outcomes, outcomes) == pytest.approx(0.1)
    assert evaluation.accuracy_over_majority(~outcomes, outcomes) == pytest.approx(-0.9)


# --- quality ---------------------------------------------------------------------------------------


def test_a_quality_score_is_the_mean_of_ratios_that_can_be_recounted() -> None:
    made = Quality(Ratio(90, 100), Ratio(5, 10), Ratio(0, 0), Ratio(10, 10), Ratio(3, 4))
    assert quality.score(made) == (Fraction(9, 10) + Fraction(1, 2) + 1 + Fraction(3, 4)) / 4
    assert quality.score(made, {"validity": 3, "uniqueness": 1}) == Fraction(5, 8)
    assert {name: (one.good, one.all_) for name, one in made.ratios().items()}["completeness"] == (90, 100)
    nothing = Ratio(0, 0)
    assert quality.score(Quality(nothing, nothing, nothing, nothing, nothing)) is None
    assert quality.score(made, {"timeliness": 1}) is None


def test_a_ratio_beyond_one_and_a_weight_of_nothing_are_refused() -> None:
    with pytest.raises(Malformed, match="BAD_RATIO"):
        Ratio(11, 10)
    one = Ratio(1, 1)
    for weights in ({"beauty": 1}, {"validity": -1}):
        with pytest.raises(Malformed, match="BAD_WEIGHTS"):
            quality.score(Quality(one, one, one, one, one), weights)


def test_the_score_is_of_what_a_site_told() -> None:
    def told(**ratios: tuple[int, int]) -> float | None:
        return quality.score_of(
            exchange.QualityMeasure(measure=name, numerator=good, denominator=of)
            for name, (good, of) in ratios.items()
        )

    assert told(completeness=(90, 100), uniqueness=(10, 10)) == 0.95
    assert told(completeness=(90, 100), uniqueness=(0, 0)) == 0.9, "withheld is not bad"
    assert told(completeness=(0, 0)) is None
    assert told() is None
    assert told(completeness=(11, 10)) is None
