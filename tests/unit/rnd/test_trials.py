"""Virtual trials through the service: run once, judged by their rule, and what they support."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import service_pb2 as api
from services.kit.errors import Invalid, Rejected, Unknown
from tests.unit.rnd.memory import Research
from tests.unit.rnd.penicillin import PRODUCT, draft, known, says

#: A difference that every run shows, and one that none does.
SURE: Any = {"least_probability": 0.01, "least_difference": -100.0}
NEVER: Any = {"least_difference": 90.0}


def run(research: Research, seed: int = 7, context: str = "Dose by genotype?", **design: Any) -> Any:
    given = {"patients_each": 20, "days": 15, "visits": [5, 8, 11, 14], "replicates": 20, **design}
    request = api.RunTrialRequest(
        product=PRODUCT, context_of_use=context, design=api.VirtualTrialDesign(**given), seed=seed
    )
    return research.call("RunTrial", request).trial


def test_the_same_question_is_one_trial(research: Research) -> None:
    known(research)
    first, again = run(research), run(research)
    assert first == again
    assert len(research.told(events.TrialCompleted)) == 1
    others = [run(research, seed=8), run(research, patients_each=21), run(research, context="Another use?")]
    assert len({first.trial, *(one.trial for one in others)}) == 4
    assert first.design_hash == hashlib.sha256(first.design.encode()).digest()
    assert first.effect.lower < first.effect.value < first.effect.upper
    assert first.subjects == 2 * 2 * 20 * 20


def test_what_a_trial_gives_depends_on_nothing_but_the_question(research: Research, tmp_path: Any) -> None:
    known(research)
    other = Research(tmp_path / "other")
    known(other)
    assert run(research).result_hash == run(other).result_hash
    assert run(research).result_hash != run(research, seed=8).result_hash


def test_trials_are_listed_and_found(research: Research) -> None:
    known(research)
    told = run(research)
    (one,) = research.call("ListTrials", api.ListTrialsRequest(product=PRODUCT)).trials
    assert one.completed == told
    assert one.HasField("at")
    assert research.call("GetTrial", api.GetTrialRequest(trial=told.trial)).trial == one
    with pytest.raises(Unknown, match="UNKNOWN_TRIAL"):
        research.call("GetTrial", api.GetTrialRequest(trial="x"))


@pytest.mark.req("D5")
def test_a_trial_without_a_chance_is_stopped_and_one_with_a_good_one_is_not(research: Research) -> None:
    """By a rule that asks for three in five: both say with which probability of success."""
    known(research)
    rule: Any = {"least_probability": 0.6, "least_difference": 0.0, "days": 30, "visits": [9, 17, 25, 29]}
    small = run(research, patients_each=5, replicates=100, alpha=0.001, **rule)
    large = run(research, patients_each=240, replicates=100, **rule)
    assert small.probability_of_success < 0.1
    assert small.verdict == events.TRIAL_VERDICT_NO_GO
    assert large.probability_of_success > 0.6
    assert large.verdict == events.TRIAL_VERDICT_GO
    with pytest.raises(Rejected, match="TRIAL_NO_GO"):
        draft(research, says(trial=small.trial))
    draft(research, says(trial=large.trial))


def test_a_set_names_a_trial_that_says_go(research: Research) -> None:
    known(research)
    go, no_go = run(research, **SURE), run(research, **NEVER)
    assert (go.verdict, no_go.verdict) == (events.TRIAL_VERDICT_GO, events.TRIAL_VERDICT_NO_GO)
    assert "go if the lower end" in go.statement
    with pytest.raises(Rejected, match="TRIAL_NO_GO"):
        draft(research, says(trial=no_go.trial))
    with pytest.raises(Unknown, match="UNKNOWN_TRIAL"):
        draft(research, says(trial="x"))
    draft(research, says(trial=go.trial))
    (told,) = research.told(events.ParameterSetDrafted)
    assert told.trial == go.trial


@pytest.mark.parametrize(
    ("design", "field"),
    [
        ({"control_dose_mg": -1.0}, "design.control_dose_mg"),
        ({"control_dose_mg": float("nan")}, "design.control_dose_mg"),
        ({"target_inr": 30.0}, "design.target_inr"),
        ({"patients_each": -5}, "design.replicates"),
        ({"replicates": 10_000_000}, "design.replicates"),
        ({"days": 1000}, "design.days"),
        ({"visits": [8, 5]}, "design.visits"),
        ({"looks": 1000}, "design.looks"),
        ({"alpha": 2.0}, "design.alpha"),
        ({"least_probability": 1.5}, "design.least_probability"),
        ({"least_difference": float("inf")}, "design.least_difference"),
        ({"lots": [api.LotPotency(lot="L", potency=98.0)]}, "design.lots"),
        ({"lots": [api.LotPotency(potency=0.98)]}, "design.lots"),
        ({"lots": [api.LotPotency(lot="L", potency=1.0, share=-1)]}, "design.lots"),
    ],
)
def test_a_design_that_is_none_is_refused(research: Research, design: Any, field: str) -> None:
    known(research)
    with pytest.raises(Invalid) as refused:
        run(research, **design)
    assert refused.value.field == field


def test_a_trial_has_a_use_a_seed_and_a_known_product(research: Research) -> None:
    with pytest.raises(Unknown, match="UNKNOWN_PRODUCT"):
        run(research)
    wrongs: list[tuple[Any, str]] = [({"context": " "}, "context_of_use"), ({"seed": -1}, "seed")]
    for wrong, field in wrongs:
        with pytest.raises(Invalid) as refused:
            run(research, **wrong)
        assert refused.value.field == field
