"""The search: one hit leads straight there, several are listed, what is away is named."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from pharmaloop.alerting.v1 import events_pb2 as alert_events
from pharmaloop.alerting.v1 import service_pb2 as alerting
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.traceability.v1 import service_pb2 as traceability
from services.portal.backend import Missing
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend, refused

_LOT = "maker-1/item/granulate/G-0071"
_PACK = "(01)06901234500547(10)G-0071(21)S1"
_RUN = "7fae9767-c366-54d7-a85b-1de86b1a906c"


def _found(**thing: Any) -> traceability.FoundThing:
    return traceability.FoundThing(**thing)


_KNOWN = (
    _found(kind="lot", id=_LOT, label="G-0071 (granulate)"),
    _found(kind="run", id=_RUN, label=f"{_RUN} (safety)"),
    _found(kind="deviation", id="030d02d6-a864", label="030d02d6-a864 (Temp)", lot=_LOT),
    _found(kind="capa", id="capa-0071", label="capa-0071"),
    _found(kind="transfer", id="transfer:set/plant-3", label="set/plant-3"),
    _found(kind="study", id="study-9", label=f"study-9 ({HOSTILE})"),
    _found(kind="dispense", id="d-111122", label="d-111122 (G-0071)", lot=_LOT),
)


def _backend() -> FakeBackend:
    def things(text: str) -> traceability.FindThingsResponse:
        """As the trace does: by the beginning of the bare name, exactly by the whole one or the id."""
        found = []
        for thing in _KNOWN:
            bare = thing.label.partition(" (")[0].casefold()
            if (text == _PACK and thing.kind == "lot") or text.casefold() in (bare, thing.id.casefold()):
                found.append(_exactly(thing))
            elif bare.startswith(text.casefold()):
                found.append(thing)
        return traceability.FindThingsResponse(things=found)

    alert = alert_events.AlertRaised(alert="7fae1111-0000")
    return FakeBackend(
        sites={"hospital-a": "clinical", "hospital-b": "clinical.hospital-b"},
        answers={
            ("loops", "GetRun"): lambda run: _or_refused(
                run == _RUN, loops.GetRunResponse(run=loops.Run(run=run))
            ),
            ("production", "GetLot"): lambda lot: _or_refused(
                lot == _LOT, production.GetLotResponse(lot=production.Lot(lot=lot))
            ),
            ("traceability", "GetLotNode"): traceability.GetLotNodeResponse(),
            ("traceability", "GetLineage"): traceability.GetLineageResponse(),
            ("traceability", "FindThings"): things,
            ("alerting", "ListAlerts"): alerting.ListAlertsResponse(
                alerts=[alerting.Alert(raised=alert, latest_text=HOSTILE)]
            ),
            ("alerting", "GetAlert"): refused(),
            ("rnd", "GetParameterSet"): refused(),
        },
    )


def _exactly(thing: traceability.FoundThing) -> traceability.FoundThing:
    exact = traceability.FoundThing()
    exact.CopyFrom(thing)
    exact.exact = True
    return exact


def _or_refused(known: bool, answer: Any) -> Any:
    if not known:
        raise refused()
    return answer


def _leads(query: str, backend: FakeBackend | None = None) -> str:
    return Browser(backend or _backend()).get(f"/search?q={query}").headers.get("location", "")


def test_one_hit_leads_straight_there() -> None:
    assert _leads(_RUN) == f"/runs/{_RUN}"
    assert _leads(_LOT) == "/lots/maker-1%2Fitem%2Fgranulate%2FG-0071"
    assert _leads("G-0071") == "/lots/maker-1%2Fitem%2Fgranulate%2FG-0071"
    assert _leads("030D02D6") == "/deviations/maker-1%2Fitem%2Fgranulate%2FG-0071/030d02d6-a864"
    assert _leads(_PACK) == f"/packs/{quote(_PACK, safe='')}"
    assert _leads("d-111122") == "/packs/d-111122"
    assert _leads("capa-0071") == "/capas/capa-0071"
    assert _leads("study-9") == "/studies/study-9"
    assert _leads("hospital-b") == "/sites/hospital-b"
    assert _leads("set/plant-3") == "/transfers/transfer%3Aset%2Fplant-3"
    assert _leads("7fae1111-0000") == "/alerts/7fae1111-0000"


def test_several_hits_are_listed_as_text() -> None:
    page = Browser(_backend()).get("/search?q=7fae")
    assert page.status == 200
    assert f"/runs/{_RUN}" in page.text
    assert "/alerts/7fae1111-0000" in page.text
    assert "<script>alert" not in page.text


def test_a_lot_that_only_the_way_of_material_knows_is_found() -> None:
    backend = _backend()
    backend.answers["traceability", "GetLotNode"] = traceability.GetLotNodeResponse(
        lot="x/y/z/L-1", known=True
    )
    assert _leads("x/y/z/L-1", backend) == "/lots/x%2Fy%2Fz%2FL-1"


def test_nothing_found_says_what_to_write_and_short_beginnings_find_nothing() -> None:
    for query in ("nothing-like-it", "7f", "%3Cscript%3Ealert(1)%3C%2Fscript%3E"):
        page = Browser(_backend()).get(f"/search?q={query}")
        assert page.status == 200
        assert "Nothing is known by this id." in page.text
        assert "<script>alert" not in page.text
    assert "Write an id" in Browser(_backend()).get("/search").text


def test_what_is_away_is_named_and_an_exact_hit_still_leads_there() -> None:
    backend = _backend()
    backend.answers["alerting", "ListAlerts"] = Missing("alerting", "away")
    assert _leads(_RUN, backend) == f"/runs/{_RUN}"
    page = Browser(backend, language="zh").get("/search?q=7fae")
    assert page.status == 200  # the one hit may not be the only one
    assert "暂时缺失：警报" in page.text
    assert f"/runs/{_RUN}" in page.text


@pytest.mark.parametrize("wanted", [_RUN, _LOT, _PACK, "7fae", "G-0071", "nothing-like-it", "00012345"])
def test_a_search_is_a_handful_of_calls(wanted: str) -> None:
    backend = _backend()
    backend.answers["alerting", "ListAlerts"] = alerting.ListAlertsResponse(
        alerts=[alerting.Alert()] * 1000, next_page_token="there are more"
    )
    Browser(backend).get(f"/search?q={quote(wanted)}")
    assert len(backend.asked) <= 5
    assert [method for _, method, _ in backend.asked].count("FindThings") == 1


def test_an_alert_is_found_by_its_whole_id_however_old() -> None:
    backend, id = _backend(), "7fae2222-0000-5f57-9a39-29524a7f9ab4"
    old = alerting.Alert(raised=alert_events.AlertRaised(alert=id))
    backend.answers["alerting", "GetAlert"] = alerting.GetAlertResponse(alert=old)
    assert _leads(id.upper(), backend) == f"/alerts/{id}"


def test_of_many_things_it_is_said_that_there_may_be_more() -> None:
    backend = _backend()
    many = [_found(kind="lot", id=f"m/item/x/{n}", label=str(n)) for n in range(20)]
    backend.answers["traceability", "FindThings"] = traceability.FindThingsResponse(things=many)
    assert "There are more" in Browser(backend).get("/search?q=zzzz").text
    backend.answers["traceability", "FindThings"] = traceability.FindThingsResponse(things=many[:19])
    assert "There are more" not in Browser(backend).get("/search?q=zzzz").text


def test_what_is_typed_goes_to_the_trace_as_it_is() -> None:
    backend = _backend()
    Browser(backend).get("/search?q=%2000012345%20")
    texts = [fields["text"] for _, method, fields in backend.asked if method == "FindThings"]
    assert texts == ["00012345"]


def test_without_the_trace_whole_names_lead_on_and_it_is_named() -> None:
    backend = _backend()
    for method in ("FindThings", "GetLineage", "GetLotNode"):
        backend.answers["traceability", method] = Missing("traceability", "away")
    assert _leads(_RUN, backend) == f"/runs/{_RUN}"
    assert _leads(_LOT, backend) == "/lots/maker-1%2Fitem%2Fgranulate%2FG-0071"
    assert 'data-service="traceability"' in Browser(backend).get("/search?q=G-00").text


def test_what_bears_the_very_name_stands_first() -> None:
    backend = _backend()
    named, made = (_found(kind="lot", id=f"m/item/{name}", label=name, exact=True) for name in ("x/1", "y/2"))
    other = _found(kind="run", id="run-1", label="run-1")
    answer = traceability.FindThingsResponse(things=[other, named, made])
    backend.answers["traceability", "FindThings"] = answer
    text = Browser(backend).get("/search?q=run-").text
    assert text.index("m/item/x/1") < text.index(">run-1<")


def test_a_short_beginning_is_of_a_lot_alone() -> None:
    backend = _backend()
    run, lot = _found(kind="run", id="G-0run", label="G-0run"), _found(kind="lot", id=_LOT, label="G-0071")
    backend.answers["traceability", "FindThings"] = traceability.FindThingsResponse(things=[run, lot])
    assert _leads("G-0", backend) == "/lots/maker-1%2Fitem%2Fgranulate%2FG-0071"
