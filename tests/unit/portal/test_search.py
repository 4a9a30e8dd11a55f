"""The search: one hit leads straight there, several are listed, what is away is named."""

from __future__ import annotations

from pharmaloop.alerting.v1 import events_pb2 as alert_events
from pharmaloop.alerting.v1 import service_pb2 as alerting
from pharmaloop.exchange.v1 import service_pb2 as exchange
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.traceability.v1 import service_pb2 as traceability
from services.portal.backend import Missing
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend, refused

_LOT = "maker-1/item/granulate/G-0071"
_PACK = "(01)06901234500547(10)G-0071(21)S1"
_RUN = "7fae9767-c366-54d7-a85b-1de86b1a906c"


def _backend() -> FakeBackend:
    def lot(lot: str) -> production.GetLotResponse:
        if lot != _LOT:
            raise refused()
        return production.GetLotResponse(lot=production.Lot(lot=lot))

    def lots(prefix: str, **_: object) -> production.ListLotsResponse:
        found = [production.Lot(lot=_LOT)] if _LOT.rpartition("/")[2].startswith(prefix) else []
        return production.ListLotsResponse(lots=found)

    def run(run: str) -> loops.GetRunResponse:
        if run != _RUN:
            raise refused()
        return loops.GetRunResponse(run=loops.Run(run=run))

    def things(text: str) -> traceability.FindThingsResponse:
        found = [
            traceability.FoundThing(kind="lot", id=_LOT, label="G-0071 (granulate)", exact=True),
            traceability.FoundThing(kind="dispense", id="d-1", label="d-1"),
        ]
        return traceability.FindThingsResponse(things=found if text == _PACK else [])

    deviation = events.DeviationDetected(deviation="030d02d6-a864", lot=_LOT, tag="Temp")
    alert = alert_events.AlertRaised(alert="7fae1111-0000")
    return FakeBackend(
        sites={"hospital-a": "clinical", "hospital-b": "clinical.hospital-b"},
        answers={
            ("loops", "GetRun"): run,
            ("loops", "ListRuns"): loops.ListRunsResponse(runs=[loops.Run(run=_RUN, case=_LOT)]),
            ("production", "GetLot"): lot,
            ("production", "ListLots"): lots,
            ("production", "ListDeviations"): production.ListDeviationsResponse(
                deviations=[production.Deviation(detected=deviation)]
            ),
            ("production", "ListCapas"): production.ListCapasResponse(),
            ("production", "ListTransfers"): production.ListTransfersResponse(
                transfers=[production.Transfer(transfer="transfer:set/plant-3")]
            ),
            ("traceability", "GetLotNode"): traceability.GetLotNodeResponse(),
            ("traceability", "GetLineage"): traceability.GetLineageResponse(),
            ("traceability", "FindThings"): things,
            ("alerting", "ListAlerts"): alerting.ListAlertsResponse(
                alerts=[alerting.Alert(raised=alert, latest_text=HOSTILE)]
            ),
            ("exchange", "ListStudies"): exchange.ListStudiesResponse(),
            ("rnd", "GetParameterSet"): refused(),
        },
    )


def _leads(query: str, backend: FakeBackend | None = None) -> str:
    return Browser(backend or _backend()).get(f"/search?q={query}").headers.get("location", "")


def test_one_hit_leads_straight_there() -> None:
    assert _leads(_RUN) == f"/runs/{_RUN}"
    assert _leads(_LOT) == "/lots/maker-1%2Fitem%2Fgranulate%2FG-0071"
    assert _leads("G-0071") == "/lots/maker-1%2Fitem%2Fgranulate%2FG-0071"
    assert _leads("030D02D6") == "/deviations/maker-1%2Fitem%2Fgranulate%2FG-0071/030d02d6-a864"
    assert _leads(_PACK) == "/lots/maker-1%2Fitem%2Fgranulate%2FG-0071"
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
    assert "暂时缺失：alerting" in page.text
    assert f"/runs/{_RUN}" in page.text
