"""The commands: one JSON document on stdout, one plain sentence on stderr when it fails."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pharmaloop.alerting.v1 import events_pb2 as alerting_events
from pharmaloop.alerting.v1 import service_pb2 as alerting
from pharmaloop.common.v1 import service_pb2 as common
from pharmaloop.loops.v1 import events_pb2 as loops_events
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.traceability.v1 import service_pb2 as traceability
from services.kit.errors import Rejected, Retryable, Unknown
from tests.unit.cli.support import PACKED, ROOT, SITE, Bench, deviation, run


def trace_of(*, end: bool = True, dispenses: int = 2) -> list[traceability.TraceLotResponse]:
    parts = [
        traceability.TraceLotResponse(lots=[traceability.TracedLot(lot=ROOT, known=True)]),
        traceability.TraceLotResponse(
            lots=[traceability.TracedLot(lot=PACKED, depth=1, known=True)],
            dispenses=[
                traceability.TracedDispense(dispense="a", lot=PACKED, site=SITE, pseudonym="P-1"),
                traceability.TracedDispense(dispense="b", lot=PACKED, site=SITE, pseudonym="P-1"),
            ],
        ),
    ]
    if end:
        last = traceability.TraceEnd(lots=2, dispenses=dispenses)
        parts.append(traceability.TraceLotResponse(end=last))
    return parts


def test_trace_shows_a_complete_trace(bench: Bench) -> None:
    bench.fake.answers["TraceLot"] = lambda request: trace_of()
    document = bench.json("lot", "trace", ROOT)
    assert document["complete"] is True
    assert document["patients"] == 1
    assert [lot["lot"] for lot in document["lots"]] == [ROOT, PACKED]
    assert [given["dispense"] for given in document["dispenses"]] == ["a", "b"]
    assert "1 patients (complete)" in bench.run("lot", "trace", ROOT).output


@pytest.mark.parametrize("stream", [trace_of(end=False), trace_of(dispenses=3)])
def test_trace_never_shows_a_part_as_the_whole(bench: Bench, stream: Any) -> None:
    bench.fake.answers["TraceLot"] = lambda request: stream
    for more in ((), ("--json",)):
        result = bench.run("lot", "trace", ROOT, *more)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert "not shown; try again" in result.stderr


@pytest.mark.parametrize("lot", ["G-0001", "granulate/G-0001", "maker 1/item/granulate/G", "a/b/c/d/e", ""])
@pytest.mark.parametrize(
    "command", ["lot show", "lot trace", "lot dossier", "lot hold", "deviation confirm", "deviation reject"]
)
def test_only_canonical_lots_are_taken(bench: Bench, command: str, lot: str) -> None:
    more = ["d-1", "--reason", "x"] if "deviation" in command else []
    result = bench.run(*command.split(), lot, *more)
    assert result.exit_code == 2
    assert "owner/scheme/item/lot" in result.stderr
    assert bench.fake.requests == []


def test_a_refusal_is_one_plain_sentence(bench: Bench) -> None:
    def refuse(request: Any) -> Any:
        raise Rejected("ALREADY_JUDGED", "the deviation was confirmed by qa", "deviation")

    bench.fake.answers["ConfirmDeviation"] = refuse
    result = bench.run("deviation", "confirm", ROOT, "d-1", "--reason", "clearly out")
    assert result.exit_code == 1
    assert result.stderr == (
        "pharmaloop: the deviation was confirmed by qa (ALREADY_JUDGED, field deviation)\n"
        "  next: 'pharmaloop deviation list' or 'pharmaloop deviation show' tells where it stands\n"
    )


def test_a_service_that_is_down_is_one_plain_sentence(bench: Bench) -> None:
    bench.environment["PHARMALOOP_ENDPOINTS"] = json.dumps({"production": "127.0.0.1:1"})
    result = bench.run("deviation", "list")
    assert result.exit_code == 3
    assert "production at 127.0.0.1:1 (from PHARMALOOP_ENDPOINTS) does not answer" in result.stderr
    result = bench.run("run", "list")
    assert result.exit_code == 3
    assert "PHARMALOOP_ENDPOINTS does not say where loops listens" in result.stderr


def test_a_service_that_cannot_answer_yet_says_why(bench: Bench) -> None:
    def later(request: Any) -> Any:
        raise Retryable("the position is not reached yet")

    bench.fake.answers["ListRuns"] = later
    result = bench.run("run", "list")
    assert result.exit_code == 3
    assert "the position is not reached yet (UNAVAILABLE)" in result.stderr


def test_confirm_and_reject_and_approve_say_who_and_why(bench: Bench) -> None:
    bench.fake.answers = {
        "ConfirmDeviation": lambda request: production.ConfirmDeviationResponse(),
        "RejectDeviation": lambda request: production.RejectDeviationResponse(),
        "ApproveCapa": lambda request: production.ApproveCapaResponse(),
    }
    assert bench.run("--actor", "li", "deviation", "confirm", ROOT, "d-1", "--reason", "out").exit_code == 0
    assert bench.run("--actor", "li", "deviation", "reject", ROOT, "d-2", "--reason", "noise").exit_code == 0
    assert bench.run("--actor", "li", "capa", "approve", "c-1", "--meaning", "I agree").exit_code == 0
    assert bench.fake.actors == ["li"] * 3
    assert bench.fake.of("ConfirmDeviation")[0].reason == "out"
    assert bench.fake.of("ApproveCapa")[0].meaning == "I agree"
    ids = {request.request_id for _, request in bench.fake.requests}
    assert len(ids) == 3
    assert all(ids)
    assert bench.run("deviation", "confirm", ROOT, "d-1").exit_code == 2


def test_a_refusal_of_a_capa_needs_a_reason_and_says_who(bench: Bench) -> None:
    bench.fake.answers["RefuseCapa"] = lambda request: production.RefuseCapaResponse()
    asked = ["--actor", "li", "capa", "refuse", "c-1", "--meaning", "I refuse"]
    assert bench.run(*asked).exit_code == 2
    result = bench.run(*asked, "--reason", "one site alone")
    assert result.exit_code == 0
    assert "changes no limit" in result.output
    (request,) = bench.fake.of("RefuseCapa")
    assert (request.capa, request.reason, request.meaning) == ("c-1", "one site alone", "I refuse")
    assert request.request_id
    refused = production.Capa(state=production.CAPA_STATE_REFUSED)
    refused.proposed.capa = "c-1"
    refused.refused.actor = "li"
    bench.fake.answers["ListCapas"] = lambda request: production.ListCapasResponse(capas=[refused])
    row = next(line for line in bench.run("capa", "list").output.splitlines() if line.startswith("c-1"))
    assert "refused" in row
    assert row.rstrip().endswith("li")


def test_results_show_limits_that_were_left_out_as_left_out(bench: Bench) -> None:
    recorded = events.TestResultRecorded(lot=ROOT, test="assay", value=94, unit="%", low=95)
    found = production.TestResult(result="r-1", recorded=recorded, state=production.RESULT_STATE_VOID)
    found.investigation = "i-1"
    bench.fake.answers = {
        "ListResults": lambda request: production.ListResultsResponse(results=[found]),
        "CloseInvestigation": lambda request: production.CloseInvestigationResponse(),
    }
    (shown,) = bench.json("result", "list", ROOT, "--state", "void")["results"]
    assert (shown["recorded"]["low"], shown["recorded"]["high"]) == (95, None)
    assert bench.fake.of("ListResults")[0].state == production.RESULT_STATE_VOID
    assert "95 to -" in bench.run("result", "list").output
    asked = ["result", "close", ROOT, "i-1", "--outcome", "laboratory-error", "--reason", "wrong column"]
    assert bench.run("--actor", "li", *asked).exit_code == 0
    (closed,) = bench.fake.of("CloseInvestigation")
    assert (closed.outcome, closed.reason) == (events.INVESTIGATION_OUTCOME_LABORATORY_ERROR, "wrong column")


def test_a_deviation_is_looked_into_classified_and_closed(bench: Bench) -> None:
    bench.fake.answers = {
        "StartInvestigation": lambda request: production.StartInvestigationResponse(),
        "ClassifyDeviation": lambda request: production.ClassifyDeviationResponse(),
        "CloseDeviation": lambda request: production.CloseDeviationResponse(),
    }
    assert bench.run("deviation", "investigate", ROOT, "d-1", "--reason", "odd").exit_code == 0
    asked = ["deviation", "classify", ROOT, "d-1", "--severity", "critical", "--impact", "potency"]
    assert bench.run(*asked).exit_code == 0
    assert bench.run("deviation", "close", ROOT, "d-1", "--reason", "assessed").exit_code == 0
    (classified,) = bench.fake.of("ClassifyDeviation")
    assert (classified.severity, classified.impact) == (events.SEVERITY_CRITICAL, "potency")
    wrong = ["--severity", "bad", "--impact", "x"]
    assert bench.run("deviation", "classify", ROOT, "d-1", *wrong).exit_code == 2


def test_a_change_is_validated_assessed_and_checked(bench: Bench) -> None:
    bench.fake.answers = {
        "RecordValidation": lambda request: production.RecordValidationResponse(),
        "RecordFilingAssessment": lambda request: production.RecordFilingAssessmentResponse(),
        "RecordEffectivenessCheck": lambda request: production.RecordEffectivenessCheckResponse(),
    }
    why = ["--statement", "shown"]
    assert bench.run("capa", "validate", "c-1", "--record", "V-1", *why).exit_code == 0
    category = ["--category", "prior-approval", "--reference", "NMPA-7"]
    assert bench.run("capa", "file", "c-1", *category, *why).exit_code == 0
    assert bench.run("capa", "check", "c-1", "--outcome", "not-effective", *why).exit_code == 0
    (filing,), (checked,) = bench.fake.of("RecordFilingAssessment"), bench.fake.of("RecordEffectivenessCheck")
    assert (filing.category, filing.reference) == (events.FILING_CATEGORY_PRIOR_APPROVAL, "NMPA-7")
    assert checked.outcome == events.EFFECTIVENESS_OUTCOME_NOT_EFFECTIVE
    assert bench.run("capa", "file", "c-1", "--category", "never", *why).exit_code == 2


def test_deviations_are_read_to_the_last_page(bench: Bench) -> None:
    def page(request: production.ListDeviationsRequest) -> production.ListDeviationsResponse:
        token = "" if request.page_token else "next"
        return production.ListDeviationsResponse(deviations=[deviation()], next_page_token=token)

    bench.fake.answers["ListDeviations"] = page
    document = bench.json("deviation", "list", "--state", "confirmed")
    assert len(document["deviations"]) == 2
    assert document["deviations"][0]["state"] == "DEVIATION_STATE_CONFIRMED"
    assert document["deviations"][0]["detected"]["magnitude"] == 9
    assert bench.fake.of("ListDeviations")[0].state == production.DEVIATION_STATE_CONFIRMED
    assert ROOT in bench.run("deviation", "list").output


def test_loops_lists_shows_and_watches(bench: Bench) -> None:
    bench.fake.answers = {
        "ListRuns": lambda request: loops.ListRunsResponse(runs=[run()]),
        "GetRun": lambda request: loops.GetRunResponse(run=run(request.run)),
        "WatchRuns": lambda request: [
            loops.WatchRunsResponse(run=run("run-1", closed=False)),
            loops.WatchRunsResponse(run=run("run-1")),
        ],
    }
    assert bench.json("run", "list")["runs"][0]["state"] == "RUN_STATE_CLOSED"
    assert bench.json("run", "show", "run-7")["run"]["run"] == "run-7"
    assert "seal" in bench.run("run", "show", "run-1").output
    lines = [json.loads(line) for line in bench.run("run", "follow", "--json").stdout.splitlines()]
    assert [line["state"] for line in lines] == ["RUN_STATE_OPEN", "RUN_STATE_CLOSED"]
    assert ROOT in bench.run("run", "follow").output


def test_runs_are_chosen_and_ordered_as_on_the_board(bench: Bench) -> None:
    bench.fake.answers["ListRuns"] = lambda request: loops.ListRunsResponse(runs=[run()])
    about = ("--product", "maker-1/item/granulate", "--plant", "plant-1", "--site", "hospital-a")
    assert bench.run("run", "list", *about, "--stuck-first").exit_code == 0
    asked = bench.fake.of("ListRuns")[0]
    assert (asked.product, asked.plant, asked.site) == about[1::2]
    assert asked.order == loops.RUN_ORDER_STUCK_FIRST


def test_loops_shows_runs_of_every_loop_by_loop_and_case(bench: Bench) -> None:
    transfer = loops.Run(run="t-1", loop="transfer", case="transfer:s/plant-b", state=loops.RUN_STATE_CLOSED)
    ended = loops_events.LoopClosed(outcome=loops_events.RUN_OUTCOME_REFUSED, set="s", version=2)
    ended.plant, ended.reason = "plant-b", "the feed is too fast"
    transfer.closed.CopyFrom(ended)
    study = loops.Run(run="e-1", loop="evidence", case="study:bleeding", state=loops.RUN_STATE_OPEN)
    bench.fake.answers = {
        "ListRuns": lambda request: loops.ListRunsResponse(runs=[transfer, study, run()]),
        "GetRun": lambda request: loops.GetRunResponse(run=transfer),
        "WatchRuns": lambda request: [loops.WatchRunsResponse(run=study)],
    }
    shown = " ".join(bench.run("run", "list").output.split())
    for words in ("transfer", "transfer:s/plant-b", "refused", "evidence", "study:bleeding", "2 patients"):
        assert words in shown
    one = " ".join(bench.run("run", "show", "t-1").output.split())
    assert "refused: the feed is too fast" in one
    assert "version 2 of s at plant-b" in one
    assert "patients" not in one
    assert "evidence study:bleeding" in bench.run("run", "follow").output
    bench.run("run", "list", "--loop", "transfer", "--case", "transfer:s/plant-b")
    asked = bench.fake.of("ListRuns")[-1]
    assert (asked.loop, asked.case) == ("transfer", "transfer:s/plant-b")
    assert bench.run("run", "list", "--loop", "other").exit_code == 2


def test_lot_shows_quality_and_material(bench: Bench) -> None:
    lot = production.Lot(
        lot=ROOT, state=production.LOT_STATE_HELD, reason="deviation", deviations=[deviation()]
    )
    bench.fake.answers = {
        "GetLot": lambda request: production.GetLotResponse(lot=lot),
        "GetLotNode": lambda request: traceability.GetLotNodeResponse(lot=ROOT, outputs=[PACKED]),
    }
    document = bench.json("lot", "show", ROOT)
    assert document["quality"]["state"] == "LOT_STATE_HELD"
    assert document["material"]["outputs"] == [PACKED]
    assert PACKED in bench.run("lot", "show", ROOT).output


def test_a_lot_that_only_the_trace_knows_is_shown(bench: Bench) -> None:
    def unknown(request: Any) -> Any:
        raise Unknown("UNKNOWN_LOT", "no such lot", "lot")

    bench.fake.answers = {
        "GetLot": unknown,
        "GetLotNode": lambda request: traceability.GetLotNodeResponse(lot=ROOT, known=True),
    }
    assert bench.json("lot", "show", ROOT)["quality"] is None
    bench.fake.answers["GetLotNode"] = unknown
    assert bench.run("lot", "show", ROOT).exit_code == 1


def test_alerts_are_listed_and_taken(bench: Bench) -> None:
    raised = alerting_events.AlertRaised(alert="al-1", kind=alerting_events.ALERT_KIND_DEVIATION, text="look")
    alert = alerting.Alert(raised=raised, count=250, latest_text="look again")
    bench.fake.answers = {
        "ListAlerts": lambda request: alerting.ListAlertsResponse(alerts=[alert]),
        "AcknowledgeAlert": lambda request: alerting.AcknowledgeAlertResponse(),
    }
    assert bench.json("alert", "list")["alerts"][0]["raised"]["kind"] == "ALERT_KIND_DEVIATION"
    shown = bench.run("alert", "list").output
    assert "look again" in shown
    assert "250 x" in shown
    assert bench.run("alert", "ack", "al-1", "--note", "on my way").exit_code == 0
    assert bench.fake.of("AcknowledgeAlert")[0].note == "on my way"


def test_alerts_that_are_over_are_listed_by_their_state_and_say_how_they_ended(bench: Bench) -> None:
    raised = alerting_events.AlertRaised(alert="al-1", kind=alerting_events.ALERT_KIND_DEVIATION, text="look")
    ended = alerting_events.AlertResolved(
        end=alerting_events.ALERT_END_DEVIATION_REJECTED, actor="qa-2", reason="probe"
    )
    alert = alerting.Alert(raised=raised, actor="qa-1", resolved=ended)
    bench.fake.answers = {
        "ListAlerts": lambda request: alerting.ListAlertsResponse(alerts=[alert]),
        "GetAlert": lambda request: alerting.GetAlertResponse(alert=alert),
    }
    assert "resolved (qa-1)" in bench.run("alert", "list", "--state", "resolved").output
    bench.run("alert", "list")
    bench.run("alert", "list", "--all")
    assert [request.state for request in bench.fake.of("ListAlerts")] == [
        alerting.ALERT_STATE_RESOLVED,
        alerting.ALERT_STATE_OPEN,
        alerting.ALERT_STATE_UNSPECIFIED,
    ]
    assert "resolved, deviation rejected by qa-2" in bench.run("alert", "show", "al-1").output
    alert.resolved.end = alerting_events.ALERT_END_DEVIATION_CONFIRMED
    assert "resolved, deviation confirmed by qa-2" in bench.run("alert", "show", "al-1").output


def test_a_run_whose_readings_stopped_is_silent_on_the_wall(bench: Bench) -> None:
    rows = [
        production.WallRow(equipment="dryer-1", lot=ROOT, running=True, state=production.WALL_STATE_NORMAL),
        production.WallRow(
            equipment="dryer-2", lot=ROOT, running=True, state=production.WALL_STATE_SILENT, silent=True
        ),
        production.WallRow(
            equipment="dryer-3", lot=ROOT, running=True, state=production.WALL_STATE_ABNORMAL, silent=True
        ),
    ]
    bench.fake.answers["ListWall"] = lambda request: production.ListWallResponse(rows=rows)
    shown = [line.split("\t") for line in bench.run("wall", "list").output.splitlines()]
    found = {row[1]: (row[0], row[3]) for row in shown if len(row) > 3}
    assert found["dryer-1"] == ("normal", "runs")
    assert found["dryer-2"] == ("silent", "silent")
    assert found["dryer-3"] == ("abnormal", "silent")


def test_capas_are_listed(bench: Bench) -> None:
    capa = production.Capa(state=production.CAPA_STATE_PROPOSED)
    capa.proposed.capa = "c-1"
    bench.fake.answers["ListCapas"] = lambda request: production.ListCapasResponse(capas=[capa])
    assert bench.json("capa", "list", "--state", "proposed")["capas"][0]["state"] == "CAPA_STATE_PROPOSED"
    row = next(line for line in bench.run("capa", "list").output.splitlines() if line.startswith("c-1"))
    assert "withheld" in row, "where no site tells complaints there are not 0 of 0"
    capa.proposed.answered, capa.proposed.affected = 30, 12
    capa.proposed.evidence.risk_ratio.value = 2.04
    assert "12/30, 2.0 times" in bench.run("capa", "list").output


def test_a_capa_that_leaves_the_limit_says_so_and_why(bench: Bench) -> None:
    capa = production.Capa(state=production.CAPA_STATE_PROPOSED)
    capa.proposed.limit_before = capa.proposed.limit_after = 2.7
    bench.fake.answers["ListCapas"] = lambda request: production.ListCapasResponse(capas=[capa])
    assert "stays at 2.70 SD" in bench.run("capa", "list").output
    capa.proposed.kept = events.LIMIT_KEPT_NO_COMPLAINTS
    output = bench.run("capa", "list").output
    assert "stays at 2.70 SD: no complaint among the released answers" in output
    assert "->" not in output
    assert bench.json("capa", "list")["capas"][0]["proposed"]["kept"] == "LIMIT_KEPT_NO_COMPLAINTS"
    capa.proposed.limit_after, capa.proposed.kept = 2.5, events.LIMIT_KEPT_UNSPECIFIED
    assert "2.70 -> 2.50 SD" in bench.run("capa", "list").output


def serving(request: Any) -> common.GetStatusResponse:
    return common.GetStatusResponse(
        service="x",
        version="0.1.0",
        health="serving",
        memory_mb=80.5,
        runners=[common.RunnerStatus(name="r", state="running", lag=3), common.RunnerStatus(name="s", lag=4)],
    )


def test_status_gives_endpoints_and_services(bench: Bench) -> None:
    bench.fake.answers["GetStatus"] = serving
    document = bench.json("status")
    assert document["endpoints"]["grpc"]["production"] == bench.address
    assert set(document["endpoints"]) == {"grpc", "metrics", "kafka", "mongodb", "source"}
    production_status = document["services"]["production"]
    assert {"health": "serving", "lag": 7, "memory_mb": 80.5, "version": "0.1.0"}.items() <= (
        production_status.items()
    )
    assert [runner["name"] for runner in production_status["runners"]] == ["r", "s"]
    assert bench.run("status").exit_code == 0


def test_status_shows_who_is_down(bench: Bench) -> None:
    bench.fake.answers["GetStatus"] = serving
    addresses = {"production": bench.address, "rnd": "127.0.0.1:1"}
    bench.environment["PHARMALOOP_ENDPOINTS"] = json.dumps(addresses)
    result = bench.run("status", "--json")
    assert result.exit_code == 1
    services = json.loads(result.stdout)["services"]
    assert services["rnd"]["health"] == "down"
    assert services["rnd"]["lag"] is None
    assert services["production"]["health"] == "serving"


def test_status_says_why_a_service_is_not_ready(bench: Bench) -> None:
    why = "kafka: no Kafka answers (k:9092 refuses connections): start it"
    not_serving = common.GetStatusResponse(service="production", health="not serving", not_ready=[why])
    bench.fake.answers["GetStatus"] = lambda request: not_serving
    assert bench.json("status")["services"]["production"]["not_ready"] == [why]
    result = bench.run("status")
    assert result.exit_code == 1
    shown = " ".join(word for word in result.stdout.replace("│", " ").split())
    assert "why not ready" in shown
    assert "kafka:" in shown


def test_status_names_the_services_that_were_built_with_different_contracts(bench: Bench) -> None:
    builds = iter(["aaa111", "bbb222"])
    bench.fake.answers["GetStatus"] = lambda request: common.GetStatusResponse(
        health="serving", contract=next(builds)
    )
    addresses = {"production": bench.address, "rnd": bench.address}
    bench.environment["PHARMALOOP_ENDPOINTS"] = json.dumps(addresses)
    shown = " ".join(bench.run("status").stdout.split())
    assert "different contracts" in shown
    assert "aaa111" in shown
    assert "bbb222" in shown


def test_json_may_stand_before_or_after_the_command(bench: Bench) -> None:
    bench.fake.answers["ListRuns"] = lambda request: loops.ListRunsResponse()
    assert json.loads(bench.run("--json", "run", "list").stdout) == {"runs": []}
    assert json.loads(bench.run("run", "list", "--json").stdout) == {"runs": []}
