"""The loop board and the page of a run: what they show, and the decisions that belong to a run."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.alerting.v1 import service_pb2 as alerting
from pharmaloop.clinical.v1 import events_pb2 as clinical_events
from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.common.v1 import service_pb2 as common
from pharmaloop.exchange.v1 import events_pb2 as exchange_events
from pharmaloop.exchange.v1 import service_pb2 as exchange
from pharmaloop.loops.v1 import events_pb2 as events
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production_events
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.traceability.v1 import dossier_pb2 as dossier
from pharmaloop.traceability.v1 import events_pb2 as trace_events
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.kit.hops import own
from services.portal import evidence
from services.portal.backend import Missing
from services.portal.running import steps
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend, form_of, refused

RUN = "7fae9767-c366-54d7-a85b-1de86b1a906c"
LOT = "maker-1/item/granulate/G-0071"
NOW = 1_795_000_000


def at(seconds: int) -> Timestamp:
    return Timestamp(seconds=NOW + seconds)


def safety(state: int = loops.RUN_STATE_OPEN, stage: str = "seal", **other: Any) -> loops.Run:
    """A safety run in a stage that may take an hour and has taken half of it."""
    return loops.Run(
        run=RUN,
        loop="safety",
        case=LOT,
        opened=events.SafetyRunOpened(run=RUN, case=LOT, lot=LOT, deviation="dev-1"),
        state=state,  # type: ignore[arg-type]
        stages=[
            loops.Stage(name="trace", seconds=0.3, ended=at(-4000), slo_seconds=3600, platform_seconds=60),
            loops.Stage(name="plan", seconds=2, ended=at(-3000), slo_seconds=600, platform_seconds=1200),
        ],
        stage=stage,
        stage_since=at(-1800),
        stage_due=at(1800),
        stage_slo_seconds=3600,
        next_stages=[loops.Stage(name="learn", slo_seconds=7200)],
        began=at(-5000),
        **other,
    )


def closed(**other: Any) -> loops.Run:
    return loops.Run(
        run=RUN,
        loop="safety",
        case=LOT,
        state=loops.RUN_STATE_CLOSED,
        closed=events.LoopClosed(run=RUN, outcome=events.RUN_OUTCOME_CANCELLED, **other),
    )


def backend(run: loops.Run, **answers: Any) -> FakeBackend:
    known: dict[tuple[str, str], Any] = {
        ("loops", "GetRun"): loops.GetRunResponse(run=run),
        ("loops", "ListRuns"): loops.ListRunsResponse(runs=[run]),
        ("loops", "CountRuns"): loops.CountRunsResponse(
            counts=[loops.RunCount(loop="safety", state=loops.RUN_STATE_STALLED, count=7)]
        ),
        ("loops", "GetStatus"): common.GetStatusResponse(platform_time=at(0)),
        ("loops", "CancelRun"): loops.CancelRunResponse(),
        ("traceability", "GetLineage"): trace.GetLineageResponse(
            hops=[
                hop("e1", "production.v1.DeviationConfirmed", -9, [("lot", LOT)], [("deviation", "dev-1")]),
                hop("e2", "loops.v1.SafetyRunOpened", -8, [("deviation", "dev-1")], [("run", RUN)], "e1"),
                hop("e3", "production.v1.CapaProposed", -2, [("run", RUN)], [("capa", "capa-9")], "e2"),
            ]
        ),
        ("traceability", "GetExposure"): trace.GetExposureResponse(
            announced=trace_events.ExposureAnnounced(
                version=3,
                lots=[LOT],
                sites={"hospital-b": trace_events.SiteExposure(epoch=4, n=1234, digest=b"\xab" * 32)},
            ),
            phase="open",
            people=dossier.ExposedCounts(
                dispenses=dossier.PublishedCount(value=1234), patients=dossier.PublishedCount(withheld=True)
            ),
            sites=[
                dossier.ExposedAtSite(
                    site="hospital-b",
                    told=True,
                    people=dossier.ExposedCounts(
                        dispenses=dossier.PublishedCount(value=1234),
                        patients=dossier.PublishedCount(withheld=True),
                    ),
                )
            ],
            answers=dossier.AnswerCounts(plans=dossier.PublishedCount(value=1200)),
        ),
        ("traceability", "ListUnattributed"): trace.ListUnattributedResponse(
            dispenses=[trace.Unattributed(dispense="d-1", lot=LOT, why="NO_PATIENT", sources=["w-1"])]
        ),
        ("traceability", "ExplainUnattributed"): trace.ExplainUnattributedResponse(),
        ("alerting", "ListAlerts"): alerting.ListAlertsResponse(),
        ("production", "ListCapas"): production.ListCapasResponse(),
        ("production", "GetHazard"): production.GetHazardResponse(),
        ("production", "EvaluateHazard"): production.EvaluateHazardResponse(),
    }
    known |= {tuple(key.split("__")): answer for key, answer in answers.items()}  # type: ignore[misc]
    return FakeBackend(known, sites={"hospital-b": "clinical.hospital-b"})


def hop(
    event: str, type: str, when: int, froms: list[Any], tos: list[Any], cause: str = ""
) -> trace.LineageHop:
    return trace.LineageHop(
        event=event,
        type=f"pharmaloop.{type}",
        service=type.partition(".")[0],
        at=at(when),
        recorded_at=at(when - 1_000_000),
        cause=cause,
        comes_from=[trace.LineageThing(kind=kind, id=id) for kind, id in froms],
        leads_to=[trace.LineageThing(kind=kind, id=id) for kind, id in tos],
    )


def test_stages_move_between_events_while_a_run_goes_on() -> None:
    for state, moves in ((loops.RUN_STATE_OPEN, True), (loops.RUN_STATE_CLOSED, False)):
        told = backend(safety(state))
        for path in ("/runs", f"/runs/{RUN}"):
            assert ('data-every="5"' in Browser(told).get(path).text) == moves, path


def test_the_board_asks_for_the_stuck_first_and_passes_every_filter_on() -> None:
    told = backend(safety(loops.RUN_STATE_STALLED))
    page = Browser(told).get(
        "/runs?loop=safety&state=stalled&product=maker-1/item/g&plant=p-1&site=hospital-b"
    )
    asked = next(fields for _, method, fields in told.asked if method == "ListRuns")
    assert asked["order"] == loops.RUN_ORDER_STUCK_FIRST
    assert (asked["loop"], asked["state"]) == ("safety", loops.RUN_STATE_STALLED)
    assert (asked["product"], asked["plant"], asked["site"]) == ("maker-1/item/g", "p-1", "hospital-b")
    assert "Stalled" in page.text
    assert f"/runs/{RUN}" in page.text
    assert 'aria-label="Safety, Stalled: 7"' in page.text


def test_a_row_draws_its_stages_against_their_slo() -> None:
    text = Browser(backend(safety())).get("/runs").text
    assert "2 of 4 stages done, 1 of them late; Seal: 50% of its SLO" in text
    assert 'class="late"' in text
    assert 'class="now"' in text


def test_filters_that_nobody_offers_are_passed_over() -> None:
    told = backend(safety())
    page = Browser(told).get("/runs?loop=%3Cscript%3E&state=nonsense")
    asked = next(fields for _, method, fields in told.asked if method == "ListRuns")
    assert (page.status, asked["loop"], asked["state"]) == (200, "", 0)


def test_five_hundred_runs_come_page_by_page_with_the_filters_kept() -> None:
    runs = [safety()] * 100
    told = backend(safety(), loops__ListRuns=loops.ListRunsResponse(runs=runs, next_page_token="t&1"))
    text = Browser(told).get("/runs?loop=safety").text
    assert "/runs/" in text
    assert "?loop=safety&amp;after=t%261" in text
    assert text.count('class="stages"') == 100


def test_the_board_without_counts_or_clock_shows_the_rest() -> None:
    gone = Missing("loops", "away")
    text = Browser(backend(safety(), loops__CountRuns=gone, loops__GetStatus=gone)).get("/runs").text
    assert 'data-service="loops"' in text
    assert f"/runs/{RUN}" in text


def test_a_run_shows_hops_with_cause_counts_epochs_and_digests() -> None:
    text = Browser(backend(safety())).get(f"/runs/{RUN}").text
    assert text.index("Deviation confirmed") < text.index("Safety run opened") < text.index("CAPA proposed")
    assert 'href="#h-e1"' in text
    assert 'id="h-e1"' in text
    assert "/deviations/maker-1%2Fitem%2Fgranulate%2FG-0071/dev-1" in text
    assert "1,234" in text
    assert "withheld (protects a small group)" in text
    assert "comparators are not among them" in text
    assert "不含对照患者" in Browser(backend(safety()), "zh").get(f"/runs/{RUN}").text
    assert "ab" * 32 in text
    assert f"/runs/{RUN}/dispenses/d-1" in text


def test_each_hop_of_a_run_has_event_cause_and_both_times() -> None:
    text = Browser(backend(safety())).get(f"/runs/{RUN}").text
    hop_of_capa = text[text.index('<li id="h-e3">') :].partition("</li>")[0]
    for said in (
        "CAPA proposed",
        'title="e3"',
        'href="#h-e2"',
        "Nov 18, 2026, 11:06:38",
        "Nov 6, 2026, 9:19:58",
    ):
        assert said in hop_of_capa


def test_hops_that_a_run_does_not_show_are_links_into_its_lineage() -> None:
    opened = hop("e-0", "loops.v1.SafetyRunOpened", -999, [("deviation", "dev-1")], [("run", RUN)])
    many = [hop(f"e{n}", "clinical.v1.PlansOpened", n, [("run", RUN)], [], "e-0") for n in range(70)]
    told = trace.GetLineageResponse(hops=[opened, *many])
    text = Browser(backend(safety(), traceability__GetLineage=told)).get(f"/runs/{RUN}").text
    assert "11 earlier events are in the lineage." in text
    assert f'href="/lineage/{RUN}?kind=run&amp;event=e9#h-e9"' in text  # the last of those that are not here
    assert f'href="/lineage/{RUN}?kind=run&amp;event=e-0#h-e-0"' in text  # what the hops here were caused by


@pytest.mark.parametrize(
    ("stage", "to"),
    [
        ("evaluate", f"/runs/{RUN}/hazard"),
        ("approve", "/capas/capa-9"),
        ("seal", f"/runs/{RUN}#sites"),
        ("respond", f"/runs/{RUN}#sites"),
    ],
)
def test_the_next_step_leads_to_where_it_is_decided(stage: str, to: str) -> None:
    text = Browser(backend(safety(stage=stage))).get(f"/runs/{RUN}").text
    assert f'id="turn-button" href="{to}"' in text


def test_nobody_is_asked_where_the_platform_goes_on_by_itself() -> None:
    text = Browser(backend(safety(stage="trace"))).get(f"/runs/{RUN}").text
    assert "Nobody has to act" in text
    assert "turn-button" not in text


def test_an_ended_run_offers_no_decision_and_says_who_ended_it() -> None:
    text = Browser(backend(closed(actor=HOSTILE, reason=HOSTILE))).get(f"/runs/{RUN}").text
    assert "Cancelled" in text
    assert "cancel-button" not in text
    assert "turn-button" not in text
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text


def test_parts_that_are_away_are_named_and_the_rest_is_there() -> None:
    gone = Missing("traceability", "away")
    told = backend(safety(), traceability__GetLineage=gone, traceability__GetExposure=gone)
    text = Browser(told).get(f"/runs/{RUN}").text
    assert 'data-service="traceability"' in text
    assert "Seal" in text


def test_a_run_that_nobody_knows_is_no_page() -> None:
    told = backend(safety(), loops__GetRun=refused())
    assert Browser(told).get("/runs/nothing").status == 404


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_run_in_both_languages(language: str) -> None:
    text = Browser(backend(safety()), language=language).get(f"/runs/{RUN}").text
    assert ("暴露日志" in text) == (language == "zh")
    assert ("What led to what" in text) == (language == "en")


def _released(site: str, **sums: float) -> clinical.GetEvidenceResponse:
    row = clinical_events.ReleasedRow(patients=40, cases=8)
    told = clinical_events.EvidenceReleased(site=site, number=2, exposed=row, comparators=row)
    if sums:
        told.sums.CopyFrom(clinical_events.EvidenceSums(**sums))
    return clinical.GetEvidenceResponse(released=told)


def test_evidence_is_drawn_by_site_and_pooled() -> None:
    told = backend(safety())
    told.answers[("clinical.hospital-b", "GetEvidence")] = _released("hospital-b", r=8, s=4, p=3)
    text = Browser(told).get(f"/runs/{RUN}").text
    assert 'class="intervals"' in text
    assert "8 / 40" in text
    assert "2 (1.1" in text.replace("2.0 (", "2 (")


def test_a_site_that_withholds_is_said_so_and_not_drawn() -> None:
    rows, pooled = evidence.of_sites([("a", None), ("b", _released("b").released)])
    assert [row.ratio.reason for row in rows] == ["NOT_RELEASED", "WITHHELD"]
    assert (pooled.value, pooled.reason) == (None, "WITHHELD")


def test_a_ratio_is_that_of_the_tables_it_comes_from() -> None:
    """One stratum, 20 of 100 exposed and 10 of 100 comparators: the ratio 2 and Katz's interval."""
    ratio = evidence.ratio(20 * 100 / 200, 10 * 100 / 200, (100 * 100 * 30 - 20 * 10 * 200) / 200**2)
    error = math.sqrt(1 / 20 - 1 / 100 + 1 / 10 - 1 / 100)
    assert ratio.value == pytest.approx(2)
    assert ratio.lower == pytest.approx(2 * math.exp(-1.959963984540054 * error))
    assert ratio.upper == pytest.approx(2 * math.exp(1.959963984540054 * error))


