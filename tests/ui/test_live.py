"""An open page follows by itself and says when it cannot; the second to decide is told who was first."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from services.portal.languages import Language
from tests.loops.stack import Stack
from tests.reliability.proxy import Faults, Proxy
from tests.ui.facts import Recall, Services

pytestmark = pytest.mark.timeout(300)
#: The promise of an open page (milliseconds).
_SOON = 5_000
#: Everybody reads one of two languages: the code, by the browser's locale.
_LANGUAGES = {"zh-CN": "zh", "en-GB": "en"}
_LOST = "The connection is lost. What you see may be old; it comes back by itself."


def _known(context: BrowserContext, name: str) -> Page:
    """A page of somebody who has said who they are."""
    page = context.new_page()
    page.goto("/me")
    page.locator("#name").fill(name)
    page.get_by_role("button").last.click()
    return page


@pytest.fixture
def people(chromium: Browser, portal: str) -> Iterator[tuple[BrowserContext, BrowserContext]]:
    """Two people before screens of their own."""
    made = [chromium.new_context(locale="en-GB", base_url=portal) for _ in range(2)]
    yield made[0], made[1]
    for context in made:
        context.close()


@pytest.fixture
def alert(finished: Stack) -> str:
    """An alert that nobody took. A world that has ended has judged everything, so it leaves none."""
    return Recall(Services(finished), f"live-{uuid.uuid4().hex[:6]}").alarm()


def _take(stack: Stack, alert: str, actor: str) -> None:
    code, told = stack.pharmaloop("--actor", actor, "alert", "ack", alert, "--note", "on my way")
    assert code == 0, told


def test_an_open_page_follows_by_itself(
    finished: Stack, alert: str, people: tuple[BrowserContext, BrowserContext]
) -> None:
    page = people[0].new_page()
    page.goto("/alerts")
    page.evaluate("window.sameDocument = true")
    card = page.locator(f"[data-alert='{alert}'][data-open]")
    expect(card).to_have_count(1)
    _take(finished, alert, "王芳")
    expect(card).to_have_count(0, timeout=_SOON)
    assert page.evaluate("window.sameDocument"), "the page was loaded anew"


@pytest.fixture
def network(portal: str) -> Iterator[Proxy]:
    """What lies between a browser and the portal."""
    proxy = Proxy(urlsplit(portal).port or 0)
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.mark.parametrize("fault", ["broken", pytest.param("mute", marks=pytest.mark.long)])
def test_a_lost_connection_is_told_and_mended_without_anybody(
    finished: Stack, alert: str, chromium: Browser, network: Proxy, fault: str
) -> None:
    pages = {
        code: chromium.new_context(locale=locale, base_url=f"http://127.0.0.1:{network.port}").new_page()
        for locale, code in _LANGUAGES.items()
    }
    for page in pages.values():
        page.goto("/alerts")
        expect(page.locator("#line")).to_be_hidden()
    if fault == "broken":
        network.down()
    else:
        network.set(Faults(timeout=True))
    _take(finished, alert, "ann")
    for code, page in pages.items():
        expect(page.locator("#line")).to_be_visible(timeout=45_000)
        expect(page.locator("#line")).to_have_text(Language(code).say(_LOST))
        expect(page.locator(f"[data-alert='{alert}'][data-open]")).to_have_count(1)
    if fault == "broken":
        network.up()
    else:
        network.heal()
    for page in pages.values():
        expect(page.locator("#line")).to_be_hidden(timeout=45_000)
        expect(page.locator(f"[data-alert='{alert}'][data-open]")).to_have_count(0, timeout=_SOON)
        page.context.close()


def test_of_two_who_decide_the_second_is_told_who_was_first(
    finished: Stack, alert: str, chromium: Browser, portal: str
) -> None:
    """In both languages: behind the first there is one of each."""
    first, *late = (
        (code, _known(chromium.new_context(locale=locale, base_url=portal), name))
        for locale, code, name in (("en-GB", "en", "王芳"), ("zh-CN", "zh", "李雷"), ("en-GB", "en", "Bob"))
    )
    for _, page in (first, *late):
        page.goto("/alerts")
        page.locator(f"[id='take-{alert}']").click()
    first[1].locator("form.decide button").click()
    expect(first[1].locator("h1")).to_have_text("Alerts")
    for code, second in late:
        second.locator("form.decide button").click()
        expect(second.locator("main")).to_contain_text("王芳")
        expect(second.get_by_role("alert").first).to_be_visible()
        said = Language(code).say("What is otherwise than you saw it")
        expect(second.locator("#changes")).to_have_text(said)
    _, found = finished.pharmaloop("alert", "show", alert)
    assert found["alert"]["actor"] == "王芳"
    for _, page in (first, *late):
        page.context.close()


@pytest.mark.parametrize("locale", sorted(_LANGUAGES))
def test_at_night_on_a_phone_an_alert_is_taken_in_two_taps(
    finished: Stack, alert: str, chromium: Browser, portal: str, locale: str
) -> None:
    phone = chromium.new_context(
        locale=locale,
        viewport={"width": 390, "height": 844},
        has_touch=True,
        is_mobile=True,
        base_url=portal,
    )
    page = _known(phone, "李雷")
    page.goto("/alerts")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls sideways"
    button = page.locator(f"[id='take-{alert}']")
    box = button.bounding_box()
    assert box is not None
    assert box["height"] >= 44, "too small for a thumb"
    button.tap()
    page.locator("form.decide button").tap()
    expect(page.locator("h1")).to_have_text(Language(_LANGUAGES[locale]).say("Alerts"))
    _, found = finished.pharmaloop("alert", "show", alert)
    assert found["alert"]["actor"] == "李雷"
    phone.close()


def test_everything_is_reached_by_keyboard(people: tuple[BrowserContext, BrowserContext]) -> None:
    page = people[0].new_page()
    page.goto("/runs")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    seen = set()
    for _ in range(300):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.outerHTML.slice(0, 200)"))
    wanted = page.evaluate(
        "[...document.querySelectorAll('main a[href], main button, main select, main summary')]"
        ".slice(0, 40).map(one => one.outerHTML.slice(0, 200))"
    )
    assert [one for one in wanted if one not in seen] == []


def test_the_changes_of_every_service_are_followed(portal: str) -> None:
    with httpx.stream("GET", f"{portal}/live?on=a", timeout=20) as line:
        first = next(text for text in line.iter_lines() if text.startswith("data: "))
    assert json.loads(first.removeprefix("data: "))["away"] == []
