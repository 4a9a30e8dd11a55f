"""A run of the evidence loop: who takes part, the rounds, and the answer, as on the study's own page."""

from __future__ import annotations

from typing import Any

import pytest

from pharmaloop.common.v1 import types_pb2 as types
from pharmaloop.exchange.v1 import events_pb2 as exchange_events
from pharmaloop.exchange.v1 import service_pb2 as exchange
from pharmaloop.loops.v1 import service_pb2 as loops
from tests.unit.portal.fakes import Browser
from tests.unit.portal.test_runs import RUN, backend


def _evidence_run(stage: str = "compute", state: Any = loops.RUN_STATE_OPEN) -> loops.Run:
    run = loops.Run(run=RUN, loop="evidence", case="study:s-1", state=state, stage=stage)
    run.opened_evidence.study = "s-1"
    return run


def _studied(state: Any, **more: Any) -> exchange.GetStudyResponse:
    study = exchange.Study(
        requested=exchange_events.StudyRequested(
            study="s-1", sites=["a-1", "b-2"], datasets=["a-1/routine", "b-2/routine"]
        ),
        state=state,
        **more,
    )
    study.approvals.add(site="a-1", actor="owner of a-1")
    opened = exchange_events.JobOpened(job="j-1", number=1, participants=["a-1", "b-2"])
    study.jobs.add(opened=opened).rounds.add(round=1, attempt=2, participants=["a-1", "b-2"], numbers=7)
    return exchange.GetStudyResponse(study=study)


def test_a_run_of_evidence_shows_who_takes_part_and_its_rounds_while_they_are_computed() -> None:
    told = backend(
        _evidence_run(),
        exchange__GetStudy=_studied(exchange.STUDY_STATE_COMPUTING),
        exchange__ListDatasets=exchange.ListDatasetsResponse(),
    )
    page = Browser(told).get(f"/runs/{RUN}").text
    taking = page.partition('id="participants"')[2].partition("</table>")[0]
    assert "a-1/routine" in taking
    assert "owner of a-1" in taking
    rounds = page.partition('id="jobs"')[2]
    assert "1 rounds on record" in rounds
    assert 'id="rounds-1" open' in rounds
    assert "Not answered yet" in page
    assert 'data-every="2"' in page
    assert "study:s-1" in page.partition('data-live="')[2].partition('"')[0]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_run_of_evidence_draws_the_estimates_with_their_numbers(language: str) -> None:
    effects = [
        exchange_events.Effect(
            term="exposed", scale="log-odds", estimate=types.Estimate(value=0.75, lower=0.25, upper=1.25)
        )
    ]
    answer = exchange_events.InsightPublished(insight="i-1", job="j-1", effects=effects)
    told = backend(
        _evidence_run("take-up", loops.RUN_STATE_CLOSED),
        exchange__GetStudy=_studied(exchange.STUDY_STATE_ANSWERED, insight=answer),
        exchange__ListDatasets=exchange.ListDatasetsResponse(),
    )
    page = Browser(told, language=language).get(f"/runs/{RUN}").text
    shown = page.partition('id="answer"')[2]
    assert '<svg class="intervals"' in shown
    assert "0.75" in shown.partition("<table>")[2]
    assert "2.12" in shown, "the ratio of the estimate"


def test_a_run_of_evidence_without_its_exchange_shows_the_rest() -> None:
    page = Browser(backend(_evidence_run())).get(f"/runs/{RUN}").text
    assert 'class="missing"' in page
    assert "Not known now" in page.partition('id="participants"')[2]
    assert 'id="hops"' in page