def test_what_is_made_of_a_lot_is_no_part_of_a_transfers_run() -> None:
    hops = [
        hop("a", "loops.v1.TransferRunOpened", 1, [("set", "s")], [("transfer", "t")]),
        hop("b", "production.v1.TransferOutcomeRecorded", 2, [("transfer", "t")], [("lot", "l")]),
        hop("c", "traceability.v1.MaterialRecorded", 3, [("lot", "l")], [("lot", "m")]),
    ]
    assert [one.event for one in own(hops, "transfer", "t")] == ["a", "b"]


def test_a_stage_without_an_slo_has_no_share() -> None:
    run = loops.Run(stages=[loops.Stage(name="trace", seconds=1)], state=loops.RUN_STATE_CLOSED)
    assert [(step.state, step.share) for step in steps(run, None)] == [("done", None)]


def test_cancelling_takes_two_steps_a_reason_and_a_name() -> None:
    told = backend(safety())
    assert 'name="actor"' in Browser(told).get(f"/runs/{RUN}/cancel").text
    browser = Browser(told, actor="Q. Head")
    form = browser.get(f"/runs/{RUN}/cancel").text
    sent = form_of(form)
    assert browser.post(f"/runs/{RUN}/cancel", sent).status == 422
    assert told.told == []
    done = browser.post(f"/runs/{RUN}/cancel", sent | {"reason": "by mistake"})
    assert (done.status, done.headers["location"]) == (303, f"/runs/{RUN}")
    (service, method, actor, fields) = told.told[0]
    assert (service, method, actor) == ("loops", "CancelRun", "Q. Head")
    assert (fields["run"], fields["reason"], fields["request_id"]) == (RUN, "by mistake", sent["request_id"])
    assert fields["meaning"] == "I end this run before its time and stand for the reason."


