"""The holds of a lot: which step ended which."""

from __future__ import annotations

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.traceability.v1 import dossier_pb2 as page
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.kit.errors import Retryable, Unknown
from tests.unit.cli.support import ROOT, Bench


def dossier(*steps: tuple[str, str, str], left_out: int = 0) -> Any:
    told = [
        page.ProcessStep(at=Timestamp(seconds=1000 + number), what=what, who=who, why=why)
        for number, (what, who, why) in enumerate(steps)
    ]
    section = page.ProcessSection(state="released", steps=told, left_out=left_out)
    found = page.LotDossier(lot=ROOT, process=section)
    return lambda request: trace.GetLotDossierResponse(dossier=found)


def answered(bench: Bench, answer: Any) -> None:
    bench.fake.answers = {
        "GetLot": lambda request: production.GetLotResponse(
            lot=production.Lot(lot=ROOT, state=production.LOT_STATE_RELEASED)
        ),
        "GetLotNode": lambda request: trace.GetLotNodeResponse(lot=ROOT, known=True),
        "GetLotDossier": answer,
    }


def ask(bench: Bench, answer: Any) -> Any:
    answered(bench, answer)
    return bench.json("lot", "show", ROOT)


def test_a_past_hold_is_told_with_its_end(bench: Bench) -> None:
    story = dossier(
        ("STARTED", "", ""),
        ("HELD", "li", "the seal was broken"),
        ("COMPLETED", "", ""),
        ("RELEASED", "wang", ""),
        ("HELD", "platform", "implicated by run r-7"),
        ("REJECTED", "chen", "the result stands"),
    )
    first, second = ask(bench, story)["holds"]
    assert (first["by"], first["why"], first["end"], first["ended_by"]) == (
        "li",
        "the seal was broken",
        "released",
        "wang",
    )
    assert first["held"] < first["ended"]
    assert first["ended_why"] is None
    assert (second["by"], second["end"], second["ended_why"]) == ("platform", "rejected", "the result stands")
    shown = bench.run("lot", "show", ROOT).output
    assert "by li: the seal was broken; released 1970-01-01T00:16:43.000+00:00 by wang" in shown


def test_a_hold_that_lasts_has_no_end(bench: Bench) -> None:
    (held,) = ask(bench, dossier(("HELD", "li", "seal")))["holds"]
    assert (held["end"], held["ended"]) == (None, None)
    assert "it lasts" in bench.run("lot", "show", ROOT).output


def test_a_release_whose_hold_is_no_longer_told_is_no_hold(bench: Bench) -> None:
    found = ask(bench, dossier(("RELEASED", "wang", ""), left_out=4))
    assert (found["holds"], found["older_steps_left_out"]) == ([], 4)
    assert "4 older steps of the lot are left out" in bench.run("lot", "show", ROOT).output


def test_a_lot_without_a_dossier_is_shown_all_the_same(bench: Bench) -> None:
    def unknown(_: Any) -> Any:
        raise Unknown("UNKNOWN_LOT", "no record names the lot", "lot")

    assert ask(bench, unknown)["holds"] is None
    assert bench.run("lot", "show", ROOT).exit_code == 0


def test_a_trace_that_does_not_answer_is_no_lot_without_holds(bench: Bench) -> None:
    def later(_: Any) -> Any:
        raise Retryable("the position is not reached yet")

    answered(bench, later)
    result = bench.run("lot", "show", ROOT)
    assert (result.exit_code, result.stdout) == (3, "")
