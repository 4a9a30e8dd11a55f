"""What research holds: findings to judge, hypotheses, and candidates with what their rank rests on."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import service_pb2 as api
from services.portal.backend import Backend
from services.portal.confirming import Field, Question, settle, show, text
from services.portal.languages import Language
from services.portal.parts import parts
from services.portal.render import page
from services.portal.sayings import plain
from services.portal.several import every
from services.portal.words import word

router = APIRouter()
_ROWS = 100
_STATES = {
    "supported": events.HYPOTHESIS_STATE_SUPPORTED,
    "contradicted": events.HYPOTHESIS_STATE_CONTRADICTED,
    "needs-data": events.HYPOTHESIS_STATE_NEEDS_DATA,
}
_KINDS = {
    events.HYPOTHESIS_STATE_SUPPORTED: "good",
    events.HYPOTHESIS_STATE_CONTRADICTED: "watch",
}
_FINDING_KINDS = {api.FINDING_STATE_WAITING: "watch", api.FINDING_STATE_TAKEN_UP: "good"}
_LIVE = tuple(
    f"type:{name}"
    for name in ("HypothesisUpdated", "InsightDeclined", "CandidatesRanked", "InsightPublished")
)


@router.get("/hypotheses")
async def hypotheses(
    request: Request,
    product: str = "",
    state: str = "",
    token: str = "",
    findings: str = "",
    insights: str = "",
) -> Response:
    """What waits for a person first, then what is held, then who ranks where and why."""
    backend: Backend = request.app.state.backend
    product = product.strip()
    asked: dict[str, Any] = {"product": product, "page_size": _ROWS, "page_token": token}
    if state in _STATES:
        asked["state"] = _STATES[state]
    found, missing = await parts(
        waiting=backend.ask(
            "rnd", "ListFindings", product=product, state=api.FINDING_STATE_WAITING, page_size=_ROWS
        ),
        findings=backend.ask("rnd", "ListFindings", product=product, page_size=_ROWS, page_token=findings),
        hypotheses=backend.ask("rnd", "ListHypotheses", **asked),
        candidates=backend.ask("rnd", "ListCandidates", page_size=_ROWS),
        insights=backend.ask("rnd", "ListInsights", product=product, page_size=_ROWS, page_token=insights),
    )
    filters = {"product": product, "state": state}
    values = {
        "product": product,
        "state": state,
        "states": {name: word(events.HypothesisState.DESCRIPTOR, number) for name, number in _STATES.items()},
        "kinds": _KINDS,
        "finding_kinds": _FINDING_KINDS,
        "waiting": _list(found["waiting"], "findings"),
        "findings": _list(found["findings"], "findings"),
        "hypotheses": _list(found["hypotheses"], "hypotheses"),
        "candidates": found["candidates"],
        "next": _next(found["hypotheses"], filters, "token"),
        "findings_next": _next(found["findings"], filters, "findings"),
        "insights": _list(found["insights"], "insights"),
        "insights_next": _next(found["insights"], filters, "insights"),
        "missing": missing,
    }
    return page(request, "hypotheses.html", values, live=_LIVE)


def _list(answer: Any, part: str) -> list[Any]:
    return list(getattr(answer, part)) if answer is not None else []


def _next(answer: Any, filters: dict[str, str], name: str) -> str:
    """Where the next page is; empty at the end."""
    if answer is None or not answer.next_page_token:
        return ""
    return f"?{urlencode(filters | {name: answer.next_page_token})}"


@router.get("/hypotheses/findings/{insight:path}/take-up")
async def take_up(request: Request, insight: str) -> Response:
    return show(request, await _question(request, insight, declining=False))


@router.post("/hypotheses/findings/{insight:path}/take-up")
async def taken_up(request: Request, insight: str) -> Response:
    return await settle(
        request,
        lambda: _question(request, insight, declining=False),
        "rnd",
        "TakeUpInsight",
        lambda _: {"insight": insight},
    )


@router.get("/hypotheses/findings/{insight:path}/decline")
async def decline(request: Request, insight: str) -> Response:
    return show(request, await _question(request, insight, declining=True))


@router.post("/hypotheses/findings/{insight:path}/decline")
async def declined(request: Request, insight: str) -> Response:
    return await settle(
        request,
        lambda: _question(request, insight, declining=True),
        "rnd",
        "DeclineInsight",
        lambda form: {"insight": insight, "reason": text(form, "reason")},
    )


async def _question(request: Request, insight: str, *, declining: bool) -> Question:
    backend: Backend = request.app.state.backend
    language: Language = request.state.language
    say = language.say
    findings, _ = await every(backend, "rnd", "ListFindings", "findings", fresh=True)
    finding = next((one for one in findings if one.insight == insight), None)
    if finding is None:
        raise HTTPException(404)
    now = say("It stands at: %(state)s.", state=say(word(api.FindingState.DESCRIPTOR, finding.state)))
    if finding.state == api.FINDING_STATE_DECLINED and finding.reason:
        now = f"{now} {finding.reason}"
    return Question(
        title=say("Decline the finding") if declining else say("Take up the finding"),
        purpose=say("It moves no hypothesis and no rank; the reason stays on record.")
        if declining
        else say("A hypothesis begins or moves by it, and candidates are ranked anew."),
        back="/hypotheses",
        submit=say("Sign: decline") if declining else say("Sign: take up"),
        facts=(
            (say("Finding"), plain(language, finding.statement_sayings, finding.statement)),
            (say("Study"), finding.study),
            (say("Product"), finding.product),
            (say("Why it waits"), plain(language, finding.reason_sayings, finding.reason)),
            (say("Published"), language.moment(finding.at)),
            (say("State"), say(word(api.FindingState.DESCRIPTOR, finding.state))),
        ),
        fields=(Field("reason", say("Reason"), "words"),) if declining else (),
        meaning=say("I have judged the finding and decline it.")
        if declining
        else say("I have judged the finding and take it up."),
        seen=str(finding.state),
        now=now,
        by=finding.actor,
        over=finding.state != api.FINDING_STATE_WAITING,
        danger=declining,
    )
