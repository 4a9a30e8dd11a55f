"""The second step of a decision, whatever is decided: what changed meanwhile, and what a refusal means."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest
from grpc import StatusCode

from deploy.partners import errors
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.portal.backend import Refused
from services.portal.confirming import Change, Question, changes, shown
from services.portal.languages import CHINESE, ENGLISH, Language, catalogue
from services.portal.words_refusals import REASONS
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend, form_of

_LOT = "maker-1/item/granulate/G-0071"
_AT = "/deviations/maker-1%2Fitem%2Fgranulate%2FG-0071/d-1/reject"
_ROW = re.compile(
    r'<tr><th scope="row">([^<]*)</th><td class="long"><bdi>([^<]*)</bdi></td>'
    r'<td class="long"><bdi>([^<]*)</bdi></td></tr>'
)


def _backend(**changed: Any) -> FakeBackend:
    found = api.Deviation(
        detected=events.DeviationDetected(deviation="d-1", lot=_LOT, tag="Torque", rule="3 of 3", limit=3),
        state=api.DEVIATION_STATE_OPEN,
    )
    found.detected.magnitude = changed.pop("magnitude", 4.0)
    for name, value in changed.items():
        setattr(found, name, value)
    return FakeBackend({("production", "ListDeviations"): api.ListDeviationsResponse(deviations=[found])})


def _rows(text: str) -> list[tuple[str, ...]]:
    return [tuple(html.unescape(cell) for cell in row) for row in _ROW.findall(text)]


def test_who_is_second_sees_what_was_shown_beside_what_is_now() -> None:
    form = form_of(Browser(_backend(), actor="second").get(_AT).text, reason="noise")
    later = _backend(
        state=api.DEVIATION_STATE_CONFIRMED, actor="李雷", reason="the jacket failed", magnitude=9.0
    )
    answer = Browser(later, actor="second").post(_AT, form)
    assert answer.status == 409
    assert later.told == []
    assert _rows(answer.text) == [
        (
            "Largest distance",
            "4 spreads of the golden run; the limit is 3",
            "9 spreads of the golden run; the limit is 3",
        ),
        (
            "State",
            "It is now: Open",
            "It is now: Confirmed, by 李雷: the jacket failed",
        ),
        ("Decided by", "–", "李雷"),
    ]


def test_a_form_that_comes_back_is_of_what_stands_now() -> None:
    """A deviation that goes on to be looked into may still be rejected: the second sight can be signed."""
    form = form_of(Browser(_backend(), actor="second").get(_AT).text, reason="noise")
    later = _backend(state=api.DEVIATION_STATE_UNDER_INVESTIGATION, actor="李雷", reason="I look")
    later.answers["production", "RejectDeviation"] = api.RejectDeviationResponse()
    browser = Browser(later, actor="second")
    answer = browser.post(_AT, form)
    assert _rows(answer.text)
    assert ">noise</textarea>" in answer.text
    again = browser.post(_AT, form_of(answer.text, reason="noise"))
    assert again.status == 303
    assert len(later.told) == 1


def test_when_the_service_was_faster_than_the_form_the_changes_are_shown_with_its_refusal() -> None:
    backend = _backend()
    browser = Browser(backend, actor="second")
    form = form_of(browser.get(_AT).text, reason="noise")
    first = _backend(state=api.DEVIATION_STATE_CONFIRMED, actor="李雷", reason="real")

    def told(**_: Any) -> Any:
        backend.answers["production", "ListDeviations"] = first.answers["production", "ListDeviations"]
        code = StatusCode.FAILED_PRECONDITION
        raise Refused("production", code, "ALREADY_JUDGED", "deviation", "it is confirmed, by 李雷")

    backend.answers["production", "RejectDeviation"] = told
    answer = browser.post(_AT, form)
    assert answer.status == 409
    assert "it is confirmed, by 李雷" in answer.text
    assert ("Decided by", "–", "李雷") in _rows(answer.text)


@pytest.mark.parametrize(
    "carried", ["", "no JSON", "[]", '{"facts": 1}', '{"facts": {"State": ["a"]}, "language": "zh"}', "null"]
)
def test_what_a_form_carries_of_what_was_seen_may_be_anything(carried: str) -> None:
    form = form_of(Browser(_backend(), actor="b").get(_AT).text, reason="x") | {"shown": carried}
    later = _backend(state=api.DEVIATION_STATE_REJECTED, actor="李雷", reason="y")
    answer = Browser(later, actor="b").post(_AT, form)
    assert answer.status == 409
    assert _rows(answer.text) == []


def test_every_signature_says_that_a_name_is_not_checked() -> None:
    assert "The platform does not check who you are yet" in Browser(_backend()).get(_AT).text
    assert "平台目前尚不核验身份" in Browser(_backend(), "zh").get(_AT).text


def test_what_was_seen_and_what_is_now_are_text() -> None:
    browser = Browser(_backend(reason=HOSTILE, actor=HOSTILE), actor="b")
    form = form_of(browser.get(_AT).text, reason="x")
    later = Browser(_backend(state=api.DEVIATION_STATE_REJECTED, actor="z", reason=HOSTILE), actor="b")
    answer = later.post(_AT, form)
    assert _rows(answer.text)
    assert "<script>" not in answer.text


def _question(*facts: tuple[str, str], **more: Any) -> Question:
    return Question("t", "p", "/", "s", facts, (), "seen", **more)


def test_what_came_and_what_went_are_changes_and_the_rest_is_none() -> None:
    language = Language(ENGLISH)
    before = shown(_question(("a", "1"), ("b", "2"), now="open"), language)
    carried = json.dumps({"language": ENGLISH, "facts": before})
    after = _question(("a", "1"), ("c", "3"), now="shut", by="ann")
    assert changes(carried, after, language) == [
        Change("b", "2", ""),
        Change("How it stands", "open", "shut"),
        Change("c", "", "3"),
        Change("Decided by", "", "ann"),
    ]
    assert changes(carried, after, Language(CHINESE)) == [], "labels of another language are other labels"


def test_a_meaning_of_two_thousand_letters_is_all_that_a_form_takes() -> None:
    text = Browser(_backend(), actor="b").get(_AT).text
    assert '<textarea id="field-meaning" name="meaning" maxlength="2000" required>' in text
    form = form_of(text, reason="x", meaning="  ")
    answer = Browser(_backend(), actor="b").post(_AT, form)
    assert answer.status == 422
    assert "What your signature means: fill this in before you sign." in answer.text


def _refusing(reason: str, said: str, language: str) -> str:
    backend = _backend()
    code = StatusCode.FAILED_PRECONDITION
    backend.answers["production", "RejectDeviation"] = Refused("production", code, reason, "deviation", said)
    browser = Browser(backend, actor="b", language=language)
    return browser.post(_AT, form_of(browser.get(_AT).text, reason="x")).text


def test_a_refusal_is_told_in_chinese_first_and_the_services_english_is_marked() -> None:
    text = _refusing("ALREADY_JUDGED", "the deviation is <b>judged</b>", "zh")
    assert "此前已作出判定，判定不再更改。" in text
    assert '<bdi lang="en">the deviation is &lt;b&gt;judged&lt;/b&gt;</bdi>' in text
    assert "<code>deviation</code>：" in text


def test_a_refusal_is_told_in_english_as_the_service_says_it() -> None:
    text = _refusing("ALREADY_JUDGED", "the deviation is judged", "en")
    assert '<bdi lang="en">the deviation is judged</bdi>' in text
    assert REASONS["ALREADY_JUDGED"] not in text


def test_a_reason_of_a_newer_service_is_no_error() -> None:
    text = _refusing("OF_TOMORROW", "something new", "zh")
    assert '<bdi lang="en">something new</bdi>' in text


def test_a_page_that_is_refused_says_why_in_chinese_too() -> None:
    backend = FakeBackend()
    said = Refused("production", StatusCode.NOT_FOUND, "UNKNOWN_CAPA", "capa", "no such corrective action")
    backend.answers["production", "ListCapas"] = said
    text = Browser(backend, language="zh").get("/capas/c-9").text
    assert "没有该纠正和预防措施。" in text
    assert '<bdi lang="en">no such corrective action</bdi>' in text


def test_every_reason_that_a_person_may_meet_has_words() -> None:
    """All that is documented, but for what agents of sites and their coordinator alone say to one another."""
    documented = {one.reason for one in errors.reasons() if one.services != ("exchange",)}
    assert len(documented) > 100
    assert sorted(documented - set(REASONS)) == []
    assert sorted(reason for reason, said in REASONS.items() if said not in catalogue(CHINESE)) == []
