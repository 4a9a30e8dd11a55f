"""`deviation show` and `capa show`: what one reads before one judges, on 80 columns and as a document."""

from __future__ import annotations

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
