"""Every page with a hostile text in every field of every answer, in both languages: it is shown as text."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from tests.unit.portal.fakes import Browser
from tests.unit.portal.filled import TEXT, FilledBackend, Filler

_LOT = "/lots/maker-1%2Fitem%2Fgranulate%2FG-0071"
_DEVIATION = "/deviations/maker-1%2Fitem%2Fgranulate%2FG-0071/d-1"
#: Pages that show what was told, and second steps of decisions.
PAGES = (
    *("/runs", "/runs/r-1", "/runs/r-1/cancel", "/runs/r-1/hazard", "/waiting", "/wall", "/lots"),
    *(_LOT, f"{_LOT}/dossier", f"{_LOT}/genealogy", f"{_LOT}/genealogy?q=G", f"{_LOT}/chart/Torque"),
    *(f"{_LOT}/decide/hold", "/packs/d-1", "/results", "/deviations", _DEVIATION, f"{_DEVIATION}/confirm"),
    *("/capas", "/capas/c-1", "/capas/c-1/approve", "/transfers", "/transfers/t-1"),
    *("/transfers/t-1/decide?answer=accept", "/sets", "/sets/s/1", "/sets/s/1/release", "/drafts/set"),
    *("/drafts/set?of=s&version=1", "/catalogue", "/catalogue/product/new", "/trials", "/trials/t-1"),
    *("/drafts/trial", "/studies", "/studies/s-1", "/studies/s-1/stop", "/drafts/study?of=s-1"),
    *("/hypotheses", "/hypotheses/findings/i-1/decline", "/lineage/r-1", "/sites", "/sites/hospital-a"),
    *("/sites/hospital-a?run=r-1&patient=p", "/alerts", "/alerts/a-1", "/status", "/me"),
)
#: What fields must say for the page to be the one that is meant.
SAID = {
    "loop": "safety",
    "site": "hospital-a",
    "run": "r-1",
    "alert": "a-1",
    "dispense": "d-1",
    "deviation": "d-1",
    "capa": "c-1",
    "insight": "i-1",
}


class _Elements(HTMLParser):
    """What a browser would make of a page, as far as it can do harm."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.harm: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        ours = (known.get("src") or "").startswith("/static/") or known.get("type") == "application/json"
        if tag in {"img", "iframe", "object"} or (tag == "script" and not ours):
            self.harm.append(self.get_starttag_text() or tag)
        self.harm += [f"{tag} {name}" for name, _ in attrs if name.startswith("on") or name == "style"]


@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("address", PAGES)
def test_whatever_a_field_says_is_text(address: str, nth: int) -> None:
    for language in ("zh", "en"):
        backend = FilledBackend(sites={"hospital-a": "clinical"}, filler=Filler(SAID, nth))
        page = Browser(backend, language=language, actor=TEXT[:100]).get(address)
        assert page.status == 200, page.text
        found = _Elements()
        found.feed(page.text)
        assert found.harm == []
