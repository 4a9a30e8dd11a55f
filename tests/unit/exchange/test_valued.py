"""The valuation of contributions, with agents and an evaluator in memory: who agreed, who is told what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from services.exchange.domain import models
from services.exchange.domain.contribution import evaluation, explained, shapley
from services.exchange.domain.contribution.evaluation import Evaluation, Utility, agreed
from services.exchange.domain.contribution.shapley import Coalition
from services.exchange.domain.stats.protocol import Ask, Vector
from services.exchange.evaluator.valuation import Valuation
from services.exchange.site import valuing
from services.exchange.site.seen import SeenStudy
from services.exchange.site.session import Session
from services.exchange.site.source import CohortData
from services.kit import hpke
from services.kit.errors import Invalid, Rejected
from services.refusals import Refusal
from tests.unit.exchange.consortium import Consortium, consortium
from tests.unit.exchange.hospitals import SITES, SPECIFICATION, TERMS, Hospital, data

KEY = hpke.generate().private


async def _with_evaluator(found: Consortium, valuation: tuple[str, ...] = SITES) -> None:
    """A study is asked for, to be valued by a connected evaluator, and approved."""
    found.start_evaluator(KEY)
    async with asyncio.timeout(5):
        while not found.desk._came.is_set():
            await asyncio.sleep(0.001)
    found.request(valued=True)
    found.approve(valuation=valuation)


def _metered(found: Consortium) -> list[events.ContributionMetered]:
    return sorted(found.service.all(events.ContributionMetered), key=lambda one: one.site)


# -- what is told ------------------------------------------------------------------------


async def test_with_every_owners_consent_the_shares_of_all_sites_are_metered_after_the_answer() -> None:
    async with consortium(SITES) as found:
        await _with_evaluator(found)
        await found.step()
        assert found.study().state == "answered"
        assert not _metered(found), "the answer does not wait for the valuation"
        await found.value()
        metered = _metered(found)
        assert [one.site for one in metered] == sorted(SITES)
        assert all(one.valued and not one.not_valued for one in metered)
        assert all(0 < one.share < 1 for one in metered)
        assert sum(one.share for one in metered) == pytest.approx(1.0)
        assert all(one.compute_seconds > 0 and one.rounds > 2 and one.quality for one in metered)
        assert {one.quality_score for one in metered} == {1.0}
        assert not found.hub.rooms, "the sites forget the job"
        await found.value()
        assert len(_metered(found)) == 3, "a step that runs twice meters once"


async def test_without_one_owners_consent_nothing_is_asked_and_nothing_is_valued() -> None:
    async with consortium(SITES) as found:
        await _with_evaluator(found, SITES[:2])
        await found.step()
        assert found.study().state == "answered"
        assert {(one.valued, one.not_valued) for one in _metered(found)} == {(False, "NOT_ALL_CONSENT")}
        assert not any(one.HasField("share") for one in _metered(found))
        assert not [said for _, said in found.traffic if isinstance(said, api.SubmitEvaluationRequest)]


async def test_a_study_that_asks_for_no_valuation_has_none() -> None:
    async with consortium(SITES) as found:
        found.start_evaluator(KEY)
        found.request()
        found.approve(valuation=SITES)
        await found.step()
        assert {(one.valued, one.not_valued) for one in _metered(found)} == {(False, "NOT_ASKED")}


async def test_an_evaluator_that_is_away_costs_the_shares_and_not_the_answer() -> None:
    async with consortium(SITES) as found:
        await _with_evaluator(found)
        await found.kill("evaluator")
        await found.step()
        assert found.study().state == "answered"
        await found.value()
        assert {(one.valued, one.not_valued) for one in _metered(found)} == {(False, "EVALUATOR_AWAY")}
        assert not found.hub.rooms


async def test_an_evaluator_that_does_not_end_is_not_waited_for_beyond_its_time() -> None:
    async with consortium(SITES) as found:
        await _with_evaluator(found)
        found.valuations._seconds = 0.05
        found.lines["hospital-b"].bend_said = _without_evaluations
        await found.step()
        await found.value()
        assert {one.not_valued for one in _metered(found)} == {"EVALUATOR_TOO_SLOW"}


def _without_evaluations(method: str, said: Any) -> Any:
    return None if method == "SubmitEvaluation" else said


async def test_a_coordinator_that_dies_after_the_answer_meters_without_shares_when_it_is_back() -> None:
    async with consortium(SITES) as found:
        await _with_evaluator(found)
        await found.step()
        found.valuations._answered.clear()  # what was in memory alone
        await found.value()
        assert {(one.valued, one.not_valued) for one in _metered(found)} == {(False, "COORDINATOR_RESTARTED")}


async def test_no_vector_of_a_site_is_anywhere_unsealed(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors: list[Vector] = []
    seal = valuing.sealed

    def noted(task: Any, vector: Vector, *more: Any) -> Any:
        vectors.append(vector)
        return seal(task, vector, *more)

    asked: list[float] = []
    opened = valuing.opened_ask

    def read(task: Any, *more: Any) -> Any:
        ask = opened(task, *more)
        if len(task.coalition) == 1:
            asked.extend(ask.parameters)
        return ask

    monkeypatch.setattr(valuing, "sealed", noted)
    monkeypatch.setattr(valuing, "opened_ask", read)
    async with consortium(SITES) as found:
        await _with_evaluator(found)
        await found.step()
        await found.value()
        assert all(one.valued for one in _metered(found))
        # Rounds of one site, and the means and estimates it is asked at: nothing but the seal hides them.
        vectors.append(np.array(asked))
        numbers = {float(number) for vector in vectors for number in vector if number != round(number)}
        assert len(asked) > 50
        marks = [np.float64(number).tobytes() for number in numbers]
        said = b"".join(one.SerializeToString() for _, one in found.traffic)
        held = b"".join(row.value for row in found.service.database.outbox.values()) + said
        assert len(marks) > 100
        assert not [mark for mark in marks if mark in held]
        assert [one for _, one in found.traffic if isinstance(one, api.SubmitEvaluationRequest)]


# -- who may do what -----------------------------------------------------------------------


async def test_what_a_site_seals_is_opened_by_the_evaluators_key_alone() -> None:
    async with consortium(SITES) as found:
        await _with_evaluator(found)
        await found.step()
        await found.value()
        (said, *_) = [one for _, one in found.traffic if isinstance(one, api.SubmitEvaluationRequest)]
        whole: Any = agreed(said.job, SITES, SITES, "evaluator", "exchange", Utility.EXPLAINED)
        begun = evaluation.begin(whole, said.coalition)
        received = {
            one.vector.site: one.vector.sealed
            for _, one in found.traffic
            if isinstance(one, api.SubmitEvaluationRequest)
            and (one.coalition, one.round) == (said.coalition, said.round)
        }
        opened = evaluation.opened(begun, said.coalition, said.round, received, _opener(KEY))
        assert set(opened) == set(said.coalition)
        with pytest.raises(Invalid, match="another key"):
            evaluation.opened(begun, said.coalition, said.round, received, _opener(hpke.generate().private))


def _opener(key: bytes) -> evaluation.Open:
    return lambda sealed, info, aad: hpke.open_sealed(key, sealed, info, aad)


async def test_what_is_not_signed_by_its_site_is_not_valued() -> None:
    async with consortium(SITES) as found:
        await _with_evaluator(found)

        def forged(method: str, said: Any) -> Any:
            if method == "SubmitEvaluation":
                said.vector.sealed = hpke.seal(hpke.public_of(KEY), bytes(8), b"", b"")
            return said

        found.lines["hospital-b"].bend_said = forged
        await found.step()
        await found.value()
        assert {one.not_valued for one in _metered(found)} == {"NOT_SIGNED"}


async def test_who_cannot_open_the_ticket_neither_asks_nor_tells() -> None:
    async with consortium(SITES) as found:
        await _with_evaluator(found)
        await found.step()
        told: list[str] = []

        def meddle(method: str, said: Any) -> Any:
            if method == "SubmitEvaluation":
                forged = api.SubmitValuesRequest(job=said.job, ticket=bytes(32), not_valued="X")
                with pytest.raises(Refusal) as refused:
                    found.desk.take(forged)
                told.append(refused.value.reason)
            return said

        found.lines["hospital-a"].bend_said = meddle
        await found.value()
        assert set(told) == {"NOT_THE_EVALUATOR"}
        assert all(one.valued for one in _metered(found))


async def test_a_second_evaluator_does_not_take_the_place_of_the_first() -> None:
    async with consortium(SITES) as found:
        await _with_evaluator(found)
        other = api.RegisterEvaluatorRequest(evaluator="evaluator", key=hpke.generate().public)
        with pytest.raises(Rejected) as refused:
            found.command("RegisterEvaluator", other, "somebody")
        assert refused.value.reason == "EVALUATOR_ON_RECORD"
        assert found.study().message().evaluator_key == hpke.public_of(KEY)


async def test_a_site_answers_the_evaluator_only_after_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    async with consortium(SITES) as found:
        await _with_evaluator(found)
        early = api.EvaluateTask(coalition=["hospital-a"], round=1)
        reasons: list[str] = []
        begin = Session.begin

        async def begun(self: Session, task: api.BeginTask) -> None:
            await begin(self, task)
            with pytest.raises(Refusal) as refused:
                await self.evaluate(early)
            reasons.append(refused.value.reason)

        monkeypatch.setattr(Session, "begin", begun)
        await found.step()
        assert reasons == ["NOT_CONFIRMED"] * 3


def _seen(**changes: Any) -> SeenStudy:
    study = events.StudyRequested(
        study="s1", sites=SITES, valued=True, evaluator="evaluator", evaluator_key=bytes(32)
    )
    for name, value in changes.items():
        setattr(study, name, value)
    return SeenStudy("s1", study.SerializeToString(), SITES, "", SITES)


def test_a_site_believes_its_topics_and_not_the_coordinator() -> None:
    assert valuing.check_agreed(_seen(), SITES[0], b"").evaluator == "evaluator"
    cases = [
        (_seen(valued=False), b"", "NOT_ALL_CONSENT"),
        (SeenStudy("s1", _seen().requested, SITES, "", SITES[:2]), b"", "NOT_ALL_CONSENT"),
        (_seen(evaluator="hospital-b"), b"", "EVALUATOR_NOT_APART"),
        (_seen(evaluator="exchange"), b"", "EVALUATOR_NOT_APART"),
        (_seen(), b"another".ljust(32), "KEY_REPLACED"),
    ]
    for seen, pinned, reason in cases:
        with pytest.raises(Refusal) as refused:
            valuing.check_agreed(seen, SITES[0], pinned)
        assert refused.value.reason == reason


def test_a_site_answers_each_round_of_a_coalition_at_one_point() -> None:
    answered, owners = valuing.Answered(), set(SITES)

    def ask(coalition: list[str], round_: int, phase: str = "fit", at: float = 0.0) -> str:
        task = api.EvaluateTask(job="j", coalition=coalition, round=round_)
        try:
            asked = Ask({}, phase, round_, (at,))
            valuing.check_ask(answered, task, asked, "hospital-a", owners, 5)
        except Refusal as refusal:
            return refusal.reason
        return ""

    assert [ask(["hospital-a"], 1), ask(["hospital-a"], 1)] == ["", ""], "asked again, it answers alike"
    assert ask(["hospital-a"], 1, at=1.0) == "FIT_SPENT"
    assert [ask(["hospital-a"], 6), ask(["hospital-a"], 7)] == ["", "TOO_MANY_ROUNDS"]
    assert [ask([], 1), ask(["hospital-x"], 1)] == ["NOT_A_PARTICIPANT"] * 2
    assert [ask(["hospital-b"], 1, "presence"), ask(["hospital-b"], 4), ask(["hospital-b"], 5)] == [
        "NOT_IN_COALITION",
        "",
        "NOT_IN_COALITION",
    ]


# -- what it is worth --------------------------------------------------------------------------


async def _values(tables: Mapping[str, Mapping[str, Any]], name: str, said: str) -> Evaluation:
    """The valuation of tables that are asked in this process."""
    whole = agreed("j", tables, tables, "evaluator", "exchange", Utility.EXPLAINED, 4)
    assert isinstance(whole, Evaluation)
    spec, _ = models.specification(name, said, public=False)
    plain = explained.specification(spec)

    async def ask(coalition: Coalition, asked: Ask, everybody: bool) -> Mapping[str, bytes]:
        sites = set(tables) if everybody else coalition
        here = Ask(plain, asked.phase, asked.round, asked.parameters)
        return {
            site: evaluation.sealed(
                models.model(name).contribute(here, tables[site]),
                "j",
                coalition,
                asked.round,
                site,
                lambda plain_, info, aad: hpke.seal(hpke.public_of(KEY), plain_, info, aad),
            )
            for site in sites
        }

    return await Valuation(whole, name, spec, 60, ask, _opener(KEY)).all()


def _shares(found: Evaluation) -> dict[str, float]:
    values = evaluation.told(found)
    return {
        site: float(share)
        for site, share in shapley.shares(shapley.exact(found.owners, values), found.unit).items()
    }


def _columns(found: CohortData) -> dict[str, Any]:
    return dict(found.columns)


async def test_the_value_of_a_coalition_is_what_its_fit_explains_of_all_patients() -> None:
    tables = {site: _columns(data(site)) for site in SITES}
    found = await _values(tables, "logistic", SPECIFICATION)
    x = {
        site: np.column_stack([np.ones(300), *(one[name] for name in TERMS)]) for site, one in tables.items()
    }
    for coalition, value in found.values.items():
        beta = _fitted(
            np.vstack([x[site] for site in sorted(coalition)]),
            np.concatenate([tables[site]["event"] for site in sorted(coalition)]),
        )
        y = np.concatenate([tables[site]["event"] for site in SITES])
        eta = np.vstack([x[site] for site in SITES]) @ beta
        share = y.mean()
        null = len(y) * (share * np.log(share) + (1 - share) * np.log(1 - share))
        whole = float(np.sum(y * eta - np.logaddexp(0, eta)))
        expected = max(0.0, 1 - np.exp(-2 / len(y) * (whole - null)))
        assert value == pytest.approx(expected, abs=5.1e-5)
    values = evaluation.told(found)
    total = sum(shapley.exact(found.owners, values).values())
    assert float(total) == pytest.approx(values[frozenset(SITES)]), "what all explain is shared out, no more"


def _fitted(x: Vector, y: Vector) -> Vector:
    beta = np.zeros(x.shape[1])
    for _ in range(30):
        mean = 1 / (1 + np.exp(-x @ beta))
        beta = beta + np.linalg.solve((x * (mean * (1 - mean))[:, None]).T @ x, x.T @ (y - mean))
    return beta


async def test_errors_by_row_change_no_value_and_a_site_without_events_brings_no_model() -> None:
    tables = {site: _columns(data(site)) for site in SITES}
    tables["hospital-c"]["event"] = np.zeros(300)
    plain = await _values(tables, "logistic", SPECIFICATION)
    robust = await _values(tables, "logistic", json.dumps({**json.loads(SPECIFICATION), "errors": "robust"}))
    assert robust.values == plain.values
    assert plain.values[frozenset({"hospital-c"})] == 0
    assert plain.values[frozenset(SITES)] > 0


async def test_a_site_whose_patients_tell_nothing_gets_nothing_and_equals_get_the_same() -> None:
    table = _columns(data("hospital-a"))
    nothing = {name: values[:0] for name, values in table.items()}
    found = await _values({"a": table, "b": table, "c": nothing}, "logistic", SPECIFICATION)
    shares = _shares(found)
    assert shares["c"] == 0
    assert shares["a"] == shares["b"] == 0.5


async def test_of_a_linear_model_it_is_the_share_of_the_squares() -> None:
    term = {"column": "x", "low": -9, "high": 9}
    said = json.dumps({"outcome": {"column": "y", "low": -50, "high": 50}, "terms": [term]})
    draw = np.random.default_rng(3)
    tables = {}
    for site, slope in (("a", 2.0), ("b", 2.0), ("c", -1.0)):
        x = draw.uniform(-5, 5, 200)
        tables[site] = {"x": x, "y": 1 + slope * x + draw.normal(0, 1, 200)}
    found = await _values(tables, "linear", said)
    x, y = (np.concatenate([one[name] for one in tables.values()]) for name in ("x", "y"))
    for members in (("a",), ("a", "c"), ("a", "b", "c")):
        here = [np.concatenate([tables[site][name] for site in members]) for name in ("x", "y")]
        slope, intercept = np.polyfit(here[0], here[1], 1)
        squares = float(np.sum((y - intercept - slope * x) ** 2))
        expected = max(0.0, 1 - squares / float(np.sum((y - y.mean()) ** 2)))
        assert found.values[frozenset(members)] == pytest.approx(expected, abs=5.1e-5)
    shares = _shares(found)
    assert min(shares.values()) >= 0
    assert sum(shares.values()) == pytest.approx(1.0)


async def test_a_site_whose_agent_is_started_anew_is_not_valued_and_the_next_study_is() -> None:
    async with consortium(SITES, {site: Hospital(site) for site in SITES}) as found:
        await _with_evaluator(found)
        await found.step()
        await found.kill("hospital-c")
        found.start("hospital-c")
        await found.value()
        assert {one.not_valued for one in _metered(found)} == {"SITE_RESTARTED"}
        assert "evaluator" in found.agents
        assert not found.agents["evaluator"].done()


@pytest.mark.parametrize("name", ["cox", "kaplan_meier"])
def test_a_model_whose_sums_do_not_tell_its_worth_is_not_valued(name: str) -> None:
    whole = agreed("j", SITES, SITES, "evaluator", "exchange", Utility.EXPLAINED)
    assert isinstance(whole, Evaluation)

    async def never(*_: Any) -> Mapping[str, bytes]:
        raise AssertionError("nobody is asked")

    with pytest.raises(Refusal, match="MODEL_NOT_VALUED"):
        Valuation(whole, name, {}, 60, never, _opener(KEY))
