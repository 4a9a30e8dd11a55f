"""Hold, release and reject a lot: offered where its state allows them, and told once under a name."""

from __future__ import annotations

import re
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from pharmaloop.traceability.v1 import service_pb2 as trace
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend, form_of, refused

_LOT = "maker-1/item/granulate/G-0071"
_AT = "/lots/maker-1%2Fitem%2Fgranulate%2FG-0071"
_BEGIN, _END = Timestamp(seconds=1_000_000), Timestamp(seconds=1_003_600)


def _lot(state: Any = api.LOT_STATE_COMPLETED, **more: Any) -> api.Lot:
    known: dict[str, Any] = {"started": _BEGIN}
    if state != api.LOT_STATE_STARTED:
        known["completed"] = _END
    return api.Lot(lot=_LOT, product="maker-1/item/granulate", state=state, **known | more)


def _backend(lot: api.Lot, **answers: Any) -> FakeBackend:
    return FakeBackend(
        {
            ("production", "GetLot"): api.GetLotResponse(lot=lot),
            ("traceability", "GetLotDossier"): trace.GetLotDossierResponse(),
        }
        | {("production", method): answer for method, answer in answers.items()}
    )


def _deviation(state: Any, severity: Any = 0) -> api.Deviation:
    detected = events.DeviationDetected(deviation="d-1", lot=_LOT, tag="Torque")
    return api.Deviation(detected=detected, state=state, severity=severity)


@pytest.mark.parametrize(
    ("state", "offered"),
    [
        (api.LOT_STATE_STARTED, ["hold"]),
        (api.LOT_STATE_COMPLETED, ["hold", "release", "reject"]),
        (api.LOT_STATE_HELD, ["release", "reject"]),
        (api.LOT_STATE_RELEASED, ["hold", "reject"]),
        (api.LOT_STATE_REJECTED, []),
    ],
)
def test_a_lot_offers_what_its_state_allows_and_says_what_forbids_the_rest(
    state: Any, offered: list[str]
) -> None:
    text = Browser(_backend(_lot(state))).get(_AT).text
    assert re.findall(r'id="deed-(\w+)" href="([^"]*)"', text) == [
        (deed, f"{_AT}/decide/{deed}") for deed in offered
    ]
    forbidden = re.findall(
        r'id="forbidden-(\w+)"><bdi>(?:Not while it is: [A-Z][a-z ]+|The lot is [a-z]+ already)\.</bdi>', text
    )
    assert sorted([*offered, *forbidden]) == ["hold", "reject", "release"]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"deviations": [_deviation(api.DEVIATION_STATE_OPEN)]}, "Deviation d-1 is not judged."),
        (
            {"deviations": [_deviation(api.DEVIATION_STATE_CAPA_REQUIRED)]},
            "Deviation d-1 is confirmed and not closed.",
        ),
        ({"deviations": [_deviation(api.DEVIATION_STATE_CLOSED)]}, "Deviation d-1 is not classified."),
        (
            {"deviations": [_deviation(api.DEVIATION_STATE_CLOSED, events.SEVERITY_CRITICAL)]},
            "Deviation d-1 is critical: the lot can only be rejected.",
        ),
        ({"investigations": [api.Investigation(rule="r")]}, "A laboratory investigation is open."),
        (
            {"investigations": [api.Investigation(outcome="INVESTIGATION_OUTCOME_CONFIRMED")]},
            "A result out of specification stands: the lot can only be rejected.",
        ),
        (
            {"investigations": [api.Investigation(outcome="INVESTIGATION_OUTCOME_LABORATORY_ERROR")]},
            "A retest within specification is missing after an error of the laboratory.",
        ),
    ],
)
def test_a_release_waits_for_what_is_not_disposed_of_and_says_for_what(more: Any, why: str) -> None:
    backend = _backend(_lot(**more))
    text = Browser(backend).get(_AT).text
    assert 'id="deed-release"' not in text
    assert why in text
    assert 'id="deed-reject"' in text
    page = Browser(backend, actor="qp").get(f"{_AT}/decide/release").text
    assert why in page
    assert "There is nothing left to decide here." in page


def test_a_decision_that_was_taken_already_is_said_as_that() -> None:
    said = {"hold": "该批次已在暂控中。", "release": "该批次已放行。", "reject": "该批次已是不合格批次。"}
    states = {"hold": api.LOT_STATE_HELD, "release": api.LOT_STATE_RELEASED, "reject": api.LOT_STATE_REJECTED}
    for deed, state in states.items():
        text = Browser(_backend(_lot(state)), language="zh").get(_AT).text
        assert f'id="forbidden-{deed}"><bdi>{said[deed]}</bdi>' in text


