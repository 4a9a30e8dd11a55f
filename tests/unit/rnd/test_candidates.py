"""Findings of studies, the hypotheses that they move, and the candidates that are ranked by them."""

from __future__ import annotations

from typing import Any

import pytest

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.exchange.v1 import events_pb2 as exchange
from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import service_pb2 as api
from services.kit.errors import Invalid, Rejected, Unknown
from services.kit.ids import study_case
from tests.unit.rnd.memory import Research

INDICATION = "atrial fibrillation"
SUPPORTED, CONTRADICTED, NEEDS_DATA = (
    events.HYPOTHESIS_STATE_SUPPORTED,
    events.HYPOTHESIS_STATE_CONTRADICTED,
    events.HYPOTHESIS_STATE_NEEDS_DATA,
)


def product(name: str) -> str:
    return f"maker-1/item/{name}"


def catalogue(research: Research, *molecules: str) -> None:
    """Products of the indication, each with a molecule of its name."""
    if molecules:
        target = api.RegisterTargetRequest(target="VKORC1", name="Reductase", provenance="textbook")
        research.call("RegisterTarget", target)
    for number, name in enumerate(molecules, start=1):
        research.call(
            "RegisterMolecule",
            api.RegisterMoleculeRequest(
                molecule=name, name=name, smiles="C" * number, provenance="library", target="VKORC1"
            ),
        )
        request = api.RegisterProductRequest(
            product=product(name), name=name, molecule=name, indication=INDICATION
        )
        research.call("RegisterProduct", request)


def effect(value: float | None, low: float | None, high: float | None, scale: str = "log-odds") -> Any:
    reason = "" if value is not None else "NO_CASES"
    estimate = common.Estimate(value=value, lower=low, upper=high, reason=reason)
    return exchange.Effect(term="exposed", scale=scale, estimate=estimate)


HARM = (effect(0.7, 0.3, 1.1),)
GOOD = (effect(-0.7, -1.1, -0.3),)
NOTHING = (effect(0.1, -0.3, 0.5),)
NONE = (effect(None, None, None),)


def publish(
    research: Research, about: str, effects: tuple[Any, ...], *, study: int = 1, hour: float = 1, **more: Any
) -> str:
    """A study answers; answers the insight's id."""
    insight = f"insight-{study}"
    given = {
        "exposure": "an inlet temperature of 60 to 70 Cel",
        "outcome": "bleeding within 90 days",
        "members": 4000,
        "events": 120,
        "sites": ["hospital-a", "hospital-b", "hospital-c"],
        "model": "logistic",
        **more,
    }
    told = exchange.InsightPublished(
        insight=insight, study=f"study-{study}", product=product(about), effects=effects, **given
    )
    run = f"run-{study}"
    research.tell(told, seq=study, hour=hour, case=study_case(f"study-{study}"), run=run)
    return insight


def findings(research: Research, state: Any = api.FINDING_STATE_UNSPECIFIED) -> dict[str, Any]:
    answer = research.call("ListFindings", api.ListFindingsRequest(state=state))
    return {one.insight: one for one in answer.findings}


def ranking(research: Research) -> Any:
    return research.call("ListCandidates", api.ListCandidatesRequest(indication=INDICATION))


def ranks(research: Research) -> dict[str, int]:
    (one,) = ranking(research).rankings
    return {candidate.molecule: candidate.rank for candidate in one.ranked.candidates}


@pytest.mark.parametrize(
    ("effects", "state"), [(GOOD, SUPPORTED), (HARM, CONTRADICTED), (NOTHING, NEEDS_DATA)]
)
def test_a_finding_moves_its_hypothesis_at_once(research: Research, effects: Any, state: int) -> None:
    catalogue(research, "warfarin")
    insight = publish(research, "warfarin", effects)
    ((event, told),) = research.events(events.HypothesisUpdated)
    assert (told.state, told.insight, told.study, told.actor) == (state, insight, "study-1", "platform")
    assert (told.product, told.target) == (product("warfarin"), "VKORC1")
    assert (event.case, event.run) == (study_case("study-1"), "run-1")
    assert "an inlet temperature of 60 to 70 Cel" in told.claim
    assert "Rule: " in told.statement
    assert "4000 patients" in told.statement
    found = findings(research)[insight]
    assert (found.state, found.hypothesis) == (api.FINDING_STATE_TAKEN_UP, told.hypothesis)


