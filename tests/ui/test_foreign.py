"""Browsers that ask for what there is not, and tabs that were opened before the portal was replaced."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, expect

from tests.ui.portals import own_portal

_CHINESE, _ENGLISH = "zh-Hans-CN", "en"
#: So long a tab may need to find the portal again (milliseconds).
_BACK = 30_000


@pytest.fixture(scope="module")
def alone() -> Iterator[str]:
    """A portal whose services are all away."""
    with own_portal({}) as address:
        yield address


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("zh-TW", _CHINESE),
        ("zh-Hant-HK,zh;q=0.8,en;q=0.5", _CHINESE),
        ("ar", _ENGLISH),
        ("tlh,x-klingon;q=0.9", _ENGLISH),
        ("fr-FR,fr;q=0.9,zh;q=0.2,en;q=0.1", _CHINESE),
        ("en-GB;q=oops, ;;, =, zh;q=0.1", _CHINESE),
        ("☃, <script>, \u202e;q=1", _CHINESE),
        (";;;=,,,q=", _CHINESE),
        ("x" * 5_000, _CHINESE),
        (",".join(f"l-{n};q=0.{n}" for n in range(800))[:5_000], _ENGLISH),
        ("zh;q=nan, en;q=-1", _CHINESE),
    ],
)
def test_a_browser_that_asks_for_rubbish_gets_chinese_or_english(
    chromium: Browser, alone: str, accepted: str, language: str
) -> None:
    header = accepted.encode().decode("latin-1")
    context = chromium.new_context(extra_http_headers={"Accept-Language": header}, base_url=alone)
    page = context.new_page()
    answer = page.goto("/runs")
    assert answer is not None
    assert answer.status == 200
    assert page.get_attribute("html", "lang") == language
    expect(page.get_by_role("heading", level=1)).to_have_text({"en": "Loops"}.get(language, "闭环"))
    context.close()


@pytest.mark.parametrize("locale", ["ar-EG", "zh-TW", "th-TH-u-ca-buddhist"])
def test_a_browser_of_another_locale_shows_a_whole_page(chromium: Browser, alone: str, locale: str) -> None:
    context = chromium.new_context(locale=locale, timezone_id="Africa/Cairo", base_url=alone)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto("/alerts")
    page.reload()  # the browser has told its zone by now
    expect(page.locator("footer")).to_contain_text("Africa/Cairo")
    assert page.get_attribute("html", "lang") == (_CHINESE if locale == "zh-TW" else _ENGLISH)
    assert complaints == []
    context.close()


@pytest.mark.parametrize(
    "cookie",
    [
        {"name": "language", "value": "xx%3Cscript%3E"},
        {"name": "zone", "value": "Mars%2FOlympus"},
        {"name": "zone", "value": "..%2F..%2Fetc%2Fpasswd"},
        {"name": "actor", "value": "%E2%80%AE%3Cb%3E"},
    ],
    ids=["language", "zone", "path", "actor"],
)
def test_a_cookie_of_rubbish_is_passed_over(chromium: Browser, alone: str, cookie: dict[str, str]) -> None:
    context = chromium.new_context(locale="en-GB", base_url=alone)
    context.add_cookies([{"name": cookie["name"], "value": cookie["value"], "url": alone}])
    page = context.new_page()
    answer = page.goto("/runs")
    assert answer is not None
    assert answer.status == 200
    assert page.get_attribute("html", "lang") == _ENGLISH
    assert page.locator("script:not([src])").count() == 0
    expect(page.locator("header b")).to_have_count(0)
    context.close()


def _newer(app: FastAPI) -> None:
    app.state.version = "another"


_TOLD = {"en-GB": ("older version", "Load it anew"), "zh-CN": ("旧版本", "重新加载")}


def test_a_tab_that_is_older_than_the_portal_is_told_to_load_anew(chromium: Browser) -> None:
    tabs = {locale: chromium.new_context(locale=locale).new_page() for locale in _TOLD}
    with own_portal({}) as address:
        port = urlsplit(address).port or 0
        for tab in tabs.values():
            tab.goto(f"{address}/runs?loop=safety")
    for tab in tabs.values():
        expect(tab.locator("#line")).to_be_visible(timeout=_BACK)
    with own_portal({}, port=port):  # the same one, started again: there is nothing to tell
        for tab in tabs.values():
            expect(tab.locator("#line")).to_be_hidden(timeout=_BACK)
            expect(tab.locator("#older")).to_be_hidden()
    with own_portal({}, _newer, port=port):
        for locale, tab in tabs.items():
            says, button = _TOLD[locale]
            expect(tab.locator("#older")).to_be_visible(timeout=_BACK)
            expect(tab.get_by_role("status").filter(has_text=says)).to_be_visible()
            with tab.expect_request(lambda asked: "/live" in asked.url):
                tab.get_by_role("link", name=button).click()
            assert tab.url == f"{address}/runs?loop=safety"
            expect(tab.locator("body")).to_have_attribute("data-version", "another")
            expect(tab.locator("#older")).to_be_hidden()
    for tab in tabs.values():
        tab.context.close()
