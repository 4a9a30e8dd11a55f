"""Studies that several sites answer together: who takes part, how far it is, what came of it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response
from google.protobuf.json_format import MessageToJson

from pharmaloop.exchange.v1 import service_pb2 as api
from services.portal.addresses import path_of
from services.portal.backend import Backend
from services.portal.confirming import Field, Question, settle, show, text
from services.portal.languages import Language
from services.portal.parts import parts
from services.portal.render import page
from services.portal.sayings import plain
from services.portal.studied import GOING, studied
from services.portal.words import word

router = APIRouter()
_ROWS = 100
_STATES = {
    "requested": api.STUDY_STATE_REQUESTED,
    "approved": api.STUDY_STATE_APPROVED,
    "computing": api.STUDY_STATE_COMPUTING,
    "suspended": api.STUDY_STATE_SUSPENDED,
    "answered": api.STUDY_STATE_ANSWERED,
    "refused": api.STUDY_STATE_REFUSED,
    "stopped": api.STUDY_STATE_STOPPED,
    "expired": api.STUDY_STATE_EXPIRED,
    "failed": api.STUDY_STATE_FAILED,
}
_KINDS = {
    api.STUDY_STATE_REQUESTED: "watch",
    api.STUDY_STATE_SUSPENDED: "watch",
    api.STUDY_STATE_ANSWERED: "good",
    api.STUDY_STATE_REFUSED: "over",
    api.STUDY_STATE_STOPPED: "over",
    api.STUDY_STATE_EXPIRED: "over",
    api.STUDY_STATE_FAILED: "abnormal",
}
_MOST_TABLE_ROWS = 200


@router.get("/studies")
async def studies(request: Request, state: str = "", site: str = "", token: str = "") -> Response:
    """Every study, newest first."""
    backend: Backend = request.app.state.backend
    fields: dict[str, Any] = {"site": site.strip(), "page_size": _ROWS, "page_token": token}
    if state in _STATES:
        fields["state"] = _STATES[state]
    found, missing = await parts(studies=backend.ask("exchange", "ListStudies", **fields))
    after = found["studies"].next_page_token if found["studies"] else ""
    values = {
        "rows": list(found["studies"].studies) if found["studies"] else [],
        "kinds": _KINDS,
        "state": state,
        "states": {name: word(api.StudyState.DESCRIPTOR, number) for name, number in _STATES.items()},
        "site": site,
        "next": f"?{urlencode({'state': state, 'site': site, 'token': after})}" if after else "",
        "missing": missing,
    }
    return page(request, "studies.html", values, live=("domain:exchange",))


@router.get("/studies/{study:path}/approve")
async def approve(request: Request, study: str, site: str = "") -> Response:
    return show(request, await _approval(request, study, site))


@router.post("/studies/{study:path}/approve")
async def approved(request: Request, study: str, site: str = "") -> Response:
    return await settle(
        request,
        lambda: _approval(request, study, site),
        "exchange",
        "ApproveStudy",
        lambda form: {
            "study": study,
            "site": site,
            "valuation": form.get("valuation") == "yes",
        },
    )


@router.get("/studies/{study:path}/refuse")
async def refuse(request: Request, study: str, site: str = "") -> Response:
    return show(request, await _refusal(request, study, site))


@router.post("/studies/{study:path}/refuse")
async def refused(request: Request, study: str, site: str = "") -> Response:
    return await settle(
        request,
        lambda: _refusal(request, study, site),
        "exchange",
        "RefuseStudy",
        lambda form: {"study": study, "site": site, "reason": text(form, "reason")},
    )


@router.get("/studies/{study:path}/stop")
async def stop(request: Request, study: str) -> Response:
    return show(request, await _stopping(request, study))


@router.post("/studies/{study:path}/stop")
async def stopped(request: Request, study: str) -> Response:
    return await settle(
        request,
        lambda: _stopping(request, study),
        "exchange",
        "StopStudy",
        lambda form: {"study": study, "reason": text(form, "reason")},
    )


@router.get("/studies/{study:path}")
async def one(request: Request, study: str) -> Response:
    """One study from the question to its answer and what each site gave."""
    backend: Backend = request.app.state.backend
    answer = await backend.ask("exchange", "GetStudy", study=study)
    found, missing = await parts(datasets=backend.ask("exchange", "ListDatasets", page_size=1000))
    shown = answer.study
    language: Language = request.state.language
    values = {
        "study": shown,
        "kind": _KINDS.get(shown.state, "normal"),
        "of": studied(language, shown, found["datasets"]),
        "tables": _tables(shown.insight.tables),
        "definition": MessageToJson(
            shown.requested.definition, preserving_proto_field_name=True, ensure_ascii=False
        ),
        "specification": _pretty(shown.requested.specification),
        "missing": missing,
    }
    live = (study, f"study:{study}", shown.run, "type:DatasetRegistered")
    return page(request, "study.html", values, live=tuple(name for name in live if name))


def _pretty(told: str) -> str:
    try:
        return json.dumps(json.loads(told), indent=2, ensure_ascii=False) if told else ""
    except ValueError:
        return told


def _tables(told: str) -> list[tuple[str, list[str], list[list[Any]], bool]]:
    """What is no list of estimates, as tables: name, columns, rows, and whether rows were left out."""
    try:
        held = json.loads(told) if told else {}
    except ValueError:
        return []
    named = {f"{one.get('group', '')}": one.get("points", []) for one in held.get("curves", [])}
    named |= {name: held[name] for name in ("cells", "bins", "moments") if isinstance(held.get(name), list)}
    found = []
    for name, rows in named.items():
        if rows and all(isinstance(one, dict) for one in rows):
            columns = list(rows[0])
            cells = [[one.get(column) for column in columns] for one in rows[:_MOST_TABLE_ROWS]]
            found.append((name, columns, cells, len(rows) > _MOST_TABLE_ROWS))
    return found


async def _fresh(request: Request, study: str) -> Any:
    backend: Backend = request.app.state.backend
    answer = await backend.ask("exchange", "GetStudy", fresh=True, study=study)
    return answer.study


def _facts(language: Language, study: Any, site: str = "") -> tuple[tuple[str, str], ...]:
    say = language.say
    asked = study.requested
    return (
        *(((say("Site"), site),) if site else ()),
        (say("Question"), asked.question),
        (say("What the answer is for"), asked.purpose),
        (say("Asked by"), asked.actor),
        (say("Sites"), ", ".join(asked.sites)),
        (
            say("Ethics approval"),
            f"{asked.ethics.board} {asked.ethics.reference} ({language.moment(asked.ethics.until)})",
        ),
        (say("Model"), asked.model),
        (
            say("Noise for privacy"),
            say("epsilon %(epsilon)s", epsilon=language.number(asked.epsilon))
            if asked.epsilon
            else say("None"),
        ),
        (say("Ends at the latest"), language.moment(asked.expires)),
        (say("State"), say(word(api.StudyState.DESCRIPTOR, study.state))),
    )


def _now(language: Language, study: Any, site: str = "") -> tuple[str, str]:
    """How a study stands, for who was second, and who approved for the site if somebody did."""
    say = language.say
    now = say("It stands at: %(state)s.", state=say(word(api.StudyState.DESCRIPTOR, study.state)))
    signed = next((one for one in study.approvals if one.site == site), None)
    if signed is not None:
        told = say("%(actor)s approved for %(site)s.", actor=signed.actor, site=site)
        now = f"{told} {now}"
    if study.statement:
        now = f"{now} {plain(language, study.statement_sayings, study.statement)}"
    return now, signed.actor if signed is not None else study.ended_by


async def _approval(request: Request, study: str, site: str) -> Question:
    language: Language = request.state.language
    say = language.say
    found = await _fresh(request, study)
    now, by = _now(language, found, site)
    fields = []
    if found.requested.valued:
        agreed = ("yes", say("The contribution of this site may be valued"))
        fields.append(Field("valuation", say("Valuation"), "check", required=False, options=(agreed,)))
    return Question(
        title=say("Let %(site)s take part", site=site),
        purpose=say(
            "The site's agent computes sums over its patients; no row and no sum of one site leaves it."
        ),
        back=path_of("studies", study),
        submit=say("Sign the approval"),
        facts=_facts(language, found, site),
        fields=tuple(fields),
        meaning=say("I answer for the data of this site and let it take part."),
        seen=f"{found.state}|{by}",
        now=now,
        by=by,
        over=bool(by) or found.state != api.STUDY_STATE_REQUESTED or site not in found.requested.sites,
    )


async def _refusal(request: Request, study: str, site: str) -> Question:
    language: Language = request.state.language
    say = language.say
    found = await _fresh(request, study)
    now, by = _now(language, found, site)
    return Question(
        title=say("Do not let %(site)s take part", site=site),
        purpose=say("This ends the study: it is asked of all its sites or of none."),
        back=path_of("studies", study),
        submit=say("Sign the refusal"),
        facts=_facts(language, found, site),
        fields=(Field("reason", say("Reason"), "words"),),
        meaning=say("I answer for the data of this site and do not let it take part."),
        seen=f"{found.state}|{by}",
        now=now,
        over=bool(by) or found.state != api.STUDY_STATE_REQUESTED or site not in found.requested.sites,
        danger=True,
    )


async def _stopping(request: Request, study: str) -> Question:
    language: Language = request.state.language
    say = language.say
    found = await _fresh(request, study)
    now, _ = _now(language, found)
    return Question(
        title=say("Stop the study"),
        purpose=say("A study that is stopped is not answered, and is not opened again."),
        back=path_of("studies", study),
        submit=say("Sign: stop"),
        facts=_facts(language, found),
        fields=(Field("reason", say("Reason"), "words"),),
        meaning=say("I stop this study and stand for the reason."),
        seen="going" if found.state in GOING else f"over|{found.state}",
        now=now,
        over=found.state not in GOING,
        danger=True,
    )
