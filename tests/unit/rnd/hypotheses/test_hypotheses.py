"""Insights judge hypotheses; evidence ranks candidates and explains every rank."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.refusals import Malformed
from services.rnd.domain.hypotheses import evidence, ranking, verdict
from services.rnd.domain.hypotheses.evidence import Piece, Weights
from services.rnd.domain.hypotheses.insight import Hypothesis, Insight
from services.rnd.domain.hypotheses.ranking import Candidate

DAY = timedelta(days=1)
START = datetime(2026, 3, 1, tzinfo=UTC)
NOW = START + 100 * DAY
FEWER_BLEEDINGS = Hypothesis(
    "H1", "C1", "fewer bleedings under guided doses", "ratio", "below", least_effect=0.9
)


def insight(effect: float, low: float, high: float, **given: object) -> Insight:
    number = str(given.pop("number", "1"))
    fields: dict[str, Any] = {"scale": "ratio", "n": 1_000, "sites": 3, **given}
    usual: dict[str, Any] = dict(
        insight=f"I{number}",
        event=f"event-{number}",
        at=START,
        study=f"S{number}",
        hypothesis="H1",
        question="bleedings in 90 days",
        effect=effect,
        low=low,
        high=high,
        model="mantel-haenszel",
    )
    return Insight(**{**usual, **fields})


def state(*insights: Insight, hypothesis: Hypothesis = FEWER_BLEEDINGS) -> str:
    return verdict.judge(hypothesis, insights, NOW).state


def test_the_state_follows_the_interval() -> None:
    assert state(insight(0.7, 0.6, 0.82)) == "supported"
    assert state(insight(1.2, 1.05, 1.4)) == "contradicted"
    assert state(insight(0.97, 0.92, 1.03)) == "contradicted"  # short of the least effect
    assert state(insight(0.8, 0.6, 1.07)) == "needs data"
    assert state(insight(0.93, 0.88, 0.98)) == "needs data"  # an effect, but perhaps too small
    assert state() == "needs data"


def test_the_expected_side_may_be_above_and_on_differences() -> None:
    longer = Hypothesis("H1", "C1", "more time in range", "difference", "above", least_effect=3)
    assert state(insight(8, 5, 11, scale="difference"), hypothesis=longer) == "supported"
    assert state(insight(-2, -4, 0.5, scale="difference"), hypothesis=longer) == "contradicted"
    assert state(insight(2, -2, 6, scale="difference"), hypothesis=longer) == "needs data"
    without = replace(longer, least_effect=None)
    assert state(insight(2, -2, 6, scale="difference"), hypothesis=without) == "needs data"
    assert state(insight(-3, -5, -1, scale="difference"), hypothesis=without) == "contradicted"


def test_what_is_needed_would_decide() -> None:
    found = verdict.judge(FEWER_BLEEDINGS, [insight(0.8, 0.6, 1.07)], NOW)
    assert found.needed_n is not None
    assert found.needed_n > 1_000
    narrower = math.log(1.07 / 0.6) / 2 * math.sqrt(1_000 / (found.needed_n + 10))
    more = insight(0.8, 0.8 * math.exp(-narrower), 0.8 * math.exp(narrower), n=found.needed_n + 10)
    assert state(more) == "supported"


def test_small_and_replaced_insights_do_not_count_and_say_why() -> None:
    few = insight(0.5, 0.3, 0.8, number=1, n=40)
    alone = insight(0.5, 0.3, 0.8, number=2, sites=1)
    old = insight(0.6, 0.5, 0.75, number=3, study="S")
    new = insight(1.3, 1.1, 1.5, number=4, study="S", at=START + DAY)
    found = verdict.judge(FEWER_BLEEDINGS, [new, few, old, alone], NOW)
    assert found.state == "contradicted"
    assert {one.insight: one.reason for one in found.counted} == {
        "I1": "40 patients, fewer than 100",
        "I2": "1 sites, fewer than 2",
        "I3": "replaced by I4 of the same study",
        "I4": "",
    }
    before = verdict.judge(FEWER_BLEEDINGS, [new, few, old, alone], START)
    assert before.state == "supported"


def test_a_state_holds_since_the_insight_that_brought_it() -> None:
    told = [
        insight(0.7, 0.6, 0.82, number=1),
        insight(1.5, 1.3, 1.7, number=2, study="S1", at=START + DAY),
        insight(1.4, 1.2, 1.6, number=3, study="S1", at=START + 2 * DAY),
        insight(1.4, 1.2, 1.6, number=4, n=10, at=START + 3 * DAY),
    ]
    found = verdict.judge(FEWER_BLEEDINGS, told, NOW)
    assert (found.state, found.since) == ("contradicted", START + DAY)
    assert verdict.judge(FEWER_BLEEDINGS, told[3:], NOW).since is None
    later = piece("later", "trial-registry", 0.8, claim="H1", at=START + 5 * DAY)
    rows = ranking.rank(
        CANDIDATES, [*PRIOR, later], Weights(), NOW, hypotheses=[FEWER_BLEEDINGS], insights=told
    ).rows
    counted = {one.piece.event: one.counted for row in rows for one in row.scored.contributions}
    assert [counted["lit-1"], counted["later"]] == pytest.approx([0.9 / 4, 0.8])


def test_studies_are_pooled_with_the_variance_between_them() -> None:
    # Two equal standard errors s and estimates a, b: DerSimonian and Laird give tau^2 = (a - b)^2 / 2 - s^2.
    one, other = insight(0.5, 0.4, 0.625, number=1), insight(0.9, 0.72, 1.125, number=2)
    found = verdict.judge(FEWER_BLEEDINGS, [one, other], NOW)
    s = one.error
    tau2 = math.log(0.5 / 0.9) ** 2 / 2 - s**2
    half = 1.959964 * math.sqrt((s**2 + tau2) / 2)
    middle = math.log(0.5 * 0.9) / 2
    assert found.estimate == pytest.approx(math.exp(middle))
    assert (found.low, found.high) == pytest.approx((math.exp(middle - half), math.exp(middle + half)))
    assert [one.part for one in found.counted] == pytest.approx([0.5, 0.5])


def test_an_insight_told_twice_or_in_another_order_changes_nothing() -> None:
    told = [insight(0.7 + n / 50, 0.6, 0.95, number=n, at=START + n * DAY) for n in range(6)]
    mixed = [*told, *told[:3]]
    random.Random(1).shuffle(mixed)
    assert verdict.judge(FEWER_BLEEDINGS, mixed, NOW) == verdict.judge(FEWER_BLEEDINGS, told, NOW)


def test_the_harmonic_sum_is_that_of_open_targets() -> None:
    assert evidence.divisor(1_000) == pytest.approx(1.6439346, abs=5e-8)
    assert evidence.harmonic([1, 0.9, 0.8]) == pytest.approx(0.799234, abs=5e-7)
    assert evidence.harmonic([0.8, 1, 0.9]) == evidence.harmonic([1, 0.9, 0.8])
    assert evidence.harmonic([1.0] * 1_000) == pytest.approx(1)
    assert evidence.harmonic([1.0] * 5_000) == pytest.approx(1)
    assert evidence.harmonic([]) == 0
    assert evidence.harmonic([0.7], ones=1) == pytest.approx(0.7)
    assert evidence.divisor(3) == pytest.approx(1.3611, abs=5e-5)


def piece(event: str, source: str, score: float, **given: object) -> Piece:
    return replace(Piece(event, "C1", source, score, START), **given)  # type: ignore[arg-type]


def test_the_score_weighs_sources_and_every_piece_is_accounted_for() -> None:
    pieces = [
        *(piece(f"g{n}", "gwas", score) for n, score in enumerate((1, 0.9, 0.8))),
        piece("p1", "europe_pmc", 1.0),
        piece("t1", "trial-registry", 0.5),
    ]
    found = evidence.score(pieces, Weights(), NOW)
    gwas, paper, trial = 0.799234, 1 / 1.6439346, 0.5 / 1.6439346
    overall = (gwas + trial / 4 + 0.2 * paper / 9) / 1.6439346
    assert found.score == pytest.approx(overall, abs=1e-6)
    assert math.fsum(one.amount for one in found.contributions) == pytest.approx(found.score)
    assert dict(found.sources) == pytest.approx(
        {"gwas": gwas, "europe_pmc": paper, "trial-registry": trial}, abs=1e-6
    )
    random.Random(2).shuffle(pieces)
    assert evidence.score([*pieces, pieces[0]], Weights(), NOW) == found


def test_a_type_of_one_source_is_not_punished_for_it() -> None:
    weights = Weights(source={}, types={"registry": "drug", "gwas": "genes", "rare": "genes"})
    found = evidence.score([piece("a", "registry", 1.0), piece("b", "gwas", 1.0)], weights, NOW)
    own = 1 / 1.6439346
    assert dict(found.types) == pytest.approx({"drug": own, "genes": own / 1.25}, abs=1e-6)


def test_a_weight_of_0_silences_a_source_and_leaves_the_others_as_they_are() -> None:
    loud = [piece("a", "gwas", 0.9), piece("b", "reactome", 0.4)]
    silent = piece("c", "europe_pmc", 1.0)
    weights = Weights(source={"europe_pmc": 0.0})
    assert evidence.score([*loud, silent], weights, NOW).score == evidence.score(loud, weights, NOW).score


def test_more_than_a_thousand_pieces_never_reach_beyond_1() -> None:
    pieces = [piece(f"e{n}", "gwas", 1.0) for n in range(1_200)]
    found = evidence.score(pieces, Weights(), NOW)
    assert dict(found.sources)["gwas"] == pytest.approx(1.0)
    assert len(found.contributions) == 1_200


def test_evidence_ages_by_the_half_life_of_its_source() -> None:
    weights = Weights(half_life={"screening": 50 * DAY})
    fresh = evidence.score([piece("a", "screening", 0.8, at=NOW)], weights, NOW).score
    old = evidence.score([piece("a", "screening", 0.8)], weights, NOW)
    assert old.score == pytest.approx(fresh / 4)
    assert "100 days old" in old.contributions[0].note
    assert evidence.score([piece("a", "gwas", 0.8)], weights, NOW).contributions[0].counted == 0.8


def test_evidence_of_later_is_not_seen() -> None:
    later = piece("a", "gwas", 0.8, at=NOW + DAY)
    assert evidence.score([later], Weights(), NOW).score == 0
    assert evidence.score([later], Weights(), NOW + DAY).score > 0


CANDIDATES = (
    Candidate("C1", "warfarin", "VKORC1", "atrial fibrillation"),
    Candidate("C2", "apixaban", "F10", "atrial fibrillation"),
    Candidate("C3", "dabigatran", "F2", "atrial fibrillation"),
)
PRIOR = (
    piece("lit-1", "gwas", 0.9, claim="H1"),
    piece("lit-2", "reactome", 0.6, candidate="C2"),
)


def ranked(*insights: Insight, as_of: datetime = NOW) -> ranking.Ranking:
    return ranking.rank(CANDIDATES, PRIOR, Weights(), as_of, hypotheses=[FEWER_BLEEDINGS], insights=insights)


def order(found: ranking.Ranking) -> list[tuple[int, str]]:
    return [(row.rank, row.candidate.candidate) for row in found.rows]


def test_a_contradicting_insight_turns_the_order_and_says_which_evidence_did() -> None:
    before = ranked()
    assert order(before) == [(1, "C1"), (2, "C2"), (3, "C3")]
    against = insight(1.3, 1.1, 1.55, at=START + 10 * DAY)
    after = ranked(against)
    assert order(after) == [(1, "C2"), (2, "C3"), (3, "C1")]
    last = after.rows[-1]
    assert last.score < 0
    lines = last.explained()
    assert any("against" in line and "event event-1" in line and "2026-03-11" in line for line in lines)
    assert any("claim contradicted since 2026-03-11" in line and "lit-1" in line for line in lines)
    moved = {one.candidate: one for one in ranking.changes(before, after)}
    assert (moved["C1"].was, moved["C1"].rank) == (1, 3)
    assert [event for event, _ in moved["C1"].because] == ["event-1", "lit-1"]
    assert math.fsum(amount for _, amount in moved["C1"].because) == pytest.approx(
        moved["C1"].score - moved["C1"].score_was
    )
    assert moved["C2"].because == ()
    assert order(ranked(against, as_of=START + 9 * DAY)) == order(before)


def test_a_supporting_insight_raises_and_one_that_decides_nothing_changes_nothing() -> None:
    before = ranked()
    assert ranked(insight(0.7, 0.6, 0.8)).rows[0].score > before.rows[0].score
    open_ = ranked(insight(0.9, 0.7, 1.15))
    assert ranking.changes(before, open_) == ()
    assert open_.assessments[0].state == "needs data"


def test_when_a_study_changes_its_mind_its_evidence_changes_sign() -> None:
    early = insight(0.7, 0.6, 0.8, number=1, study="S")
    late = insight(1.3, 1.1, 1.5, number=2, study="S", at=START + 5 * DAY)
    pieces = evidence.of_insights(FEWER_BLEEDINGS, [early, late], NOW)
    assert [(one.event, one.against) for one in pieces] == [("event-2", True)]
    assert [one.against for one in evidence.of_insights(FEWER_BLEEDINGS, [early, late], START)] == [False]


def test_equal_scores_share_a_rank_and_input_order_does_not_matter() -> None:
    same = [piece("x", "gwas", 0.5, candidate="C2"), piece("y", "gwas", 0.5, candidate="C3")]
    found = ranking.rank(CANDIDATES, same, Weights(), NOW)
    assert order(found) == [(1, "C2"), (1, "C3"), (3, "C1")]
    assert ranking.rank(CANDIDATES[::-1], same[::-1], Weights(), NOW) == found
    assert "not a measure of confidence" in found.caution
    assert "europe_pmc 0.2" in found.weights


def test_what_cannot_be_is_refused_by_its_name() -> None:
    refusals: dict[str, Callable[[], object]] = {
        "effect": lambda: insight(0.7, 0.8, 0.9),
        "n": lambda: insight(0.7, 0.6, 0.9, n=0),
        "sites": lambda: insight(0.7, 0.6, 0.9, sites=0),
        "epsilon": lambda: insight(0.7, 0.6, 0.9, epsilon=0.0),
        "at": lambda: insight(0.7, 0.6, 0.9, at=datetime(2026, 1, 1)),
        "level": lambda: insight(0.7, 0.6, 0.9, level=95),
        "scale": lambda: replace(FEWER_BLEEDINGS, scale="percent"),  # type: ignore[arg-type]
        "expected": lambda: replace(FEWER_BLEEDINGS, expected="lower"),  # type: ignore[arg-type]
        "least_effect": lambda: replace(FEWER_BLEEDINGS, least_effect=1.1),
        "score": lambda: piece("a", "gwas", 1.2),
        "source.gwas": lambda: Weights(source={"gwas": 2}),
        "half_life.gwas": lambda: Weights(half_life={"gwas": timedelta()}),
        "kept": lambda: Weights(kept=-1),
        "event": lambda: evidence.score([piece("a", "gwas", 0.2), piece("a", "gwas", 0.3)], Weights(), NOW),
        "candidates": lambda: ranking.rank(CANDIDATES * 2, [], Weights(), NOW),
        "insights": lambda: ranking.rank(CANDIDATES, [], Weights(), NOW, insights=[insight(0.7, 0.6, 0.8)]),
        "target": lambda: Candidate("C", "M", "", "I"),
    }
    for field, call in refusals.items():
        with pytest.raises(Malformed) as refused:
            call()
        assert refused.value.field == field
    with pytest.raises(Malformed, match="not what is judged"):
        state(insight(0.7, 0.6, 0.8, hypothesis="H2"))