def test_findings_of_one_claim_are_pooled_and_a_later_one_of_a_study_replaces(research: Research) -> None:
    catalogue(research, "warfarin")
    publish(research, "warfarin", (effect(0.5, -0.1, 1.1),), study=1)
    publish(research, "warfarin", (effect(0.5, -0.1, 1.1),), study=2, hour=2)
    first, second = research.told(events.HypothesisUpdated)
    assert first.hypothesis == second.hypothesis
    assert (first.state, second.state) == (NEEDS_DATA, CONTRADICTED)
    publish(research, "warfarin", HARM, study=3, hour=3, outcome="nausea within 90 days")
    told = research.told(events.HypothesisUpdated)
    assert len({one.hypothesis for one in told}) == 2
    answer = research.call("ListHypotheses", api.ListHypothesesRequest(state=CONTRADICTED))
    assert [len(one.insights) for one in answer.hypotheses] == [1, 2]


def test_candidates_are_ranked_with_what_each_rank_rests_on(research: Research) -> None:
    catalogue(research, "apixaban", "warfarin")
    publish(research, "apixaban", HARM, study=1, hour=1)
    assert ranks(research) == {"warfarin": 1, "apixaban": 2}
    publish(research, "warfarin", (effect(1.2, 1.0, 1.4),), study=2, hour=2)
    publish(research, "apixaban", (effect(-1.5, -1.7, -1.3),), study=3, hour=3, outcome="stroke")
    assert ranks(research) == {"apixaban": 1, "warfarin": 2}
    answer = ranking(research)
    (shown,) = answer.rankings
    assert shown.ranked.insight == "insight-3"
    for candidate in shown.ranked.candidates:
        assert candidate.score == pytest.approx(sum(one.adds for one in candidate.evidence))
        assert all(one.source == "federated-study" and one.event and one.at for one in candidate.evidence)
    best = shown.ranked.candidates[0]
    assert sorted(one.adds > 0 for one in best.evidence) == [False, True]
    assert best.evidence[0].at.startswith("2026-03-01T0")
    assert "not a measure of confidence" in answer.caution
    assert "europe_pmc 0.2" in answer.weights


def test_a_virtual_trial_is_evidence_too(research: Research) -> None:
    catalogue(research, "apixaban", "warfarin")
    design = api.VirtualTrialDesign(replicates=40, least_probability=0.01, least_difference=-100)
    request = api.RunTrialRequest(
        product=product("warfarin"), context_of_use="Dose by genotype?", design=design, seed=3
    )
    trial = research.call("RunTrial", request).trial
    assert (trial.molecule, trial.verdict) == ("warfarin", events.TRIAL_VERDICT_GO)
    assert ranks(research) == {"warfarin": 1, "apixaban": 2}
    (shown,) = ranking(research).rankings
    (piece,) = shown.ranked.candidates[0].evidence
    assert (piece.source, piece.score) == ("virtual-trial", trial.probability_of_success)


def test_the_same_simulation_again_is_no_new_evidence(research: Research) -> None:
    """With another seed, or asked in other words; another design is."""
    catalogue(research, "ALPHA")

    def run(seed: int, use: str = "go on?", patients: int = 20) -> None:
        asked = api.RunTrialRequest(
            product=product("ALPHA"),
            context_of_use=use,
            seed=seed,
            design=api.VirtualTrialDesign(patients_each=patients, replicates=20),
        )
        research.call("RunTrial", asked)

    def pieces() -> int:
        (ranked,) = ranking(research).rankings
        return len(ranked.ranked.candidates[0].evidence)

    run(1)
    run(2)
    run(3, use="or stop?")
    assert pieces() == 1
    run(1, patients=21)
    assert pieces() == 2


@pytest.mark.parametrize(
    ("about", "effects", "more", "reason"),
    [
        ("warfarin", NONE, {}, "no estimate"),
        ("warfarin", (), {}, "no estimate"),
        ("warfarin", (effect(0.5, None, None),), {}, "no estimate"),
        ("warfarin", HARM, {"flags": ["NOT_CONVERGED"]}, "did not converge"),
        ("unknown", HARM, {}, "not registered"),
    ],
)
def test_what_no_rule_can_take_up_waits_for_a_person(
    research: Research, about: str, effects: Any, more: Any, reason: str
) -> None:
    catalogue(research, "warfarin")
    insight = publish(research, about, effects, **more)
    assert not research.told(events.HypothesisUpdated)
    waiting = findings(research, api.FINDING_STATE_WAITING)
    assert reason in waiting[insight].reason