@pytest.mark.parametrize("known_by", ["journal", "stage"])
def test_a_run_whose_journal_is_sealed_is_not_offered_to_be_cancelled(known_by: str) -> None:
    run = safety(stage="evaluate")
    told = backend(run)
    assert "cancel-button" in Browser(told).get(f"/runs/{RUN}").text
    if known_by == "stage":
        told.answers["loops", "GetRun"].run.stages.add(name="seal", seconds=1)
        told.answers["traceability", "GetExposure"] = Missing("traceability", "away")
    else:
        told.answers["traceability", "GetExposure"].phase = "sealed"
    assert "cancel-button" not in Browser(told).get(f"/runs/{RUN}").text
    page = Browser(told, actor="Q. Head").get(f"/runs/{RUN}/cancel").text
    assert "The journal is sealed" in page
    assert '<form method="post" class="decide"' not in page


def test_who_is_second_sees_who_was_first() -> None:
    told = backend(safety())
    browser = Browser(told, actor="Second")
    form = browser.get(f"/runs/{RUN}/cancel").text
    sent = form_of(form)
    told.answers[("loops", "GetRun")] = loops.GetRunResponse(run=closed(actor="First"))
    answer = browser.post(f"/runs/{RUN}/cancel", sent | {"reason": "by mistake"})
    assert answer.status == 409
    assert "It ended (Cancelled) by First." in answer.text
    assert '<td class="long"><bdi>First</bdi></td>' in answer.text, "who decided is in the table of changes"
    assert told.told == []


