"""Results of the laboratory: what is out of specification or out of trend, and how an investigation ends."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.portal.addresses import path_of
from services.portal.backend import Backend
from services.portal.confirming import Field, Question, settle, show, text
from services.portal.languages import Language
from services.portal.parts import parts
from services.portal.render import page
from services.portal.sayings import rule
from services.portal.several import every
from services.portal.words import word

router = APIRouter()
_ROWS = 100
_STATES = {
    "investigated": api.RESULT_STATE_INVESTIGATED,
    "out-of-specification": api.RESULT_STATE_OUT_OF_SPECIFICATION,
    "out-of-trend": api.RESULT_STATE_OUT_OF_TREND,
    "void": api.RESULT_STATE_VOID,
    "recorded": api.RESULT_STATE_RECORDED,
}
_KINDS = {
    api.RESULT_STATE_INVESTIGATED: "watch",
    api.RESULT_STATE_OUT_OF_SPECIFICATION: "abnormal",
    api.RESULT_STATE_OUT_OF_TREND: "watch",
    api.RESULT_STATE_VOID: "over",
}
_OUTCOMES = {str(number): number for number in events.InvestigationOutcome.values() if number}
_LIVE = tuple(
    f"type:{name}"
    for name in (
        "TestResultRecorded",
        "LaboratoryInvestigationOpened",
        "InvestigationClosed",
        "RetestPassed",
        "DeviationDetected",
    )
)


@router.get("/results")
async def results(request: Request, state: str = "", lot: str = "", token: str = "") -> Response:
    """Results, newest first."""
    backend: Backend = request.app.state.backend
    lot = lot.strip()
    asked: dict[str, Any] = {"lot": lot, "page_size": _ROWS, "page_token": token}
    if state in _STATES:
        asked["state"] = _STATES[state]
    found, missing = await parts(results=backend.ask("production", "ListResults", **asked))
    after = found["results"].next_page_token if found["results"] else ""
    values = {
        "rows": list(found["results"].results) if found["results"] else [],
        "kinds": _KINDS,
        "states": {name: word(api.ResultState.DESCRIPTOR, number) for name, number in _STATES.items()},
        "state": state,
        "lot": lot,
        "close": _close,
        "next": f"?{urlencode({'state': state, 'lot': lot, 'token': after})}" if after else "",
        "missing": missing,
    }
    return page(request, "results.html", values, live=(*filter(None, (lot,)), *_LIVE))


def _close(result: Any) -> str:
    """Where its investigation is closed; empty where none is open."""
    if result.state != api.RESULT_STATE_INVESTIGATED:
        return ""
    return f"/results/close?{urlencode({'lot': result.recorded.lot, 'investigation': result.investigation})}"


@router.get("/results/close")
async def close(request: Request, lot: str, investigation: str) -> Response:
    return show(request, await _question(request, lot, investigation))


@router.post("/results/close")
async def closed(request: Request, lot: str, investigation: str) -> Response:
    return await settle(
        request,
        lambda: _question(request, lot, investigation),
        "production",
        "CloseInvestigation",
        lambda form: {
            "lot": lot,
            "investigation": investigation,
            "outcome": _OUTCOMES.get(text(form, "outcome"), 0),
            "reason": text(form, "reason"),
        },
    )


async def _question(request: Request, lot: str, investigation: str) -> Question:
    backend: Backend = request.app.state.backend
    language: Language = request.state.language
    say = language.say
    found, _ = await every(backend, "production", "ListResults", "results", lot=lot, fresh=True)
    result = next((one for one in found if investigation and one.investigation == investigation), None)
    if result is None:
        raise HTTPException(404)
    told, state = result.recorded, say(word(api.ResultState.DESCRIPTOR, result.state))
    limits = " – ".join(
        language.number(getattr(told, end), 5) if told.HasField(end) else "" for end in ("low", "high")
    )
    now = say("It stands at: %(state)s.", state=state)
    if result.actor:
        by = say("%(actor)s closed it: %(reason)s", actor=result.actor, reason=result.reason)
        now = f"{by} {now}"
    return Question(
        title=say("Close the investigation of a result"),
        purpose=say(
            "If the laboratory erred, the test is done again. "
            "If the result stands, the lot can only be rejected."
        ),
        back=path_of("lots", lot),
        submit=say("Sign: close the investigation"),
        facts=(
            (say("Lot"), lot),
            (say("Test"), told.test),
            (say("Value"), f"{language.number(told.value, 5)} {told.unit}"),
            (say("Specification"), limits),
            (say("Rule"), rule(language, result)),
            (say("Tested"), language.moment(told.at.at)),
            (say("State"), state),
        ),
        fields=(
            Field(
                "outcome",
                say("What was found"),
                "pick",
                options=tuple(
                    (value, say(word(events.InvestigationOutcome.DESCRIPTOR, number)))
                    for value, number in _OUTCOMES.items()
                ),
            ),
            Field("reason", say("What was looked at, and what it showed"), "words"),
        ),
        meaning=say("I have judged the investigation and stand for what was found."),
        seen=f"{result.state}|{result.actor}",
        now=now,
        by=result.actor,
        over=result.state != api.RESULT_STATE_INVESTIGATED,
        danger=True,
    )
