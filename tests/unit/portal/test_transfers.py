"""A transfer's page: what does not fit stands out, two steps to a decision, two signers."""

from __future__ import annotations

import pytest

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from pharmaloop.rnd.v1 import service_pb2 as rnd
from services.portal.backend import Missing
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend, form_of, hidden, refused

_ID = "transfer:anti%25coagulant/plant-3"
_AT = "/transfers/transfer%3Aanti%2525coagulant%2Fplant-3"


def _estimate(value: float) -> common.Estimate:
    return common.Estimate(value=value, lower=value - 1, upper=value + 1)


def _transfer(state: int = api.TRANSFER_STATE_PROPOSED, actor: str = "", **more: object) -> api.Transfer:
    adapted = events.TwinAdapted(
        line="line-1",
        product="maker-3/gtin/1",
        gaps=[
            events.TransferGap(
                quantity="tip_speed", unit="m/s", source=2, target=9, ratio=4.5, low=1, high=4
            ),
            events.TransferGap(quantity="kla", unit="/h", source=68, target=68, ratio=1, inside=True),
        ],
        predictions=[
            events.AttributePrediction(
                attribute="titre", unit="g/L", source=_estimate(3.25), target=_estimate(2.75), low=2, high=6
            )
        ],
    )
    found = api.Transfer(
        transfer=_ID, set="anti%coagulant", version=5, plant="plant-3", adapted=adapted, run="r-1"
    )
    found.state = state  # type: ignore[assignment]
    found.proposed.CopyFrom(
        events.OptimisationProposed(
            proposal="p-1",
            basis=events.ADVICE_BASIS_PROVEN_RANGE,
            moved=["agitation"],
            attribute="titre",
            gain=_estimate(0.125),
            predictions=[events.AttributePrediction(attribute="titre", target=_estimate(2.875))],
        )
    )
    if actor:
        found.decided.actor, found.decided.accepted, found.decided.reason = actor, True, HOSTILE
    return found


def _backend(transfer: api.Transfer) -> FakeBackend:
    gap = rnd.AttributeGap(
        attribute="titre", unit="g/L", predicted=_estimate(3.0), actual=2.942, gap=-0.058, gap_before=-0.3
    )
    outcome = rnd.TransferOutcome(version=1, lot="maker-3/gtin/1/T-T001", gaps=[gap])
    moment = api.TransferMoment(version=5, event="TwinAdapted", actor="platform", statement=HOSTILE)
    return FakeBackend(
        answers={
            ("production", "ListTransfers"): api.ListTransfersResponse(
                transfers=[transfer], next_page_token="more"
            ),
            ("production", "GetTransfer"): api.GetTransferResponse(
                transfer=transfer,
                adapted=[events.SetPoint(parameter="agitation", value=150.5, unit="/min")],
                proposed=[events.SetPoint(parameter="agitation", value=161.25, unit="/min")],
                history=[moment],
            ),
            ("production", "DecideTransfer"): api.DecideTransferResponse(),
            ("production", "RecordRecipeValidation"): api.RecordRecipeValidationResponse(),
            ("production", "RecordRecipeFiling"): api.RecordRecipeFilingResponse(),
            ("rnd", "GetTransferGaps"): rnd.GetTransferGapsResponse(outcomes=[outcome]),
        }
    )


def test_a_quantity_outside_its_validated_range_stands_out_and_one_without_range_does_not() -> None:
    text = Browser(_backend(_transfer())).get(_AT).text
    assert text.count('class="state abnormal"') == 1
    assert "No range is known" in text
    for number in ("3.25", "2.75", "2.88", "150.5", "161.25", "2.942"):
        assert number in text


def test_expected_and_found_are_drawn_and_stand_in_a_table() -> None:
    text = Browser(_backend(_transfer())).get(_AT).text
    assert 'aria-label="titre in g/L: expected and found"' in text
    assert text.count('class="found"') == 1
    assert 'href="/lots/maker-3%2Fgtin%2F1%2FT-T001"' in text


def test_research_being_away_leaves_the_transfer() -> None:
    backend = _backend(_transfer())
    del backend.answers["rnd", "GetTransferGaps"]
    page = Browser(backend).get(_AT)
    assert page.status == 200
    assert 'data-service="rnd"' in page.text
    assert "Gap table" in page.text


def test_the_key_is_asked_as_it_is_and_the_page_looks_at_itself() -> None:
    backend = _backend(_transfer())
    text = Browser(backend).get(_AT).text
    assert backend.asked[0] == ("production", "GetTransfer", {"transfer": _ID})
    assert f'data-look="{_AT}"' in text
    assert f'href="{_AT}/decide?answer=accept"' in text


def test_an_unknown_transfer_is_a_page_of_its_own() -> None:
    backend = _backend(_transfer())
    backend.answers["production", "GetTransfer"] = refused()
    assert Browser(backend).get("/transfers/nope").status == 404


def test_the_list_filters_and_goes_on() -> None:
    backend = _backend(_transfer())
    text = Browser(backend).get("/transfers?state=proposed&plant=plant-3").text
    assert backend.asked[0][2]["state"] == api.TRANSFER_STATE_PROPOSED
    assert "token=more" in text
    assert "A decision on the proposed set-points" in text
    empty = _backend(_transfer())
    empty.answers["production", "ListTransfers"] = api.ListTransfersResponse()
    assert "没有符合条件的技术转移" in Browser(empty, language="zh").get("/transfers").text


