"""The dossier of a lot: its deviations, what the laboratory found, and change control, as last told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.message import Message

from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from services.traceability.domain.dossier import bounds
from services.traceability.domain.dossier.newest import KEPT
from tests.unit.traceability.dossier_story import RUN, Platform, loop, measured
from tests.unit.traceability.driver import START, fact_id, lot, material, moment

#: A number that no enum has yet.
NEWER: Any = 99


def test_a_deviation_reads_as_it_was_last_told(played: Platform) -> None:
    (one,) = played.dossier("raw").deviations.deviations
    assert (one.state, one.severity, one.proposed_severity, one.impact) == (
        "closed", "critical", "major", "dizzy",
    )  # fmt: skip
    assert (one.magnitude, one.samples_out, one.lasting, one.capa) == (9.5, 60, False, "capa-1")
    lasted = one.last_out.ToDatetime() - one.first_out.ToDatetime()
    assert lasted == timedelta(hours=1.5), "from the first sample outside to the latest"


def test_a_deviation_that_goes_on_says_so_and_a_later_judgement_is_kept(platform: Platform) -> None:
    raw = lot("raw")
    said: list[Message] = [
        production.DeviationDetected(deviation="d", lot=raw, first_out=moment(1).at, detected=moment(2).at),
        production.DeviationRejected(deviation="d", lot=raw, actor="qa", reason="the sensor was cleaned"),
        production.DeviationUpdated(deviation="d", lot=raw, last_out=moment(3).at, magnitude=6, lasting=True),
    ]
    for message in said:
        platform.tell("lot-raw", message, 2)
    platform.fold_rows()
    (one,) = platform.dossier("raw").deviations.deviations
    assert (one.state, one.who, one.lasting, one.magnitude) == ("rejected", "qa", True, 6)


def test_findings_of_the_laboratory_end_with_their_investigation(played: Platform) -> None:
    section = played.dossier("raw").results
    out, trend = section.findings
    assert (out.finding, out.state, out.value, out.low, out.unit) == (
        "out_of_specification", "laboratory_error", 88, 90, "%",
    )  # fmt: skip
    assert (out.who, out.why, out.retest) == ("lab", "wrong column", fact_id(measured("raw", 95, 41)))
    assert out.closed.ToDatetime(tzinfo=START.tzinfo) == START + timedelta(hours=52)
    assert not out.HasField("high")
    assert (trend.finding, trend.state, trend.value, trend.rule) == (
        "out_of_trend", "review", 99.9, "99.9 far from 95",
    )  # fmt: skip
    assert (section.left_out, section.others) == (0, 2)


def test_a_result_beyond_its_limits_is_found_where_no_plant_judges_it(platform: Platform) -> None:
    """A finished lot never ran in a plant: its results wait there, and are no secret here."""
    platform.tell("", material("pack1", "raw"), 0)
    for value, at in ((85, 2), (95, 3), (84, 1)):
        platform.tell("", measured("pack1", value, at), 0, times=2)
    platform.tell("", measured("pack1", 1, 4, low=None), 0)
    platform.settle()
    section = platform.dossier("pack1").results
    assert [(one.value, one.state) for one in section.findings] == [(84, "not_judged"), (85, "not_judged")]
    assert section.others == 2


def test_a_judgement_that_comes_before_its_result_is_shown_without_it(platform: Platform) -> None:
    result = measured("raw", 80, 2)
    opened = production.LaboratoryInvestigationOpened(
        lot=lot("raw"), investigation="i", result=fact_id(result), at=moment(2).at, rule="80 < 90"
    )  # fmt: skip
    platform.tell("lot-raw", opened, 3)
    platform.fold_rows()
    (one,) = platform.dossier("raw").results.findings
    assert (one.state, one.rule, one.HasField("value")) == ("investigated", "80 < 90", False)
    platform.tell("", result, 0)
    platform.fold_rows()
    section = platform.dossier("raw").results
    assert [one.value for one in section.findings] == [80]
    assert (section.left_out, section.others) == (0, 0)


def test_change_control_has_its_states_and_dates(played: Platform) -> None:
    (run,) = played.dossier("raw").evidence.runs
    capa = run.capa
    assert (capa.capa, capa.deviation, capa.state, capa.effectiveness) == (
        "capa-1", "dev-1", "closed", "effective",
    )  # fmt: skip
    assert (capa.filing_category, capa.filing_reference, capa.validation_record, capa.limits_version) == (
        "prior_approval", "A-7", "V-3", 2,
    )  # fmt: skip
    steps = (capa.proposed, capa.approved, capa.filing_assessed, capa.validated, capa.effective, capa.checked)
    hours = [(at.ToDatetime(tzinfo=START.tzinfo) - START) / timedelta(hours=1) for at in steps]
    assert hours == [20, 21, 22, 23, 24, 26]
    checked = next(one for one in played.dossier("raw").decisions.decisions if one.what == "CAPA_EFFECTIVE")
    assert (checked.who, checked.why, checked.subject, checked.run) == ("qa", "20 lots", "capa-1", RUN)


@pytest.mark.parametrize(
    ("told", "state"),
    [(0, ""), (1, "proposed"), (2, "approved"), (3, "approved"), (4, "effective"), (5, "closed")],
)
def test_an_action_is_as_far_as_its_newest_step(platform: Platform, told: int, state: str) -> None:
    steps: list[Message] = [
        production.CapaProposed(capa="c", run=RUN),
        production.CapaApproved(capa="c", run=RUN),
        production.ChangeValidated(capa="c", run=RUN),
        production.ProcessLimitChanged(capa="c", run=RUN),
        production.CapaEffectivenessChecked(capa="c", run=RUN),
    ]
    for one in loop()[:1]:
        platform.tell(*one)
    for message in steps[:told]:
        platform.tell("capa", message, 20)
    platform.settle()
    (run,) = platform.dossier("raw").evidence.runs
    assert (run.HasField("capa"), run.capa.state) == (bool(told), state)


def test_a_refused_action_says_who_and_why_and_its_deviation_is_confirmed(platform: Platform) -> None:
    for one in loop()[:1]:
        platform.tell(*one)
    raw = lot("raw")
    of: dict[str, Any] = {"lot": raw, "deviation": "d"}
    platform.tell("lot-raw", production.DeviationDetected(**of), 1)
    platform.tell("lot-raw", production.DeviationConfirmed(**of, actor="qa"), 2)
    platform.tell("lot-raw", production.DeviationCapaRequired(**of, capa="c"), 20)
    platform.tell("capa", production.CapaProposed(capa="c", run=RUN), 20)
    refused = production.CapaRefused(capa="c", run=RUN, actor="li", reason="one site", meaning="I refuse")
    platform.tell("capa", refused, 21)
    platform.tell("lot-raw", production.DeviationCapaRefused(**of, capa="c"), 21)
    ended = loops.LoopClosed(
        run=RUN, outcome=loops.RUN_OUTCOME_REFUSED, actor="li", reason="one site", meaning="I refuse"
    )
    platform.tell("run", ended, 22)
    platform.settle()
    dossier = platform.dossier("raw")
    (run,) = dossier.evidence.runs
    assert run.capa.state == "refused"
    assert (run.capa.refused.ToDatetime(tzinfo=START.tzinfo) - START) / timedelta(hours=1) == 21
    assert not run.HasField("insight")
    (exposed,) = dossier.exposed.runs
    assert exposed.outcome == "refused"
    decided = [one for one in dossier.decisions.decisions if one.who == "li"]
    assert [(one.what, one.why, one.meaning, one.subject) for one in decided] == [
        ("CAPA_REFUSED", "one site", "I refuse", "c")
    ], "the run's end is no decision of its own"
    (deviation,) = dossier.deviations.deviations
    assert (deviation.state, deviation.capa, deviation.who) == ("confirmed", "", "qa")


def test_values_of_a_newer_service_are_printed_and_kill_no_record(platform: Platform) -> None:
    """`dossier` asserts that there is no dead letter."""
    raw = lot("raw")
    told: list[tuple[str, Message]] = [
        ("lot", production.DeviationDetected(deviation="d", lot=raw, proposed_severity=NEWER)),
        ("lot", production.DeviationUpdated(deviation="d", lot=raw, proposed_severity=NEWER)),
        ("lot", production.DeviationClassified(deviation="d", lot=raw, severity=NEWER, actor="qa")),
        ("lot", production.LotImplicationAnswered(lot=raw, run=RUN, decision=NEWER)),
        ("lot", production.LaboratoryInvestigationOpened(lot=raw, investigation="i", result="r")),
        ("lot", production.InvestigationClosed(lot=raw, investigation="i", outcome=NEWER, actor="lab")),
        ("hazard", production.HazardEvaluated(run=RUN, lot=raw, hazard_class=NEWER)),
        ("capa", production.CapaProposed(capa="c", run=RUN)),
        ("capa", production.ChangeFilingAssessed(capa="c", run=RUN, category=NEWER)),
        ("capa", production.CapaEffectivenessChecked(capa="c", run=RUN, outcome=NEWER)),
        ("loop", loops.LoopClosed(run=RUN, case=raw, outcome=NEWER)),
    ]  # fmt: skip
    platform.tell(*loop()[0])
    for teller, message in told:
        platform.tell(teller, message, 9)
    platform.settle()
    found = platform.dossier("raw")
    (deviation,), (finding,) = found.deviations.deviations, found.results.findings
    assert (deviation.severity, deviation.proposed_severity) == ("unknown_99", "unknown_99")
    assert finding.state == "unknown_99"
    (run,), (evidence,) = found.exposed.runs, found.evidence.runs
    assert (run.outcome, evidence.capa.filing_category) == ("unknown_99", "unknown_99")
    assert (evidence.capa.effectiveness, evidence.capa.state) == ("unknown_99", "closed")
    decided = {one.what for one in found.decisions.decisions}
    assert decided >= {
        "DEVIATION_CLASSIFIED_UNKNOWN_99", "IMPLICATION_UNKNOWN_99", "OOS_UNKNOWN_99",
        "CHANGE_FILING_UNKNOWN_99", "CAPA_UNKNOWN_99",
    }  # fmt: skip
    assert "class UNKNOWN_99" in {one.subject for one in found.decisions.decisions}


def test_findings_are_bounded_and_each_counts_once(platform: Platform) -> None:
    """More investigations and reviews than a page has room for, of more results than are read."""
    raw, out, good = lot("raw"), KEPT + 20, KEPT + 5
    for n in range(out):
        result = measured("raw", 50, n)
        platform.tell("", result, 0)
        opened = production.LaboratoryInvestigationOpened(
            lot=raw, investigation=f"i{n}", result=fact_id(result), test="assay", at=moment(n).at
        )
        platform.tell("lot-raw", opened, n)
    for n in range(good):
        result = measured("raw", 95, 1000 + n)
        platform.tell("", result, 0)
        review = production.TrendReviewOpened(lot=raw, result=fact_id(result), test="assay")
        platform.tell("lot-raw", review, 1000 + n)
    for n in range(3):
        platform.tell("", measured("raw", 95, 2000 + n), 0)
    platform.settle()
    section = platform.dossier("raw").results
    assert len(section.findings) == bounds.FINDINGS
    assert (section.left_out, section.others) == (out + good - bounds.FINDINGS, 3)
