"""What the partners' pages say of the code is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.local.stamps import ROOT
from deploy.partners import errors
from services.kit.rpc import api
from services.kit.settings import ServiceSettings
from services.production.domain.readings import MAX_SAMPLES

DOCS = ROOT / "docs" / "partners"
PAGES = sorted(DOCS.glob("*.md"))
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")
_REASON = re.compile(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere_inside_the_kit(page: Path) -> None:
    for link in _LINK.findall(page.read_text()):
        target = (page.parent / link).resolve()
        assert target.exists(), f"{page.name}: {link}"
        assert DOCS in target.parents, f"{page.name}: {link} is not in the kit"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_reasons_that_a_page_names_are_in_the_table(page: Path) -> None:
    known = {one.reason for one in errors.reasons()} | set(errors.AGAIN) | {"ENHANCE_YOUR_CALM"}
    assert set(_REASON.findall(page.read_text())) <= known


def test_the_limits_are_those_of_the_code() -> None:
    page = (DOCS / "limits.md").read_text()
    settings = ServiceSettings()
    assert f"| {settings.max_request_bytes:,} bytes |" in page
    assert f"| {settings.most_subscriptions:,} |" in page
    assert f"| {settings.most_subscriptions_of_actor:,} |" in page
    assert f"| {api._DEFAULT_PAGE:,} items, {api._LARGEST_PAGE:,} at most |" in page
    assert f"| {MAX_SAMPLES:,} |" in page
