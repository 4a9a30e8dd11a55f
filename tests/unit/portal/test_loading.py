"""Parts that come later than their page: what is said meanwhile, and what is there without a script."""

from __future__ import annotations

import re
from functools import cache
from urllib.parse import quote

import pytest

from services.portal.render import STATIC
from tests.unit.portal.fakes import Browser
from tests.unit.portal.filled import FilledBackend, Filler

LOT = "maker-1/item/granulate/G-0071"
_PAGES = (f"/lots/{quote(LOT, safe='')}", f"/lots/{quote(LOT, safe='')}/chart/Torque", "/search", "/runs")


@cache
def _page(address: str, language: str = "en") -> str:
    backend = FilledBackend(filler=Filler({"lot": LOT, "tag": "Torque"}))
    return Browser(backend, language=language).get(address).text


def _words(page: str, name: str) -> str:
    found = re.search(rf'<template id="{name}">(.*?)</template>', page, re.DOTALL)
    assert found, f"the page has no words for {name}"
    return found[1]


@pytest.mark.parametrize("address", _PAGES)
def test_every_page_carries_the_words_in_its_language(address: str) -> None:
    english, chinese = _page(address), _page(address, "zh")
    assert _words(english, "said-loading") == "This part is being loaded…"
    assert _words(chinese, "said-loading") == "正在加载这一部分…"
    assert (
        re.sub(r"<[^>]*>", "", _words(english, "said-unloaded")) == "This part could not be loaded. Try again"
    )
    assert re.sub(r"<[^>]*>", "", _words(chinese, "said-unloaded")) == "这一部分未能加载。 重试"
    assert "<a>" in _words(english, "said-unloaded"), "there is nothing to try again with"
    assert _words(chinese, "said-asked") == "正在搜索…"


@pytest.mark.parametrize("address", _PAGES)
def test_without_a_script_nothing_says_that_it_loads(address: str) -> None:
    page = _page(address)
    shown = re.sub(r"<template.*?</template>", "", page, flags=re.DOTALL)
    assert "being loaded" not in shown
    assert "could not be loaded" not in shown
    assert "aria-busy" not in shown
    assert '<div id="asked" class="banner" role="status" hidden></div>' in shown


def test_a_part_that_comes_later_leads_there_without_a_script_and_is_in_the_answer() -> None:
    page = _page(_PAGES[0])
    parts = re.findall(r'<div hx-get="([^"]+)"[^>]*hx-select="#([^"]+)"[^>]*>(.*?)</div>', page, re.DOTALL)
    assert parts, "the lot's genealogy comes later"
    for to, part, within in parts:
        assert f'href="{to}"' in within
        assert f'id="{part}"' in _page(to)


def test_the_words_stand_in_the_page_and_not_in_the_script() -> None:
    script = (STATIC / "loading.js").read_text()
    page = _page(_PAGES[0])
    for name in re.findall(r'"(said-[a-z]+)"', script):
        assert _words(page, name)
    assert "animation" not in script
