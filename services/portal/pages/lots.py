"""Lots: the list, one lot with all that is known of it, its genealogy, and its dossier to take away."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response
from google.protobuf.json_format import MessageToJson
from starlette.exceptions import HTTPException

from pharmaloop.production.v1 import service_pb2 as api
from services.portal.backend import Backend
from services.portal.drawing.genealogy import Group, drawing, group
from services.portal.genealogies import around
from services.portal.keys import LOT
from services.portal.languages import Language
from services.portal.pages.lot_decisions import ways
from services.portal.parts import parts
from services.portal.render import page, path_of
from services.portal.words import word

router = APIRouter()
_ROWS = 50
_LOTS = 100
STATES = {
    "in-process": api.LOT_STATE_STARTED,
    "awaiting": api.LOT_STATE_COMPLETED,
    "held": api.LOT_STATE_HELD,
    "released": api.LOT_STATE_RELEASED,
    "rejected": api.LOT_STATE_REJECTED,
}
_LIVE = tuple(f"type:Lot{what}" for what in ("Started", "Completed", "Held", "Released", "Rejected"))


@router.get("/lots")
async def board(
    request: Request, state: str = "", product: str = "", prefix: str = "", token: str = ""
) -> Response:
    """Lots, newest first."""
    backend: Backend = request.app.state.backend
    fields: dict[str, Any] = {
        "product": product.strip(),
        "prefix": prefix.strip(),
        "page_size": _ROWS,
        "page_token": token,
    }
    if state in STATES:
        fields["state"] = STATES[state]
    found, missing = await parts(answer=backend.ask("production", "ListLots", **fields))
    answer = found["answer"]
    values = {
        "lots": list(answer.lots) if answer else [],
        "following": answer.next_page_token if answer else "",
        "missing": missing,
        "filters": {"state": state, "product": product, "prefix": prefix},
        "token": token,
        "states": [(name, word(api.LotState.DESCRIPTOR, number)) for name, number in STATES.items()],
    }
    return page(request, "lots.html", values, live=_LIVE)


@router.get(LOT)
async def one(request: Request, key: str) -> Response:
    """One lot: what its plant, the trace and the runs say of it."""
    return page(request, "lot.html", await _everything(request, key), live=(key,))


@router.get(LOT + "/dossier")
async def paper(request: Request, key: str) -> Response:
    """The dossier in the shape of paper, to be printed or saved as PDF by the browser."""
    return page(request, "dossier.html", await _everything(request, key))


@router.get(LOT + "/dossier.json")
async def taken(request: Request, key: str) -> Response:
    """The dossier as its service gives it."""
    backend: Backend = request.app.state.backend
    answer = await backend.ask("traceability", "GetLotDossier", lot=key)
    text = MessageToJson(answer.dossier, preserving_proto_field_name=True, ensure_ascii=False, indent=2)
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in key)
    return Response(
        text,
        media_type="application/json",
        headers={"content-disposition": f'attachment; filename="dossier-{name[-120:]}.json"'},
    )


@router.get(LOT + "/genealogy")
async def genealogy(
    request: Request, key: str, depth: str = "", kind: str = "", q: str = "", start: str = ""
) -> Response:
    """What went into a lot and what was made from it: groups as boxes, their lots a hundred at a time."""
    backend: Backend = request.app.state.backend
    language: Language = request.state.language
    nodes, complete = await around(backend, key)
    grouped = group(nodes)
    chosen = _chosen(depth, kind)
    looked_for = " ".join(q.split())[:200]
    rows = list(grouped.groups.get(chosen, ())) if chosen else []
    hits: set[Group] = set()
    if looked_for:
        rows = [node for node in nodes if looked_for.casefold() in node.lot.casefold()]
        hits = {node.group for node in rows}
    first = min(int(start), len(rows)) if start.isdecimal() and len(start) < 7 else 0
    own = path_of("lots", key, "genealogy")
    values = {
        "key": key,
        "own": own,
        "nodes": len(nodes),
        "complete": complete,
        "groups": grouped.groups,
        "chosen": chosen,
        "q": looked_for,
        "rows": rows[first : first + _LOTS],
        "all": len(rows),
        "first": first,
        "before": _to(own, depth, kind, looked_for, max(0, first - _LOTS)) if first else "",
        "after": _to(own, depth, kind, looked_for, first + _LOTS) if first + _LOTS < len(rows) else "",
        "step": lambda steps: _step(language, steps),
        "drawing": drawing(
            grouped,
            label=language.say("Genealogy of %(lot)s", lot=key),
            step=lambda steps: _step(language, steps),
            lots=lambda number: _lots(language, number),
            address=lambda one: _to(own, str(one[0]), one[1], "", 0),
            chosen=chosen,
            found=hits,
        ),
    }
    return page(request, "genealogy.html", values)


def _chosen(depth: str, kind: str) -> Group | None:
    number = depth.removeprefix("-")
    if not number.isdecimal() or len(number) > 4:
        return None
    return int(depth), kind


def _to(own: str, depth: str, kind: str, q: str, start: int) -> str:
    asked = {"depth": depth, "kind": kind, "q": q, "start": str(start) if start else ""}
    return f"{own}?{urlencode({name: said for name, said in asked.items() if said})}#lots"


def _step(language: Language, steps: int) -> str:
    if steps == 0:
        return language.say("This lot")
    if steps < 0:
        return language.say("Went into it, step %(n)s", n=-steps)
    return language.say("Made from it, step %(n)s", n=steps)


def _lots(language: Language, number: int) -> str:
    return language.say("Lots: %(n)s", n=language.count(number))


async def _everything(request: Request, key: str) -> dict[str, Any]:
    """What is known of a lot; nothing is no page."""
    backend: Backend = request.app.state.backend
    found, missing = await parts(
        lot=backend.ask("production", "GetLot", lot=key),
        dossier=backend.ask("traceability", "GetLotDossier", lot=key),
    )
    if not missing and found["lot"] is None and found["dossier"] is None:
        raise HTTPException(404)
    lot = found["lot"].lot if found["lot"] else None
    return {
        "key": key,
        "lot": lot,
        "ways": ways(request.state.language, lot) if lot else [],
        "dossier": found["dossier"].dossier if found["dossier"] else None,
        "missing": missing,
    }
