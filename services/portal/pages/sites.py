"""The sites, and one hospital: its plans, what its patients told, and differences to explain.

A page asks the process of its own site alone; patients have no name but their pseudonym there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from pharmaloop.clinical.v1 import service_pb2 as api
from services.portal.backend import Backend, Missing
from services.portal.confirming import Field, Question, settle, show, text
from services.portal.parts import parts
from services.portal.render import page, path_of
from services.portal.several import every

router = APIRouter()
_ROWS = 100
_MOST_RUNS = 20
_LIVE = tuple(
    f"type:{name}"
    for name in (
        "MonitoringPlansOpened",
        "PlansOpened",
        "ComparatorsChosen",
        "ResponseRecorded",
        "DifferenceExplained",
        "ExposureReceived",
        "RemindersDue",
        "AdverseEventRecorded",
        "NoticeRecorded",
        "HazardEvaluated",
        "LoopClosed",
    )
)
#: Which plans are shown, by what is asked for.
_SHOWN: dict[str, dict[str, bool]] = {
    "open": {"only_open": True},
    "overdue": {"only_overdue": True},
    "all": {},
}


@router.get("/sites")
async def sites(request: Request) -> Response:
    """Every site, whether it answers, and what waits there."""
    backend: Backend = request.app.state.backend
    rows = await asyncio.gather(*(_site_row(backend, name) for name in sorted(backend.sites)))
    processes = [f"service:{process}" for process in backend.sites.values()]
    return page(request, "sites.html", {"rows": rows}, live=(*_LIVE, *processes))


async def _site_row(backend: Backend, site: str) -> dict[str, Any]:
    try:
        board = await backend.ask(backend.sites[site], "GetSiteBoard", site=site)
    except Missing:
        return {"site": site, "totals": None}
    return {"site": site, "totals": _totals(board.runs)}


def _totals(runs: Iterable[Any]) -> dict[str, int]:
    """What waits at a site, over the runs that go on there."""
    totals = dict.fromkeys(("runs", "plans", "answered", "awaited", "overdue", "owed", "differences"), 0)
    for run in runs:
        totals["runs"] += 1
        totals["plans"] += run.plans
        totals["answered"] += run.answered
        totals["awaited"] += run.awaited
        totals["overdue"] += run.overdue + run.comparators_overdue
        totals["owed"] += run.notices_owed
        totals["differences"] += run.only_in_trace + run.only_at_site
    return totals


def _process(request: Request, site: str) -> str:
    """The process that speaks for a site; no page for another name."""
    backend: Backend = request.app.state.backend
    if site not in backend.sites:
        raise HTTPException(404)
    return backend.sites[site]


@router.get("/sites/{site}")
async def one(
    request: Request,
    site: str,
    run: str = "",
    patient: str = "",
    shown: str = "open",
    start: int = 0,
    events: str = "",
) -> Response:
    """One hospital's work: who is to be asked, who is late, what was told, what does not agree."""
    backend: Backend = request.app.state.backend
    process = _process(request, site)
    run, patient = run.strip(), patient.strip()
    shown = shown if shown in _SHOWN else "open"
    asked: dict[str, Any] = {
        "board": backend.ask(process, "GetSiteBoard", site=site, run=run),
        "plans": every(
            backend, process, "ListPlans", "plans", site=site, run=run, pseudonym=patient, **_SHOWN[shown]
        ),
        "differences": _differences(backend, process, site, run),
        "events": backend.ask(
            process, "ListAdverseEvents", site=site, pseudonym=patient, page_size=_ROWS, page_token=events
        ),
    }
    if run:
        asked["notices"] = backend.ask(process, "ListNotices", site=site, run=run, page_size=1000)
    found, missing = await parts(**asked)
    plans, more = found["plans"] or ([], False)
    plans.sort(key=lambda plan: (not plan.overdue, plan.answered, _ends(plan)))
    start = max(0, start)
    filters = {"run": run, "patient": patient, "shown": shown}
    differences, unread = found["differences"] or ([], False)
    if patient:
        differences = [(of, one) for of, one in differences if one.pseudonym == patient]
    told = found["events"]
    values = {
        "site": site,
        "run": run,
        "patient": patient,
        "shown": shown,
        "plans": plans[start : start + _ROWS],
        "more": more,
        "of": len(plans),
        "start": start,
        "next": f"?{urlencode(filters | {'start': start + _ROWS})}" if start + _ROWS < len(plans) else "",
        "before": f"?{urlencode(filters | {'start': max(0, start - _ROWS)})}" if start else "",
        "totals": _totals(found["board"].runs) if found["board"] else None,
        "runs": list(found["board"].runs) if found["board"] else [],
        "differences": differences,
        "unread": unread,
        "known": found["differences"] is not None,
        "events": told,
        "events_next": f"?{urlencode(filters | {'events': told.next_page_token})}"
        if told and told.next_page_token
        else "",
        "notices": found.get("notices"),
        "missing": missing[:1],  # one process answers them all
    }
    return page(request, "site.html", values, live=(*_LIVE, f"service:{process}"))


