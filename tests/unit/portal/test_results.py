"""Results of the laboratory: what waits to be closed, and closing it once."""

from __future__ import annotations

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend, hidden

_LOT = "m/i/1/L"
_CLOSE = "/results/close?lot=m%2Fi%2F1%2FL&investigation=n-1"


def _backend(state: int = api.RESULT_STATE_INVESTIGATED, actor: str = "") -> FakeBackend:
    told = events.TestResultRecorded(lot=_LOT, test=HOSTILE, value=94.125, unit="%", low=95)
    result = api.TestResult(result="t-1", recorded=told, investigation="n-1", rule=HOSTILE)
    result.state = state  # type: ignore[assignment]
    result.actor, result.reason = actor, HOSTILE if actor else ""
    return FakeBackend(
        answers={
            ("production", "ListResults"): api.ListResultsResponse(results=[result]),
            ("production", "CloseInvestigation"): api.CloseInvestigationResponse(),
        }
    )


def test_an_open_investigation_leads_to_its_decision_and_a_closed_one_says_who_and_why() -> None:
    backend = _backend()
    text = Browser(backend).get("/results?state=investigated&lot=m/i/1/L").text
    assert backend.asked[0][2]["state"] == api.RESULT_STATE_INVESTIGATED
    assert _CLOSE.replace("&", "&amp;") in text
    assert "94.125" in text
    assert "<script>alert" not in text
    over = Browser(_backend(api.RESULT_STATE_VOID, actor="李雷"), language="zh").get("/results").text
    assert "/results/close" not in over
    assert "李雷" in over
    assert "<script>alert" not in over


def test_an_investigation_is_closed_once_and_the_second_reads_who_was_first() -> None:
    backend = _backend()
    browser = Browser(backend, actor="qc")
    page = browser.get(_CLOSE).text
    assert "<script>alert" not in page
    form = {name: hidden(page, name) for name in ("request_id", "seen")}
    assert browser.post(_CLOSE, form | {"reason": "r"}).status == 422, "an outcome is picked"
    answer = browser.post(_CLOSE, form | {"outcome": "1", "reason": "the column was worn", "meaning": "m"})
    assert (answer.status, answer.headers["location"]) == (303, "/lots/m%2Fi%2F1%2FL")
    browser.post(_CLOSE, form | {"outcome": "1", "reason": "the column was worn", "meaning": "m"})
    (_, method, actor, fields) = backend.told[0]
    assert len(backend.told) == 1
    assert (method, actor, fields["outcome"]) == ("CloseInvestigation", "qc", 1)
    assert (fields["lot"], fields["investigation"]) == (_LOT, "n-1")
    assert fields["meaning"] == "m"
    later = _backend(api.RESULT_STATE_OUT_OF_SPECIFICATION, actor="李雷")
    second = Browser(later, actor="me").post(_CLOSE, form | {"outcome": "1", "reason": "r", "meaning": "m"})
    assert second.status == 409
    assert "李雷 closed it" in second.text
    assert later.told == []


def test_an_unknown_investigation_is_nothing_and_production_being_away_is_said() -> None:
    browser = Browser(_backend(), actor="qc")
    assert browser.get("/results/close?lot=m/i/1/L&investigation=other").status == 404
    assert browser.get("/results/close?lot=m/i/1/L&investigation=").status == 404
    assert 'data-service="production"' in Browser(FakeBackend()).get("/results").text
