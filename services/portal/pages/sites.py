"""The sites, and one hospital: its plans, what its patients told, and differences to explain.

A page asks the process of its own site alone; patients have no name but their pseudonym there. The list of
all sites is read by several organisations: its counts of people are told as `kit.small_groups` allows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pharmaloop.clinical.v1 import events_pb2 as clinical
from services.kit import small_groups
from services.portal.backend import Backend, Missing
from services.portal.clock import platform_time
from services.portal.followed import answer_text, asked_text
from services.portal.languages import Language
from services.portal.live import of_site
from services.portal.pages.site_records import process_of
from services.portal.parts import parts
from services.portal.render import page
from services.portal.several import every

router = APIRouter()
_ROWS = 100
_MOST_RUNS = 20
_MOST_NOTICES = 200
_LIVE = tuple(
    f"type:{name}"
    for name in (
        "MonitoringPlansOpened",
        "PlansOpened",
        "ComparatorsChosen",
        "ResponseRecorded",
        "DifferenceExplained",
        "MedicationCorrected",
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
    told = told_of_all({row["site"]: row["runs"] for row in rows})
    processes = [f"service:{process}" for process in backend.sites.values()]
    return page(request, "sites.html", {"rows": rows, "told": told}, live=(*_LIVE, *processes))


async def _site_row(backend: Backend, site: str) -> dict[str, Any]:
    try:
        board = await backend.ask(backend.sites[site], "GetSiteBoard", site=site)
    except Missing:
        return {"site": site, "totals": None, "runs": ()}
    return {"site": site, "totals": _totals(board.runs), "runs": board.runs}


#: What waits at a site, by the fields of its board that are added.
_COUNTED = {
    "plans": ("plans",),
    "answered": ("answered",),
    "awaited": ("awaited",),
    "overdue": ("overdue", "comparators_overdue"),
    "owed": ("notices_owed",),
    "notified": ("notified",),
    "unreachable": ("unreachable",),
    "differences": ("only_in_trace", "only_at_site"),
}


def _totals(runs: Iterable[Any]) -> dict[str, int]:
    """What waits at a site, over the runs that go on there."""
    of = list(runs)
    counted = {
        name: sum(getattr(run, field) for run in of for field in fields) for name, fields in _COUNTED.items()
    }
    return {"runs": len(of), **counted}


def told_of_all(boards: Mapping[str, Iterable[Any]]) -> frozenset[str]:
    """Which counts of people a page of all sites may show: none of which a group of 1 to 9 follows.

    Each run is looked at by itself too, for its totals are shown elsewhere.
    """
    groups: dict[str, dict[str, list[int]]] = {}
    for site, runs in boards.items():
        of = list(runs)
        groups |= {f"{site}|{run.run}": _groups([run]) for run in of}
        groups[site] = _groups(of)
    return small_groups.told(groups)


def _groups(runs: Sequence[Any]) -> dict[str, list[int]]:
    """By kind of count the groups that follow from it and from what may be known beside it."""
    totals = _totals(runs)
    exposed = sum(run.overdue for run in runs)
    return {
        "awaited": [totals["awaited"], totals["answered"]],
        "overdue": [exposed, totals["overdue"] - exposed, totals["awaited"] - exposed],
        "owed": [totals["owed"], totals["notified"], totals["unreachable"]],
        "differences": [sum(getattr(run, field) for run in runs) for field in _COUNTED["differences"]],
    }


@router.get("/sites/{site}")
async def one(
    request: Request,
    site: str,
    run: str = "",
    patient: str = "",
    shown: str = "open",
    start: int = 0,
    events: str = "",
    answers: str = "",
) -> Response:
    """One hospital's work: who is to be asked, who is late, what was told, what does not agree."""
    backend: Backend = request.app.state.backend
    process = process_of(request, site)
    language: Language = request.state.language
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
        "answers": backend.ask(
            process,
            "ListResponses",
            site=site,
            run=run,
            pseudonym=patient,
            words=bool(patient),
            page_size=_ROWS,
            page_token=answers,
        ),
        "now": _now(backend, process),
    }
    if run:
        asked["hazard"] = backend.ask(process, "ListNotices", site=site, run=run, page_size=1)
        asked["notices"] = every(backend, process, "ListNotices", "notices", site=site, run=run)
    found, missing = await parts(**asked)
    plans, more = found["plans"] or ([], False)
    plans.sort(key=_urgency)
    start = max(0, start)
    filters = {"run": run, "patient": patient, "shown": shown}
    differences, unread = found["differences"] or ([], False)
    if patient:
        differences = [(of, one) for of, one in differences if one.pseudonym == patient]
    told, responses = found["events"], found["answers"]
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
        "answers": sorted(responses.responses, key=_latest) if responses else None,
        "answers_next": f"?{urlencode(filters | {'answers': responses.next_page_token})}"
        if responses and responses.next_page_token
        else "",
        "asked_text": lambda question: asked_text(language, question),
        "answer_text": lambda asked: answer_text(language, asked),
        "late": lambda plan: _late(language, plan, found["now"]),
        "hazard": found.get("hazard"),
        **_notices(found.get("notices"), patient),
        "missing": missing,
    }
    return page(request, "site.html", values, live=(*of_site(site, _LIVE), f"service:{process}"))


def _ends(plan: Any) -> int:
    """When a follow-up ends, in seconds of platform time."""
    seconds: int = plan.ends.seconds or plan.plan.due.seconds
    return seconds


def _urgency(plan: Any) -> tuple[bool, int, bool, int]:
    """Who is overdue stands first, longest first; then who has to answer, soonest first."""
    return not plan.overdue, plan.overdue_since.seconds, plan.answered, _ends(plan)


def _latest(answer: Any) -> int:
    return -int(answer.at.seconds)


def _late(language: Language, plan: Any, now: datetime | None) -> str:
    """How long a plan is overdue, in words; empty where that is not known."""
    if now is None or not plan.HasField("overdue_since"):
        return ""
    return language.span(max(0.0, now.timestamp() - plan.overdue_since.ToSeconds()))


async def _now(backend: Backend, process: str) -> datetime | None:
    """The platform clock at the site; a page says without it what it can."""
    try:
        return await platform_time(backend, process)
    except Missing:
        return None


def _notices(found: tuple[list[Any], bool] | None, patient: str) -> dict[str, Any]:
    """Who is to be told, those whom nobody told yet first; the first rows, and whether there are more."""
    if found is None:
        return {"notices": None, "more_notices": False}
    rows = [one for one in found[0] if patient in ("", one.pseudonym)]
    order = {clinical.NOTICE_OUTCOME_UNREACHABLE: 1, clinical.NOTICE_OUTCOME_NOTIFIED: 2}
    rows.sort(key=lambda one: (order.get(one.outcome, 0), one.pseudonym))
    return {"notices": rows[:_MOST_NOTICES], "more_notices": found[1] or len(rows) > _MOST_NOTICES}


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
    # Answers are shared for a moment: what was explained between two of them is in both; the later counts.
    return list({(of, one.dispense): (of, one) for of, one in found}.values()), cut