def test_the_hazard_is_evaluated_under_a_meaning() -> None:
    told = backend(safety(stage="evaluate"))
    browser = Browser(told, actor="Q. Head")
    form = browser.get(f"/runs/{RUN}/hazard").text
    sent = form_of(form)
    sent |= {"hazard_class": "II", "text": "It is weaker.", "instruction": "See us."}
    assert browser.post(f"/runs/{RUN}/hazard", sent).status == 303
    fields = told.told[0][3]
    assert fields["hazard_class"] == production_events.HAZARD_CLASS_II
    assert fields["meaning"]
    assert fields["text"] == "It is weaker."


def test_a_dispense_that_names_nobody_is_explained() -> None:
    told = backend(safety())
    browser = Browser(told, actor="A. Pharmacist")
    form = browser.get(f"/runs/{RUN}/dispenses/d-1").text
    sent = form_of(form) | {"reason": "no record"}
    assert browser.post(f"/runs/{RUN}/dispenses/d-1", sent).status == 303
    assert told.told[0][1] == "ExplainUnattributed"
    assert told.told[0][3]["dispense"] == "d-1"
    assert browser.get(f"/runs/{RUN}/dispenses/d-2").status == 404


# -- its corrective action ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "said"),
    [("en", "stays at 2.7 spreads of the golden run: nobody answered"), ("zh", "没有患者应答")],
)
def test_a_run_says_what_its_corrective_action_does_to_the_limit(language: str, said: str) -> None:
    capa = production.Capa(state=production.CAPA_STATE_APPROVED)
    proposed = capa.proposed
    proposed.capa, proposed.tag, proposed.kept = "c-1", HOSTILE, production_events.LIMIT_KEPT_NO_ANSWERS
    proposed.limit_before = proposed.limit_after = 2.7
    told = backend(safety(), production__ListCapas=production.ListCapasResponse(capas=[capa]))
    text = Browser(told, language=language).get(f"/runs/{RUN}").text
    assert said in text
    assert 'href="/capas/c-1"' in text
    assert "<script>alert" not in text


