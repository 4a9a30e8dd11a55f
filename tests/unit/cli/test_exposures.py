"""What keeps a run from its seal: listed, explained under a name, or the run is ended."""

from __future__ import annotations

import pytest

from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production_events
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.kit.errors import Rejected
from tests.unit.cli.support import PACKED, SITE, Bench


def test_dispenses_without_a_patient_are_listed_with_why(bench: Bench) -> None:
    lost = trace.Unattributed(dispense="d-1", lot=PACKED, sources=["pharmacy-1"], why="NO_PATIENT")
    bench.fake.answers["ListUnattributed"] = lambda request: trace.ListUnattributedResponse(dispenses=[lost])
    found = bench.json("run", "unattributed", "run-1", "--open")
    assert found["dispenses"][0]["why"] == "NO_PATIENT"
    (request,) = bench.fake.of("ListUnattributed")
    assert (request.run, request.only_open) == ("run-1", True)
    shown = bench.run("run", "unattributed", "run-1").output
    assert "pharmacy-1" in shown
    assert "NO_PATIENT" in shown


def test_differences_leave_out_what_nobody_took_of(bench: Bench) -> None:
    rows = [
        clinical.Exposure(dispense="both", at_site=True),
        clinical.Exposure(dispense="missing", pseudonym="P-2"),
        clinical.Exposure(dispense="returned", disposition="RETURNED_UNOPENED"),
        clinical.Exposure(dispense="opened", disposition="RETURNED"),
    ]
    bench.fake.answers["ListExposures"] = lambda request: clinical.ListExposuresResponse(exposures=rows)
    found = bench.json("run", "differences", SITE, "run-1")
    assert [row["dispense"] for row in found["exposures"]] == ["missing", "opened"]
    assert "P-2" in bench.run("run", "differences", SITE, "run-1").output


WORDS = ("--reason", "sold over the counter", "--meaning", "I asked")


def test_an_explanation_goes_to_the_trace_or_to_the_site(bench: Bench) -> None:
    bench.fake.answers["ExplainUnattributed"] = lambda request: trace.ExplainUnattributedResponse()
    bench.fake.answers["ExplainDifference"] = lambda request: clinical.ExplainDifferenceResponse()
    assert bench.run("run", "explain", "d-1", "--run", "run-1", *WORDS).exit_code == 0
    assert bench.run("run", "explain", "d-2", "--site", SITE, *WORDS).exit_code == 0
    (of_run,), (at_site,) = bench.fake.of("ExplainUnattributed"), bench.fake.of("ExplainDifference")
    assert (of_run.run, of_run.dispense, of_run.reason, of_run.meaning) == (
        "run-1",
        "d-1",
        WORDS[1],
        WORDS[3],
    )
    assert (at_site.site, at_site.dispense) == (SITE, "d-2")
    assert of_run.request_id
    assert of_run.request_id != at_site.request_id


@pytest.mark.parametrize("where", [(), ("--run", "run-1", "--site", SITE)])
def test_an_explanation_says_whether_it_is_of_a_run_or_of_a_site(
    bench: Bench, where: tuple[str, ...]
) -> None:
    result = bench.run("run", "explain", "d-1", *where, *WORDS)
    assert result.exit_code == 2
    assert "--run" in result.stderr
    assert bench.fake.requests == []


def test_a_run_is_ended_with_its_reason_and_a_refusal_is_one_sentence(bench: Bench) -> None:
    bench.fake.answers["CancelRun"] = lambda request: loops.CancelRunResponse()
    result = bench.run("run", "cancel", "run-1", "--reason", "a mistake", "--superseded-by", "run-2")
    assert result.exit_code == 0
    (request,) = bench.fake.of("CancelRun")
    assert (request.run, request.reason, request.superseded_by) == ("run-1", "a mistake", "run-2")

    def refuse(request: object) -> loops.CancelRunResponse:
        raise Rejected("RUN_SEALED", "the journal is sealed", "run")

    bench.fake.answers["CancelRun"] = refuse
    result = bench.run("run", "cancel", "run-1", "--reason", "too late")
    assert result.exit_code == 1
    assert "the journal is sealed" in result.stderr


def test_a_hazard_is_evaluated_under_a_name(bench: Bench) -> None:
    bench.fake.answers["EvaluateHazard"] = lambda request: production.EvaluateHazardResponse()
    words = ("--text", "It may harm you.", "--instruction", "Bring it back.", "--meaning", "I read it")
    result = bench.run("run", "evaluate", "run-1", "--class", "I", *words)
    assert result.exit_code == 0
    (request,) = bench.fake.of("EvaluateHazard")
    assert (request.run, request.hazard_class) == ("run-1", production_events.HAZARD_CLASS_I)
    assert (request.text, request.instruction, request.meaning) == (words[1], words[3], words[5])
    assert bench.run("run", "evaluate", "run-1", "--class", "IV", *words).exit_code == 2
