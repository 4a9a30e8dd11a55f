"""From page to page by links, as a reader goes; pages that differ by what they show alone are of one kind."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from playwright.sync_api import Page, expect

_IGNORED = re.compile(r"^/(static|live|healthz)")
_DOWNLOAD = re.compile(r"\.(json|pdf)$")
_SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
#: Parts that come later than their page, for as long as they are neither there nor said not to be.
_COMING = "[aria-busy=true]"


def kind_of(address: str) -> str:
    """The page without what it shows: its words, and how many parts follow."""
    url = urlsplit(address)
    parts = [
        part if part.isalpha() and part.islower() and len(part) < 20 else "*"
        for part in url.path.split("/")[1:]
    ]
    return "/".join(parts[:1] + ["*" if n == 0 else part for n, part in enumerate(parts[1:])]) + (
        "?" if url.query else ""
    )


def is_download(address: str) -> bool:
    return bool(_DOWNLOAD.search(urlsplit(address).path))


def picture(page: Page, address: str, seen_as: str) -> Path:
    """A picture of a page that is wrong, for whoever is to mend it; to take one of every page takes longer
    than to look at it."""
    name = kind_of(address).replace("*", "one").replace("?", "-filtered").replace("/", "-") or "first"
    _SHOTS.mkdir(parents=True, exist_ok=True)
    path = _SHOTS / f"{name}.{seen_as}.png"
    page.screenshot(path=path, full_page=True)
    return path


def links(page: Page, portal: str) -> list[str]:
    """Where the page leads inside the portal, without places in a page."""
    read = "all => all.map(one => new URL(one.getAttribute('href'), location.href).href)"
    found: list[str] = page.eval_on_selector_all("a[href]", read)  # those of drawings are links too
    inside = [address.partition("#")[0] for address in found if address.startswith(portal)]
    return [address for address in inside if not _IGNORED.match(urlsplit(address).path)]


def walk(page: Page, portal: str, look: Callable[[str], None]) -> dict[str, str]:
    """One page of each kind, found by following links; a link that leads nowhere fails.

    `look` is called with the address of what the page shows; what is downloaded is passed over.
    """
    seen: dict[str, str] = {}
    waiting, known = [f"{portal}/"], {f"{portal}/"}
    while waiting:
        address = waiting.pop(0)
        kind = kind_of(address)
        if kind in seen or is_download(address):
            continue
        answer = page.goto(address)
        assert answer is not None
        assert answer.status == 200, f"{unquote(address)} answers {answer.status}"
        seen[kind] = address
        expect(page.locator(_COMING)).to_have_count(0)
        look(address)
        fresh = [one for one in dict.fromkeys(links(page, portal)) if one not in known]
        known |= set(fresh)
        waiting += fresh
    return seen
