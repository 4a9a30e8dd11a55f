"""What people see and sign of research from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import parameter_set_pb2 as content
from pharmaloop.rnd.v1 import service_pb2 as api
from services.kit.errors import Invalid
from tests.unit.cli.support import Bench

VERSION = api.ParameterSetVersion(
    set="penicillin",
    version=2,
    product="maker-1/item/penicillin",
    state=api.PARAMETER_SET_STATE_RELEASED,
    drafter="ada",
    reviewer="ben",
    releases=[
        api.PlantRelease(plant="plant-2", actor="cy"),
        api.PlantRelease(plant="plant-3", actor="cy", superseded_by=3),
    ],
    reviews=[api.RequestedReview(reason="capa c-1 changed a limit", capa="c-1")],
)
SAID = content.ParameterSetContent(
    statement="For the pilot plant.",
    attributes=[content.QualityAttribute(attribute="titre", limits=content.Range(low=1.2, unit="g/L"))],
    parameters=[
        content.ProcessParameter(
            parameter="feed_rate",
            set_point=0.042,
            normal=content.Range(low=0.04, high=0.044, unit="L/h"),
            proven=content.Range(high=0.05, unit="L/h"),
        )
    ],
)


def test_sets_are_listed_with_the_plants_that_work_by_them(bench: Bench) -> None:
    bench.fake.answers["ListParameterSets"] = lambda _: api.ListParameterSetsResponse(versions=[VERSION])
    assert bench.json("set", "list")["versions"][0]["set"] == "penicillin"
    shown = bench.run("set", "list", "--state", "released").output
    assert "plant-2" in shown
    assert "plant-3" not in shown
    assert bench.fake.of("ListParameterSets")[-1].state == api.PARAMETER_SET_STATE_RELEASED


def test_a_set_is_shown_with_ranges_and_signatures(bench: Bench) -> None:
    bench.fake.answers["GetParameterSet"] = lambda _: api.GetParameterSetResponse(
        version=VERSION, content=SAID
    )
    shown = bench.run("set", "show", "penicillin").output
    for said in ("from 1.2 g/L", "0.04 to 0.044 L/h", "up to 0.05 L/h", "reviewed by ben", "c-1 changed"):
        assert said in shown


def test_a_difference_is_shown_by_path(bench: Bench) -> None:
    one = api.ParameterSetDifference(path="parameters[feed_rate].set_point", before="0.042", after="0.043")
    new = api.ParameterSetDifference(path="trial", after="t-1")
    answer = api.GetParameterSetDiffResponse(from_version=1, to_version=2, differences=[one, new])
    bench.fake.answers["GetParameterSetDiff"] = lambda _: answer
    shown = bench.run("set", "diff", "penicillin", "--version", "2").output
    assert "version 1 to 2" in shown
    assert "0.043" in shown
    assert bench.fake.of("GetParameterSetDiff")[0].to_version == 2


def test_a_draft_is_read_from_a_file(bench: Bench, tmp_path: Path) -> None:
    bench.fake.answers["DraftParameterSet"] = lambda _: api.DraftParameterSetResponse(version=3)
    file = tmp_path / "draft.json"
    file.write_text(json.dumps({"set": "penicillin", "content": {"statement": "x", "parameters": []}}))
    assert bench.json("set", "draft", str(file))["version"] == 3
    (request,) = bench.fake.of("DraftParameterSet")
    assert (request.set, request.content.statement) == ("penicillin", "x")
    assert request.request_id


@pytest.mark.parametrize("text", ["{", '{"set": 3}', '{"unknown": 1}', "[]", "5", "null", "[" * 9000])
def test_a_file_that_is_no_draft_is_a_plain_sentence(bench: Bench, tmp_path: Path, text: str) -> None:
    file = tmp_path / "draft.json"
    file.write_text(text)
    result = bench.run("set", "draft", str(file))
    assert result.exit_code == 2
    assert "is no DraftParameterSetRequest" in result.stderr
    assert bench.fake.requests == []


def test_every_reason_of_a_refused_draft_is_told(bench: Bench, tmp_path: Path) -> None:
    other = Invalid("NOT_FINITE", "nan is no finite number", "content.parameters[0].set_point")

    def refuse(_: Any) -> Any:
        raise Invalid("REQUIRED", "name the product", "content.product", (other,))

    bench.fake.answers["DraftParameterSet"] = refuse
    file = tmp_path / "draft.json"
    file.write_text("{}")
    told = bench.run("set", "draft", str(file)).stderr
    assert "name the product" in told
    assert "content.parameters[0].set_point: nan is no finite number (NOT_FINITE)" in told


def test_signatures_name_version_plants_and_meaning(bench: Bench) -> None:
    bench.fake.answers["ReviewParameterSet"] = lambda _: api.ReviewParameterSetResponse()
    bench.fake.answers["ReleaseParameterSet"] = lambda _: api.ReleaseParameterSetResponse()
    bench.fake.answers["WithdrawParameterSet"] = lambda _: api.WithdrawParameterSetResponse()
    signed = ["--version", "2", "--meaning", "read"]
    assert bench.run("set", "review", "s", *signed).exit_code == 0
    of_two = [*signed, "--plant", "p", "--plant", "q", "--purpose", "trial lots"]
    assert bench.run("set", "release", "s", *of_two).exit_code == 0
    assert bench.run("set", "withdraw", "s", "--version", "2", "--reason", "wrong").exit_code == 0
    (released,) = bench.fake.of("ReleaseParameterSet")
    assert (released.version, list(released.plants), released.meaning) == (2, ["p", "q"], "read")
    assert released.purpose == "trial lots"
    assert bench.run("set", "release", "s", *signed).exit_code == 2


def test_trials_and_gaps_are_shown(bench: Bench) -> None:
    trial = events.TrialCompleted(trial="t-1", verdict=events.TRIAL_VERDICT_NO_GO, probability_of_success=0.4)
    bench.fake.answers["ListTrials"] = lambda _: api.ListTrialsResponse(
        trials=[api.VirtualTrial(completed=trial)]
    )
    assert "no-go" in bench.run("trial", "list").output
    gap = api.AttributeGap(
        attribute="titre", unit="g/L", predicted=common.Estimate(value=1.25), calibrated_by=-0.05,
        actual=1.2, gap=-0.05, gap_before=-0.1,
    )  # fmt: skip
    learned = events.AttributeCalibration(attribute="titre", unit="g/L", bias=-0.067, outcomes=2)
    answer = api.GetTransferGapsResponse(outcomes=[api.TransferOutcome(gaps=[gap])], calibration=[learned])
    bench.fake.answers["GetTransferGaps"] = lambda _: answer
    shown = bench.run("transfer", "gaps", "m/i/p", "plant-2").output
    assert "next: titre -0.067 g/L" in shown
    assert "-0.05" in shown


def test_candidates_are_shown_with_evidence_weights_and_caution(bench: Bench) -> None:
    piece = events.CandidateEvidence(
        source="federated-study", score=0.99, weight=1, adds=0.6, at="2026-03-01T00:00:00+00:00"
    )
    ranked = events.CandidatesRanked(
        indication="pain",
        candidates=[
            events.Candidate(molecule="a", rank=1, score=0.6, evidence=[piece]),
            events.Candidate(molecule="b", rank=2),
        ],
    )
    answer = api.ListCandidatesResponse(
        rankings=[api.CandidateRanking(ranked=ranked)], weights="weights: all 1", caution="No confidence."
    )
    bench.fake.answers["ListCandidates"] = lambda _: answer
    shown = bench.run("candidate", "list").output
    for said in ("+0.6000", "2026-03-01", "weights: all 1. No confidence."):
        assert said in shown
    assert bench.json("candidate", "list")["caution"] == "No confidence."


def test_findings_and_hypotheses_are_shown_and_decided(bench: Bench) -> None:
    finding = api.Finding(insight="i-1", state=api.FINDING_STATE_WAITING, reason="it has no estimate")
    bench.fake.answers["ListFindings"] = lambda _: api.ListFindingsResponse(findings=[finding])
    assert "it has no estimate" in bench.run("finding", "list", "--state", "waiting").output
    latest = events.HypothesisUpdated(hypothesis="h-1", state=events.HYPOTHESIS_STATE_NEEDS_DATA)
    bench.fake.answers["ListHypotheses"] = lambda _: api.ListHypothesesResponse(
        hypotheses=[api.Hypothesis(latest=latest, insights=["i-1"])]
    )
    assert "needs data" in bench.run("hypothesis", "list").output
    bench.fake.answers["TakeUpInsight"] = lambda _: api.TakeUpInsightResponse()
    bench.fake.answers["DeclineInsight"] = lambda _: api.DeclineInsightResponse()
    assert bench.run("finding", "take-up", "i-1").exit_code == 0
    assert bench.run("finding", "decline", "i-1", "--reason", "not ours").exit_code == 0
    assert bench.fake.of("DeclineInsight")[0].reason == "not ours"
