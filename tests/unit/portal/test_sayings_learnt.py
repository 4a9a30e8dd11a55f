"""What actions, studies, hypotheses, candidates and virtual trials say is said in the reader's language."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.exchange.v1 import cohort_pb2 as cohort
from pharmaloop.exchange.v1 import events_pb2 as exchange
from pharmaloop.exchange.v1 import service_pb2 as studies_api
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.production.v1 import service_pb2 as plant
from pharmaloop.rnd.v1 import events_pb2 as rnd
from pharmaloop.rnd.v1 import service_pb2 as rnd_api
from pharmaloop.traceability.v1 import dossier_pb2 as trace
from services.exchange.domain import insights
from services.exchange.domain.stats.protocol import Estimate, Result
from services.portal.languages import CHINESE, ENGLISH, Language
from services.portal.sayings import marked, plain
from services.portal.sayings_learnt import LEARNT
from services.production import answers
from services.production.domain import capa, lists
from services.production.domain.evidence import Evidence
from services.production.domain.pooled import Release, Row, Sums
from services.rnd.domain import candidates, findings, trials
from services.rnd.domain.catalogue import Product
from services.rnd.domain.parameter_sets import life, model
from services.traceability.domain.dossier import capas as of_runs
from services.traceability.domain.dossier.page_evidence import _insight
from tests.unit.exchange.hospitals import SITES, definition
from tests.unit.portal.english import sentences
from tests.unit.portal.fakes import Browser, FakeBackend

ZH, EN = Language(CHINESE), Language(ENGLISH)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
PRODUCT = Product("m/item/x", "warfarin", "VKORC1", "thrombosis", b"")


def asked(*releases: Release) -> Evidence:
    return Evidence(
        "r1",
        root="m/item/API/1",
        deviation="d1",
        product="m/item/API",
        tag="Temp",
        version=3,
        releases=releases,
    )


def proposals() -> Iterator[production.CapaProposed]:
    """A corrective action by everything that its reason may say."""
    told = Release("a", 2, Row(28, 12), Row(56, 14), Sums(4.0, 2.0, 1.0, 1.0, 9.0, 1.0), final_plans=30)
    silent = Release("b", 1, Row(22, None), Row(50, None), final_plans=24)
    for releases in ((), (silent,), (told,), (told, silent), (replace(told, sums=None),)):
        for after in (5.25, 6.0):
            (proposed,) = capa.decide_propose(None, asked(*releases), "c1", 6.0, after)
            assert isinstance(proposed, production.CapaProposed)
            yield proposed


def learnt() -> Iterator[production.InsightPublished]:
    """What research is told of a corrective action."""
    for answered, affected in ((4000, 1234), (8, 3)):
        for after in (5.25, 6.0):
            (proposed,) = capa.decide_propose(None, asked(), "c1", 6.0, after)
            assert isinstance(proposed, production.CapaProposed)
            proposed.answered, proposed.affected = answered, affected
            yield capa._insight(proposed, "i1", 6.0, after)


def exposures() -> Iterator[cohort.CohortExposure]:
    yield cohort.CohortExposure(kind=cohort.EXPOSURE_KIND_GENOTYPE, genotype="CYP2C9*3")
    for lots in (1, 2, 5):
        names = [f"m/item/x/L-{number}" for number in range(lots)]
        yield cohort.CohortExposure(kind=cohort.EXPOSURE_KIND_LOTS, lots=names)
    for low, high in ((75.0, None), (None, 80.5), (75.0, 80.5)):
        kind = cohort.EXPOSURE_KIND_PARAMETER_BAND
        yield cohort.CohortExposure(kind=kind, tag="InletAirTemp", unit="Cel", low=low, high=high)


def outcomes() -> Iterator[cohort.CohortOutcome]:
    yield cohort.CohortOutcome(kind=cohort.OUTCOME_KIND_ADVERSE_EVENT, days=28)
    yield cohort.CohortOutcome(kind=cohort.OUTCOME_KIND_ADVERSE_EVENT, days=28, terms=["10019211"])
    yield cohort.CohortOutcome(kind=cohort.OUTCOME_KIND_LAB_CHANGE, days=90, lab="ALT", unit="U/L")


def answer(result: Result, **changes: Any) -> exchange.InsightPublished:
    asked = exchange.StudyRequested(study="s", question="?", model=result.model, definition=definition())
    asked.product = PRODUCT.product
    for name, value in changes.items():
        getattr(asked.definition, name).CopyFrom(value)
    job = exchange.JobOpened(study="s", job="j", participants=SITES)
    return insights.insight("i", asked, job, SITES, result)


def estimated(*estimates: Estimate, members: int = 12900, **tables: Any) -> Result:
    return Result("logistic", estimates, members, 7, 327, tables=tables)


_SURE = Estimate("exposed", -0.812, 0.2, -1.2, -0.4, 4.0, 6e-5)


def answered() -> Iterator[exchange.InsightPublished]:
    """An answer by everything that it may say."""
    for exposure in exposures():
        yield answer(estimated(_SURE), exposure=exposure)
    for outcome in outcomes():
        yield answer(estimated(Estimate("exposed", 0.5)), outcome=outcome)
    yield answer(estimated(Estimate("exposed", None)))
    yield answer(estimated(Estimate("age", 0.5, 0.1, 0.3, 0.7, None, None), members=5))
    yield answer(estimated(Estimate("age", 0.5, None, None, None, None, 0.02)))
    band = list(exposures())[-1]
    yield answer(estimated(_SURE), exposure=band)
    yield answer(estimated(_SURE, clusters=24, clusters_exposed=4), exposure=band)
    noise = {"standard_deviation": 3.25, "epsilon": 1.0, "delta": 1e-6, "accountant": "rdp"}
    yield answer(estimated(_SURE, noise=noise))


def taken_up() -> Iterator[rnd.HypothesisUpdated]:
    """A hypothesis by everything that its rule may say."""
    shapes = {
        "below": (-0.8, -1.2, -0.4, 900),
        "above": (0.8, 0.4, 1.2, 900),
        "both": (-0.1, -0.5, 0.3, 900),
        "few": (-0.8, -1.2, -0.4, 60),
    }
    for value, low, high, members in shapes.values():
        told = answer(estimated(Estimate("exposed", value, 0.2, low, high, 4.0, 0.01), members=members))
        found = findings.published(told, "e-1", NOW.isoformat(), "case", "run")
        again = findings.published(told, "e-0", "2026-05-01T00:00:00+00:00", "case", "run")
        yield from findings.decide_take_up(None, "h", PRODUCT, found, (again,), "platform", NOW)
    linear = answer(Result("linear", (_SURE,), 900, 7, None))
    found = findings.published(linear, "e-1", NOW.isoformat(), "case", "run")
    yield from findings.decide_take_up(None, "h", PRODUCT, found, (), "platform", NOW)
    few_sites = answer(estimated(_SURE))
    del few_sites.sites[1:]
    found = findings.published(few_sites, "e-1", NOW.isoformat(), "case", "run")
    yield from findings.decide_take_up(None, "h", PRODUCT, found, (), "platform", NOW)


def waiting() -> Iterator[tuple[str, list[common.Saying]]]:
    """A finding by everything that it may wait for."""
    unsure, other, unsettled = (
        answer(estimated(Estimate("exposed", None))),
        answer(estimated(Estimate("age", 0.5, 0.1, 0.3, 0.7, None, None))),
        answer(replace(estimated(_SURE), flags=("NOT_CONVERGED",))),
    )
    bare = answer(estimated())
    for told, product in ((unsure, None), *((one, PRODUCT) for one in (unsure, bare, other, unsettled))):
        yield findings.waits_for(told, product), findings.waiting_sayings(told, product)
    yield "no rule could take it up", findings.waiting_sayings(answer(estimated(_SURE)), PRODUCT)


def tried() -> Iterator[rnd.TrialCompleted]:
    for least_probability, least_difference in ((0.01, -100.0), (0.8, 90.0), (0.2, 0.0)):
        yield trials.run(
            trials.question(
                PRODUCT.product,
                "Dose by genotype?",
                7,
                control_dose=0,
                target=0,
                per_arm=10,
                days=15,
                visits=(5, 8, 11, 14),
                looks=1,
                alpha=0,
                replicates=10,
                least_probability=least_probability,
                least_difference=least_difference,
                lots=(),
            )
        )


def reviews() -> Iterator[rnd.ReviewRequested]:
    release = rnd.ParameterSetReleased(set="s", version=1, product=PRODUCT.product, plant="p")
    drafted = rnd.ParameterSetDrafted(set="s", version=1, product=PRODUCT.product)
    reviewed = rnd.ParameterSetReviewed(set="s", version=1, actor="a")
    held: model.ParameterSet | None = None
    for event in (drafted, reviewed, release):
        held = model.evolve(held, event)
    assert held is not None
    for after in (2.25, 2.7):
        changed = production.ProcessLimitChanged(tag="Temp", capa="c1", limit_before=2.7, limit_after=after)
        yield from life.decide_request_review(held, changed)


def everything() -> Iterator[tuple[str, list[common.Saying]]]:
    """English sentences beside their parts."""
    for proposed in proposals():
        yield proposed.reason, list(proposed.reason_sayings)
    for insight in learnt():
        yield insight.statement, list(insight.statement_sayings)
    for found in answered():
        yield found.statement, list(found.statement_sayings)
        yield found.exposure, [found.exposure_saying]
        yield found.outcome, [found.outcome_saying]
    for updated in taken_up():
        yield updated.claim, [updated.claim_saying]
        yield updated.statement, list(updated.statement_sayings)
    yield from waiting()
    for trial in tried():
        yield trial.statement, list(trial.statement_sayings)
    for review in reviews():
        yield review.reason, list(review.reason_sayings)
    weights, caution = candidates.explained()
    yield weights, candidates.weights_sayings()
    yield caution, candidates.caution_sayings()


#: Said by the coordinator of a study, which is tested there.
OF_JOBS = frozenset(
    {
        *("WAITS_FOR_OWNERS", "WAITS_FOR_AGENTS", "WAITS_FOR_JOB", "TIME_OVER", "FROZE_NO_COHORT"),
        *("QUERIES_SPENT", "ROUNDS_SPENT", "EPSILON_SPENT", "NOT_CONFIRMED_IN_TIME", "NO_ANSWER_IN_ROUNDS"),
        *("COHORT_NOT_CONFIRMED", "TOO_FEW_LEFT", "DROPPED_AFTER_SUMS", "DROPPED_OUT"),
        *("COORDINATOR_RESTARTED", "COORDINATOR_FAULT"),
    }
)
#: Of hypotheses that ask for more than those that findings make, and of what no set of weights has.
OF_OTHERS = frozenset({"SUPPORTED_ABOVE", "CONTRADICTED_LEAST", "NO_INSIGHT", "HALF_LIFE", "BAND_OPEN"})


def codes(saying: common.Saying) -> set[str]:
    parts = (one.phrase for one in saying.arguments if one.HasField("phrase"))
    return {saying.code, *(code for part in parts for code in codes(part))}


def numbers(text: str) -> set[float]:
    told = text.replace(",", "")
    return {float(one.rstrip(".")) for one in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?", told)}


def test_every_sentence_is_chinese_and_has_the_numbers_of_its_english() -> None:
    seen: set[str] = set()
    for english, sayings in everything():
        assert sayings, english
        seen |= {code for one in sayings for code in codes(one)}
        for language in (ZH, EN):
            text = str(marked(language, sayings, english))
            assert 'lang="en"' not in text, english
            lost = numbers(english) - numbers(plain(language, sayings, english))
            assert not lost, (english, plain(language, sayings, english))
            assert language is EN or sentences(text) == []
    assert set(LEARNT) - seen == {*OF_JOBS, *OF_OTHERS}


def test_what_the_exchange_says_of_jobs_is_chinese() -> None:
    values = {name: "x" for english in LEARNT.values() for name in re.findall(r"%\((\w+)\)s", english)}
    for code in LEARNT:
        arguments = [common.SayingValue(name=name, text=value) for name, value in values.items()]
        saying = common.Saying(code=code, arguments=arguments)
        assert sentences(str(marked(ZH, [saying], "English"))) == []
        assert "%" not in plain(ZH, [saying], "").replace("95%", "").replace("x%", "")


def test_a_part_that_is_not_known_here_leaves_the_english() -> None:
    part = common.SayingValue(name="exposure", phrase=common.Saying(code="OF_TOMORROW"))
    outcome = common.SayingValue(name="outcome", text="x")
    saying = common.Saying(code="LESS_OFTEN_WITH", arguments=[part, outcome])
    assert plain(ZH, [saying], "as it was") == "as it was"


def test_parts_of_parts_end_somewhere() -> None:
    saying = common.Saying(code="GENOTYPE", arguments=[common.SayingValue(name="genotype", text="x")])
    for _ in range(20):
        saying = common.Saying(
            code="GENOTYPE", arguments=[common.SayingValue(name="genotype", phrase=saying)]
        )
    assert plain(ZH, [saying], "as it was") == "as it was"


def action(proposed: production.CapaProposed) -> FakeBackend:
    row = lists.proposed(None, proposed, "2026-01-01T00:00:00+00:00")
    told = plant.ListCapasResponse(capas=[answers.capa(row)])
    return FakeBackend({("production", "ListCapas"): told})


def test_the_chinese_page_of_an_action_says_its_reason_in_chinese() -> None:
    for proposed in proposals():
        browser = Browser(action(proposed), "zh", actor="王芳")
        for address in ("/capas/c1", "/capas/c1/approve"):
            text = browser.get(address).text
            assert "Temp</bdi> 偏离黄金批次后" in text or "Temp 偏离黄金批次后" in text
            assert proposed.reason not in text
            assert sentences(text) == []


def test_an_older_action_keeps_its_english_and_is_marked_so() -> None:
    proposed = next(proposals())
    proposed.ClearField("reason_sayings")
    text = Browser(action(proposed), "zh").get("/capas/c1").text
    assert text.count(f'<bdi lang="en">{proposed.reason}</bdi>') == 2  # the reason, and in the history


def hypotheses() -> FakeBackend:
    found = next(answered())
    (why, parts), updated = list(waiting())[1], next(taken_up())
    finding = rnd_api.Finding(
        insight="i",
        study="s",
        statement=found.statement,
        statement_sayings=found.statement_sayings,
        reason=why,
        reason_sayings=parts,
        state=rnd_api.FINDING_STATE_WAITING,
    )
    weights, caution = candidates.explained()
    ranked = rnd.CandidatesRanked(indication="thrombosis", candidates=[rnd.Candidate(molecule="m", rank=1)])
    insight = next(learnt())
    return FakeBackend(
        {
            ("rnd", "ListFindings"): rnd_api.ListFindingsResponse(findings=[finding]),
            ("rnd", "ListHypotheses"): rnd_api.ListHypothesesResponse(
                hypotheses=[rnd_api.Hypothesis(latest=updated, insights=["i"])]
            ),
            ("rnd", "ListCandidates"): rnd_api.ListCandidatesResponse(
                rankings=[rnd_api.CandidateRanking(ranked=ranked)],
                weights=weights,
                caution=caution,
                weights_sayings=candidates.weights_sayings(),
                caution_sayings=candidates.caution_sayings(),
            ),
            ("rnd", "ListInsights"): rnd_api.ListInsightsResponse(
                insights=[
                    rnd_api.Insight(
                        insight="i1",
                        statement=insight.statement,
                        statement_sayings=insight.statement_sayings,
                    )
                ]
            ),
        }
    )


def test_the_chinese_page_of_hypotheses_has_no_english_sentence() -> None:
    browser = Browser(hypotheses(), "zh", actor="王芳")
    for address in ("/hypotheses", "/hypotheses/findings/i/take-up", "/waiting?kind=take-up-finding"):
        assert sentences(browser.get(address).text) == []


def study(state: int, **more: Any) -> FakeBackend:
    asked = exchange.StudyRequested(study="s-1", question="为何？", sites=["hospital-a"])
    told = studies_api.Study(requested=asked, **more)
    told.state = state  # type: ignore[assignment]
    return FakeBackend(
        {
            ("exchange", "GetStudy"): studies_api.GetStudyResponse(study=told),
            ("exchange", "ListStudies"): studies_api.ListStudiesResponse(studies=[told]),
        }
    )


def test_the_chinese_page_of_a_study_says_its_answer_in_chinese() -> None:
    backend = study(studies_api.STUDY_STATE_ANSWERED, insight=next(answered()))
    for address in ("/studies/s-1", "/studies"):
        text = Browser(backend, "zh").get(address).text
        assert "基因型" in text
        assert sentences(text) == []


def test_why_a_study_ended_is_led_by_its_reason_where_a_site_said_it() -> None:
    said = "hospital-a: the ethics approval no longer holds"
    ended = exchange.JobEnded(reason="ETHICS_EXPIRED", statement=said)
    job = studies_api.Job(opened=exchange.JobOpened(job="j", number=1), ended=ended)
    backend = study(studies_api.STUDY_STATE_FAILED, statement=said, jobs=[job])
    text = Browser(backend, "zh").get("/studies/s-1").text
    assert text.count(f'<bdi lang="en">{said}</bdi>') == 2
    assert text.count("伦理批件") >= 2
    stopped = study(studies_api.STUDY_STATE_STOPPED, statement="enough is known", ended_by="王芳", jobs=[job])
    assert "<bdi>enough is known</bdi>" in Browser(stopped, "zh").get("/studies/s-1").text


def test_the_chinese_page_of_a_virtual_trial_has_no_english_sentence() -> None:
    for completed in tried():
        completed.context_of_use = "按基因型给药？"
        told = rnd_api.GetTrialResponse(trial=rnd_api.VirtualTrial(completed=completed))
        backend = FakeBackend({("rnd", "GetTrial"): told})
        text = Browser(backend, "zh").get(f"/trials/{completed.trial}").text
        assert sentences(re.sub(r"<details.*?</details>", "", text, flags=re.DOTALL)) == []
        assert completed.statement not in text


def test_a_run_keeps_the_parts_of_what_research_was_told() -> None:
    told = next(learnt())
    record = of_runs.capa_after(of_runs.CapaRecord("r1"), told, "2026-01-01T00:00:00+00:00", "e-1")

    class Of:
        capa, taken = record, None

    shown: trace.RunInsight | None = _insight(Of())  # type: ignore[arg-type]
    assert shown is not None
    assert list(shown.statement_sayings) == list(told.statement_sayings)