def _ends(plan: Any) -> int:
    """When a follow-up ends, in seconds of platform time."""
    seconds: int = plan.ends.seconds or plan.plan.due.seconds
    return seconds


async def _differences(
    backend: Backend, process: str, site: str, run: str
) -> tuple[list[tuple[str, Any]], bool]:
    """What the two sources do not agree on, each with its run, and whether there may be more.

    Of one run also what somebody explained; else of every run that goes on and has a difference.
    """
    runs = [run]
    if not run:
        board = await backend.ask(process, "GetSiteBoard", site=site)
        runs = [one.run for one in board.runs if one.only_in_trace or one.only_at_site]
    lists = await asyncio.gather(
        *(
            every(backend, process, "ListExposures", "exposures", site=site, run=one, only_differences=True)
            for one in runs[:_MOST_RUNS]
        )
    )
    found = [(of, one) for of, (rows, _) in zip(runs, lists, strict=False) for one in rows]
    cut = len(runs) > _MOST_RUNS or any(more for _, more in lists)
    if run:
        rows, more = await every(backend, process, "ListExposures", "exposures", site=site, run=run)
        found += [(run, one) for one in rows if one.explained and not one.at_site]
        cut = cut or more
    return found, cut


@router.get("/sites/{site}/explain")
async def explain(request: Request, site: str, run: str, dispense: str) -> Response:
    """What does not agree, before somebody explains it under their name."""
    return show(request, await _question(request, site, run, dispense))


@router.post("/sites/{site}/explain")
async def explained(request: Request, site: str, run: str, dispense: str) -> Response:
    return await settle(
        request,
        lambda: _question(request, site, run, dispense),
        _process(request, site),
        "ExplainDifference",
        lambda form: {
            "site": site,
            "dispense": dispense,
            "reason": text(form, "reason"),
        },
    )


async def _question(request: Request, site: str, run: str, dispense: str) -> Question:
    backend: Backend = request.app.state.backend
    language = request.state.language
    say = language.say
    process = _process(request, site)
    of: dict[str, Any] = {"site": site, "run": run, "fresh": True}
    difference = None
    for narrow in ({"only_differences": True}, {}):  # one that was explained is none any more
        exposures, _ = await every(backend, process, "ListExposures", "exposures", **of, **narrow)
        difference = next((one for one in exposures if one.dispense == dispense), difference)
        if difference:
            break
    if difference is None or difference.difference == api.EXPOSURE_DIFFERENCE_ONLY_AT_SITE:
        raise HTTPException(404)  # what the site alone has is no member of the run to explain
    if difference.at_site:
        now = say("The site's own records show this dispense now.")
    elif difference.explained:
        now = say("Somebody has explained this difference.")
    else:
        now = say("Nobody has explained this difference yet.")
    return Question(
        title=say("Explain a difference"),
        purpose=say("A dispense names a patient of this site, and the site's own records do not show it."),
        back=f"{path_of('sites', site)}?{urlencode({'run': run})}",
        submit=say("Sign the explanation"),
        facts=(
            (say("Site"), site),
            (say("Run"), run),
            (say("Dispense"), dispense),
            (say("Patient"), difference.pseudonym),
            (say("Lot"), difference.lot),
            (say("Dispensed"), language.moment(difference.at)),
            (say("What became of it"), difference.disposition),
            (say("State"), now),
        ),
        fields=(Field("reason", say("Why the two sources differ"), "words"),),
        meaning=say("I have looked into it and stand for this explanation."),
        seen=f"{difference.at_site}|{difference.explained}",
        now=now,
        over=difference.at_site or difference.explained,
    )
