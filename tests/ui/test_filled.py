"""Every page when every field says something long and hostile, whatever a world left: in a real browser."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from fastapi import FastAPI
from playwright.sync_api import Browser, Dialog, Page

from tests.ui.portals import own_portal
from tests.unit.portal.filled import TEXT, FilledBackend, Filler
from tests.unit.portal.test_filled import PAGES, SAID

_WIDTHS = (390, 1366)
#: Here everything bears one name, so that parts which a page names after things bear it too.
_OF_THE_NAMES = {"landmark-unique"}


def _full(app: FastAPI) -> None:
    """Once it has started it asks services whose every answer is full."""
    around = app.router.lifespan_context

    @asynccontextmanager
    async def full(app: FastAPI) -> AsyncIterator[Any]:
        async with around(app) as state:
            real = app.state.backend
            app.state.backend = FilledBackend(sites={"hospital-a": "clinical"}, filler=Filler(SAID))
            yield state
            app.state.backend = real

    app.router.lifespan_context = full


@pytest.fixture(scope="module")
def full() -> Iterator[str]:
    """A portal whose services answer with every field set."""
    with own_portal({}, _full) as address:
        yield address


def _wrong(page: Page) -> list[str]:
    """What is wrong with the page that is open."""
    found = [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}"
        for one in Axe().run(page).response["violations"]
        if one["id"] not in _OF_THE_NAMES
    ]
    if (headings := page.locator("h1").count()) != 1:
        found.append(f"{headings} headings of the first level")
    for width in _WIDTHS:
        page.set_viewport_size({"width": width, "height": 768})
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            found.append(f"wider than {width} pixels by {wide}")
    return found


@pytest.mark.long
@pytest.mark.timeout(300)
def test_no_page_breaks_of_what_is_written_into_it(chromium: Browser, full: str) -> None:
    """In English, whose sentences are the longer ones; what a world leaves is walked in both languages."""
    context = chromium.new_context(locale="en-GB", base_url=full)
    context.add_cookies([{"name": "actor", "value": quote(TEXT[:100]), "url": full}])
    page = context.new_page()
    wrong: list[str] = []

    def ran(dialog: Dialog) -> None:
        wrong.append(f"{page.url} runs what is written")
        dialog.dismiss()

    page.on("dialog", ran)
    page.on("pageerror", lambda error: wrong.append(f"{page.url}: {error}"))
    for address in PAGES:
        page.set_viewport_size({"width": 1366, "height": 768})
        answer = page.goto(address)
        assert answer is not None
        assert answer.status == 200, address
        wrong += [f"{address} {one}" for one in _wrong(page)]
    context.close()
    assert not wrong, "\n".join(wrong)
