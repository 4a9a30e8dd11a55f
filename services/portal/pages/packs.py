"""One pack: of which lot it is, where that went, and whether it was handed out. No patient is named here.

Serial numbers are kept by no record of the platform. So a pack is known by its dispense, once it was handed
out; by the code that is printed on it its lot is known, and what is known of the lot.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from services.portal.backend import Backend
from services.portal.codes import serial_of
from services.portal.parts import parts
from services.portal.render import page
from services.portal.words import N_

router = APIRouter()
_PLACES = 50
#: Of so many lots it is asked what is known; of a code without a lot there may be many.
_DETAILED = 3
#: What became of a pack, by the contract's name.
BECAME = {
    "": N_("Handed out; nothing else is on record"),
    "RETURNED_UNOPENED": N_("Came back unopened"),
    "RETURNED": N_("Came back opened, or in part"),
    "CORRECTED": N_("The record was taken back: it was not handed out"),
}


@router.get("/packs/{key:path}")
async def one(request: Request, key: str) -> Response:
    """A pack by the id of its dispense, or by the code that is printed on it."""
    backend: Backend = request.app.state.backend
    serial = serial_of(key)
    asked = (
        backend.ask("traceability", "FindThings", text=key)
        if serial
        else backend.ask("traceability", "GetDispense", dispense=key)
    )
    found, missing = await parts(pack=asked)
    pack = found["pack"]
    if serial:
        lots = [thing.id for thing in pack.things if thing.kind == "lot"] if pack else []
    else:
        lots = [pack.lot, *pack.other_lots] if pack else []
    if not lots and not missing:
        raise HTTPException(404)
    of_lots, away = await _lots(backend, lots)
    values = {
        "key": key,
        "serial": serial,
        "dispense": pack if not serial else None,
        "became": BECAME,
        "lots": of_lots,
        "most_places": _PLACES,
        "missing": [*missing, *away],
        "away": any(one.service == "production" for one in away),
    }
    return page(request, "pack.html", values, live=(*lots, key))


async def _lots(backend: Backend, lots: list[str]) -> tuple[list[dict[str, Any]], list[Any]]:
    """What is known of each lot: its quality state, and where it went."""
    answers = await asyncio.gather(
        *(
            parts(
                lot=backend.ask("production", "GetLot", lot=lot),
                node=backend.ask("traceability", "GetLotNode", lot=lot),
            )
            for lot in lots[:_DETAILED]
        )
    )
    rows: list[dict[str, Any]] = [
        {
            "key": key,
            "lot": found["lot"].lot if found["lot"] else None,
            "node": found["node"],
        }
        for key, (found, _) in zip(lots, answers, strict=False)
    ]
    rows += [{"key": key, "lot": None, "node": None} for key in lots[_DETAILED:]]
    return rows, list({gone.service: gone for _, missing in answers for gone in missing}.values())
