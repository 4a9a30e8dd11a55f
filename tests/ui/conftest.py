"""A real Chromium before the portal of a platform whose world has ended."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from deploy.local import browser as installed
from tests.loops.stack import Stack

#: Chromium is alone with the portal: it asks nobody else.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def portal(finished: Stack) -> str:
    """Address of the portal."""
    return str(json.loads((finished.state_dir / "endpoints.json").read_text())["portal"])


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser for the tests of one file. Playwright's loop runs in this process for as long as it is
    open, and no other test of the process could run a loop of its own beside it."""
    path = installed.find()
    assert path, "no browser: run 'python -m deploy.local.browser'"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(params=["zh-CN", pytest.param("en-GB", marks=pytest.mark.long)])
def reader(request: pytest.FixtureRequest, chromium: Browser, portal: str) -> Iterator[BrowserContext]:
    """Somebody before a screen of 1366 by 768, who reads Chinese; and somebody who reads English."""
    context = chromium.new_context(
        locale=request.param, viewport={"width": 1366, "height": 768}, base_url=portal
    )
    yield context
    context.close()
