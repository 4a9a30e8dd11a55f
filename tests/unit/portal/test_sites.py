"""A hospital's page: late plans first, differences with their next step, nobody else's patients."""

from __future__ import annotations

import html
import json
import re

import pytest

from pharmaloop.clinical.v1 import events_pb2 as clinical_events
from pharmaloop.clinical.v1 import service_pb2 as clinical
from services.portal.backend import Missing
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend, hidden, refused

_RUN = "4a19e4de-2d18-5f47-9f55-942510fe37b0"
_LOT = "maker-1/gtin/06901234500547/A-0017"


def _plan(
    name: str, ends: int, *, answered: bool = False, draft: bool = False, overdue: bool = False
) -> clinical.PlanView:
    plan = clinical_events.MonitoringPlan(
        plan=name, run=_RUN, pseudonym=f"P-{name}", lots=[_LOT], role=clinical_events.PLAN_ROLE_EXPOSED
    )
    view = clinical.PlanView(plan=plan, answered=answered, draft=draft, overdue=overdue)
    view.ends.FromSeconds(ends)
    return view


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
    assert "dispense=d-3" not in text
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
    assert "Not here now: clinical.hospital-b" in page.text


def test_a_board_that_cannot_be_read_leaves_the_plans() -> None:
    backend = _backend(*_PLANS)
    backend.answers["clinical", "GetSiteBoard"] = Missing("clinical", "an older service")
    text = Browser(backend).get("/sites/hospital-a").text
    assert text.count("Not here now: clinical") == 1
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
    text = Browser(backend, language="zh").get("/sites/hospital-a").text
    assert text.count('class="empty"') == 3
    assert "没有符合条件的方案" in text


def test_long_lists_come_in_parts() -> None:
    plans = [_plan(f"{n:04}", 3_000_000 + n) for n in range(150)]
    first = Browser(_backend(*plans)).get("/sites/hospital-a").text
    assert "1 to 100 of 150" in first
    second = Browser(_backend(*plans)).get("/sites/hospital-a?start=100").text
    assert "101 to 150 of 150" in second
    assert "P-0000" not in second


_FORM = f"/sites/hospital-a/explain?run={_RUN}&dispense=d-1"


def _seen(browser: Browser) -> dict[str, str]:
    """What the form carries without anybody writing into it."""
    text = browser.get(_FORM).text
    return {name: hidden(text, name) for name in ("request_id", "seen")}


def test_who_explains_gives_a_name_first() -> None:
    page = Browser(_backend()).get(_FORM)
    assert page.status == 303
    assert page.headers["location"].startswith("/me?to=/sites/hospital-a/explain%3F")


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


@pytest.mark.parametrize("address", ["/sites", "/sites/hospital-a", f"/sites/hospital-a?run={_RUN}", _FORM])
def test_a_page_has_one_heading_and_chinese_where_chinese_is_read(address: str) -> None:
    text = Browser(_backend(*_PLANS), language="zh", actor="me").get(address).text
    assert text.count("<h1>") == 1
    assert '<html lang="zh-Hans-CN">' in text
