"""A page whose service is away says that it does not know; it never says that there is nothing."""

from __future__ import annotations

import re

import pytest

from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.portal.backend import Missing
from tests.unit.portal.fakes import Browser, FakeBackend, refused

LOT = "/lots/maker-1%2Fitem%2Fgranulate%2FG-0071"
NOT_KNOWN = "Not known now: a part of the platform does not answer."


def _empty(text: str) -> list[str]:
    """What the page says of lists that have nothing."""
    return re.findall(r'<p class="empty">([^<]*)', text)


@pytest.mark.parametrize(
    "address",
    [
        *("/runs", "/wall", "/lots", "/deviations", "/capas", "/transfers", "/sets", "/studies"),
        *("/hypotheses", "/results", "/catalogue", "/trials", "/alerts", "/sites/hospital-a"),
        "/search?q=G-0071",
    ],
)
def test_a_list_that_nobody_answers_is_not_said_to_be_empty(address: str) -> None:
    page = Browser(FakeBackend(sites={"hospital-a": "clinical"})).get(address)
    assert page.status == 200
    assert "Not here now" in page.text
    assert set(_empty(page.text)) <= {NOT_KNOWN}


@pytest.mark.parametrize("page", [LOT, f"{LOT}/dossier"])
def test_a_lot_whose_plant_does_not_answer_is_not_said_to_be_without_deviation(page: str) -> None:
    answers = {("traceability", "GetLotDossier"): trace.GetLotDossierResponse()}
    text = Browser(FakeBackend(dict(answers))).get(page).text
    assert "No deviation is on record" not in text
    assert "No plant here made it" not in text
    assert text.count(NOT_KNOWN) == 2
    known = answers | {("production", "GetLot"): refused()}
    text = Browser(FakeBackend(dict(known))).get(page).text
    assert "No deviation is on record" in text
    assert "No plant here made it" in text
    assert NOT_KNOWN not in text


def test_a_pack_whose_plant_does_not_answer_may_have_been_made_here() -> None:
    lot = "maker-1/item/tablets/T-1"
    answers = {
        ("traceability", "GetDispense"): trace.GetDispenseResponse(dispense="d-1", lot=lot),
        ("traceability", "GetLotNode"): trace.GetLotNodeResponse(lot=lot),
        ("production", "GetLot"): Missing("production", "away"),
    }
    text = Browser(FakeBackend(answers)).get("/packs/d-1").text
    assert "No plant here made it" not in text
    assert NOT_KNOWN in text


def test_a_run_without_its_trace_and_a_transfer_without_research_say_so() -> None:
    run = loops.Run(run="r-1", loop="safety", case="maker-1/item/granulate/G-0071")
    backend = FakeBackend({("loops", "GetRun"): loops.GetRunResponse(run=run)}, {"hospital-a": "clinical"})
    assert NOT_KNOWN in (said := _empty(Browser(backend).get("/runs/r-1").text))
    assert not [one for one in said if one.startswith(("The trace knows", "No site"))]
    transfer = production.Transfer(transfer="t-1")
    transfer.adapted.product = "maker-1/item/granulate"
    told = production.GetTransferResponse(transfer=transfer)
    said = _empty(Browser(FakeBackend({("production", "GetTransfer"): told})).get("/transfers/t-1").text)
    assert NOT_KNOWN in said
    assert not [one for one in said if one.startswith("No transferred lot")]
