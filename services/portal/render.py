"""Pages from templates: one environment, one way to say a page."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from google.protobuf.message import Message
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.portal import addresses
from services.portal.absent import absent
from services.portal.addresses import here
from services.portal.languages import NAMES, Language
from services.portal.sayings import marked, marked_rule, why
from services.portal.words import WITHHELD, WORDS, hazard, word
from services.portal.words_refusals import REASONS

ROOT = Path(__file__).parent
STATIC = ROOT / "static"
#: What the head of every page leads to: path and English name.
PLACES = (
    ("/runs", "Loops"),
    ("/waiting", "Waiting"),
    ("/wall", "Quality wall"),
    ("/lots", "Lots"),
    ("/deviations", "Deviations"),
    ("/capas", "CAPA"),
    ("/transfers", "Tech transfer"),
    ("/studies", "Studies"),
    ("/hypotheses", "Hypotheses"),
    ("/sites", "Sites"),
    ("/alerts", "Alerts"),
    ("/status", "Status"),
)
#: Pages that the head does not lead to, and the place that each belongs to: where one comes from.
BELONGS = {
    "/results": "/lots",
    "/packs": "/lots",
    "/sets": "/transfers",
    "/drafts/set": "/transfers",
    "/catalogue": "/hypotheses",
    "/trials": "/hypotheses",
    "/drafts/trial": "/hypotheses",
    "/drafts/study": "/studies",
}


def place_of(path: str) -> str:
    """The place of the head that a page stands in; empty where in none."""
    known = {place: place for place, _ in PLACES} | BELONGS
    found = max((p for p in known if path == p or path.startswith(f"{p}/")), key=len, default="")
    return known.get(found, "")


def _asset(name: str) -> str:
    """Where a file of `static` is, with its content in the address so that browsers may keep it for good."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


@cache
def version() -> str:
    """What pages are made of, as a digest: a page of another one no longer fits what the portal tells it."""
    digest = hashlib.sha256()
    for file in sorted(one for one in ROOT.rglob("*") if one.suffix in (".html", ".css", ".js", ".po")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _word(message: Message, field: str) -> str:
    """The word for a field that is an enumeration."""
    kind = message.DESCRIPTOR.fields_by_name[field].enum_type
    assert kind is not None, f"{field} is no enumeration"
    return word(kind, getattr(message, field))


@cache
def environment() -> Environment:
    """Everything is escaped, and what is not known is an error; a template is compiled once in a process."""
    made = Environment(
        loader=FileSystemLoader(ROOT / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    made.globals |= {
        "path": addresses.path_of,
        "word": _word,
        "words": WORDS,
        "hazard": hazard,
        "WITHHELD": WITHHELD,
        "reasons": REASONS,
        "said": marked,
        "rule_said": marked_rule,
        "why_said": why,
        "absent": absent,
        "places": PLACES,
        "languages": NAMES,
    }
    assets: dict[str, str] = {}
    made.globals["asset"] = lambda name: assets.setdefault(name, _asset(name))
    return made


def page(
    request: Request,
    template: str,
    values: Mapping[str, Any],
    *,
    status: int = 200,
    live: tuple[str, ...] = (),
) -> HTMLResponse:
    """A page. `live` are the names of what it shows: when one changes, the page looks again.

    Names are ids of lots, runs, cases, or "type:LotHeld" and "domain:loops" for whole kinds.
    """
    language: Language = request.state.language
    text = request.app.state.templates.get_template(template).render(
        {
            "request": request,
            "L": language,
            "_": language.say,
            "here": here(request),
            "place": place_of(request.url.path),
            "actor": request.state.actor,
            "live": live,
            "mark": request.state.mark,
            "version": request.app.state.version,
            "simulated": request.app.state.world.simulated,
            **values,
        }
    )
    return HTMLResponse(text, status_code=status)
