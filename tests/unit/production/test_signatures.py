"""What a signature means goes with the decision: into its events, the lot's record and the histories."""

from __future__ import annotations

from typing import Any

import pytest

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.kit.ids import parse_lot
from services.kit.runners.reactor import Reactor
from services.production import answers
from services.production.handlers import LISTS
from services.production.views import DEVIATION_ROWS, LOTS
from tests.unit.production.memory import Memory
from tests.unit.production.test_quality import PRODUCT, ROOT, plant

LIST = Reactor("lists", LISTS, emits=False)


def _open(memory: Memory) -> None:
    plant(memory, ROOT)
    memory.apply(LOTS, ROOT, events.DeviationDetected(deviation="d", lot=ROOT, product=PRODUCT, tag="Temp"))


def test_the_history_of_a_deviation_says_what_each_signature_means() -> None:
    memory = Memory()
    _open(memory)
    about = {"lot": ROOT, "deviation": "d"}
    memory.ask("StartInvestigation", api.StartInvestigationRequest(**about, reason="why", meaning="I look"))
    memory.ask("ConfirmDeviation", api.ConfirmDeviationRequest(**about, reason="hot", meaning=" It is real "))
    memory.ask(
        "ClassifyDeviation",
        api.ClassifyDeviationRequest(**about, severity="SEVERITY_MINOR", impact="none", meaning="I assessed"),
    )
    memory.ask("CloseDeviation", api.CloseDeviationRequest(**about, reason="done"))
    memory.give(LIST, memory.told())
    row = answers.deviation_row(memory.states(DEVIATION_ROWS)["d"])
    assert [(one.event, one.actor, one.meaning) for one in row.history] == [
        ("DeviationDetected", "platform", ""),
        ("DeviationInvestigationStarted", "qa", "I look"),
        ("DeviationConfirmed", "qa", "It is real"),
        ("DeviationClassified", "qa", "I assessed"),
        ("DeviationClosed", "qa", ""),
    ]
    (held,) = memory.out(events.LotHeld)
    told: Any = held.message
    assert (told.actor, told.meaning) == ("qa", "It is real"), "the hold is of the same signature"


@pytest.mark.parametrize("method", ["HoldLot", "RejectLot"])
def test_a_lot_says_who_brought_it_where_it_is_and_what_that_means(method: str) -> None:
    memory = Memory()
    plant(memory, ROOT)
    memory.ask("CompleteLot", api.CompleteLotRequest(lot=ROOT))
    request = getattr(api, f"{method}Request")(lot=ROOT, reason="the seal broke", meaning="I stand for it")
    memory.ask(method, request, actor="ann")
    shown = answers.lot(memory.states(LOTS)[ROOT], parse_lot(ROOT))
    assert (shown.reason, shown.actor, shown.meaning) == ("the seal broke", "ann", "I stand for it")


def test_a_release_replaces_the_signature_of_the_hold() -> None:
    memory = Memory()
    plant(memory, ROOT)
    memory.ask("CompleteLot", api.CompleteLotRequest(lot=ROOT))
    memory.ask("HoldLot", api.HoldLotRequest(lot=ROOT, reason="wait", meaning="hold"), actor="ann")
    memory.ask("ReleaseLot", api.ReleaseLotRequest(lot=ROOT, meaning="I certify the lot"), actor="qp")
    shown = answers.lot(memory.states(LOTS)[ROOT], parse_lot(ROOT))
    assert (shown.reason, shown.actor, shown.meaning) == ("", "qp", "I certify the lot")


def test_what_was_recorded_before_signatures_had_a_meaning_reads_as_it_did() -> None:
    memory = Memory()
    _open(memory)
    memory.apply(LOTS, ROOT, events.DeviationRejected(deviation="d", lot=ROOT, actor="old", reason="noise"))
    memory.give(LIST, memory.told())
    row = memory.states(DEVIATION_ROWS)["d"]
    (last,) = answers.deviation_row(row).history[1:]
    assert (last.actor, last.statement, last.meaning) == ("old", "noise", "")
    kept: Any = DEVIATION_ROWS.to_doc("d", 1, row)
    for moment in kept["s"]["history"]:
        del moment["meaning"]
    assert DEVIATION_ROWS.from_doc(kept).state == row
