"""What a page says of a service that is away: which parts are not there, and whose they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pharmaloop.alerting.v1 import service_pb2 as alerting
from services.kit import waiting
from services.portal import absent as module
from services.portal.absent import PARTS, SERVICES, absent
from services.portal.backend import _APIS, Missing
from services.portal.languages import CHINESE, ENGLISH, Language
from tests.unit.portal.fakes import Browser, FakeBackend

_QUESTION = re.compile(r'"((?:Count|Explain|Find|Get|List)[A-Z][A-Za-z]+)"')


def test_every_question_of_a_page_has_a_name_for_what_it_brings() -> None:
    folder = Path(module.__file__).parent
    asked = {name for file in folder.rglob("*.py") for name in _QUESTION.findall(file.read_text())}
    assert asked | {one.method for one in waiting.LISTS} == set(PARTS)
    assert set(SERVICES) == set(_APIS)


def test_parts_of_one_process_are_told_once_and_together() -> None:
    gone = [
        Missing("clinical.hospital-b", "away", "GetSiteBoard"),
        Missing("rnd", "away", "ListMolecules"),
        Missing("rnd", "away", "ListTargets"),
        Missing("rnd", "away", "ListMolecules"),
        Missing("new", "away"),
    ]
    site, rnd, new = absent(gone)
    english, chinese = Language(ENGLISH), Language(CHINESE)
    assert site.told(english) == "Patients and plans of the hospital"
    assert site.whose(english) == "the hospital's own records (clinical.hospital-b)"
    assert rnd.told(english) == "Molecules and Targets"
    assert rnd.whose(chinese) == "研发服务 (rnd)"
    assert (new.told(english), new.whose(english)) == ("", "new")


@pytest.mark.parametrize(
    ("language", "said", "whose"),
    [
        ("en", "Not here now: Alerts", "No answer from the alerts (alerting)."),
        ("zh", "暂时缺失：警报", "警报服务 (alerting) 没有应答。"),
    ],
)
def test_a_page_says_what_of_it_is_missing(language: str, said: str, whose: str) -> None:
    text = Browser(FakeBackend(), language=language).get("/alerts").text
    assert said in text
    assert whose in text
    assert text.count('data-service="alerting"') == 1


@pytest.mark.parametrize(
    ("language", "said"), [("en", "<h1>Not here now: Alerts</h1>"), ("zh", "<h1>暂时缺失：警报</h1>")]
)
def test_a_page_that_has_nothing_to_show_says_what_it_would(language: str, said: str) -> None:
    page = Browser(FakeBackend(), language=language, actor="ann").get("/alerts/a-1")
    assert page.status == 503
    assert said in page.text


def test_what_is_there_is_not_said_to_be_missing() -> None:
    here = FakeBackend({("alerting", "ListAlerts"): alerting.ListAlertsResponse()})
    text = Browser(here).get("/alerts").text
    assert "Not here now: How the service runs" in text
    assert "Not here now: Alerts" not in text
