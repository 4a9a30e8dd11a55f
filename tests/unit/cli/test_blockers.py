"""`run show`: which sites a run waits for, since when, and the command that comes next."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.exchange.v1 import events_pb2 as exchange_events
from pharmaloop.exchange.v1 import service_pb2 as exchange
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production_events
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.cli.blockers import _NEXT, _SAYS, _STEPS_OF_CONTROL
from services.cli.endpoints import Endpoints
from services.cli.main import cli
from services.kit import lacking
from services.kit.errors import Unknown
from tests.unit.cli.support import Bench

RUN, LOT = "r-7", "maker-1/item/granulate/G-0041"


def waits(bench: Bench, stage: str, board: Any, state: int = loops.RUN_STATE_STALLED) -> dict[str, Any]:
    """What `run show` says of a run in a stage where hospital-b says `board` and hospital-a has done all."""
    run = loops.Run(run=RUN, loop="safety", case=LOT, stage=stage, began=Timestamp(seconds=1_000))
    run.state = state  # type: ignore[assignment]
    run.opened.lot = LOT
    run.stage_since.CopyFrom(Timestamp(seconds=1_795_000_000))
    run.stage_due.CopyFrom(Timestamp(seconds=1_795_021_600))
    exposure = trace.GetExposureResponse()
    for site in ("hospital-a", "hospital-b"):
        exposure.announced.sites[site].n = 40
        exposure.sites.add(site=site, told=True).people.patients.value = 40

    def answer(request: Any) -> Any:
        if request.site == "hospital-a":
            return clinical.GetSiteBoardResponse(runs=[clinical.RunBoard(run=RUN, acknowledged=True)])
        if isinstance(board, Exception):
            raise board
        return clinical.GetSiteBoardResponse(runs=[board])

    bench.fake.answers = {
        "GetRun": lambda request: loops.GetRunResponse(run=run),
        "GetExposure": lambda request: exposure,
        "GetSiteBoard": answer,
    }
    bench.services = (*bench.services, "clinical.hospital-b")
    found: dict[str, Any] = bench.json("run", "show", RUN)["blocked"]
    return found


@pytest.mark.parametrize(
    ("stage", "board", "why", "next_"),
    [
        ("plan", clinical.RunBoard(run=RUN), "digest", f"pharmaloop site board hospital-b --run {RUN}"),
        ("plan", Unknown("UNKNOWN_RUN", "none", "run"), "nothing", "pharmaloop status"),
        (
            "seal",
            clinical.RunBoard(run=RUN, acknowledged=True, only_at_site=1),
            "differences",
            f"pharmaloop run differences hospital-b {RUN}",
        ),
        (
            "notify",
            clinical.RunBoard(run=RUN, acknowledged=True, notices_owed=3),
            "notices",
            f"pharmaloop notice list hospital-b {RUN} --open",
        ),
    ],
)
def test_a_stalled_run_names_the_site_why_and_what_comes_next(
    bench: Bench, stage: str, board: Any, why: str, next_: str
) -> None:
    found = waits(bench, stage, board)
    (site,) = found["sites"]
    assert (site["site"], site["why"]) == ("hospital-b", why)
    assert found["next"][0] == next_
    shown = bench.run("run", "show", RUN).output
    assert f"  hospital-b {_SAYS[why][0]}" in shown
    assert f"  next: {next_}" in shown


def test_how_many_plans_wait_is_told_unless_the_group_is_small(bench: Bench) -> None:
    def pending(people: int) -> dict[str, Any]:
        board = clinical.RunBoard(run=RUN, acknowledged=True, patients={"pending": people})
        site: dict[str, Any] = waits(bench, "plan", board)["sites"][0]
        return site

    assert (pending(30)["people"], pending(30)["withheld"]) == (30, False)
    assert (pending(3)["people"], pending(3)["withheld"]) == (None, True)
    assert "withheld (protects a small group)" in bench.run("run", "show", RUN).output


def test_the_moments_are_of_the_stage_and_of_the_stall(bench: Bench) -> None:
    found = waits(bench, "plan", clinical.RunBoard(run=RUN))
    assert found["since"] == "2026-11-18T11:06:40.000+00:00"
    assert found["stalled_since"] == "2026-11-18T17:06:40.000+00:00"
    found = waits(bench, "plan", clinical.RunBoard(run=RUN), loops.RUN_STATE_OPEN)
    assert found["stalled_since"] is None, "it is not late yet"
    assert found["sites"][0]["site"] == "hospital-b"


def test_a_site_that_does_not_answer_is_named_and_the_run_is_shown(bench: Bench) -> None:
    waits(bench, "plan", clinical.RunBoard(run=RUN))
    bench.environment["PHARMALOOP_ENDPOINTS"] = json.dumps(
        dict.fromkeys(bench.services, bench.address) | {"clinical.hospital-b": "127.0.0.1:1"}
    )
    result = bench.run("run", "show", RUN)
    assert result.exit_code == 0
    assert "hospital-b does not answer now" in result.output


def test_a_study_names_the_owners_who_have_not_said_yes(bench: Bench) -> None:
    run = loops.Run(run="e-1", loop="evidence", case="study:s", stage="approve", state=loops.RUN_STATE_OPEN)
    run.opened_evidence.study = "s-1"
    study = exchange.Study(requested=exchange_events.StudyRequested(sites=["hospital-a", "hospital-b"]))
    study.approvals.add(site="hospital-a")
    bench.fake.answers = {
        "GetRun": lambda request: loops.GetRunResponse(run=run),
        "GetStudy": lambda request: exchange.GetStudyResponse(study=study),
    }
    found = bench.json("run", "show", "e-1")["blocked"]
    assert [one["site"] for one in found["sites"]] == ["hospital-b"]
    assert found["next"] == ["pharmaloop study approve s-1 --site hospital-b --meaning MEANING"]


@pytest.mark.parametrize(
    ("fields", "lacks", "said"),
    [
        ({}, ["approve"], "waits for approval of corrective action c-5"),
        (
            {"actor": "wang"},
            ["validate", "file"],
            "waits for validation and filing assessment of corrective action c-5, which wang approved",
        ),
        (
            {"actor": "wang", "filing": production_events.ChangeFilingAssessed()},
            ["validate"],
            "waits for validation of corrective action c-5, which wang approved",
        ),
        (
            {"refused": production_events.CapaRefused(actor="wang")},
            [],
            "waits for the refusal of corrective action c-5 to reach the loop",
        ),
    ],
)
def test_a_run_says_what_its_corrective_action_lacks_and_the_commands(
    bench: Bench, fields: dict[str, Any], lacks: list[str], said: str
) -> None:
    run = loops.Run(run=RUN, loop="safety", case=LOT, stage="approve", state=loops.RUN_STATE_STALLED)
    run.waiting_for = "as a loop told it that does not hear of the approval"
    action = production.Capa(proposed=production_events.CapaProposed(capa="c-5", run=RUN), **fields)
    bench.fake.answers = {
        "GetRun": lambda request: loops.GetRunResponse(run=run),
        "ListCapas": lambda request: production.ListCapasResponse(capas=[action] * (request.run == RUN)),
    }
    found = bench.json("run", "show", RUN)["blocked"]
    approved_by, refused = fields.get("actor"), "refused" in fields
    assert found["capa"] == {"capa": "c-5", "approved_by": approved_by, "lacks": lacks, "refused": refused}
    starts = ["pharmaloop capa list"] if refused else [f"pharmaloop capa {step} c-5 " for step in lacks]
    assert [line.startswith(start) for line, start in zip(found["next"], starts, strict=True)] == [
        True
    ] * len(starts)
    shown = " ".join(bench.run("run", "show", RUN).output.split())
    assert said in shown
    assert "as a loop told it" not in shown


def test_a_run_that_ended_waits_for_nothing(bench: Bench) -> None:
    ended = loops.Run(run=RUN, loop="safety", case=LOT, state=loops.RUN_STATE_CLOSED)
    bench.fake.answers = {"GetRun": lambda request: loops.GetRunResponse(run=ended)}
    assert bench.json("run", "show", RUN)["blocked"] is None
    assert "next:" not in bench.run("run", "show", RUN).output


def test_every_next_step_is_a_command_that_there_is() -> None:
    assert set(_SAYS) >= {*lacking.STAGES["plan"], *lacking.STAGES["seal"], lacking.AWAY, lacking.NOTHING}
    for line in [line for _, line in [*_SAYS.values(), *_STEPS_OF_CONTROL.values()]] + list(_NEXT.values()):
        words = line.split()
        noun: Any = cli.commands[words[0]]
        command = noun.commands[words[1]] if hasattr(noun, "commands") else noun
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, line


def test_sites_are_the_clinical_processes_that_the_endpoints_name() -> None:
    named = dict.fromkeys(("production", "clinical.hospital-c", "clinical", "clinical-x"), "h:1")
    assert Endpoints(named).sites == {"hospital-a": "clinical", "hospital-c": "clinical.hospital-c"}
