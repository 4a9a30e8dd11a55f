"""Alerts: what happened, how often, who is asked and until when, how it ended; taking one, in two steps."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pharmaloop.alerting.v1 import events_pb2 as events
from pharmaloop.alerting.v1 import service_pb2 as api
from services.portal.backend import Backend
from services.portal.clock import PlatformClock
from services.portal.confirming import Field, Question, settle, show, text
from services.portal.languages import Language
from services.portal.parts import parts
from services.portal.places import case_place
from services.portal.render import page
from services.portal.sayings import plain
from services.portal.words import WORDS, word

router = APIRouter()
_CLOCK = PlatformClock()
_STATES = {
    "open": api.ALERT_STATE_OPEN,
    "taken": api.ALERT_STATE_TAKEN,
    "resolved": api.ALERT_STATE_RESOLVED,
    "all": api.ALERT_STATE_UNSPECIFIED,
}
_KINDS = {
    "deviation": events.ALERT_KIND_DEVIATION,
    "stalled": events.ALERT_KIND_LOOP_STALLED,
    "no-run": events.ALERT_KIND_NO_RUN,
}
_ROWS = 50
#: From this severity on an alert is coloured as abnormal.
_SHAPES = {events.ALERT_SEVERITY_CRITICAL: "abnormal", events.ALERT_SEVERITY_MINOR: "normal"}


@router.get("/alerts")
async def listed(
    request: Request,
    state: str = "open",
    kind: str = "",
    run: str = "",
    lot: str = "",
    after: str = "",
    took: str = "",
) -> Response:
    """The alerts of a page, the gravest first, then the newest: those that nobody took, unless others are
    asked for. `took` is the alert that a person comes from having taken."""
    backend: Backend = request.app.state.backend
    state = state if state in _STATES else "open"
    kind = kind if kind in _KINDS else ""
    about = {"run": run.strip(), "lot": lot.strip()}
    asked: dict[str, Any] = {
        "kind": _KINDS.get(kind, events.ALERT_KIND_UNSPECIFIED),
        "state": _STATES[state],
        "only_open": state == "open",
        "page_size": _ROWS,
        "page_token": after,
        **about,
    }
    wanted: dict[str, Awaitable[Any]] = {
        "alerts": backend.ask("alerting", "ListAlerts", **asked),
        "now": _CLOCK.now(backend, "alerting"),
    }
    if took:
        wanted["took"] = backend.ask("alerting", "GetAlert", fresh=True, alert=took)
    found, missing = await parts(**wanted)
    told = found["alerts"]
    rows = [_row(one, found["now"]) for one in told.alerts] if told else []
    filters = {"state": state, "kind": kind, **about}
    token = told.next_page_token if told else ""
    values = {
        "rows": sorted(rows, key=lambda row: (row["over"], -row["alert"].severity)),
        "took": _own(found.get("took"), request.state.actor),
        "filtered": kind or any(about.values()) or state != "open",
        "known": told is not None,
        "filters": filters,
        "kinds": {name: WORDS[events.AlertKind.Name(number)] for name, number in _KINDS.items()},
        "next": "?" + urlencode({k: v for k, v in (filters | {"after": token}).items() if v})
        if token
        else "",
        "case_path": case_place,
        "now": found["now"],
        "pace": _CLOCK.pace,
        "missing": missing,
    }
    return page(request, "alerts.html", values, live=("domain:alerting", "service:alerting"))


def _row(alert: Any, now: datetime | None) -> dict[str, Any]:
    """An alert with the seconds of the platform's clock that are left until the next role is asked."""
    until = alert.next_escalation.ToDatetime(UTC) if alert.HasField("next_escalation") else None
    left = (until - now).total_seconds() if until and now else None
    over = alert.HasField("resolved")
    return {
        "alert": alert,
        "over": over,
        "shape": "over"
        if alert.actor or alert.HasField("resolved")
        else _SHAPES.get(alert.severity, "watch"),
        "until": until,
        "left": left,
    }


def _own(answer: Any, actor: str) -> api.Alert | None:
    """The alert, where this person took it."""
    return answer.alert if answer is not None and actor and answer.alert.actor == actor else None


def _says(language: Language, alert: api.Alert) -> str:
    """What happened last, in the reader's language."""
    return plain(
        language, alert.latest_sayings or alert.raised.sayings, alert.latest_text or alert.raised.text
    )


def _stands(alert: api.Alert, language: Language) -> tuple[str, str, str]:
    """How it stands: in a word for the form, in a sentence, and by whom; no sentence while it is open."""
    say = language.say
    if alert.HasField("resolved"):
        end = say(word(events.AlertEnd.DESCRIPTOR, alert.resolved.end))
        actor = alert.resolved.actor
        said = say("It is over: %(end)s, by %(actor)s", end=end, actor=actor) if actor else ""
        return "resolved", said or say("It is over: %(end)s", end=end), actor
    if alert.actor:
        said = say("%(actor)s took it: %(note)s", actor=alert.actor, note=alert.note or "–")
        return "taken", said, alert.actor
    return "open", "", ""


async def _taking(request: Request, alert: str) -> Question:
    backend: Backend = request.app.state.backend
    told = (await backend.ask("alerting", "GetAlert", fresh=True, alert=alert)).alert
    language = request.state.language
    say = language.say
    seen, now, by = _stands(told, language)
    return Question(
        title=say("Take this alert"),
        purpose=say("Says that you look after it: its clock stops, and nobody else is asked."),
        back="/alerts",
        done=f"/alerts?{urlencode({'took': alert})}",
        submit=say("Take it"),
        facts=(
            (say("Kind"), say(word(events.AlertKind.DESCRIPTOR, told.raised.kind))),
            (say("Severity"), say(word(events.AlertSeverity.DESCRIPTOR, told.severity))),
            (say("What happened"), _says(language, told)),
            (say("How often"), language.count(max(1, told.count))),
            (say("Lot or case"), told.raised.lot),
            (say("Run"), told.raised.run),
            (say("Level"), language.count(told.level)),
            (say("Who is asked"), say(WORDS.get(told.asked, told.asked))),
        ),
        fields=(Field("note", say("Note"), "words", required=False),),
        meaning=say("I look after this alert from now on."),
        seen=seen,
        now=now,
        by=by,
        over=seen != "open",
    )


@router.get("/alerts/{alert}")
async def take(request: Request, alert: str) -> Response:
    return show(request, await _taking(request, alert))


@router.post("/alerts/{alert}")
async def taken(request: Request, alert: str) -> Response:
    return await settle(
        request,
        lambda: _taking(request, alert),
        "alerting",
        "AcknowledgeAlert",
        lambda form: {"alert": alert, "note": text(form, "note")},
    )