# -- what a run waits for -----------------------------------------------------------


def stalled(stage: str, board: Any, **answers: Any) -> FakeBackend:
    told = backend(safety(loops.RUN_STATE_STALLED, stage), **answers)
    told.answers[("clinical.hospital-b", "GetSiteBoard")] = board
    if not isinstance(board, Missing):
        told.answers[("clinical.hospital-b", "GetEvidence")] = clinical.GetEvidenceResponse()
    return told


def board_of(**counts: Any) -> clinical.GetSiteBoardResponse:
    return clinical.GetSiteBoardResponse(runs=[clinical.RunBoard(run=RUN, **counts)])


@pytest.mark.parametrize(
    ("stage", "board", "said"),
    [
        ("plan", board_of(), "has not confirmed what was announced to it"),
        ("plan", refused(), "holds nothing of this run yet"),
        ("plan", Missing("clinical.hospital-b", "away"), "does not answer now"),
        (
            "plan",
            board_of(acknowledged=True, patients={"pending": 30}),
            # the trace withholds its patients
            "has patients who wait for a plan – withheld (protects a small group)",
        ),
        ("seal", board_of(acknowledged=True, only_at_site=3), "has differences to explain"),
    ],
)
def test_a_stalled_run_names_the_site_why_and_where_it_is_resolved(stage: str, board: Any, said: str) -> None:
    text = Browser(stalled(stage, board)).get(f"/runs/{RUN}").text
    named = text.partition('id="blockers"')[2].partition("</ul>")[0]
    assert f'<a href="/sites/hospital-b?run={RUN}&amp;shown=' in named
    assert said in named
    assert 'id="turn-button"' in text


