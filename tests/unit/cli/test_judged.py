"""`deviation show` and `capa show`: what one reads before one judges, on 80 columns and as a document."""

from __future__ import annotations

import re
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rich.cells import cell_len

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as production
from tests.unit.cli import golden
from tests.unit.cli.support import ONSET, ROOT, Bench, deviation

ID = "7b0c7a52-52c0-4d0e-9c73-0e8d1b5b9f10"


def judged(state: int = production.DEVIATION_STATE_OPEN, severity: int = 0) -> production.Deviation:
    """A deviation whose evidence grew to 14 samples, the last three of them outside."""
    found = deviation(state=state)
    seen = found.detected
    seen.deviation, seen.unit, seen.rule = ID, "Cel", "2 of 3 beyond 2 SD"
    seen.proposed_severity = events.SEVERITY_MAJOR
    found.severity = severity  # type: ignore[assignment]
    latest = found.updated
    latest.magnitude, latest.samples_out, latest.lasting = 11, 3, True
    latest.proposed_severity = events.SEVERITY_CRITICAL
    for number in range(14):
        latest.evidence.add(
            at=Timestamp(seconds=ONSET + 60 * number),
            value=60 + number / 10 + (5 if number > 10 else 0),
            expected=60,
            low=58,
            high=62,
        )
    found.history.add(
        at=Timestamp(seconds=ONSET + 300),
        event="InvestigationStarted",
        actor="quality-head",
        statement="the retained sample of the dryer is measured in the laboratory",
        meaning="I take up the investigation of this deviation.",
    )
    return found


def answered(bench: Bench, *found: production.Deviation) -> None:
    bench.fake.answers["ListDeviations"] = lambda request: production.ListDeviationsResponse(deviations=found)


def on_80(bench: Bench, *arguments: str) -> str:
    """What stands on a terminal of 80 columns, which nothing exceeds but a command to copy."""
    shown = golden.output(bench, arguments, 80)
    assert max(cell_len(line) for line in shown.splitlines() if "pharmaloop" not in line) <= 80
    assert "…" not in shown
    return shown


def test_one_reads_what_was_detected_on_what_and_who_did_what(bench: Bench) -> None:
    answered(bench, deviation(), judged())
    shown = on_80(bench, "deviation", "show", ROOT, ID)
    (asked,) = bench.fake.of("ListDeviations")
    assert (asked.lot, asked.deviation) == (ROOT, ID)
    said = " ".join(shown.split())
    assert "2 of 3 beyond 2 SD" in said
    assert "9 SD (limit 5) largest distance 11 SD" in said
    assert "3, and the latest is outside" in said
    assert "not classified; the rules propose critical" in said
    assert "quality-head" in said
    assert "investigation quality-head" in said
    assert "2026-01-05 08:02:00" in said
    assert "the latest 10 of 14 samples" in said
    assert said.count(" outside 20") + said.count(" outside History") == 3


def test_fewer_or_more_samples_are_shown_as_asked_and_programs_have_all(bench: Bench) -> None:
    answered(bench, judged())
    assert "the latest 2 of 14" in bench.run("deviation", "show", ROOT, ID, "--samples", "2").output
    assert "the latest 0 of 14" in bench.run("deviation", "show", ROOT, ID, "--samples", "0").output
    found = bench.json("deviation", "show", ROOT, ID, "--samples", "2")["deviation"]
    assert len(found["updated"]["evidence"]) == 14
    assert found["history"][0]["meaning"].startswith("I take up")


@pytest.mark.parametrize(
    ("state", "severity", "verbs"),
    [
        (production.DEVIATION_STATE_OPEN, 0, ["confirm", "reject", "investigate", "classify"]),
        (production.DEVIATION_STATE_UNDER_INVESTIGATION, 0, ["confirm", "reject", "classify"]),
        (production.DEVIATION_STATE_CONFIRMED, 0, ["classify"]),
        (production.DEVIATION_STATE_CONFIRMED, events.SEVERITY_MINOR, ["classify", "close"]),
        (production.DEVIATION_STATE_CAPA_REQUIRED, events.SEVERITY_MINOR, ["classify", "close"]),
        (production.DEVIATION_STATE_REJECTED, 0, []),
        (production.DEVIATION_STATE_CLOSED, events.SEVERITY_MINOR, []),
    ],
)
def test_what_may_be_decided_follows_from_its_state(
    bench: Bench, state: int, severity: int, verbs: list[str]
) -> None:
    answered(bench, judged(state, severity))
    follows: list[Any] = bench.json("deviation", "show", ROOT, ID)["next"]
    assert [line.split()[2] for line in follows] == verbs
    assert all(f"{ROOT} {ID} --" in line for line in follows)
    assert ("nothing is left to be decided" in bench.run("deviation", "show", ROOT, ID).output) is (not verbs)


def test_one_that_is_not_there_is_told_with_where_one_looks(bench: Bench) -> None:
    answered(bench)
    result = bench.run("deviation", "show", ROOT, "d-9")
    assert result.exit_code == 1
    assert "there is no deviation d-9" in result.stderr
    assert "deviation list" in result.stderr


