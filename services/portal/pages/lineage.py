"""One lineage: from the molecule to the next hypothesis, as a drawing and as its events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from services.kit.hops import in_order
from services.portal.addresses import path_of as path
from services.portal.backend import Backend
from services.portal.drawing.lineages import KINDS, Line, Look, Thing, lineage
from services.portal.languages import Language
from services.portal.places import event_word, lot_of, place, short
from services.portal.render import page
from services.portal.words import WORDS

router = APIRouter()
_HOPS, _MOST_HOPS = 1_000, 5_000
_ROWS = 200


@router.get("/lineage")
async def find(request: Request, id: str = "") -> Response:
    """Asks for a thing; with one it leads to its lineage."""
    if id.strip():
        return RedirectResponse(path("lineage", id.strip()), status_code=303)
    values = {"id": "", "hops": [], "drawing": "", "truncated": False, "begins": ""}
    return page(request, "lineage.html", values)


@router.get("/lineage/{id:path}")
async def show(
    request: Request,
    id: str,
    kind: str = "",
    opened: str = "",
    event: str = "",
    start: int = 0,
    most: int = _HOPS,
) -> Response:
    """Everything that a thing comes from and leads to; with `event`, the page of hops that has it."""
    backend: Backend = request.app.state.backend
    kind = kind if kind in KINDS else ""
    most = min(max(1, most), _MOST_HOPS)
    told = await backend.ask("traceability", "GetLineage", id=id, kind=kind, most=most)
    if event and told.truncated and not any(hop.event == event for hop in told.hops):
        most = _MOST_HOPS
        told = await backend.ask("traceability", "GetLineage", id=id, kind=kind, most=most)
    language: Language = request.state.language
    hops = in_order(told.hops)
    rows = {hop.event: row for row, hop in enumerate(hops)}
    lots = {one.id: lot_of(hop) for hop in hops for one in hop.leads_to if one.kind == "deviation"}
    things = _things(hops)
    start = rows[event] // _ROWS * _ROWS if event in rows else max(0, start)
    here = {"kind": kind, "most": most if most != _HOPS else ""}

    def link(**other: Any) -> str:
        return path("lineage", id) + "?" + urlencode({k: v for k, v in (here | other).items() if v})

    def hop_at(event: str) -> str:
        """Where a hop stands: on this page, or on the page that has it; empty where no page has."""
        if start <= rows.get(event, -1) < start + _ROWS:
            return f"#h-{quote(event)}"
        return f"{link(opened=opened, event=event)}#h-{quote(event)}" if event in rows else ""

    values = {
        "id": id,
        "of": list(told.of),
        "hops": hops[start : start + _ROWS],
        "all": len(hops),
        "start": start,
        "hop_at": hop_at,
        "before": link(opened=opened, start=max(0, start - _ROWS)) if start else "",
        "next": link(opened=opened, start=start + _ROWS) if start + _ROWS < len(hops) else "",
        "truncated": told.truncated,
        "more": link(opened=opened, most=_MOST_HOPS) if told.truncated and most < _MOST_HOPS else "",
        "begins": "" if told.truncated else _begins(things),
        "drawing": lineage(
            _lines(hops, language),
            things,
            asked=[(one.kind, one.id) for one in told.of],
            opened=opened,
            label=language.say("The lineage of %(thing)s", thing=id),
            look=_look(language, lots, link, hop_at),
        ),
        "opened": opened,
        "close": link(),
        "event_word": event_word,
        "place": place,
        "lots": lots,
        "short": short,
    }
    return page(request, "lineage.html", values, live=(id,))


def _things(hops: Any) -> list[Thing]:
    """Every thing of a lineage, in the order in which it is first heard of."""
    found: dict[Thing, None] = {}
    for hop in hops:
        for one in (*hop.comes_from, *hop.leads_to):
            found[one.kind, one.id] = None
    return list(found)


def _begins(things: list[Thing]) -> str:
    """The kind of thing that a lineage begins with: the first in the order of the loops; empty for none."""
    kinds = {kind for kind, _ in things}
    return next((kind for kind in KINDS if kind in kinds), "")


def _lines(hops: Any, language: Language) -> list[Line]:
    return [
        Line(
            (before.kind, before.id),
            (after.kind, after.id),
            hop.event,
            language.say(
                "%(event)s: from %(before)s to %(after)s",
                event=language.say(WORDS.get(event_word(hop.type), event_word(hop.type))),
                before=short(before.id),
                after=short(after.id),
            ),
        )
        for hop in hops
        for before in hop.comes_from
        for after in hop.leads_to
    ]


def _look(language: Language, lots: dict[str, str], link: Any, hop_at: Callable[[str], str]) -> Look:
    def word(kind: str) -> str:
        return language.say(WORDS.get(kind, kind))

    return Look(
        word=word,
        short=short,
        to=lambda thing: place(thing[0], thing[1], lots.get(thing[1], "")),
        hop=hop_at,
        open=lambda kind: link(opened=kind),
        many=lambda kind, count: language.say("%(n)s × %(kind)s", n=language.count(count), kind=word(kind)),
    )
