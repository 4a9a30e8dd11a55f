"""Every sentence longer by two fifths, with accents, in brackets: nothing is cut, nothing left as it was."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from playwright.sync_api import Browser, Page

from services.portal import languages
from services.portal.languages import CHINESE, catalogue
from tests.loops.stack import Stack
from tests.ui.portals import own_portal
from tests.ui.walking import picture, walk

_ACCENTED = str.maketrans("aceginorsuyzACEGINORSUYZ", "àçéĝîñöŕšüýžÀÇÉĜÎÑÖŔŠÜÝŽ")
#: What stays as it is in a sentence: places for values, and the sign of percent.
_PLACE = re.compile(r"(%\(\w+\)s|%%)")
_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_LONGER = 0.4
_WIDTHS = (1366, 390)


def pseudo(english: str) -> str:
    """A sentence that is as long as other languages are; English readers can still read it."""
    said = "".join(
        part if _PLACE.fullmatch(part) else part.translate(_ACCENTED) for part in _PLACE.split(english)
    )
    more, number = "", 0
    while len(more) < _LONGER * len(english):
        more += f" {_NUMBERS[number % len(_NUMBERS)]}"
        number += 1
    return f"⟦{said}{more}⟧"


@pytest.fixture
def longer(finished: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A portal before the platform's services that says everything longer; answers its address."""
    said = {english: pseudo(english) for english in catalogue(CHINESE)}
    monkeypatch.setattr(languages, "catalogue", lambda code: said)
    endpoints = json.loads((finished.state_dir / "endpoints.json").read_text())["grpc"]
    with own_portal(endpoints) as address:
        yield address


_HERE = Path(__file__).parent
_TEXTS, _CUT = ((_HERE / name).read_text() for name in ("texts.js", "cut.js"))


def outside_brackets(text: str) -> str:
    """What of a text stands in no brackets; values may be sentences themselves."""
    depth, kept = 0, []
    for letter in text:
        if letter == "⟦":
            depth += 1
        elif letter == "⟧":
            depth -= 1
        elif not depth:
            kept.append(letter)
    return "".join(kept).strip()


def _unsaid(texts: list[tuple[str, str]], known: set[str]) -> list[str]:
    """Sentences that were not translated."""
    whole = [one for one in known if len(one.split()) > 2 and "%(" not in one]
    found = []
    for text, where in texts:
        rest = " ".join(outside_brackets(text).split())
        if rest in known or any(one in rest for one in whole):
            found.append(f"{where}: {rest}")
    return found


_NEXT_FRAME = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def _wrong(page: Page, address: str, known: set[str]) -> list[str]:
    """What is wrong with a page at all widths."""
    found: list[str] = _unsaid(page.evaluate(_TEXTS), known)
    for width in _WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        page.evaluate(_NEXT_FRAME)  # a chart is told of its new width before it is drawn again
        wide: Any = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        here = [f"it is wider than the screen by {wide}"] if wide > 0 else []
        here += page.evaluate(_CUT)
        if here:
            here.append(f"see {picture(page, address, f'pseudo-{width}')}")
        found += [f"{width}: {one}" for one in here]
    return [f"{unquote(address)} {one}" for one in found]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_no_text_is_cut_or_left_as_it_was(chromium: Browser, longer: str) -> None:
    known = set(catalogue(CHINESE))
    context = chromium.new_context(locale="en-GB", base_url=longer)
    context.add_cookies([{"name": "actor", "value": quote("王芳"), "url": longer}])
    page = context.new_page()
    wrong: list[str] = []
    seen = walk(page, longer, lambda address: wrong.extend(_wrong(page, address, known)))
    context.close()
    assert len(seen) >= 10, seen
    assert not wrong, "\n".join(wrong)
