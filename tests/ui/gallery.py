"""Pictures of every page, in both languages, for the documentation.

    python -m tests.ui.gallery [FOLDER]

They are taken of the platform that runs from this folder; a small world that has ended shows something on
every page (`make up SIZE=small SEED=7`). What a page is for is what the page itself says.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import BrowserContext, Page, sync_playwright

from deploy.local import browser as installed
from tests.ui.conftest import FLAGS

_ROOT = Path(__file__).parents[2]
_FOLDER = _ROOT / "docs" / "screenshots"
_LOCALES = {"zh": "zh-CN", "en": "en-GB"}
_SCREEN, _PHONE = (1366, 768), (390, 844)
_MOST_BYTES = 100_000
_QUALITIES = (80, 60, 40)
_SETTLED = 1_500
_RUN = ("/runs?loop=safety&state=ended", "main td a[href^='/runs/']")
_LOT = (*_RUN, "main a[href^='/lots/']")
_PACK = "/packs/" + quote("(01)06901234500547(21)S-1", safe="")
_CAPA = (*_RUN, "main a[href^='/capas/']")


@dataclass(frozen=True)
class Shot:
    """A page: its name, its title in the list, how to come to it (an address, then links to follow), and the
    template that it shows, where that has another name."""

    name: str
    title: str
    way: tuple[str, ...]
    size: tuple[int, int] = _SCREEN
    template: str = ""


SHOTS = (
    Shot("board", "Loop board", ("/runs",), template="runs"),
    Shot("run", "Loop run", _RUN),
    Shot("waiting", "Waiting", ("/waiting",)),
    Shot("wall", "Quality wall", ("/wall",)),
    Shot("chart", "Chart of a tag", ("/wall", "main a[href*='/chart/']")),
    Shot("lots", "Lots", ("/lots",)),
    Shot("lot", "Lot", _LOT),
    Shot("genealogy", "Genealogy of a lot", (*_LOT, "main a[href$='/genealogy']")),
    Shot("dossier", "Dossier of a lot, for paper", (*_LOT, "main a[href$='/dossier']")),
    Shot("pack", "Pack, by the code on it", (_PACK,)),
    Shot("results", "Laboratory results", ("/results",)),
    Shot("deviations", "Deviations", ("/deviations",)),
    Shot("deviation", "Deviation", (*_CAPA, "main a[href^='/deviations/']")),
    Shot("capas", "Corrective actions", ("/capas",)),
    Shot("capa", "Corrective action", _CAPA),
    Shot("transfers", "Tech transfer", ("/transfers",)),
    Shot("transfer", "Transfer", ("/transfers?state=concluded", "main td a[href^='/transfers/']")),
    Shot("sets", "Parameter sets", ("/sets",)),
    Shot("set", "Parameter set", ("/sets?state=released", "main td a[href^='/sets/']")),
    Shot("draft-set", "Draft of a parameter set", ("/drafts/set",), template="draft"),
    Shot("catalogue", "Catalogue", ("/catalogue",)),
    Shot("register", "Registering a product", ("/catalogue/product/new",), template="draft"),
    Shot("trials", "Virtual trials", ("/trials",)),
    Shot("trial", "Virtual trial", ("/trials", "main td a[href^='/trials/']")),
    Shot("draft-trial", "Draft of a virtual trial", ("/drafts/trial",), template="draft"),
    Shot("studies", "Studies", ("/studies",)),
    Shot("study", "Study", ("/studies", "main td a[href^='/studies/']")),
    Shot("draft-study", "Draft of a study", ("/drafts/study",), template="draft"),
    Shot("hypotheses", "Hypotheses and candidates", ("/hypotheses",)),
    Shot("lineage", "Lineage", (*_RUN, "main p a[href^='/lineage/']")),
    Shot("sites", "Sites", ("/sites",)),
    Shot("site", "Site", (*_RUN, "main a[href^='/sites/'][href*='run=']")),
    Shot("alerts", "Alerts", ("/alerts?state=all",)),
    Shot("alerts-phone", "Alerts on a phone", ("/alerts?state=all",), _PHONE, "alerts"),
    Shot("decision", "The second step of a decision", (*_LOT, "main a[id^='deed-']"), template="confirm"),
    Shot("search", "Search", ("/search?q=maker-1",)),
    Shot("status", "Status", ("/status",)),
    Shot("me", "Who are you?", ("/me",)),
    Shot("refused", "Something that is not there", ("/runs/none",)),
    Shot("nothing", "An address that is none", ("/none",)),
)


def go(page: Page, way: tuple[str, ...]) -> None:
    """To a page as a reader comes to it; a link that is not there is an error that names it."""
    page.goto(way[0])
    for link in way[1:]:
        found = page.locator(link).first
        if not found.count():
            raise SystemExit(f"screenshots: {page.url} has no link {link!r}; has the world ended?")
        page.goto(str(found.evaluate("one => one.href.baseVal || one.href")))
    page.wait_for_timeout(_SETTLED)  # what is drawn in the browser is drawn


def picture(page: Page) -> bytes:
    """What is on the screen, as WebP of the best quality that is small enough."""
    session = page.context.new_cdp_session(page)
    taken = b""
    for quality in _QUALITIES:
        answer = session.send("Page.captureScreenshot", {"format": "webp", "quality": quality})
        taken = base64.b64decode(answer["data"])
        if len(taken) < _MOST_BYTES:
            break
    session.detach()
    return taken


def take(context: BrowserContext, shot: Shot, file: Path) -> str:
    """Take one picture; answers what the page says it is for."""
    page = context.new_page()
    page.set_viewport_size({"width": shot.size[0], "height": shot.size[1]})
    go(page, shot.way)
    file.write_bytes(picture(page))
    purpose = page.locator(".purpose").first
    said = purpose.inner_text() if purpose.count() else ""
    page.close()
    return said


def listing(purposes: dict[str, str]) -> str:
    """The page of the gallery."""
    lines = [
        "# Screenshots",
        "",
        "Every page of the portal in Chinese and English, at 1366 by 768; taken by `make screenshots`.",
        "",
        "| page | what it is for | Chinese | English |",
        "|---|---|---|---|",
    ]
    for shot in SHOTS:
        pictures = " | ".join(f"[{code}]({shot.name}.{code}.webp)" for code in _LOCALES)
        lines.append(f"| {shot.title} | {purposes[shot.name]} | {pictures} |")
    return "\n".join(lines) + "\n"


def main(folder: Path) -> None:
    """All pictures and their page."""
    state = Path(os.environ.get("PHARMALOOP_STATE_DIR") or _ROOT / ".state")
    try:
        portal = str(json.loads((state / "endpoints.json").read_text())["portal"])
    except (OSError, KeyError, ValueError):
        sys.exit("screenshots: no platform runs here; start one with 'make up SIZE=small SEED=7'")
    path = installed.find()
    if not path:
        sys.exit("screenshots: there is no browser; run 'python -m deploy.local.browser'")
    folder.mkdir(parents=True, exist_ok=True)
    purposes: dict[str, str] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        for code, locale in _LOCALES.items():
            context = browser.new_context(locale=locale, base_url=portal)
            context.add_cookies([{"name": "actor", "value": quote("王芳"), "url": portal}])
            for shot in SHOTS:
                purposes[shot.name] = take(context, shot, folder / f"{shot.name}.{code}.webp")
            context.close()
        browser.close()
    (folder / "README.md").write_text(listing(purposes))
    print(f"screenshots: {len(SHOTS) * len(_LOCALES)} pictures in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else _FOLDER)
