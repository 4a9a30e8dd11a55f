"""Which services run, how far behind they are and what they put aside: for everybody, so without details.

Why a runner failed may name settings and records; that is told to operators by the `pharmaloop` command.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from services.portal.backend import Backend, Missing, Refused
from services.portal.render import page
from services.portal.words import N_

router = APIRouter()
#: How many records a runner may be behind before it is worth a look.
_BEHIND = 1_000
_STATES = {
    "running": (N_("Running"), "normal"),
    "starting": (N_("Starting"), "watch"),
    "stopped": (N_("Stopped"), "watch"),
    "failed": (N_("Failed"), "abnormal"),
    "elsewhere": (N_("Run by other processes"), "normal"),
}
#: Of a whole process: what is read, and its shape, the worst first.
_AWAY = (N_("Does not answer"), "abnormal")
_NOT_READY = (N_("Not serving"), "abnormal")
_FAILED = (N_("A runner failed"), "abnormal")
_PARKED = (N_("Records wait for an operator"), "watch")
_LATE = (N_("Behind"), "watch")
_FINE = (N_("Serving"), "normal")
_DOMAINS = ("production", "traceability", "clinical", "alerting", "rnd", "loops", "exchange")


@router.get("/status")
async def status(request: Request) -> Response:
    """Every process by its name; what is not well stands first."""
    backend: Backend = request.app.state.backend
    rows = list(await asyncio.gather(*(_row(backend, name) for name in sorted(backend.processes))))
    order = ("abnormal", "watch", "normal")
    rows.sort(key=lambda row: order.index(row["shape"]))
    times = [row["status"].platform_time for row in rows if row["status"]]
    values = {
        "rows": rows,
        "unwell": sum(row["shape"] != "normal" for row in rows),
        "platform_time": max(times, key=lambda at: at.ToNanoseconds(), default=None),
        "contracts": len({row["status"].contract for row in rows if row["status"]}),
        "runner": lambda runner: _STATES.get(runner.state, (runner.state, "watch")),
    }
    live = (*(f"service:{name}" for name in backend.processes), *(f"domain:{name}" for name in _DOMAINS))
    return page(request, "status.html", values, live=live)


async def _row(backend: Backend, process: str) -> dict[str, Any]:
    """One process: what it says of itself, summed over its runners."""
    try:
        told = await backend.common(process, "StatusService", "GetStatus")
    except (Missing, Refused):
        return {"process": process, "status": None, "word": _AWAY[0], "shape": _AWAY[1]}
    word, shape = _judged(told)
    return {
        "process": process,
        "status": told,
        "word": word,
        "shape": shape,
        "lag": sum(runner.lag for runner in told.runners),
        "letters": sum(runner.dead_letters for runner in told.runners),
        "parked": sum(runner.parked_keys for runner in told.runners),
    }


def _judged(told: Any) -> tuple[str, str]:
    """A process in a word, by the worst of it."""
    if told.health != "serving":
        return _NOT_READY
    if any(runner.state == "failed" for runner in told.runners):
        return _FAILED
    if any(runner.parked_keys or runner.dead_letters for runner in told.runners):
        return _PARKED
    return _LATE if any(runner.lag >= _BEHIND for runner in told.runners) else _FINE