@pytest.mark.parametrize(("answer", "accepted"), [("accept", True), ("refuse", False)])
def test_a_decision_is_told_once_with_the_proposal_that_was_seen(answer: str, *, accepted: bool) -> None:
    backend = _backend(_transfer())
    browser = Browser(backend, actor="manager")
    at = f"{_AT}/decide?answer={answer}"
    text = browser.get(at).text
    form = {name: hidden(text, name) for name in ("request_id", "seen")} | {"reason": "why", "meaning": "m"}
    page = browser.post(at, form)
    assert (page.status, page.headers["location"]) == (303, _AT)
    [(service, method, actor, fields)] = backend.told
    assert (service, method, actor) == ("production", "DecideTransfer", "manager")
    assert fields == {
        "request_id": form["request_id"],
        "transfer": _ID,
        "proposal": "p-1",
        "accepted": accepted,
        "reason": "why",
        "meaning": "m",
    }


def test_who_refuses_says_why() -> None:
    backend = _backend(_transfer())
    browser = Browser(backend, actor="manager")
    at = f"{_AT}/decide?answer=refuse"
    page = browser.post(at, {"seen": hidden(browser.get(at).text, "seen"), "meaning": "m"})
    assert page.status == 422
    assert backend.told == []


def test_the_second_decider_reads_who_was_first() -> None:
    at = f"{_AT}/decide?answer=accept"
    seen = hidden(Browser(_backend(_transfer()), actor="second").get(at).text, "seen")
    later = _backend(_transfer(api.TRANSFER_STATE_IN_CHANGE_CONTROL, "李雷"))
    form = {"seen": seen, "request_id": "r", "meaning": "m"}
    page = Browser(later, actor="second").post(at, form)
    assert page.status == 409
    assert "李雷 accepted it" in page.text
    assert "<script>alert" not in page.text
    assert later.told == []


def test_a_form_that_is_sent_twice_is_one_decision() -> None:
    at, backend = f"{_AT}/decide?answer=accept", _backend(_transfer())
    browser = Browser(backend, actor="李雷")
    form = {"seen": hidden(browser.get(at).text, "seen"), "request_id": "r", "meaning": "m"}
    assert browser.post(at, form).status == 303
    backend.answers |= _backend(_transfer(api.TRANSFER_STATE_IN_CHANGE_CONTROL, "李雷")).answers
    assert browser.post(at, form).status == 303
    assert len(backend.told) == 1


def test_a_decision_that_got_no_answer_keeps_what_was_written_and_its_id() -> None:
    at, backend = f"{_AT}/decide?answer=refuse", _backend(_transfer())
    browser = Browser(backend, actor="李雷")
    seen = hidden(browser.get(at).text, "seen")
    backend.answers["production", "DecideTransfer"] = Missing("production", "UNAVAILABLE")
    form = {"seen": seen, "request_id": "r-7", "meaning": "m", "reason": "too near its limit"}
    page = browser.post(at, form)
    assert page.status == 503
    assert 'value="r-7"' in page.text
    assert "too near its limit" in page.text
    assert "it counts once" in page.text


@pytest.mark.parametrize(
    ("place", "method", "written", "told"),
    [
        (
            "validate",
            "RecordRecipeValidation",
            {"record": "VAL-7", "statement": "three lots"},
            {"record": "VAL-7", "statement": "three lots", "version": 5},
        ),
        (
            "file",
            "RecordRecipeFiling",
            {"category": "2", "reference": "", "statement": "minor"},
            {"category": events.FILING_CATEGORY_NOTIFICATION, "statement": "minor", "version": 5},
        ),
    ],
)
def test_what_change_control_asks_is_recorded(
    place: str, method: str, written: dict[str, str], told: dict[str, object]
) -> None:
    backend = _backend(_transfer(api.TRANSFER_STATE_IN_CHANGE_CONTROL, "first"))
    browser = Browser(backend, actor="qa")
    assert f"{_AT}/{place}" in browser.get(_AT).text
    form = form_of(browser.get(f"{_AT}/{place}").text, **written)
    assert browser.post(f"{_AT}/{place}", form).status == 303
    [(_, called, _, fields)] = backend.told
    assert called == method
    assert fields.items() >= told.items()


def test_what_is_over_has_no_form() -> None:
    backend = _backend(_transfer(api.TRANSFER_STATE_CONCLUDED, "first"))
    browser = Browser(backend, actor="me")
    for place in ("decide?answer=accept", "validate", "file"):
        text = browser.get(f"{_AT}/{place}").text
        assert 'class="decide"' not in text
        assert "There is nothing left to decide here." in text
    assert browser.get(f"{_AT}/decide?answer=maybe").status == 404


def test_why_a_transfer_does_not_fit_is_said_in_chinese_before_the_services_english() -> None:
    transfer = _transfer(api.TRANSFER_STATE_REFUSED)
    said = "12 /min is outside 1 to 4 /min; choose another criterion"
    reasons = [
        events.TransferRefusal(rule=rule, statement=said) for rule in ("OUTSIDE_VALIDATED", "OF_TOMORROW")
    ]
    transfer.refused.reasons.extend(reasons)
    text = Browser(_backend(transfer), language="zh").get(_AT).text
    assert f'<td>放大参数超出已验证的范围。 <bdi lang="en">{said}</bdi></td>' in text
    assert f'<td><bdi lang="en">{said}</bdi></td>' in text
    assert "放大参数" not in Browser(_backend(transfer)).get(_AT).text


def test_names_and_statements_are_shown_as_text() -> None:
    text = Browser(_backend(_transfer(actor="x")), language="zh").get(_AT).text
    assert "<script>alert" not in text
    assert text.count("<h1>") == 1
    assert "已适配到生产线" in text
