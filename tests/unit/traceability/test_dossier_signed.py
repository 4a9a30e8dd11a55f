"""The dossier says of each decision what its signature means."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from services.traceability.domain.dossier.runs import RunRecord, run_after
from tests.unit.traceability.dossier_story import RUN, Platform
from tests.unit.traceability.driver import lot


def test_every_decision_about_a_lot_is_shown_with_what_was_signed(platform: Platform) -> None:
    raw = lot("raw")
    of: dict[str, Any] = {"lot": raw, "deviation": "d", "actor": "qa"}
    said: list[Message] = [
        production.LotHeld(lot=raw, actor="platform", reason="rule"),
        production.LotHeld(lot=raw, actor="qa", reason="r", meaning="hold"),
        production.DeviationDetected(deviation="d", lot=raw),
        production.DeviationConfirmed(**of, reason="r", meaning="confirm"),
        production.DeviationClassified(**of, severity="SEVERITY_MINOR", impact="i", meaning="classify"),
        production.DeviationClosed(**of, reason="r", meaning="close"),
        production.LaboratoryInvestigationOpened(lot=raw, investigation="i", result="x"),
        production.InvestigationClosed(
            lot=raw,
            investigation="i",
            outcome=production.INVESTIGATION_OUTCOME_LABORATORY_ERROR,
            actor="lab",
            reason="r",
            meaning="investigated",
        ),
        production.LotReleased(lot=raw, actor="qp", meaning="release"),
    ]
    for hour, message in enumerate(said):
        platform.tell("lot-raw", message, hour + 1)
    platform.fold_rows()
    told = {(one.what, one.who): one.meaning for one in platform.dossier("raw").decisions.decisions}
    assert told == {
        ("HELD", "platform"): "",
        ("HELD", "qa"): "hold",
        ("DEVIATION_CONFIRMED", "qa"): "confirm",
        ("DEVIATION_CLASSIFIED_MINOR", "qa"): "classify",
        ("DEVIATION_CLOSED", "qa"): "close",
        ("OOS_LABORATORY_ERROR", "lab"): "investigated",
        ("RELEASED", "qp"): "release",
    }


def test_a_run_that_a_person_ended_keeps_what_was_signed() -> None:
    ended = loops.LoopClosed(
        run=RUN,
        outcome=loops.RUN_OUTCOME_SUPERSEDED,
        reason="a mistake",
        actor="head",
        superseded_by="run-2",
        meaning="I end the run",
    )
    told = run_after(RunRecord(RUN), ended, "2026-03-01", "e").by_hand
    assert told is not None
    assert (told.what, told.who, told.why, told.meaning) == (
        "RUN_SUPERSEDED",
        "head",
        "a mistake",
        "I end the run",
    )
    assert (told.run, told.subject) == (RUN, "run-2")
