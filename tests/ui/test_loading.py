"""What comes later than its page: it says in words that it loads, and that it did not, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.ui.portals import own_portal
from tests.ui.test_filled import _full

LOT = quote("maker-1/item/granulate/G-0071", safe="")
_PART = f"**/lots/{LOT}/genealogy"


@pytest.fixture(scope="module")
def full() -> Iterator[str]:
    with own_portal({}, _full) as address:
        yield address


@pytest.fixture
def page(chromium: Browser, full: str) -> Iterator[Page]:
    context = chromium.new_context(locale="en-GB", base_url=full, reduced_motion="reduce")
    yield context.new_page()
    context.close()


def _holding(page: Page, address: str) -> list[Route]:
    """What the page asks of the address and what is not answered until the test does."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(address, hold)
    return held


@pytest.mark.parametrize("how", ["no connection", "an error"])
def test_a_part_says_that_it_loads_that_it_did_not_and_comes_when_asked_again(page: Page, how: str) -> None:
    held = _holding(page, _PART)
    page.goto(f"/lots/{LOT}")
    part, note = page.locator("[hx-get]"), page.locator("[role=status].loading")
    expect(note).to_have_text("This part is being loaded…")
    expect(part).to_have_attribute("aria-busy", "true")
    if how == "an error":
        held[0].fulfill(status=500, body="<p>broken</p>", content_type="text/html")
    else:
        held[0].abort()
    expect(page.locator(".unloaded")).to_contain_text("This part could not be loaded.")
    expect(part).not_to_have_attribute("aria-busy", "true")
    again = page.locator(".unloaded a")
    expect(again).to_have_attribute("href", f"/lots/{LOT}/genealogy")
    again.focus()
    page.keyboard.press("Enter")
    expect(note).to_be_visible()
    page.wait_for_timeout(50)
    held[1].continue_()
    expect(part.locator("#groups")).to_be_visible()
    expect(page.locator(".loading, .unloaded")).to_have_count(0)
    expect(part).to_be_focused()


def test_an_answer_without_the_part_is_said_so(page: Page) -> None:
    page.route(_PART, lambda route: route.fulfill(body="<p>other</p>", content_type="text/html"))
    page.goto(f"/lots/{LOT}")
    expect(page.locator(".unloaded a")).to_have_text("Try again")


def test_a_chart_says_that_it_loads_and_that_its_script_did_not_come(page: Page) -> None:
    held = _holding(page, "**/echarts*")
    page.goto(f"/lots/{LOT}/chart/Torque", wait_until="commit")
    expect(page.locator(".loading")).to_have_text("This part is being loaded…")
    held[0].abort()
    expect(page.locator(".unloaded a")).to_have_attribute("href", page.url)
    page.unroute("**/echarts*")
    page.locator(".unloaded a").click()
    expect(page.locator("#chart canvas")).to_be_visible()
    expect(page.locator(".loading, .unloaded")).to_have_count(0)


def test_a_search_that_takes_long_says_so(page: Page) -> None:
    page.goto("/runs")
    held = _holding(page, "**/search?*")
    page.locator("header input[name=q]").fill("L-1")
    page.evaluate("""() => {
        const asked = document.getElementById("asked");
        const note = () => { sessionStorage.said = asked.hidden ? "" : asked.textContent; };
        new MutationObserver(note).observe(asked, {childList: true});
        document.querySelector("header form").requestSubmit();
    }""")
    page.wait_for_timeout(1000)  # the browser answers nothing else while a page is awaited
    held[0].continue_()
    page.wait_for_url(lambda address: not address.endswith("/runs"))  # what is found once opens at once
    assert page.evaluate("sessionStorage.said") == "Searching…"
    expect(page.locator("#asked")).to_be_hidden()


def test_without_a_script_the_part_is_its_link(chromium: Browser, full: str) -> None:
    context = chromium.new_context(locale="en-GB", base_url=full, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"/lots/{LOT}")
    expect(page.locator("[hx-get] a")).to_be_visible()
    expect(page.get_by_text("This part is being loaded…")).to_be_hidden()
    context.close()
