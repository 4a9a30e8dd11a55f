"""Studies on the command line: asked from a file, approved under a name, shown with what they wait for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from services.kit.errors import Invalid
from tests.unit.cli.support import Bench


def _study() -> api.Study:
    asked = events.StudyRequested(
        study="s1", question="Do they? [really]", datasets=["a/x", "b/x"], sites=["a", "b"], model="logistic"
    )
    found = api.Study(
        requested=asked, state=api.STUDY_STATE_SUSPENDED, statement="a: a cell [rule 3] is small"
    )
    found.jobs.add(opened=events.JobOpened(job="j1", number=1, participants=["a", "b"]))
    found.jobs[0].ended.CopyFrom(events.JobEnded(reason="CELL_TOO_SMALL"))
    return found


def test_a_study_is_asked_from_a_file(bench: Bench, tmp_path: Path) -> None:
    bench.fake.answers["RequestStudy"] = lambda request: api.RequestStudyResponse(study="s1")
    file = tmp_path / "study.json"
    file.write_text(json.dumps({"question": "Do they?", "specification": {"terms": []}}))
    assert bench.json("study", "request", str(file))["study"] == "s1"
    (request,) = bench.fake.of("RequestStudy")
    assert request.question == "Do they?"
    assert json.loads(request.specification) == {"terms": []}
    assert request.request_id


@pytest.mark.parametrize("content", ["{", "[]", '{"no such field": 1}', '{"most_rounds": "many"}'])
def test_a_file_that_is_no_request_is_told_and_nothing_is_sent(
    bench: Bench, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "study.json"
    file.write_text(content)
    told = bench.run("study", "request", str(file))
    assert told.exit_code == 2
    assert "study.json is no RequestStudyRequest" in told.output
    assert not bench.fake.requests


def test_a_refusal_names_rule_and_field(bench: Bench, tmp_path: Path) -> None:
    def refuse(request: api.RequestStudyRequest) -> api.RequestStudyResponse:
        raise Invalid("TOO_FEW_SITES", "ask datasets of at least 3 sites", "datasets")

    bench.fake.answers["RequestStudy"] = refuse
    file = tmp_path / "study.json"
    file.write_text("{}")
    told = bench.run("study", "request", str(file))
    assert told.exit_code == 1
    assert "ask datasets of at least 3 sites (TOO_FEW_SITES, field datasets)" in told.output


def test_a_study_shows_what_each_site_contributed(bench: Bench) -> None:
    found = _study()
    full = events.QualityMeasure(measure="completeness", numerator=290, denominator=300)
    found.contributions.add(site="a", valued=True, share=0.625, quality=[full], rounds=9)
    few = events.QualityMeasure(measure="completeness")
    found.contributions.add(site="b", not_valued="EVALUATOR_AWAY", quality=[few], rounds=9)
    bench.fake.answers["GetStudy"] = lambda request: api.GetStudyResponse(study=found)
    told = " ".join(bench.run("study", "show", "s1").output.split())
    for words in ("62.5%", "completeness 290 of 300", "EVALUATOR_AWAY", "completeness withheld"):
        assert words in told


def test_owners_sign_for_their_site(bench: Bench) -> None:
    bench.fake.answers["ApproveStudy"] = lambda request: api.ApproveStudyResponse()
    bench.fake.answers["RefuseStudy"] = lambda request: api.RefuseStudyResponse()
    bench.fake.answers["StopStudy"] = lambda request: api.StopStudyResponse()
    signed = ("study", "approve", "s1", "--site", "a", "--meaning", "may be asked", "--valuation")
    assert bench.run("--actor", "owner", *signed).exit_code == 0
    assert bench.run("study", "refuse", "s1", "--site", "a", "--reason", "no").exit_code == 0
    assert bench.run("study", "stop", "s1", "--reason", "enough").exit_code == 0
    (approved,), (refused,) = bench.fake.of("ApproveStudy"), bench.fake.of("RefuseStudy")
    assert (approved.study, approved.site, approved.meaning, approved.valuation) == (
        "s1",
        "a",
        "may be asked",
        True,
    )
    assert (refused.site, refused.reason) == ("a", "no")
    assert bench.fake.actors[0] == "owner"


def test_a_study_shows_why_it_waits_brackets_and_all(bench: Bench) -> None:
    bench.fake.answers["GetStudy"] = lambda request: api.GetStudyResponse(study=_study())
    bench.fake.answers["ListStudies"] = lambda request: api.ListStudiesResponse(studies=[_study()])
    for shown in (bench.run("study", "show", "s1").output, bench.run("study", "list").output):
        assert "[really]" in shown
        assert "a cell [rule 3] is small" in shown
        assert "suspended" in shown
    assert "CELL_TOO_SMALL" in bench.run("study", "show", "s1").output
    assert bench.json("study", "list", "--state", "suspended")["studies"][0]["requested"]["study"] == "s1"
    assert bench.fake.of("ListStudies")[-1].state == api.STUDY_STATE_SUSPENDED


def test_a_noised_answer_shows_what_it_costs_a_patient_and_the_noise_in_it(bench: Bench) -> None:
    found = _study()
    cell = {"levels": ["1"], "count": -1.5, "standard_error": 5.17, "count_lower": 0.0, "count_upper": 8.6}
    noise = {"epsilon": 1.0, "delta": 1e-6, "accountant": "PLD", "standard_deviation": 5.174}
    tables = json.dumps({"by": ["exposed"], "cells": [cell], "noise": noise})
    found.insight.CopyFrom(events.InsightPublished(statement="counted", epsilon=1.0, tables=tables))
    bench.fake.answers["GetStudy"] = lambda request: api.GetStudyResponse(study=found)
    told = " ".join(bench.run("study", "show", "s1").output.split())
    assert "differential privacy: epsilon 1, delta 1e-06 (accountant PLD, one step)" in told
    assert "standard deviation of the noise in every sum: 5.174" in told
    assert "-1.5" in told, "a count that noise took below nothing is told as it was seen"


def test_datasets_show_what_is_left_of_the_budget(bench: Bench) -> None:
    offered = events.DatasetRegistered(dataset="a/x", site="a", title="A", queries_per_analyst=9)
    one = api.Dataset(registered=offered, connected=True, queries_left=4)
    bench.fake.answers["ListDatasets"] = lambda request: api.ListDatasetsResponse(datasets=[one])
    assert bench.json("dataset", "list")["datasets"][0]["queries_left"] == 4
    assert "4 of 9" in bench.run("dataset", "list").output


def test_a_job_that_is_computed_tells_its_round_and_whom_it_waits_for(bench: Bench) -> None:
    found = _study()
    now = api.JobProgress(frozen=["a", "b"], rounds=4, round=5, attempt=2, answered=["a"], awaited=["b"])
    found.jobs[0].ClearField("ended")
    found.jobs[0].progress.CopyFrom(now)
    bench.fake.answers["GetStudy"] = lambda request: api.GetStudyResponse(study=found)
    told = " ".join(bench.run("study", "show", "s1").output.split())
    assert "in round 5, attempt 2" in told
    assert "waits for b" in told
