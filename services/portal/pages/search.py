"""One box for everything: an id, or its beginning as other pages show it, leads to its page."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from services.portal.backend import Backend, Missing, Refused
from services.portal.render import page, path_of
from services.portal.several import every
from services.portal.words import N_

router = APIRouter()
_MOST = 400
#: A beginning is looked for from so many characters on: pages show eight of an id.
_LEAST = 4
_MOST_HITS = 50


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
    hits = _once((hit for found, _ in answers for hit in found), wanted)
    away = {gone.service: gone for _, gone in answers if gone is not None}
    exact = {hit.to for hit in hits if hit.exact}
    places = exact or ({hit.to for hit in hits} if not away else set())
    if len(places) == 1:
        return RedirectResponse(places.pop(), status_code=303)
    hits.sort(key=lambda hit: not hit.exact)
    values = {
        "q": wanted,
        "hits": hits[:_MOST_HITS],
        "more": len(hits) > _MOST_HITS,
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


def _begin(wanted: str, ids: Iterable[tuple[str, Hit]]) -> list[Hit]:
    """Of hits by id, those whose id is or begins with what is wanted, in any case of letters."""
    low = wanted.casefold()
    return [
        hit for id, hit in ids if id == wanted or (len(wanted) >= _LEAST and id.casefold().startswith(low))
    ]


async def _run(backend: Backend, wanted: str) -> list[Hit]:
    found = (await backend.ask("loops", "GetRun", run=wanted)).run
    return [Hit(N_("Run"), found.run, path_of("runs", found.run), found.case)]


async def _runs(backend: Backend, wanted: str) -> list[Hit]:
    found, _ = await every(backend, "loops", "ListRuns", "runs")
    return _begin(
        wanted, ((one.run, Hit(N_("Run"), one.run, path_of("runs", one.run), one.case)) for one in found)
    )


async def _lot(backend: Backend, wanted: str) -> list[Hit]:
    found = (await backend.ask("production", "GetLot", lot=wanted)).lot
    return [_lot_hit(found.lot)]


def _lot_hit(lot: str) -> Hit:
    return Hit(N_("Lot"), lot, path_of("lots", lot))


async def _traced(backend: Backend, wanted: str) -> list[Hit]:
    """A lot that production does not know, but material or shipments name."""
    node = await backend.ask("traceability", "GetLotNode", lot=wanted)
    return [_lot_hit(node.lot)] if node.known or node.dispenses or node.places else []


async def _lots(backend: Backend, wanted: str) -> list[Hit]:
    """Lots by the beginning of their number as it is printed."""
    if len(wanted) < _LEAST - 1:
        return []
    found = await backend.ask("production", "ListLots", prefix=wanted, page_size=_MOST_HITS)
    return [_lot_hit(one.lot) for one in found.lots]


async def _things(backend: Backend, wanted: str) -> list[Hit]:
    """Lots and runs by what is printed or typed: a lot's number, a GTIN, a pack as GS1 writes it."""
    found = await backend.ask("traceability", "FindThings", text=wanted)
    pages = {"lot": (N_("Lot"), "lots"), "run": (N_("Run"), "runs")}
    return [
        Hit(pages[one.kind][0], one.id, path_of(pages[one.kind][1], one.id), one.label, one.exact)
        for one in found.things
        if one.kind in pages
    ]


async def _deviations(backend: Backend, wanted: str) -> list[Hit]:
    found, _ = await every(backend, "production", "ListDeviations", "deviations")
    ids = ((one.detected.deviation, one.detected) for one in found)
    return _begin(
        wanted,
        (
            (id, Hit(N_("Deviation"), id, path_of("deviations", one.lot, id), f"{one.lot} {one.tag}"))
            for id, one in ids
        ),
    )


async def _capas(backend: Backend, wanted: str) -> list[Hit]:
    found, _ = await every(backend, "production", "ListCapas", "capas")
    return _begin(
        wanted,
        (
            (
                one.proposed.capa,
                Hit(N_("CAPA"), one.proposed.capa, path_of("capas", one.proposed.capa), one.proposed.lot),
            )
            for one in found
        ),
    )


async def _alerts(backend: Backend, wanted: str) -> list[Hit]:
    found, _ = await every(backend, "alerting", "ListAlerts", "alerts")
    return _begin(
        wanted,
        (
            (
                one.raised.alert,
                Hit(N_("Alert"), one.raised.alert, path_of("alerts", one.raised.alert), one.latest_text),
            )
            for one in found
        ),
    )


async def _transfers(backend: Backend, wanted: str) -> list[Hit]:
    found, _ = await every(backend, "production", "ListTransfers", "transfers")
    return _begin(
        wanted,
        (
            (name, Hit(N_("Transfer"), one.transfer, path_of("transfers", one.transfer)))
            for one in found
            for name in (one.transfer, one.transfer.removeprefix("transfer:"))
        ),
    )


async def _studies(backend: Backend, wanted: str) -> list[Hit]:
    found, _ = await every(backend, "exchange", "ListStudies", "studies")
    return _begin(
        wanted,
        (
            (
                one.requested.study,
                Hit(
                    N_("Study"),
                    one.requested.study,
                    path_of("studies", one.requested.study),
                    one.requested.question,
                ),
            )
            for one in found
        ),
    )


async def _set(backend: Backend, wanted: str) -> list[Hit]:
    found = (await backend.ask("rnd", "GetParameterSet", set=wanted)).version
    return [Hit(N_("Parameter set"), found.set, path_of("sets", found.set, str(found.version)))]


async def _sites(backend: Backend, wanted: str) -> list[Hit]:
    return _begin(wanted, ((site, Hit(N_("Site"), site, path_of("sites", site))) for site in backend.sites))


async def _lineage(backend: Backend, wanted: str) -> list[Hit]:
    """A molecule, target, insight or hypothesis, which have no page but their lineage."""
    found = await backend.ask("traceability", "GetLineage", id=wanted, most=1)
    kinds = {"molecule", "target", "product", "trial", "insight", "hypothesis", "indication"}
    return [
        Hit(N_("Lineage"), one.id, path_of("lineage", one.id), one.kind)
        for one in found.of
        if one.kind in kinds
    ]


_FINDERS: tuple[Finder, ...] = (
    _sites,
    _run,
    _lot,
    _traced,
    _set,
    _lineage,
    _runs,
    _lots,
    _things,
    _deviations,
    _capas,
    _alerts,
    _transfers,
    _studies,
)
