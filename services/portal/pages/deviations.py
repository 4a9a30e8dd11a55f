"""Deviations: which wait for a judgement, what each rests on, what was done about it, and the decisions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from fastapi.responses import Response
from google.protobuf.timestamp_pb2 import Timestamp
from starlette.exceptions import HTTPException

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.portal.backend import Backend
from services.portal.confirming import Field, Question, settle, show, text
from services.portal.drawing.course import Point, Tick, course
from services.portal.drawing.times import round_times
from services.portal.languages import Language
from services.portal.parts import parts
from services.portal.render import page
from services.portal.sayings import reason, rule
from services.portal.words import N_, word

router = APIRouter()
_ROWS = 50
#: Points that the chart of a run is asked for, and how many of those before the evidence are drawn.
_CHART_POINTS, _LEAST_BEFORE, _MOST_BEFORE = 1000, 12, 240
_SEVERITIES = (events.SEVERITY_MINOR, events.SEVERITY_MAJOR, events.SEVERITY_CRITICAL)
#: What is asked for in a filter, by its name in the address.
STATES = {
    "open": api.DEVIATION_STATE_OPEN,
    "under-investigation": api.DEVIATION_STATE_UNDER_INVESTIGATION,
    "confirmed": api.DEVIATION_STATE_CONFIRMED,
    "capa-required": api.DEVIATION_STATE_CAPA_REQUIRED,
    "rejected": api.DEVIATION_STATE_REJECTED,
    "closed": api.DEVIATION_STATE_CLOSED,
}
_LIVE = tuple(
    f"type:Deviation{what}"
    for what in (
        "Detected",
        "Updated",
        "Confirmed",
        "Rejected",
        "InvestigationStarted",
        "Classified",
        "CapaRequired",
        "Closed",
    )
)


@dataclass(frozen=True)
class Deed:
    """One decision about a deviation: how it reads, from which states it may be taken, what tells it."""

    name: str
    title: str
    method: str
    asked: str
    meaning: str
    states: tuple[int, ...]
    danger: bool = False


_UNJUDGED = (api.DEVIATION_STATE_OPEN, api.DEVIATION_STATE_UNDER_INVESTIGATION)
_REAL = (api.DEVIATION_STATE_CONFIRMED, api.DEVIATION_STATE_CAPA_REQUIRED)
DEEDS = {
    deed.name: deed
    for deed in (
        Deed(
            "confirm",
            N_("Confirm the deviation"),
            "ConfirmDeviation",
            N_("Why it is real"),
            N_("I have judged the evidence: the deviation is real. The lot is held, and a run may begin."),
            _UNJUDGED,
            danger=True,
        ),
        Deed(
            "reject",
            N_("Reject as a false alarm"),
            "RejectDeviation",
            N_("Why it is a false alarm"),
            N_("I have judged the evidence: this is a false alarm."),
            _UNJUDGED,
        ),
        Deed(
            "investigate",
            N_("Start an investigation"),
            "StartInvestigation",
            N_("What is looked into"),
            N_("I take up the investigation of this deviation."),
            (api.DEVIATION_STATE_OPEN,),
        ),
        Deed(
            "classify",
            N_("Classify the deviation"),
            "ClassifyDeviation",
            N_("Impact on the product and on patients"),
            N_("I have assessed the impact of this deviation and stand for its class."),
            (*_UNJUDGED, *_REAL),
        ),
        Deed(
            "close",
            N_("Close the deviation"),
            "CloseDeviation",
            N_("Why it may be closed"),
            N_("Everything that this deviation called for is done."),
            _REAL,
        ),
    )
}


@router.get("/deviations")
async def board(request: Request, state: str = "", lot: str = "", token: str = "") -> Response:
    """Deviations, newest first."""
    backend: Backend = request.app.state.backend
    fields: dict[str, Any] = {"lot": lot.strip(), "page_size": _ROWS, "page_token": token}
    if state in STATES:
        fields["state"] = STATES[state]
    found, missing = await parts(answer=backend.ask("production", "ListDeviations", **fields))
    answer = found["answer"]
    values = {
        "deviations": list(answer.deviations) if answer else [],
        "following": answer.next_page_token if answer else "",
        "missing": missing,
        "state": state,
        "lot": lot,
        "token": token,
        "states": [(name, word(api.DeviationState.DESCRIPTOR, number)) for name, number in STATES.items()],
    }
    return page(request, "deviations.html", values, live=_LIVE)


@router.get("/deviations/{lot:path}/{deviation}/{deed}")
async def ask(request: Request, lot: str, deviation: str, deed: str) -> Response:
    """The second step of a decision; an address that names none is a deviation of another lot."""
    if deed not in DEEDS:
        return await one(request, f"{lot}/{deviation}", deed)
    return show(request, await _question(request, lot, deviation, DEEDS[deed]))


@router.post("/deviations/{lot:path}/{deviation}/{deed}")
async def told(request: Request, lot: str, deviation: str, deed: str) -> Response:
    if deed not in DEEDS:
        raise HTTPException(404)
    chosen = DEEDS[deed]

    def fields(form: Any) -> Mapping[str, Any]:
        said = {"lot": lot, "deviation": deviation}
        if deed == "classify":
            number = text(form, "severity")
            return {**said, "severity": int(number) if number in "123" else 0, "impact": text(form, "reason")}
        return {**said, "reason": text(form, "reason")}

    return await settle(
        request, lambda: _question(request, lot, deviation, chosen), "production", chosen.method, fields
    )


@router.get("/deviations/{lot:path}/{deviation}")
async def one(request: Request, lot: str, deviation: str) -> Response:
    """One deviation: evidence, history, and what may be decided."""
    backend: Backend = request.app.state.backend
    found = await _find(backend, lot, deviation)
    others, missing = await parts(
        dossier=backend.ask("traceability", "GetLotDossier", lot=lot),
        runs=backend.ask("production", "GetLot", lot=lot),
        chart=backend.ask(
            "production", "GetChart", lot=lot, tag=found.detected.tag, most_points=_CHART_POINTS
        ),
    )
    dossier = others["dossier"].dossier if others["dossier"] else None
    # What was told before the plant kept histories stands in the lot's dossier alone.
    decisions = [one for one in dossier.decisions.decisions if one.subject == deviation] if dossier else []
    held = others["runs"].lot if others["runs"] else None
    latest = found.updated if found.HasField("updated") else found.detected
    language: Language = request.state.language
    points = [*before(others["chart"], found.detected, latest.evidence), *evidence(latest.evidence)]
    began = latest.evidence[0].at.ToDatetime(UTC) if latest.evidence else None
    values = {
        "found": found,
        "lot": lot,
        "latest": latest,
        "going_on": found.updated,
        "distances": _distances(language, found.detected, latest),
        "samples": [(_stamp(began, one), one) for one in points] if began else [],
        "drawing": course(
            points,
            label=language.say(
                "%(tag)s: %(n)s samples, %(out)s of them outside the limits",
                tag=found.detected.tag,
                n=len(points),
                out=sum(point.out for point in points),
            ),
            number=language.number,
            ticks=_ticks(language, began, points) if began else (),
        ),
        "decisions": decisions,
        "held": held,
        "runs": [run.run for run in dossier.exposed.runs if run.deviation == deviation] if dossier else [],
        "deeds": _may(found),
        "proposed": latest.proposed_severity,
        "severity": word(events.Severity.DESCRIPTOR, found.severity),
        "proposed_severity": word(events.Severity.DESCRIPTOR, latest.proposed_severity),
        "missing": missing,
    }
    return page(request, "deviation.html", values, live=(lot, deviation))


def evidence(points: Any) -> list[Point]:
    """Evidence of the contract as points of a drawing."""
    if not points:
        return []
    begin = points[0].at.ToDatetime()
    return [
        Point((one.at.ToDatetime() - begin).total_seconds(), one.value, one.expected, one.low, one.high)
        for one in points
    ]


def before(chart: Any, detected: Any, evidence: Any) -> list[Point]:
    """Samples of the run from before the evidence, of the tag's chart.

    They begin as long before the limit was first left as the evidence, which is the newest, lasts.
    A chart has the limits in force now: where these are not those of the deviation, none are known.
    """
    if chart is None or not evidence or not chart.HasField("start"):
        return []
    begin = evidence[0].at.ToDatetime()
    offset = (begin - chart.start.ToDatetime()).total_seconds()
    same = math.isclose(chart.limit, detected.limit, rel_tol=1e-6)
    found = []
    for one in chart.points:
        if one.seconds >= offset or not (one.HasField("value") and one.HasField("mean")):
            continue
        known = same and one.HasField("limit_low") and one.HasField("limit_high")
        low, high = (one.limit_low, one.limit_high) if known else (math.nan, math.nan)
        found.append(Point(one.seconds - offset, one.value, one.mean, low, high))
    span = (evidence[-1].at.ToDatetime() - begin).total_seconds()
    left = (detected.first_out.ToDatetime() - begin).total_seconds() if detected.HasField("first_out") else 0
    near = [one for one in found if one.seconds >= min(left, 0) - span]
    near = near if len(near) >= _LEAST_BEFORE else found[-_LEAST_BEFORE:]
    return near[:: math.ceil(len(near) / _MOST_BEFORE) or 1]


def _stamp(began: datetime, one: Point) -> Timestamp:
    at = Timestamp()
    at.FromDatetime(began + timedelta(seconds=one.seconds))
    return at


def _ticks(language: Language, began: datetime, points: Sequence[Point]) -> list[Tick]:
    """The axis of time: round times, the day with the first of each."""
    zone = ZoneInfo(language.zone)
    first, last = (began + timedelta(seconds=one.seconds) for one in (points[0], points[-1]))
    moments, step = round_times(first.astimezone(zone), last.astimezone(zone))
    found: list[Tick] = []
    day = ""
    for at in moments:
        new = language.day(at)
        seconds = (at - began).total_seconds()
        found.append(Tick(seconds, language.time(at, seconds=step < 60), new if new != day else ""))
        day = new
    return found


def _distances(language: Language, detected: Any, latest: Any) -> list[tuple[str, str]]:
    """How far out it was when it was detected, which alerts and judgements cite, and has been since."""
    say, larger = language.say, latest.magnitude > detected.magnitude
    now = say(
        "%(n)s spreads of the golden run; the limit is %(limit)s",
        n=language.number(latest.magnitude),
        limit=language.number(detected.limit),
    )
    largest = (say("Largest distance"), now)
    if not larger:
        return [largest]
    then = say("%(n)s spreads of the golden run", n=language.number(detected.magnitude))
    return [(say("Distance at its detection"), then), largest]


def _may(found: api.Deviation) -> list[Deed]:
    """The decisions that may be taken now. What is not classified cannot be closed."""
    deeds = [deed for deed in DEEDS.values() if found.state in deed.states]
    return [deed for deed in deeds if deed.name != "close" or found.severity]


async def _find(backend: Backend, lot: str, deviation: str, *, fresh: bool = False) -> api.Deviation:
    answer = await backend.ask("production", "ListDeviations", lot=lot, deviation=deviation, fresh=fresh)
    for row in answer.deviations:
        if row.detected.deviation == deviation:
            found: api.Deviation = row
            return found
    raise HTTPException(404)


async def _question(request: Request, lot: str, deviation: str, deed: Deed) -> Question:
    backend: Backend = request.app.state.backend
    found = await _find(backend, lot, deviation, fresh=True)
    language: Language = request.state.language
    say = language.say
    detected = found.detected
    latest = found.updated if found.HasField("updated") else detected
    state = say(word(api.DeviationState.DESCRIPTOR, found.state))
    now = say("It is now: %(state)s", state=state)
    if found.actor:
        now = say(
            "It is now: %(state)s, by %(actor)s: %(reason)s",
            state=state,
            actor=found.actor,
            reason=reason(found, language),
        )
    fields: tuple[Field, ...] = (
        Field("reason", say(deed.asked), "words", value=found.impact if deed.name == "classify" else ""),
    )
    if deed.name == "classify":
        classes = tuple(
            (str(int(number)), say(word(events.Severity.DESCRIPTOR, number))) for number in _SEVERITIES
        )
        chosen = found.severity or latest.proposed_severity
        fields = (
            Field(
                "severity", say("Class"), "pick", value=str(int(chosen)) if chosen else "", options=classes
            ),
            *fields,
        )
    return Question(
        title=say(deed.title),
        purpose=say("What you sign stands in the record of the lot under your name, for good."),
        back="/deviations/" + "/".join(quote(part, safe="") for part in (lot, deviation)),
        submit=say("Sign: %(what)s", what=say(deed.title)),
        facts=(
            (say("Lot"), lot),
            (say("Tag"), f"{detected.tag} ({detected.phase})"),
            (say("Detected"), language.moment(detected.detected)),
            (say("Rule that fired"), rule(language, detected)),
            *_distances(language, detected, latest),
            (say("Samples outside"), language.count(latest.samples_out)),
            (say("State"), now),
        ),
        fields=fields,
        meaning=say(deed.meaning),
        seen=f"{found.state}|{found.actor}|{found.severity}|{found.capa}",
        now=now,
        by=found.actor,
        over=deed not in _may(found),
        danger=deed.danger,
    )
