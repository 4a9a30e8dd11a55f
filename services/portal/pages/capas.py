"""Corrective actions: what is proposed on which evidence, its change control, and the decisions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.portal.backend import Backend
from services.portal.confirming import Field, Question, settle, show, text
from services.portal.languages import Language
from services.portal.limit_change import of_proposal
from services.portal.parts import parts
from services.portal.render import page
from services.portal.sayings import plain
from services.portal.words import N_, word

router = APIRouter()
_ROWS = 50
STATES = {
    "proposed": api.CAPA_STATE_PROPOSED,
    "approved": api.CAPA_STATE_APPROVED,
    "effective": api.CAPA_STATE_EFFECTIVE,
    "closed": api.CAPA_STATE_CLOSED,
    "refused": api.CAPA_STATE_REFUSED,
}
_LIVE = (
    "type:CapaProposed",
    "type:CapaApproved",
    "type:CapaRefused",
    "type:ChangeValidated",
    "type:ChangeFilingAssessed",
    "type:ProcessLimitChanged",
    "type:CapaEffectivenessChecked",
)


@dataclass(frozen=True)
class Deed:
    """One decision about a corrective action: what is told, when it may be, and what one stands for."""

    name: str
    title: str
    method: str
    stands_for: str
    may: Callable[[api.Capa], bool]
    fields: Callable[[FormData], Mapping[str, Any]]


_AFTER_REFUSAL = N_(
    "The limit stays, research is not told, and the run ends as refused. Held lots stay held until each is "
    "judged, and the deviation waits to be closed. This run proposes nothing again."
)


def _number(form: FormData, name: str) -> int:
    """A picked value of an enumeration; 0, which services refuse, where it is none."""
    said = text(form, name)
    return int(said) if said in ("1", "2", "3") else 0


DEEDS = {
    deed.name: deed
    for deed in (
        Deed(
            "approve",
            N_("Approve the corrective action"),
            "ApproveCapa",
            N_("I have judged the evidence and approve this change; it goes into change control."),
            lambda capa: capa.state == api.CAPA_STATE_PROPOSED,
            lambda form: {},
        ),
        Deed(
            "refuse",
            N_("Refuse the corrective action"),
            "RefuseCapa",
            N_("I have judged the evidence and refuse this change; its limit stays as it is."),
            lambda capa: capa.state == api.CAPA_STATE_PROPOSED,
            lambda form: {"reason": text(form, "reason")},
        ),
        Deed(
            "validate",
            N_("Record the validation"),
            "RecordValidation",
            N_("The validation is on record as I say here."),
            lambda capa: capa.state == api.CAPA_STATE_APPROVED and not capa.HasField("validated"),
            lambda form: {"record": text(form, "record"), "statement": text(form, "statement")},
        ),
        Deed(
            "file",
            N_("Record the filing assessment"),
            "RecordFilingAssessment",
            N_("I have assessed what this change needs and stand for it."),
            lambda capa: capa.state == api.CAPA_STATE_APPROVED and not capa.HasField("filing"),
            lambda form: {
                "category": _number(form, "category"),
                "reference": text(form, "reference"),
                "statement": text(form, "statement"),
            },
        ),
        Deed(
            "check",
            N_("Record the effectiveness check"),
            "RecordEffectivenessCheck",
            N_("I have checked the effect of this change; this closes the corrective action."),
            lambda capa: capa.state == api.CAPA_STATE_EFFECTIVE,
            lambda form: {"outcome": _number(form, "outcome"), "statement": text(form, "statement")},
        ),
    )
}


@router.get("/capas")
async def board(request: Request, state: str = "", token: str = "") -> Response:
    """Corrective actions, newest first."""
    backend: Backend = request.app.state.backend
    fields: dict[str, Any] = {"page_size": _ROWS, "page_token": token}
    if state in STATES:
        fields["state"] = STATES[state]
    found, missing = await parts(answer=backend.ask("production", "ListCapas", **fields))
    answer = found["answer"]
    values = {
        "capas": list(answer.capas) if answer else [],
        "following": answer.next_page_token if answer else "",
        "missing": missing,
        "state": state,
        "token": token,
        "change": lambda proposed: of_proposal(request.state.language, proposed),
        "states": [(name, word(api.CapaState.DESCRIPTOR, number)) for name, number in STATES.items()],
    }
    return page(request, "capas.html", values, live=_LIVE)


@router.get("/capas/{capa}")
async def one(request: Request, capa: str) -> Response:
    """One corrective action: evidence, change control, and what may be decided."""
    backend: Backend = request.app.state.backend
    found = await _find(backend, capa)
    others, missing = await parts(
        dossier=backend.ask("traceability", "GetLotDossier", lot=found.proposed.lot)
    )
    dossier = others["dossier"].dossier if others["dossier"] else None
    run = found.proposed.run
    # What was told before the plant kept histories stands in the lot's dossier alone.
    decisions = [one for one in dossier.decisions.decisions if one.subject == capa] if dossier else []
    values = {
        "found": found,
        "p": found.proposed,
        "change": lambda proposed: of_proposal(request.state.language, proposed),
        "told": next((one.capa for one in dossier.evidence.runs if one.run == run), None)
        if dossier
        else None,
        "decisions": decisions,
        "deeds": [deed for deed in DEEDS.values() if deed.may(found)],
        "missing": missing,
    }
    return page(request, "capa.html", values, live=(capa, run, *_LIVE))


@router.get("/capas/{capa}/{deed}")
async def ask(request: Request, capa: str, deed: str) -> Response:
    """The second step of a decision."""
    return show(request, await _question(request, capa, _deed(deed)))


@router.post("/capas/{capa}/{deed}")
async def told(request: Request, capa: str, deed: str) -> Response:
    chosen = _deed(deed)
    return await settle(
        request,
        lambda: _question(request, capa, chosen),
        "production",
        chosen.method,
        lambda form: {"capa": capa, **chosen.fields(form)},
    )


def _deed(name: str) -> Deed:
    if name not in DEEDS:
        raise HTTPException(404)
    return DEEDS[name]


async def _find(backend: Backend, capa: str, *, fresh: bool = False) -> api.Capa:
    answer = await backend.ask("production", "ListCapas", capa=capa, fresh=fresh)
    for row in answer.capas:
        if row.proposed.capa == capa:
            found: api.Capa = row
            return found
    raise HTTPException(404)


def _last(capa: api.Capa) -> str:
    """Who decided last."""
    for part in ("check", "refused", "filing", "validated"):
        if capa.HasField(part):
            return str(getattr(capa, part).actor)
    return capa.actor


async def _question(request: Request, capa: str, deed: Deed) -> Question:
    backend: Backend = request.app.state.backend
    found = await _find(backend, capa, fresh=True)
    proposed = found.proposed
    language: Language = request.state.language
    say = language.say
    state = say(word(api.CapaState.DESCRIPTOR, found.state))
    by = _last(found)
    now = say("It is now: %(state)s", state=state)
    if by:
        now = say("It is now: %(state)s; the last to decide was %(actor)s", state=state, actor=by)
    thin = _thin(say, proposed.evidence) if deed.name in ("approve", "refuse") else []
    facts = (
        (say("Lot"), proposed.lot),
        (say("Product"), proposed.product),
        (say("Tag"), proposed.tag),
        (say("Change of its limit"), of_proposal(language, proposed)),
        (say("Reason"), plain(language, proposed.reason_sayings, proposed.reason)),
        (say("State"), now),
        *([(say("Thin evidence"), " ".join(thin))] if thin else []),
        *([(say("What follows"), say(_AFTER_REFUSAL))] if deed.name == "refuse" else []),
    )
    return Question(
        title=say(deed.title),
        purpose=say("What you sign stands in the record of the corrective action under your name, for good."),
        back=f"/capas/{capa}",
        submit=say("Sign: %(what)s", what=say(deed.title)),
        facts=facts,
        fields=_asked(deed, language),
        meaning=say(deed.stands_for),
        seen=f"{found.state}|{found.HasField('validated')}|{found.HasField('filing')}|{by}",
        now=now,
        by=by,
        over=not deed.may(found),
    )


def _thin(say: Callable[[str], str], evidence: events.CapaEvidence) -> list[str]:
    """What who approves or refuses should know that the evidence lacks."""
    if not evidence.sites:
        return [say("No site has released numbers for this corrective action.")]
    found = []
    if not evidence.risk_ratio.HasField("value"):
        found.append(say("No comparison: the risk of the exposed over that of the comparators is not known."))
    if len(evidence.sites) == 1:
        found.append(say("The numbers are of one site alone."))
    return found


def _asked(deed: Deed, language: Language) -> tuple[Field, ...]:
    say = language.say
    if deed.name == "approve":
        return ()
    if deed.name == "refuse":
        return (Field("reason", say("Reason"), "words"),)
    if deed.name == "validate":
        return (
            Field("record", say("Where the validation is on record")),
            Field("statement", say("What was shown"), "words"),
        )
    if deed.name == "file":
        return (
            Field("category", say("What the change needs"), "pick", options=_options(language, "category")),
            Field(
                "reference",
                say("The authority's approval, or the notification"),
                required=False,
                help=say("Leave it empty where the change is not reported."),
            ),
            Field("statement", say("Why"), "words"),
        )
    return (
        Field("outcome", say("What was found"), "pick", options=_options(language, "outcome")),
        Field("statement", say("What it rests on"), "words"),
    )


def _options(language: Language, name: str) -> tuple[tuple[str, str], ...]:
    kind = {"category": events.FilingCategory, "outcome": events.EffectivenessOutcome}[name].DESCRIPTOR
    return tuple(
        (str(value.number), language.say(word(kind, value.number))) for value in kind.values if value.number
    )