def proposed(state: int = production.CAPA_STATE_PROPOSED) -> production.Capa:
    """A corrective action that rests on what two sites released; one of them withholds its cases."""
    found = production.Capa()
    found.state = state  # type: ignore[assignment]
    told = found.proposed
    told.capa, told.run, told.deviation, told.lot, told.tag = ID, "r-7", "d-1", ROOT, "DryerTemp"
    told.limit_before, told.limit_after, told.reason = 4, 3, "12 of 30 patients who answered had a complaint"
    told.evidence.sites.add(
        site="hospital-a",
        exposed=events.CapaEvidenceRow(patients=30, cases=12),
        comparators=events.CapaEvidenceRow(patients=40, cases=10),
        pooled=True,
    )
    told.evidence.sites.add(
        site="hospital-b",
        exposed=events.CapaEvidenceRow(patients=25, withheld=True),
        comparators=events.CapaEvidenceRow(withheld=True),
    )
    ratio = told.evidence.risk_ratio
    ratio.value, ratio.lower, ratio.upper = 1.6, 0.8, 3.19
    told.evidence.rate_difference.reason = "NO_PERSON_TIME"
    found.history.add(at=Timestamp(seconds=ONSET), event="CapaProposed", actor="platform", statement="so")
    if state != production.CAPA_STATE_PROPOSED:
        found.actor = "li"
        found.history.add(
            at=Timestamp(seconds=ONSET + 60),
            event="CapaApproved",
            actor="li",
            statement="I approve the limit",
            meaning="I approve the limit",
        )
    return found


def asked(bench: Bench, *found: production.Capa) -> None:
    bench.fake.answers["ListCapas"] = lambda request: production.ListCapasResponse(capas=found)


def test_one_reads_a_change_what_sites_released_and_its_control(bench: Bench) -> None:
    found = proposed(production.CAPA_STATE_APPROVED)
    found.filing.CopyFrom(
        events.ChangeFilingAssessed(
            category=events.FILING_CATEGORY_PRIOR_APPROVAL,
            reference="NMPA-7",
            statement="the limit is filed",
            actor="zhao",
            meaning="I assessed it",
        )
    )
    asked(bench, found)
    shown = on_80(bench, "capa", "show", ID)
    assert bench.fake.of("ListCapas")[0].capa == ID
    assert "4.00 -> 3.00 SD" in shown
    assert "risk ratio: 1.6 (0.8 to 3.19)" in shown
    assert "rate difference, cases a day: - (no follow-up time of both groups to compare)" in shown
    rows = shown.split("Released by")[1].splitlines()
    a, b = (
        next(re.split(" {2,}", line) for line in rows if line.startswith(site))
        for site in ("hospital-a", "hospital-b")
    )
    assert a == ["hospital-a", "12 of 30", "10 of 40", "yes"]
    assert b == ["hospital-b", "withheld of 25", "withheld", "no"]
    control = shown.split("Change control")[1]
    steps = {line.split("  ")[0].strip(): line for line in control.splitlines()}
    assert "li" in steps["approval"]
    assert "zhao" in control
    assert "NMPA-7" in control
    assert "to come" in steps["validation"]
    follows = bench.json("capa", "show", ID)["next"]
    assert [line.split()[2] for line in follows] == ["validate"]


@pytest.mark.parametrize(
    ("state", "verbs"),
    [
        (production.CAPA_STATE_PROPOSED, ["approve", "refuse"]),
        (production.CAPA_STATE_APPROVED, ["validate", "file"]),
        (production.CAPA_STATE_EFFECTIVE, ["check"]),
        (production.CAPA_STATE_CLOSED, []),
    ],
)
def test_what_may_be_decided_of_a_change_follows_from_its_state(
    bench: Bench, state: int, verbs: list[str]
) -> None:
    asked(bench, proposed(state))
    follows = bench.json("capa", "show", ID)["next"]
    assert [line.split()[2] for line in follows] == verbs


def test_a_refusal_ends_the_steps_and_says_who_and_why(bench: Bench) -> None:
    found = proposed()
    found.state = production.CAPA_STATE_REFUSED
    found.refused.CopyFrom(
        events.CapaRefused(actor="li", reason="one hospital alone", meaning="I do not agree")
    )
    found.history.add(
        at=Timestamp(seconds=ONSET + 90), event="CapaRefused", actor="li", statement="one hospital alone"
    )
    asked(bench, found)
    said = " ".join(on_80(bench, "capa", "show", ID).split())
    assert "refusal 2026-01-05 08:01:30 li one hospital alone I do not agree" in said
    assert "the limit stays" in said
    assert "validation" not in said
    assert "nothing is left to be decided" in said


def test_a_change_that_is_not_there_or_rests_on_nothing(bench: Bench) -> None:
    asked(bench)
    result = bench.run("capa", "show", "c-9")
    assert (result.exit_code, "there is no corrective action c-9" in result.stderr) == (1, True)
    bare = production.Capa(state=production.CAPA_STATE_EFFECTIVE, actor="li")
    bare.proposed.capa = "c-9"
    asked(bench, bare)
    shown = on_80(bench, "capa", "show", "c-9")
    assert "complaints of patients who answered: none" in shown
    assert shown.count("to come") == 1
    assert shown.count("on record") == 5
