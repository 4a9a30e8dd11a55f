"""Lots: the list, one lot with all that is known of it, and its dossier to take away."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from google.protobuf.json_format import MessageToJson
from starlette.exceptions import HTTPException

from pharmaloop.production.v1 import service_pb2 as api
from services.portal.absent import absent
from services.portal.backend import Backend
from services.portal.clock import platform_time
from services.portal.keys import LOT
from services.portal.languages import Language
from services.portal.pages.lot_decisions import ways
from services.portal.papers.dossier import Taken, dossier_paper
from services.portal.parts import parts
from services.portal.render import page
from services.portal.words import word

router = APIRouter()
_ROWS = 50
STATES = {
    "in-process": api.LOT_STATE_STARTED,
    "awaiting": api.LOT_STATE_COMPLETED,
    "held": api.LOT_STATE_HELD,
    "released": api.LOT_STATE_RELEASED,
    "rejected": api.LOT_STATE_REJECTED,
}
_LIVE = (
    *(f"type:Lot{what}" for what in ("Started", "Completed", "Held", "Released", "Rejected")),
    *(f"type:Deviation{what}" for what in ("Detected", "Confirmed", "Rejected", "Classified", "Closed")),
    *(f"type:Deviation{what}" for what in ("InvestigationStarted", "CapaRequired")),
)


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
    """The dossier in the shape of paper, to be read or printed."""
    return page(request, "dossier.html", await _everything(request, key))


@router.get(LOT + "/dossier.json")
async def taken(request: Request, key: str) -> Response:
    """The dossier as its service gives it."""
    backend: Backend = request.app.state.backend
    answer = await backend.ask("traceability", "GetLotDossier", lot=key)
    return _file(key, "json", "application/json", _json(answer.dossier))


@router.get(LOT + "/dossier.pdf")
async def printed(request: Request, key: str) -> Response:
    """The dossier as a PDF in the reader's language. Without the trace's part there is none."""
    backend: Backend = request.app.state.backend
    language: Language = request.state.language
    dossier = (await backend.ask("traceability", "GetLotDossier", lot=key)).dossier
    runs = [run.run for run in dossier.exposed.runs]
    found, missing = await parts(
        lot=backend.ask("production", "GetLot", lot=key),
        now=platform_time(backend),
        **{f"run:{run}": backend.ask("traceability", "GetExposure", run=run) for run in runs},
    )
    journals = {run: found[f"run:{run}"] for run in runs}
    what = Taken(
        key=key,
        lot=found["lot"].lot if found["lot"] else None,
        dossier=dossier,
        exposures={run: told.announced for run, told in journals.items() if told},
        digest=hashlib.sha256(_json(dossier).encode()).hexdigest(),
        made=datetime.now(UTC),
        now=found["now"],
        missing=tuple(one.told(language) or one.whose(language) for one in absent(missing)),
    )
    made = await asyncio.to_thread(dossier_paper, what, language)
    return _file(key, "pdf", "application/pdf", made)


def _json(dossier: Any) -> str:
    return MessageToJson(dossier, preserving_proto_field_name=True, ensure_ascii=False, indent=2)


def _file(key: str, ending: str, kind: str, content: str | bytes) -> Response:
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in key)
    told = f'attachment; filename="dossier-{name[-120:]}.{ending}"'
    return Response(content, media_type=kind, headers={"content-disposition": told})


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
        "away": any(one.service == "production" for one in missing),
    }