def test_the_deviation_that_forbids_a_release_is_a_link() -> None:
    text = Browser(_backend(_lot(deviations=[_deviation(api.DEVIATION_STATE_OPEN)]))).get(_AT).text
    address = "/deviations/maker-1%2Fitem%2Fgranulate%2FG-0071/d-1"
    assert f'<a href="{address}">Deviation d-1 is not judged.</a>' in text


def test_what_is_disposed_of_forbids_nothing() -> None:
    lot = _lot(
        deviations=[
            _deviation(api.DEVIATION_STATE_REJECTED),
            _deviation(api.DEVIATION_STATE_CLOSED, events.SEVERITY_MAJOR),
        ],
        investigations=[api.Investigation(outcome="INVESTIGATION_OUTCOME_LABORATORY_ERROR", retest="t-2")],
    )
    assert 'id="deed-release"' in Browser(_backend(lot)).get(_AT).text


def test_a_lot_that_was_held_while_it_runs_is_not_released_before_its_run_ends() -> None:
    lot = api.Lot(lot=_LOT, state=api.LOT_STATE_HELD, started=_BEGIN)
    assert "Its process run goes on; it has to be completed first." in Browser(_backend(lot)).get(_AT).text
    never = api.Lot(lot=_LOT, state=api.LOT_STATE_HELD)
    assert 'id="deed-release"' in Browser(_backend(never)).get(_AT).text, "it never ran in this plant"


@pytest.mark.parametrize(
    ("deed", "method", "meaning"),
    [
        (
            "hold",
            "HoldLot",
            "I hold this lot: it does not leave and is not used until quality decides.",
        ),
        ("release", "ReleaseLot", "I have judged the record of this lot and release it for use."),
        ("reject", "RejectLot", "I have judged the record of this lot and reject it for good."),
    ],
)
def test_a_decision_is_told_once_with_what_it_means(deed: str, method: str, meaning: str) -> None:
    backend = _backend(_lot(), **{method: getattr(api, f"{method}Response")()})
    at = f"{_AT}/decide/{deed}"
    assert 'name="actor"' in Browser(backend).get(at).text
    browser = Browser(backend, actor="王芳")
    written = {} if deed == "release" else {"reason": "the seal broke"}
    form = form_of(browser.get(at).text, **written)
    for _ in range(2):
        answer = browser.post(at, form)
        assert (answer.status, answer.headers["location"]) == (303, _AT)
    told = {"request_id": form["request_id"], "lot": _LOT, "meaning": meaning, **written}
    assert backend.told == [("production", method, "王芳", told)]


def test_who_is_second_sees_who_was_first_and_what_changed() -> None:
    at = f"{_AT}/decide/release"
    form = form_of(Browser(_backend(_lot()), actor="second").get(at).text)
    later = _backend(_lot(api.LOT_STATE_HELD, actor="李雷", reason="the seal broke"))
    answer = Browser(later, actor="second").post(at, form)
    assert answer.status == 409
    assert later.told == []
    assert "<bdi>It is now: Awaiting decision</bdi>" in answer.text
    assert "<bdi>It is now: Held, by 李雷: the seal broke</bdi>" in answer.text


def test_a_reason_is_asked_for_and_the_services_refusal_is_shown() -> None:
    backend = _backend(_lot(), HoldLot=refused("ILLEGAL_TRANSITION", text="a lot that is rejected stays so"))
    browser = Browser(backend, actor="qa", language="zh")
    form = form_of(browser.get(f"{_AT}/decide/hold").text)
    assert browser.post(f"{_AT}/decide/hold", form | {"reason": " "}).status == 422
    answer = browser.post(f"{_AT}/decide/hold", form | {"reason": "wait"})
    assert answer.status == 409
    assert "当前状态不允许此步骤。" in answer.text
    assert "a lot that is rejected stays so" in answer.text


def test_who_brought_a_lot_where_it_is_stands_on_its_page_as_text() -> None:
    lot = _lot(api.LOT_STATE_HELD, actor=HOSTILE, reason=HOSTILE, meaning="I hold it")
    text = Browser(_backend(lot)).get(_AT).text
    assert "I hold it" in text
    assert "<script>alert" not in text


def test_there_is_no_other_decision_and_none_about_a_lot_that_nobody_knows() -> None:
    browser = Browser(_backend(_lot()), actor="qa")
    assert browser.get(f"{_AT}/decide/burn").status == 404
    browser.backend.answers["production", "GetLot"] = refused()
    assert browser.get(f"{_AT}/decide/hold").status == 404