def test_how_many_wait_is_told_where_the_trace_tells_how_many_there_are() -> None:
    told = stalled("plan", board_of(acknowledged=True, patients={"pending": 30}))
    told.answers["traceability", "GetExposure"].sites[0].people.patients.withheld = False
    told.answers["traceability", "GetExposure"].sites[0].told = True
    text = Browser(told).get(f"/runs/{RUN}").text
    assert "has patients who wait for a plan – 30" in text


def test_a_stalled_run_says_since_when_it_waits_and_since_when_it_is_late() -> None:
    run = safety(loops.RUN_STATE_STALLED, "plan")
    run.stage_due.CopyFrom(at(-900))
    text = Browser(backend(run)).get(f"/runs/{RUN}").text
    turn = text.partition('aria-labelledby="turn"')[2].partition("</section>")[0]
    assert at(-1800).ToJsonString() in turn
    late = turn.partition("Stalled since (domain)")[2]
    assert at(-900).ToJsonString() in late
    assert at(-5000).ToJsonString() not in turn, "when the run began is another matter"


@pytest.mark.parametrize(
    ("run", "to"),
    [
        (safety(loops.RUN_STATE_STALLED, "plan"), f"/runs/{RUN}#sites"),
        (safety(loops.RUN_STATE_STALLED, "trace"), "/status"),
        (safety(loops.RUN_STATE_STALLED, "hold"), f"/runs/{RUN}#lots"),
        (safety(stage="evaluate"), f"/runs/{RUN}/hazard"),
    ],
)
def test_a_blocker_on_the_board_leads_to_where_it_is_resolved(run: loops.Run, to: str) -> None:
    told = backend(run)
    row = Browser(told).get("/runs").text.partition("<tbody>")[2].rpartition('class="board"')[2]
    assert f'<a href="{to}">' in row
    assert re.search(r"since Nov 18, 2026, 10:36:40[^<]* \(domain\)", row)


def test_a_run_that_goes_on_by_itself_is_no_link() -> None:
    row = Browser(backend(safety(stage="trace"))).get("/runs").text.rpartition('class="board"')[2]
    assert 'href="/status"' not in row


