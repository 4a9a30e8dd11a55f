"""A pack's page: its lot, where that went, whether it was handed out; and nobody's name."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.traceability.v1 import service_pb2 as traceability
from services.portal.backend import Missing
from services.portal.codes import serial_of
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend, refused

_LOT = "maker-1/gtin/06901234567892/A-0017"
_OTHER = "maker-1/gtin/06901234567892/A-0018"
_ELEMENTS = "(01)06901234567892(10)A-0017(21)S1"
_SGTIN = "urn:epc:id:sgtin:6901234.056789.S1"


def _backend(**told: Any) -> FakeBackend:
    dispense = traceability.GetDispenseResponse(
        dispense="d-1", lot=_LOT, sites=["hospital-a"], sources=[HOSTILE], **told
    )
    dispense.at.FromSeconds(4_000_000)

    def find(text: str) -> traceability.FindThingsResponse:
        lots = {_ELEMENTS: [_LOT], _SGTIN: [_LOT, _OTHER]}.get(text, [])
        things = [traceability.FoundThing(kind="lot", id=lot, label=lot, exact=True) for lot in lots]
        return traceability.FindThingsResponse(things=things)

    def known(dispense: str) -> traceability.GetDispenseResponse:
        if dispense != "d-1":
            raise refused()
        return found

    found = dispense
    node = traceability.GetLotNodeResponse(lot=_LOT, known=True, dispenses=3)
    node.places.add(place="pharmacy-3", received=40, sent=2, unit="{pack}")
    return FakeBackend(
        answers={
            ("traceability", "GetDispense"): known,
            ("traceability", "FindThings"): find,
            ("traceability", "GetLotNode"): node,
            ("production", "GetLot"): production.GetLotResponse(
                lot=production.Lot(lot=_LOT, state=production.LOT_STATE_HELD)
            ),
        }
    )


def test_a_dispense_leads_to_its_lot_site_and_date() -> None:
    text = Browser(_backend()).get("/packs/d-1").text
    assert f"/lots/{quote(_LOT, safe='')}" in text
    assert "/sites/hospital-a" in text
    assert "Feb 16, 1970" in text
    assert "pharmacy-3" in text
    assert "Handed out; nothing else is on record" in text
    assert "Held" in text
    assert "<script>alert" not in text


def test_what_became_of_it_and_other_lots_are_told() -> None:
    text = Browser(_backend(disposition="RETURNED_UNOPENED", other_lots=[_OTHER])).get("/packs/d-1").text
    assert "Came back unopened" in text
    assert "One of these lots" in text
    assert f"/lots/{quote(_OTHER, safe='')}" in text


def test_how_often_a_lot_was_dispensed_is_not_told() -> None:
    text = Browser(_backend()).get("/packs/d-1").text
    assert "Some of it was dispensed." in text
    assert ">3<" not in text


@pytest.mark.parametrize(("code", "lots"), [(_ELEMENTS, [_LOT]), (_SGTIN, [_LOT, _OTHER])])
def test_a_printed_code_leads_to_the_lots_it_may_be_of(code: str, lots: list[str]) -> None:
    text = Browser(_backend()).get(f"/packs/{quote(code, safe='')}").text
    for lot in lots:
        assert f"/lots/{quote(lot, safe='')}" in text
    assert "Not known by its serial number" in text
    assert "hospital-a" not in text


def test_a_pack_that_nobody_told_of_is_no_page() -> None:
    assert Browser(_backend()).get("/packs/d-9").status == 404
    assert Browser(_backend()).get("/packs/(01)06901234567892(10)X(21)S1").status == 404


def test_without_the_trace_the_page_says_so() -> None:
    backend = _backend()
    backend.answers["traceability", "GetDispense"] = Missing("traceability", "away")
    page = Browser(backend).get("/packs/d-1")
    assert page.status == 200
    assert 'data-service="traceability"' in page.text


@pytest.mark.parametrize(
    ("text", "serial"),
    [
        (_ELEMENTS, "S1"),
        ("(21)S1(01)06901234567892", "S1"),
        ("https://id.gs1.org/01/06901234567892/10/A-0017/21/S1?17=270101", "S1"),
        ("https://id.gs1.org/01/06901234567892/21/S1", "S1"),
        (_SGTIN, "S1"),
        ("(01)06901234567892(10)A-0017", ""),
        ("https://id.gs1.org/01/06901234567892/10/21", ""),
        ("06901234567892", ""),
        (_LOT, ""),
    ],
)
def test_the_serial_of_a_code(text: str, serial: str) -> None:
    assert serial_of(text) == serial


@pytest.mark.parametrize("address", ["/packs/d-1", f"/packs/{quote(_SGTIN, safe='')}"])
def test_a_page_has_one_heading_and_chinese(address: str) -> None:
    text = Browser(_backend(), language="zh").get(address).text
    assert text.count("<h1>") == 1
    assert '<html lang="zh-Hans-CN">' in text
