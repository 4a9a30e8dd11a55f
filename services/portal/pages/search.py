"""One box for everything: an id, or its beginning as other pages show it, leads to its page.

A search is a handful of calls, whatever there is: the trace knows things of all loops by their names, and a
few services are asked for what it does not keep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from services.portal.addresses import path_of
from services.portal.backend import Backend, Missing, Refused
from services.portal.codes import serial_of
from services.portal.render import page
from services.portal.words import N_

router = APIRouter()
_MOST = 400
#: A beginning is looked for from so many characters on: pages show eight of an id.
_LEAST = 4
#: The trace tells so many things at most: with as many there may be more.
_MOST_HITS = 20
#: Of so many alerts, the newest, the beginning is looked for.
_ALERTS = 1000
_LOT_PARTS = 4
_WHOLE_UUID = 36


@dataclass(frozen=True)
class Hit:
    """Something that was found: what it is, its id, where its page is, and what it says of itself."""

    kind: str
    id: str
    to: str
    says: str = ""
    #: True where what is wanted is its whole name.
    exact: bool = False


Finder = Callable[[Backend, str], Awaitable[list[Hit]]]


@router.get("/search")
async def search(request: Request, q: str = "") -> Response:
    """Where a thing is; one hit leads straight there."""
    backend: Backend = request.app.state.backend
    wanted = q.strip()[:_MOST]
    if not wanted:
        return page(request, "search.html", {"q": "", "hits": [], "more": False, "missing": []})
    answers = await asyncio.gather(*(_safely(find, backend, wanted) for find in _FINDERS))
    away = {gone.service: gone for _, gone in answers if gone is not None}
    if "traceability" in away:  # who made it, and the loops, still know whole names
        answers += await asyncio.gather(*(_safely(find, backend, wanted) for find in _WHOLE))
        away |= {gone.service: gone for _, gone in answers if gone is not None}
    hits = _once((hit for found, _ in answers for hit in found), wanted)
    exact = {hit.to for hit in hits if hit.exact}
    places = exact or ({hit.to for hit in hits} if not away else set())
    if len(places) == 1:
        return RedirectResponse(places.pop(), status_code=303)
    hits.sort(key=lambda hit: (hit.id.casefold() != wanted.casefold(), not hit.exact))
    values = {
        "q": wanted,
        "hits": hits,
        "more": len(hits) >= _MOST_HITS,
        "missing": list(away.values()),
    }
    return page(request, "search.html", values)


def _once(found: Iterable[Hit], wanted: str) -> list[Hit]:
    """Each place once, however many services know it; exact where any of them says so."""
    hits: dict[str, Hit] = {}
    for hit in found:
        held = hits.get(hit.to, hit)
        hits[hit.to] = replace(held, exact=held.exact or hit.exact or hit.id == wanted)
    return list(hits.values())


async def _safely(find: Finder, backend: Backend, wanted: str) -> tuple[list[Hit], Missing | None]:
    """What one finder finds; what a service cannot read as an id is not there."""
    try:
        return await find(backend, wanted), None
    except Refused:
        return [], None
    except Missing as gone:
        return [], gone


def _begins(wanted: str, id: str) -> bool:
    """Is it the id, or its beginning in any case of letters?"""
    return id == wanted or (len(wanted) >= _LEAST and id.casefold().startswith(wanted.casefold()))


async def _things(backend: Backend, wanted: str) -> list[Hit]:
    """What the trace knows by a name, or by its beginning; of a pack with a serial, the page of the pack."""
    found = (await backend.ask("traceability", "FindThings", text=wanted)).things
    if serial_of(wanted) and any(one.kind == "lot" for one in found):
        return [Hit(N_("Pack"), wanted, path_of("packs", wanted), exact=True)]
    least = {"lot": _LEAST - 1}
    return [_thing(one) for one in found if one.exact or len(wanted) >= least.get(one.kind, _LEAST)]


def _thing(one: Any) -> Hit:
    of_lot = path_of("deviations", one.lot, one.id) if one.lot else path_of("lineage", one.id)
    named = {
        "lot": (N_("Lot"), path_of("lots", one.id)),
        "run": (N_("Run"), path_of("runs", one.id)),
        "deviation": (N_("Deviation"), of_lot),
        "capa": (N_("CAPA"), path_of("capas", one.id)),
        "transfer": (N_("Transfer"), path_of("transfers", one.id)),
        "study": (N_("Study"), path_of("studies", one.id)),
        "dispense": (N_("Dispensed pack"), path_of("packs", one.id)),
    }
    name, to = named.get(one.kind, (N_("Lineage"), path_of("lineage", one.id)))
    return Hit(name, one.id, to, one.label, one.exact)


async def _traced(backend: Backend, wanted: str) -> list[Hit]:
    """A lot that nobody says was made, but material or shipments name; only a whole key can be one."""
    if len(wanted.split("/")) != _LOT_PARTS:
        return []
    node = await backend.ask("traceability", "GetLotNode", lot=wanted)
    return [_lot(node.lot)] if node.known or node.dispenses or node.places else []


def _lot(lot: str) -> Hit:
    return Hit(N_("Lot"), lot, path_of("lots", lot))


async def _alert(backend: Backend, wanted: str) -> list[Hit]:
    """An alert by its id, or among the newest by its beginning."""
    if len(wanted) < _LEAST or not set(wanted.casefold()) <= set("0123456789abcdef-"):
        return []  # ids of alerts are UUIDs
    if len(wanted) == _WHOLE_UUID:
        hits = [(await backend.ask("alerting", "GetAlert", alert=wanted.casefold())).alert]
    else:
        found = (await backend.ask("alerting", "ListAlerts", page_size=_ALERTS)).alerts
        hits = [one for one in found if _begins(wanted, one.raised.alert)]
    return [
        Hit(N_("Alert"), one.raised.alert, path_of("alerts", one.raised.alert), one.latest_text)
        for one in hits
    ]


async def _set(backend: Backend, wanted: str) -> list[Hit]:
    found = (await backend.ask("rnd", "GetParameterSet", set=wanted)).version
    return [Hit(N_("Parameter set"), found.set, path_of("sets", found.set, str(found.version)))]


async def _sites(backend: Backend, wanted: str) -> list[Hit]:
    return [Hit(N_("Site"), site, path_of("sites", site)) for site in backend.sites if _begins(wanted, site)]


async def _lineage(backend: Backend, wanted: str) -> list[Hit]:
    """A molecule, target, insight or hypothesis, which have no page but their lineage."""
    found = await backend.ask("traceability", "GetLineage", id=wanted, most=1)
    kinds = {"molecule", "target", "product", "trial", "insight", "hypothesis", "indication"}
    return [
        Hit(N_("Lineage"), one.id, path_of("lineage", one.id), one.kind)
        for one in found.of
        if one.kind in kinds
    ]


async def _run(backend: Backend, wanted: str) -> list[Hit]:
    found = (await backend.ask("loops", "GetRun", run=wanted)).run
    return [Hit(N_("Run"), found.run, path_of("runs", found.run), found.case)]


async def _made(backend: Backend, wanted: str) -> list[Hit]:
    return [_lot((await backend.ask("production", "GetLot", lot=wanted)).lot.lot)]


_FINDERS: tuple[Finder, ...] = (_sites, _things, _traced, _set, _lineage, _alert)
#: Asked while the trace is away.
_WHOLE: tuple[Finder, ...] = (_run, _made)
