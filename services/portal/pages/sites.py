"""The sites, and one hospital: its plans, what its patients told, and differences to explain.

A page asks the process of its own site alone; patients have no name but their pseudonym there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from pharmaloop.loops.v1 import service_pb2 as loops
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
_SHOWN = ("open", "overdue", "all")


@router.get("/sites")
async def sites(request: Request) -> Response:
    """Every site, whether it answers, and how many of its plans wait."""
    backend: Backend = request.app.state.backend
    names = sorted(backend.sites)
    rows = await asyncio.gather(*(_site_row(backend, name) for name in names))
    return page(request, "sites.html", {"rows": rows}, live=(*_LIVE, *_processes(backend)))


def _processes(backend: Backend) -> list[str]:
    return [f"service:{process}" for process in backend.sites.values()]


async def _site_row(backend: Backend, site: str) -> dict[str, Any]:
    process = backend.sites[site]
    row: dict[str, Any] = {"site": site, "process": process, "waiting": None, "overdue": 0, "more": False}
    try:
        (plans, more), now = await asyncio.gather(
            every(backend, process, "ListPlans", "plans", site=site, only_open=True),
            _now(backend, process),
        )
    except Missing:
        return row
    waiting = [plan for plan in plans if not plan.draft]
    return row | {
        "waiting": len(waiting),
        "overdue": sum(_overdue(plan, now) for plan in waiting),
        "more": more,
    }


async def _now(backend: Backend, process: str) -> datetime:
    """The platform clock as the site's process reads it."""
    status = await backend.common(process, "StatusService", "GetStatus")
    told: datetime = status.platform_time.ToDatetime(UTC)
    return told


def _ends(plan: Any) -> datetime:
    at = plan.ends if plan.ends.seconds else plan.plan.due
    ends: datetime = at.ToDatetime(UTC)
    return ends


def _overdue(plan: Any, now: datetime) -> bool:
    return not plan.answered and not plan.draft and _ends(plan) < now


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
    found, missing = await parts(
        now=_now(backend, process),
        plans=every(backend, process, "ListPlans", "plans", site=site, run=run, pseudonym=patient),
        differences=_differences(backend, process, site, run),
        events=backend.ask(
            process, "ListAdverseEvents", site=site, pseudonym=patient, page_size=_ROWS, page_token=events
        ),
        **(
            {"notices": backend.ask(process, "ListNotices", site=site, run=run, page_size=1000)}
            if run
            else {}
        ),
    )
    plans, more = found["plans"] or ([], False)
    now = found["now"] or datetime.now(UTC)
    late = {plan.plan.plan for plan in plans if _overdue(plan, now)}
    rows = _chosen(plans, late, shown)
    start = max(0, start)
    filters = {"run": run, "patient": patient, "shown": shown}
    differences, unread = found["differences"] or ([], False)
    if patient:
        differences = [(of, one) for of, one in differences if one.pseudonym == patient]
    values = {
        "site": site,
        "run": run,
        "patient": patient,
        "shown": shown,
        "plans": rows[start : start + _ROWS],
        "late": late,
        "more": more,
        "of": len(rows),
        "start": start,
        "next": f"?{urlencode(filters | {'start': start + _ROWS})}" if start + _ROWS < len(rows) else "",
        "before": f"?{urlencode(filters | {'start': max(0, start - _ROWS)})}" if start else "",
        "counts": _counts(plans, late),
        "runs": _by_run(plans, late, differences),
        "differences": differences,
        "unread": unread,
        "known": found["differences"] is not None,
        "events": found["events"],
        "events_next": f"?{urlencode(filters | {'events': found['events'].next_page_token})}"
        if found["events"] and found["events"].next_page_token
        else "",
        "notices": found.get("notices"),
        "missing": missing,
    }
    return page(request, "site.html", values, live=(*_LIVE, f"service:{process}"))


def _chosen(plans: Iterable[Any], late: set[str], shown: str) -> list[Any]:
    """The plans that are shown: those that are late first, then by when they end."""
    kept = [
        plan
        for plan in plans
        if shown == "all"
        or (shown == "open" and not plan.answered)
        or (shown == "overdue" and plan.plan.plan in late)
    ]
    return sorted(kept, key=lambda plan: (plan.plan.plan not in late, plan.answered, _ends(plan)))


def _counts(plans: Iterable[Any], late: set[str]) -> dict[str, int]:
    counts = {"plans": 0, "answered": 0, "draft": 0, "waiting": 0, "late": len(late)}
    for plan in plans:
        counts["plans"] += 1
        counts["answered" if plan.answered else "draft" if plan.draft else "waiting"] += 1
    return counts


def _by_run(plans: Iterable[Any], late: set[str], differences: Iterable[Any]) -> list[dict[str, Any]]:
    """What each run asks of this site."""
    rows: dict[str, dict[str, Any]] = {}

    def row(run: str) -> dict[str, Any]:
        return rows.setdefault(run, {"run": run, "plans": 0, "answered": 0, "late": 0, "differences": 0})

    for plan in plans:
        one = row(plan.plan.run)
        one["plans"] += 1
        one["answered"] += plan.answered
        one["late"] += plan.plan.plan in late
    for run, exposure in differences:
        row(run)["differences"] += not exposure.explained
    return sorted(rows.values(), key=lambda one: (-one["differences"], -one["late"], one["run"]))


async def _differences(
    backend: Backend, process: str, site: str, run: str
) -> tuple[list[tuple[str, Any]], bool]:
    """Exposures that the site's own records do not show: of one run, or of every run that goes on.

    Each with its run; those that wait for an explanation first. And whether there may be more.
    """
    runs, more = [run] if run else [], False
    if not run:
        told = await asyncio.gather(
            *(
                backend.ask("loops", "ListRuns", loop="safety", state=state, page_size=_MOST_RUNS)
                for state in (loops.RUN_STATE_STALLED, loops.RUN_STATE_OPEN)
            )
        )
        runs = [one.run for answer in told for one in answer.runs]
        more = len(runs) > _MOST_RUNS or any(answer.next_page_token for answer in told)
        runs = runs[:_MOST_RUNS]
    lists = await asyncio.gather(
        *(every(backend, process, "ListExposures", "exposures", site=site, run=one) for one in runs)
    )
    found = [
        (of, exposure)
        for of, (exposures, _) in zip(runs, lists, strict=True)
        for exposure in exposures
        if not exposure.at_site
    ]
    found.sort(key=lambda one: (one[1].explained, one[1].dispense))
    return found, more or any(cut for _, cut in lists)


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
            "meaning": text(form, "meaning"),
        },
    )


async def _question(request: Request, site: str, run: str, dispense: str) -> Question:
    backend: Backend = request.app.state.backend
    language = request.state.language
    say = language.say
    exposures, _ = await every(
        backend, _process(request, site), "ListExposures", "exposures", site=site, run=run, fresh=True
    )
    difference = next((one for one in exposures if one.dispense == dispense), None)
    if difference is None:
        raise HTTPException(404)
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
        fields=(
            Field("reason", say("Why the two sources differ"), "words"),
            Field(
                "meaning",
                say("What your signature means"),
                value=say("I have looked into it and stand for this explanation."),
            ),
        ),
        seen=f"{difference.at_site}|{difference.explained}",
        now=now,
        over=difference.at_site or difference.explained,
    )
