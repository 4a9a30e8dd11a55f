"""Every page that a link leads to, in both languages: it is there, accessible, fits, and asks nobody else."""

from __future__ import annotations

import gzip

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

from tests.ui.walking import is_download, kind_of, links, picture, walk

_KB = 1000


def _walk(reader: BrowserContext, portal: str) -> dict[str, str]:
    """One page of each kind, found by following links; a link that leads nowhere fails."""
    page = reader.new_page()
    complaints: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(f"{page.url}: {message.text}")

    page.on("console", heard)
    page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
    downloads: set[str] = set()

    def look(address: str) -> None:
        _assert_page(page, address)
        downloads.update(link for link in links(page, portal) if is_download(link))

    seen = walk(page, portal, look)
    for address in {kind_of(one): one for one in sorted(downloads)}.values():
        assert reader.request.get(address).ok, address
    assert complaints == []
    page.close()
    return seen


def _assert_page(page: Page, address: str) -> None:
    language = page.get_attribute("html", "lang") or ""
    if wrong := _wrong(page):
        pytest.fail("\n".join([address, *wrong, f"see {picture(page, address, language[:2])}"]))


def _wrong(page: Page) -> list[str]:
    """What is wrong with the page that is open."""
    wrong = []
    found = Axe().run(page)
    if found.violations_count:
        wrong.append(found.generate_report())
    if (headings := page.locator("h1").count()) != 1:
        wrong.append(f"{headings} headings of the first level")
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if wide > 0:
        wrong.append(f"wider than the screen by {wide} pixels")
    if "[object" in page.inner_text("main"):
        wrong.append("it shows an object of JavaScript")
    return wrong


@pytest.mark.timeout(600)
@pytest.mark.parametrize("reader", ["zh-CN", pytest.param("en-GB", marks=pytest.mark.long)], indirect=True)
def test_every_page_that_a_link_leads_to_is_there_and_accessible(reader: BrowserContext, portal: str) -> None:
    seen = _walk(reader, portal)
    assert len(seen) >= 10, seen


def test_the_first_page_is_light(reader: BrowserContext, portal: str) -> None:
    """At most 150 kB over a line that compresses."""
    sizes: dict[str, int] = {}
    page = reader.new_page()
    page.on("response", lambda answer: sizes.update({answer.url: len(gzip.compress(answer.body()))}))
    page.goto(f"{portal}/alerts", wait_until="domcontentloaded")
    page.wait_for_selector("h1")
    assert sum(sizes.values()) <= 150 * _KB, sizes


@pytest.mark.parametrize("path", ["/runs", "/alerts"])
def test_it_works_without_javascript(chromium: Browser, portal: str, path: str) -> None:
    context = chromium.new_context(java_script_enabled=False, base_url=portal)
    page = context.new_page()
    answer = page.goto(path)
    assert answer is not None
    assert answer.status == 200
    assert page.locator("h1").count() == 1
    page.get_by_role("button", name="English").click()
    assert page.get_attribute("html", "lang") == "en"
    context.close()