def test_a_study_names_the_sites_that_have_not_approved() -> None:
    run = loops.Run(
        run=RUN, loop="evidence", case="study:s-1", state=loops.RUN_STATE_STALLED, stage="approve"
    )
    run.opened_evidence.study = "s-1"
    study = exchange.Study(requested=exchange_events.StudyRequested(sites=["a-1", "b-2"]))
    study.approvals.add(site="a-1")
    told = backend(run, exchange__GetStudy=exchange.GetStudyResponse(study=study))
    named = Browser(told).get(f"/runs/{RUN}").text.partition('id="blockers"')[2].partition("</ul>")[0]
    assert "b-2" in named
    assert "a-1" not in named
    assert 'href="/studies/s-1"' in named


def _action(**fields: Any) -> production.Capa:
    """The run's corrective action; what is not said of it is as at its proposal."""
    proposed = production_events.CapaProposed(capa="capa-9", run=RUN, lot=LOT, tag="t")
    return production.Capa(proposed=proposed, **({"state": production.CAPA_STATE_PROPOSED} | fields))


_VALIDATED = {"validated": production_events.ChangeValidated(capa="capa-9")}
_APPROVED = {"state": production.CAPA_STATE_APPROVED, "actor": HOSTILE}


@pytest.mark.parametrize(
    ("fields", "waits", "buttons"),
    [
        ({}, "a person to approve the corrective action", ["/capas/capa-9"]),
        (
            _APPROVED,
            "validation and filing assessment of the corrective action",
            ["/capas/capa-9/validate", "/capas/capa-9/file"],
        ),
        (_APPROVED | _VALIDATED, "filing assessment of the corrective action", ["/capas/capa-9/file"]),
    ],
)
def test_a_run_says_what_its_corrective_action_really_lacks(
    fields: dict[str, Any], waits: str, buttons: list[str]
) -> None:
    answer = production.ListCapasResponse(capas=[_action(**fields)])
    told = backend(safety(loops.RUN_STATE_STALLED, stage="approve"), production__ListCapas=answer)
    for path in ("/runs", f"/runs/{RUN}"):
        text = Browser(told).get(path).text
        assert waits in text, path
        assert ("pproved by" in text) == bool(fields), path
        assert "<script>alert" not in text
        assert "Approval and change control" in text, path
    turn = text[text.index('id="turn"') :].partition("</section>")[0]
    assert [part.partition('"')[0] for part in turn.split('href="')[1:]] == buttons


def test_a_run_whose_action_was_refused_waits_for_nobody_and_then_says_who_ended_it_and_why() -> None:
    refused = _action(
        state=production.CAPA_STATE_REFUSED, refused=production_events.CapaRefused(actor="li", reason="why")
    )
    answer = production.ListCapasResponse(capas=[refused])
    meanwhile = backend(safety(stage="approve"), production__ListCapas=answer)
    text = Browser(meanwhile).get(f"/runs/{RUN}").text
    assert "the refusal of the corrective action to reach the loop" in text
    assert "a person to approve" not in text
    over = safety(loops.RUN_STATE_CLOSED)
    closed = events.LoopClosed(run=RUN, outcome=events.RUN_OUTCOME_REFUSED, actor="li", reason=HOSTILE)
    over.closed.CopyFrom(closed)
    told = backend(over, production__ListCapas=answer)
    for path, said in (("/runs", "Refused"), (f"/runs/{RUN}", "Refused")):
        text = Browser(told).get(path).text
        assert said in text, path
        assert "<script>alert" not in text
    assert "li</bdi>" in text.partition('class="ended"')[2].partition("</p>")[0]


def test_a_run_tells_in_general_words_what_production_does_not_say() -> None:
    gone = Missing("production", "away")
    told = backend(safety(stage="approve"), production__ListCapas=gone)
    for path in ("/runs", f"/runs/{RUN}"):
        said = "the corrective action to be approved, validated and assessed for filing"
        assert said in Browser(told).get(path).text
