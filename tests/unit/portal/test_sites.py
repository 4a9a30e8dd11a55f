"""A hospital's page: late plans first, differences with their next step, nobody else's patients."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest

from pharmaloop.clinical.v1 import events_pb2 as clinical_events
from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.common.v1 import service_pb2 as common
from services.portal.backend import Missing
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend, hidden, refused

_RUN = "4a19e4de-2d18-5f47-9f55-942510fe37b0"
_LOT = "maker-1/gtin/06901234500547/A-0017"
#: The platform's time, in seconds: the plan that is late is so for two days.
_NOW = 4_000_000 + 2 * 86_400


def _plan(
    name: str, ends: int, *, answered: bool = False, draft: bool = False, overdue: bool = False
) -> clinical.PlanView:
    plan = clinical_events.MonitoringPlan(
        plan=name, run=_RUN, pseudonym=f"P-{name}", lots=[_LOT], role=clinical_events.PLAN_ROLE_EXPOSED
    )
    view = clinical.PlanView(plan=plan, answered=answered, draft=draft, overdue=overdue)
    view.ends.FromSeconds(ends)
    if overdue:
        view.overdue_since.FromSeconds(ends)
    add = view.template.questions.add
    itch = add(id="itch", answer=clinical_events.ANSWER_KIND_YES_NO, term="PL1")
    itch.text.en, itch.text.zh = "Does it itch?", "痒吗？"
    fever = add(id="fever", answer=clinical_events.ANSWER_KIND_NUMBER, unit="Cel")
    fever.text.en = HOSTILE
    dizzy = add(id="dizzy", answer=clinical_events.ANSWER_KIND_CHOICE)
    dizzy.text.en = "How dizzy?"
    dizzy.options.add(id="very").text.en = "Very dizzy"
    add(id="else", answer=clinical_events.ANSWER_KIND_WORDS).text.en = "Anything else?"
    return view


def _answer(name: str, at: int, words: str = "") -> clinical.PatientResponse:
    questions = _plan(name, at).template.questions
    given: dict[str, Any] = {"itch": {"yes": True}, "fever": {"number": 38.25}, "dizzy": {"choice": "very"}}
    told = clinical.PatientResponse(
        plan=name, run=_RUN, pseudonym=f"P-{name}", affected=True, words=words, role="PLAN_ROLE_EXPOSED"
    )
    told.at.FromSeconds(at)
    for question in questions:
        asked = told.answers.add(question=question)
        if question.id in given:
            asked.answer.MergeFrom(clinical_events.QuestionAnswer(question=question.id, **given[question.id]))
    return told


def _backend(*plans: clinical.PlanView, explained: bool = False) -> FakeBackend:
    missing = clinical.Exposure(dispense="d-1", pseudonym="P-late", lot=_LOT, explained=explained)
    if not explained:
        missing.difference = clinical.EXPOSURE_DIFFERENCE_ONLY_IN_TRACE
    own = clinical.Exposure(
        dispense="d-3", lot=_LOT, at_site=True, difference=clinical.EXPOSURE_DIFFERENCE_ONLY_AT_SITE
    )
    seen = clinical.Exposure(dispense="d-2", pseudonym="P-late", lot=_LOT, at_site=True)
    board = clinical.RunBoard(run=_RUN, plans=7, overdue=3, only_in_trace=1 - explained, only_at_site=1)

    def exposures(only_differences: bool = False, **_: object) -> clinical.ListExposuresResponse:
        rows = [one for one in (missing, own) if one.difference] if only_differences else [missing, seen]
        return clinical.ListExposuresResponse(exposures=rows)

    def wanted(**asked: object) -> clinical.ListPlansResponse:
        kept = [one for one in plans if not (asked.get("only_open") and one.answered)]
        kept = [one for one in kept if one.overdue or not asked.get("only_overdue")]
        return clinical.ListPlansResponse(plans=kept)

    def answered(pseudonym: str = "", words: bool = False, **_: object) -> clinical.ListResponsesResponse:
        told = [one for one in (_answer("late", 4_000_000), _answer("done", 4_000_100, words="Ask Li Na."))]
        rows = [one for one in told if pseudonym in ("", one.pseudonym)]
        for one in rows:
            one.words_withheld, one.words = bool(one.words) and not words, one.words if words else ""
        return clinical.ListResponsesResponse(responses=rows)

    status = common.GetStatusResponse()
    status.platform_time.FromSeconds(_NOW)
    event = clinical.AdverseEvent(pseudonym="P-late", term="PL1", serious=True, solicited=2)
    event.text.en, event.text.zh = "nose bleed", "鼻出血"
    return FakeBackend(
        sites={"hospital-a": "clinical", "hospital-b": "clinical.hospital-b"},
        answers={
            ("clinical", "GetSiteBoard"): clinical.GetSiteBoardResponse(runs=[board]),
            ("clinical", "ListPlans"): wanted,
            ("clinical", "ListExposures"): exposures,
            ("clinical", "ListAdverseEvents"): clinical.ListAdverseEventsResponse(events=[event]),
            ("clinical", "ListNotices"): clinical.ListNoticesResponse(
                notices=[clinical.Notice(pseudonym="P-late", lots=[_LOT])], hazard_class="I", text=HOSTILE
            ),
            ("clinical", "ExplainDifference"): clinical.ExplainDifferenceResponse(),
            ("clinical", "ListResponses"): answered,
            ("clinical", "GetStatus"): status,
            ("clinical", "RecordResponse"): clinical.RecordResponseResponse(),
            ("clinical", "RecordNotices"): clinical.RecordNoticesResponse(),
            ("clinical", "RecordMedicationCorrections"): clinical.RecordMedicationCorrectionsResponse(),
        },
    )


_PLANS = (
    _plan("early", 3_000_000),
    _plan("late", 4_000_000, overdue=True),
    _plan("done", 1_000_000, answered=True),
)


def test_late_plans_stand_first_and_drafts_are_not_late() -> None:
    text = Browser(_backend(*_PLANS, _plan("draft", 1_000_000, draft=True))).get("/sites/hospital-a").text
    order = re.findall(r"<bdi>P-(early|late|done|draft)</bdi></a></td>\s*<td>Exposed", text)
    assert order[0] == "late"
    assert set(order) == {"late", "early", "draft"}
    assert text.count(">Overdue</span>") == 1
    only = Browser(_backend(*_PLANS)).get("/sites/hospital-a?shown=overdue").text
    assert set(re.findall(r"<bdi>P-(early|late|done)</bdi></a></td>\s*<td>Exposed", only)) == {"late"}


def test_a_difference_that_nobody_explained_leads_to_its_form() -> None:
    text = Browser(_backend(*_PLANS)).get("/sites/hospital-a").text
    assert f"/sites/hospital-a/explain?run={_RUN}&amp;dispense=d-1" in text
    assert "d-2" not in text
    assert "Only in the site" in text
    assert f"/sites/hospital-a/correct?run={_RUN}&amp;dispense=d-3" in text
    assert f"explain?run={_RUN}&amp;dispense=d-3" not in text
    explained = Browser(_backend(*_PLANS, explained=True)).get("/sites/hospital-a").text
    assert "explain?run=" not in explained


def test_only_this_site_is_asked() -> None:
    backend = _backend(*_PLANS)
    Browser(backend).get(f"/sites/hospital-a?run={_RUN}")
    assert {service for service, _, _ in backend.asked} == {"clinical"}
    assert all(fields.get("site", "hospital-a") == "hospital-a" for _, _, fields in backend.asked)
    assert Browser(backend).get("/sites/hospital-z").status == 404


def test_a_hospitals_page_listens_to_its_own_hospital() -> None:
    text = html.unescape(Browser(_backend(*_PLANS)).get("/sites/hospital-a").text)
    watched = json.loads(re.findall(r'data-live="(\[.*?\])"', text)[0])
    assert "hospital-a/type:ResponseRecorded" in watched
    assert "type:HazardEvaluated" in watched, "what a plant says concerns every hospital"
    assert not [name for name in watched if name in ("type:ResponseRecorded", "type:PlansOpened")]


def test_a_site_that_is_away_is_named_and_the_list_goes_on() -> None:
    text = Browser(_backend(*_PLANS)).get("/sites").text
    assert "Does not answer" in text
    assert "Plans are overdue" in text
    page = Browser(_backend(*_PLANS)).get("/sites/hospital-b")
    assert page.status == 200
    assert 'data-service="clinical.hospital-b"' in page.text


def test_a_board_that_cannot_be_read_leaves_the_plans() -> None:
    backend = _backend(*_PLANS)
    backend.answers["clinical", "GetSiteBoard"] = Missing("clinical", "an older service")
    text = Browser(backend).get("/sites/hospital-a").text
    assert text.count('data-service="clinical"') == 1
    assert "P-early" in text
    assert "Not known now" in text


def test_what_people_wrote_is_shown_as_text() -> None:
    text = Browser(_backend(*_PLANS)).get(f"/sites/hospital-a?run={_RUN}&patient={'%3Cscript%3E'}").text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert 'value="&lt;script&gt;"' in text


def test_an_empty_site_says_what_would_fill_it() -> None:
    backend = _backend()
    backend.answers[("clinical", "ListAdverseEvents")] = clinical.ListAdverseEventsResponse()
    backend.answers["clinical", "GetSiteBoard"] = clinical.GetSiteBoardResponse()
    backend.answers["clinical", "ListResponses"] = clinical.ListResponsesResponse()
    text = Browser(backend, language="zh").get("/sites/hospital-a").text
    assert text.count('class="empty"') == 4
    assert "没有符合条件的监测方案" in text


def test_long_lists_come_in_parts() -> None:
    plans = [_plan(f"{n:04}", 3_000_000 + n) for n in range(150)]
    first = Browser(_backend(*plans)).get("/sites/hospital-a").text
    assert "1 to 100 of 150" in first
    second = Browser(_backend(*plans)).get("/sites/hospital-a?start=100").text
    assert "101 to 150 of 150" in second
    assert "P-0000" not in second


def test_how_long_a_plan_is_overdue_stands_beside_its_deadline() -> None:
    longer = _plan("longer", 3_000_000, overdue=True)
    text = Browser(_backend(*_PLANS, longer)).get("/sites/hospital-a").text
    order = re.findall(r"<bdi>P-(early|late|longer)</bdi></a></td>\s*<td>Exposed", text)
    assert order[:3] == ["longer", "late", "early"]
    assert "(2 days)" in text
    assert "Feb 16, 1970" in text
    chinese = Browser(_backend(*_PLANS), language="zh").get("/sites/hospital-a").text
    assert "1970年2月16日" in chinese
    assert "2天" in chinese
    backend = _backend(*_PLANS)
    del backend.answers["clinical", "GetStatus"]
    unknown = Browser(backend).get("/sites/hospital-a").text
    assert "Feb 16, 1970" in unknown
    assert "Not here now" not in unknown


def test_each_answer_stands_beside_its_question_newest_first() -> None:
    text = Browser(_backend(*_PLANS)).get("/sites/hospital-a").text
    part = text[text.index('id="answers"') : text.index('id="responses"')]
    assert part.index("P-done") < part.index("P-late")
    for told in (
        "Does it itch?",
        "38.25 Cel",
        "How dizzy?",
        "Very dizzy",
        "Anything else?",
        "Their own words",
    ):
        assert told in part
    assert "Li Na" not in part
    assert "<script>" not in part
    chinese = Browser(_backend(*_PLANS), language="zh").get("/sites/hospital-a").text
    assert "痒吗？" in chinese


def test_words_are_on_the_page_of_one_patient() -> None:
    backend = _backend(*_PLANS)
    text = Browser(backend).get("/sites/hospital-a?patient=P-done").text
    assert "Ask Li Na." in text
    asked = [fields for _, method, fields in backend.asked if method == "ListResponses"]
    assert [(fields["pseudonym"], fields["words"]) for fields in asked] == [("P-done", True)]
    Browser(backend).get("/sites/hospital-a")
    assert not backend.asked[-1][2].get("words")


_ANSWER = f"/sites/hospital-a/answer?run={_RUN}&patient=P-early&plan=early"
_WRITTEN = {"answer-itch": "yes", "answer-fever": "38,25", "answer-dizzy": "very", "affected": "no"}


def _carried(browser: Browser, address: str) -> dict[str, str]:
    text = browser.get(address).text
    return {name: hidden(text, name) for name in ("request_id", "seen")}


def test_an_answer_is_told_question_by_question() -> None:
    backend = _backend(*_PLANS)
    browser = Browser(backend, actor="nurse")
    form = _carried(browser, _ANSWER) | _WRITTEN | {"at": "1970-02-18T12:30:00", "onset": "1970-02-17T08:00"}
    answer = browser.post(_ANSWER, form)
    assert answer.status == 303
    assert answer.headers["location"].startswith(f"/sites/hospital-a?run={_RUN}")
    ((service, method, actor, fields),) = backend.told
    assert (service, method, actor) == ("clinical", "RecordResponse", "nurse")
    assert (fields["site"], fields["plan"], fields["pseudonym"]) == ("hospital-a", "early", "P-early")
    assert fields["affected"] is False
    itch, fever, dizzy = fields["answers"]  # no words were written
    assert (itch.yes, fever.number, dizzy.choice) == (True, 38.25, "very")
    assert itch.HasField("onset")
    assert not fever.HasField("onset")
    assert fields["at"].at.ToJsonString() == "1970-02-18T12:30:00Z"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"answer-fever": "hot"}, "this cannot be read"),
        ({"answer-fever": "nan"}, "this cannot be read"),
        ({"at": "yesterday"}, "When the patient answered: this cannot be read"),
        ({"answer-itch": ""}, "Does it itch?: fill this in"),
    ],
)
def test_what_cannot_be_read_is_named_and_nothing_is_told(changed: dict[str, str], said: str) -> None:
    backend = _backend(*_PLANS)
    browser = Browser(backend, actor="nurse")
    form = _carried(browser, _ANSWER) | _WRITTEN | {"at": "1970-02-18T12:30:00"} | changed
    answer = browser.post(_ANSWER, form)
    assert answer.status == 422
    assert said in answer.text
    assert backend.told == []


def test_a_plan_of_a_draft_or_of_nobody_takes_no_answer() -> None:
    backend = _backend(_plan("early", 3_000_000, draft=True))
    page = Browser(backend, actor="nurse").get(_ANSWER)
    assert "Nobody is asked yet" in page.text
    assert "<button class" not in page.text
    assert Browser(_backend(), actor="nurse").get(_ANSWER).status == 404


def test_who_answers_while_another_did_is_told_so() -> None:
    browser = Browser(_backend(*_PLANS), actor="second")
    form = _carried(browser, _ANSWER) | _WRITTEN | {"at": "1970-02-18T12:30:00"}
    later = _backend(_plan("early", 3_000_000, answered=True))
    answer = Browser(later, actor="second").post(_ANSWER, form)
    assert answer.status == 409
    assert "An answer is on record." in answer.text
    assert later.told == []


_NOTICE = f"/sites/hospital-a/notice?run={_RUN}&patient=P-late"


def test_a_notice_is_told_once_with_its_outcome() -> None:
    backend = _backend(*_PLANS)
    browser = Browser(backend, actor="nurse")
    shown = browser.get(_NOTICE).text
    assert "&lt;script&gt;alert" in shown
    assert 'value="1970-02-18T07:06:40"' in shown  # the platform's time
    form = _carried(browser, _NOTICE) | {"outcome": "unreachable", "at": "1970-02-18T12:30"}
    assert browser.post(_NOTICE, form).status == 303
    assert browser.post(_NOTICE, form).status == 303  # sent twice
    ((_, method, actor, fields),) = backend.told
    assert (method, actor, fields["all_or_nothing"]) == ("RecordNotices", "nurse", True)
    (notice,) = fields["notices"]
    assert (notice.run, notice.pseudonym) == (_RUN, "P-late")
    assert notice.outcome == clinical_events.NOTICE_OUTCOME_UNREACHABLE


def test_who_knows_is_not_told_again() -> None:
    backend = _backend(*_PLANS)
    notice = clinical.Notice(pseudonym="P-late", outcome="NOTICE_OUTCOME_NOTIFIED")
    backend.answers["clinical", "ListNotices"] = clinical.ListNoticesResponse(notices=[notice])
    page = Browser(backend, actor="nurse").get(_NOTICE)
    assert "There is nothing left to decide here." in page.text
    assert "/notice?" not in Browser(backend).get(f"/sites/hospital-a?run={_RUN}").text


_CORRECT = f"/sites/hospital-a/correct?run={_RUN}&dispense=d-3"


def test_a_record_that_the_site_alone_has_is_taken_back() -> None:
    backend = _backend(*_PLANS)
    browser = Browser(backend, actor="nurse")
    form = _carried(browser, _CORRECT) | {"reason": "never happened", "at": "1970-02-18T12:30"}
    assert browser.post(_CORRECT, form).status == 303
    ((_, method, _, fields),) = backend.told
    (told,) = fields["corrections"]
    assert (method, told.dispense, told.reason) == ("RecordMedicationCorrections", "d-3", "never happened")


def test_a_record_that_the_journal_has_too_is_not_taken_back() -> None:
    page = Browser(_backend(*_PLANS), actor="nurse").get(_CORRECT.replace("d-3", "d-2"))
    assert "There is nothing left to decide here." in page.text
    assert Browser(_backend(), actor="nurse").get(_CORRECT.replace("d-3", "none")).status == 404


@pytest.mark.parametrize("form", ["answer", "notice", "correct", "explain"])
def test_a_form_of_an_unknown_site_is_no_page(form: str) -> None:
    address = f"/sites/hospital-z/{form}?run={_RUN}&patient=P-late&plan=late&dispense=d-1"
    assert Browser(_backend(*_PLANS), actor="nurse").get(address).status == 404


_FORM = f"/sites/hospital-a/explain?run={_RUN}&dispense=d-1"


def _seen(browser: Browser) -> dict[str, str]:
    """What the form carries without anybody writing into it."""
    text = browser.get(_FORM).text
    return {name: hidden(text, name) for name in ("request_id", "seen")}


def test_who_explains_is_asked_for_a_name() -> None:
    page = Browser(_backend()).get(_FORM)
    assert page.status == 200
    assert 'name="actor"' in page.text


def test_an_explanation_is_told_once_under_the_name() -> None:
    backend = _backend()
    browser = Browser(backend, actor="王芳")
    shown = browser.get(_FORM).text
    form = {name: hidden(shown, name) for name in ("request_id", "seen")}
    answer = browser.post(_FORM, form | {"reason": "ward stock", "meaning": "I stand for it."})
    assert (answer.status, answer.headers["location"]) == (303, f"/sites/hospital-a?run={_RUN}")
    assert backend.told == [
        (
            "clinical",
            "ExplainDifference",
            "王芳",
            {
                "request_id": form["request_id"],
                "site": "hospital-a",
                "dispense": "d-1",
                "reason": "ward stock",
                "meaning": "I stand for it.",
            },
        )
    ]


def test_without_a_reason_nothing_is_told() -> None:
    backend = _backend()
    browser = Browser(backend, actor="me")
    form = _seen(browser) | {"meaning": "m", "reason": " "}
    answer = browser.post(_FORM, form)
    assert answer.status == 422
    assert "Why the two sources differ: fill this in before you sign." in answer.text
    assert backend.told == []


def test_who_is_second_is_told_and_nothing_is_sent() -> None:
    browser = Browser(_backend(), actor="second")
    form = _seen(browser) | {"reason": "x", "meaning": "m"}
    later = _backend(explained=True)
    answer = Browser(later, actor="second").post(_FORM, form)
    assert answer.status == 409
    assert "Somebody has explained this difference." in answer.text
    assert later.told == []


def test_what_the_service_refuses_is_said_and_what_was_written_stays() -> None:
    backend = _backend()
    backend.answers[("clinical", "ExplainDifference")] = refused("LATE", text="the run is sealed <i>")
    browser = Browser(backend, actor="me")
    form = _seen(browser) | {"reason": "abc", "meaning": "m"}
    answer = browser.post(_FORM, form)
    assert answer.status == 409
    assert "the run is sealed &lt;i&gt;" in answer.text
    assert ">abc</textarea>" in answer.text


@pytest.mark.parametrize(
    "address",
    ["/sites", "/sites/hospital-a", f"/sites/hospital-a?run={_RUN}", _FORM, _ANSWER, _NOTICE, _CORRECT],
)
def test_a_page_has_one_heading_and_chinese_where_chinese_is_read(address: str) -> None:
    text = Browser(_backend(*_PLANS), language="zh", actor="me").get(address).text
    assert text.count("<h1>") == 1
    assert '<html lang="zh-Hans-CN">' in text
