"""The loop board and one run of a loop."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pharmaloop.loops.v1 import service_pb2 as api
from services.portal.backend import Backend
from services.portal.parts import parts
from services.portal.render import page

router = APIRouter()
_STATES = {
    "open": api.RUN_STATE_OPEN,
    "stalled": api.RUN_STATE_STALLED,
    "ended": api.RUN_STATE_CLOSED,
}
_ROWS = 500


@router.get("/runs")
async def board(request: Request, loop: str = "", state: str = "") -> Response:
    """Which loops run, which are stuck: stuck first."""
    backend: Backend = request.app.state.backend
    fields: dict[str, Any] = {"loop": loop, "page_size": _ROWS}
    if state in _STATES:
        fields["state"] = _STATES[state]
    found, missing = await parts(runs=backend.ask("loops", "ListRuns", **fields))
    runs = list(found["runs"].runs) if found["runs"] else []
    runs.sort(key=lambda run: run.state != api.RUN_STATE_STALLED)
    values = {"runs": runs, "missing": missing, "loop": loop, "state": state, "states": list(_STATES)}
    return page(request, "runs.html", values, live=("domain:loops",))


@router.get("/runs/{run}")
async def one(request: Request, run: str) -> Response:
    """One run from its trigger to its end."""
    backend: Backend = request.app.state.backend
    found = await backend.ask("loops", "GetRun", run=run)
    return page(request, "run.html", {"run": found.run, "missing": []}, live=(run, found.run.case))
