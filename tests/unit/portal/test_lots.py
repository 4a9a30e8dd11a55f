"""Lots: the list, one lot over all services, its dossier to take away."""

from __future__ import annotations

import json
import re

from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.portal.backend import Missing
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend, refused

_LOT = "maker-1/item/granulate/G-0071"
_AT = "/lots/maker-1%2Fitem%2Fgranulate%2FG-0071"


def _lot() -> api.Lot:
    detected = events.DeviationDetected(deviation="d-1", lot=_LOT, tag="Torque", magnitude=4, limit=3)
    return api.Lot(
        lot=_LOT,
        product="maker-1/item/granulate",
        state=api.LOT_STATE_HELD,
        reason=HOSTILE,
        started=Timestamp(seconds=1_000_000),
        deviations=[api.Deviation(detected=detected, state=api.DEVIATION_STATE_OPEN)],
        runs=["r-1"],
    )


def _dossier() -> trace.GetLotDossierResponse:
    answer = trace.GetLotDossierResponse()
    found = answer.dossier
    found.lot = _LOT
    found.material.known = True
    found.material.inputs.append("maker-1/item/lactose/R-1")
    found.process.steps.add(what="HELD", who="qa", why="so")
    found.distribution.places.add(place="warehouse <1>", received=40, sent=12, unit="kg")
    found.distribution.dispensed = True
    run = found.exposed.runs.add(run="r-1", outcome="closed")
    run.people.patients.value = 57
    site = run.sites.add(site="hospital-a", told=True)
    site.people.patients.withheld = True
    run.sites.add(site="hospital-b")
    finding = found.results.findings.add(finding="out_of_specification", test="assay", state="confirmed")
    finding.value, finding.low = 91.25, 95.0
    return answer


def _backend() -> FakeBackend:
    return FakeBackend(
        answers={
            ("production", "ListLots"): api.ListLotsResponse(lots=[_lot()], next_page_token="t"),
            ("production", "GetLot"): api.GetLotResponse(lot=_lot()),
            ("traceability", "GetLotDossier"): _dossier(),
        }
    )


def test_the_list_filters_and_goes_on() -> None:
    backend = _backend()
    text = Browser(backend).get("/lots?state=held&prefix=G-").text
    assert backend.asked[0][2]["state"] == api.LOT_STATE_HELD
    assert backend.asked[0][2]["prefix"] == "G-"
    assert f'href="{_AT}"' in text
    assert "state=held&amp;product=&amp;prefix=G-&amp;token=t" in text
    backend.answers["production", "ListLots"] = api.ListLotsResponse()
    assert "No lot matches." in Browser(backend).get("/lots").text


def test_the_list_hears_of_deviations_too() -> None:
    backend = FakeBackend({("production", "ListLots"): api.ListLotsResponse(lots=[_lot()])})
    text = Browser(backend).get("/lots").text
    for name in ("type:LotHeld", "type:DeviationDetected", "type:DeviationRejected", "type:DeviationClosed"):
        assert name in text


def test_a_lot_shows_what_every_service_says_of_it() -> None:
    text = Browser(_backend()).get(_AT).text
    assert text.count("<h1>") == 1
    for said in (
        "Held",
        "Torque",
        "91.25",
        "warehouse &lt;1&gt;",
        "57",
        "withheld (protects a small group)",
        "not told yet",
    ):
        assert said in text
    for address in ("/deviations/maker-1%2Fitem%2Fgranulate%2FG-0071/d-1", "/runs/r-1", "/sites/hospital-a"):
        assert f'href="{address}"' in text
    assert f"{_AT}/chart/Torque" in text
    assert "<script>alert" not in text


def test_a_part_that_is_away_is_named_and_a_lot_that_nobody_knows_is_no_page() -> None:
    backend = _backend()
    backend.answers["traceability", "GetLotDossier"] = Missing("traceability", "away")
    text = Browser(backend).get(_AT).text
    assert 'data-service="traceability"' in text
    assert "Torque" in text
    backend.answers["production", "GetLot"] = refused()
    backend.answers["traceability", "GetLotDossier"] = refused()
    assert Browser(backend).get(_AT).status == 404
    assert Browser(backend).get("/lots/no-key").status == 404


def test_a_lot_of_another_maker_is_shown_by_what_the_trace_knows() -> None:
    backend = _backend()
    backend.answers["production", "GetLot"] = refused()
    text = Browser(backend).get(_AT).text
    assert "No plant here made it" in text
    assert "hospital-a" in text


def test_the_dossier_is_taken_away_as_json_and_on_paper() -> None:
    browser = Browser(_backend(), language="zh")
    answer = browser.get(f"{_AT}/dossier.json")
    assert json.loads(answer.text)["distribution"]["places"][0]["place"] == "warehouse <1>"
    assert answer.headers["content-disposition"] == (
        'attachment; filename="dossier-maker-1-item-granulate-G-0071.json"'
    )
    paper = browser.get(f"{_AT}/dossier").text
    assert "批次经过" in paper
    assert re.search(r'data-live="\[\]"', paper)