def test_a_person_takes_up_what_waits_once(research: Research) -> None:
    catalogue(research, "warfarin")
    insight = publish(research, "warfarin", NONE)
    research.call("TakeUpInsight", api.TakeUpInsightRequest(insight=insight), "ada")
    ((event, told),) = research.events(events.HypothesisUpdated)
    assert (told.state, told.actor) == (NEEDS_DATA, "ada")
    assert (event.case, event.run) == (study_case("study-1"), "run-1")
    assert research.events(events.CandidatesRanked)[-1][0].run == "run-1"
    for method, request in (
        ("TakeUpInsight", api.TakeUpInsightRequest(insight=insight)),
        ("DeclineInsight", api.DeclineInsightRequest(insight=insight, reason="late")),
    ):
        with pytest.raises(Rejected, match="TAKEN_UP"):
            research.call(method, request)


def test_a_person_declines_what_waits_and_says_why(research: Research) -> None:
    insight = publish(research, "unknown", HARM)
    with pytest.raises(Rejected, match="UNKNOWN_PRODUCT"):
        research.call("TakeUpInsight", api.TakeUpInsightRequest(insight=insight))
    with pytest.raises(Invalid, match="REQUIRED"):
        research.call("DeclineInsight", api.DeclineInsightRequest(insight=insight, reason=" "))
    research.call("DeclineInsight", api.DeclineInsightRequest(insight=insight, reason="not ours"), "ada")
    ((event, told),) = research.events(events.InsightDeclined)
    assert (told.insight, told.study, told.actor, told.reason) == (insight, "study-1", "ada", "not ours")
    assert (event.case, event.run) == (study_case("study-1"), "run-1")
    assert findings(research)[insight].state == api.FINDING_STATE_DECLINED
    with pytest.raises(Rejected, match="DECLINED"):
        research.call("TakeUpInsight", api.TakeUpInsightRequest(insight=insight))


@pytest.mark.parametrize("first", ["TakeUpInsight", "DeclineInsight"])
def test_of_two_people_at_the_same_moment_one_decides(
    research: Research, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """The second call is made anew, whole, between what the first one reads and its commit."""
    catalogue(research, "warfarin")
    insight = publish(research, "warfarin", NONE)
    asked: dict[str, Any] = {
        "TakeUpInsight": api.TakeUpInsightRequest(request_id="a", insight=insight),
        "DeclineInsight": api.DeclineInsightRequest(request_id="b", insight=insight, reason="small"),
    }
    second = next(method for method in asked if method != first)
    transact = research.store.transact

    async def meanwhile(work: Any) -> Any:
        async def both(txn: Any) -> Any:
            found = await work(txn)
            if research.store.transact is not transact:
                monkeypatch.setattr(research.store, "transact", transact)
                await research._call(second, asked[second], "ben")
            return found

        return await transact(both)

    monkeypatch.setattr(research.store, "transact", meanwhile)
    with pytest.raises(Rejected, match=r"TAKEN_UP|DECLINED"):
        research.call(first, asked[first], "ada")
    taken = [one.actor for one in research.told(events.HypothesisUpdated)]
    declined = [one.actor for one in research.told(events.InsightDeclined)]
    assert taken + declined == ["ben"]


def test_a_finding_that_waited_for_its_product_is_taken_up_once_it_is_registered(research: Research) -> None:
    insight = publish(research, "warfarin", HARM)
    catalogue(research, "warfarin")
    assert "take it up" in findings(research)[insight].reason
    research.call("TakeUpInsight", api.TakeUpInsightRequest(insight=insight))
    (told,) = research.told(events.HypothesisUpdated)
    assert told.state == CONTRADICTED


def test_an_unknown_finding_is_said(research: Research) -> None:
    with pytest.raises(Unknown, match="UNKNOWN_INSIGHT"):
        research.call("TakeUpInsight", api.TakeUpInsightRequest(insight="x"))
