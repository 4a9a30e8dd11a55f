"""Decisions about a lot: hold, release, reject. Only what its state allows; what forbids one is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.portal.addresses import path_of
from services.portal.backend import Backend
from services.portal.confirming import Field, Question, settle, show, text
from services.portal.keys import LOT
from services.portal.languages import Language
from services.portal.sayings import reason
from services.portal.words import N_, word

router = APIRouter()
_UNJUDGED = (api.DEVIATION_STATE_OPEN, api.DEVIATION_STATE_UNDER_INVESTIGATION)
_REAL = (api.DEVIATION_STATE_CONFIRMED, api.DEVIATION_STATE_CAPA_REQUIRED)


@dataclass(frozen=True)
class Deed:
    """One decision: how it reads, what tells it, from which states it may be taken, what it stands for."""

    name: str
    title: str
    method: str
    states: tuple[int, ...]
    meaning: str
    #: The state that it brings a lot to, and what is said of a lot that is in it.
    done: tuple[int, str]
    #: What is asked for in words; a release has none but what its signature means.
    asked: str = ""
    danger: bool = False


DEEDS = {
    deed.name: deed
    for deed in (
        Deed(
            "hold",
            N_("Hold the lot"),
            "HoldLot",
            (api.LOT_STATE_STARTED, api.LOT_STATE_COMPLETED, api.LOT_STATE_RELEASED),
            N_("I hold this lot: it does not leave and is not used until quality decides."),
            (api.LOT_STATE_HELD, N_("The lot is held already.")),
            N_("Why it is held"),
        ),
        Deed(
            "release",
            N_("Release the lot"),
            "ReleaseLot",
            (api.LOT_STATE_COMPLETED, api.LOT_STATE_HELD),
            N_("I have judged the record of this lot and release it for use."),
            (api.LOT_STATE_RELEASED, N_("The lot is released already.")),
        ),
        Deed(
            "reject",
            N_("Reject the lot"),
            "RejectLot",
            (api.LOT_STATE_COMPLETED, api.LOT_STATE_HELD, api.LOT_STATE_RELEASED),
            N_("I have judged the record of this lot and reject it for good."),
            (api.LOT_STATE_REJECTED, N_("The lot is rejected already.")),
            N_("Why it is rejected"),
            danger=True,
        ),
    )
}


class Why(NamedTuple):
    """What forbids a decision, and the page of the thing that does; empty where that is none."""

    says: str
    to: str = ""


@dataclass(frozen=True)
class Way:
    """A decision with what forbids it now, in the reader's language; nothing where it may be taken."""

    deed: Deed
    forbidden: tuple[Why, ...]


def ways(language: Language, lot: api.Lot) -> list[Way]:
    """Every decision about a lot. What its plant alone knows, it says when it refuses."""
    return [Way(deed, _forbidden(language, lot, deed)) for deed in DEEDS.values()]


def _forbidden(language: Language, lot: api.Lot, deed: Deed) -> tuple[Why, ...]:
    if deed.done[0] == lot.state:
        return (Why(language.say(deed.done[1])),)
    if lot.state not in deed.states:
        state = language.say(word(api.LotState.DESCRIPTOR, lot.state))
        return (Why(language.say("Not while it is: %(state)s.", state=state)),)
    if deed.name != "release":
        return ()
    say = language.say
    found = []
    if lot.HasField("started") and not lot.HasField("completed"):
        found.append(Why(say("Its process run goes on; it has to be completed first.")))
    for one in lot.deviations:
        name = {"deviation": one.detected.deviation[:8]}
        to = path_of("deviations", lot.lot, one.detected.deviation)
        if one.state in _UNJUDGED:
            found.append(Why(say("Deviation %(deviation)s is not judged.", **name), to))
        elif one.state in _REAL:
            found.append(Why(say("Deviation %(deviation)s is confirmed and not closed.", **name), to))
        elif one.state == api.DEVIATION_STATE_CLOSED and not one.severity:
            found.append(Why(say("Deviation %(deviation)s is not classified.", **name), to))
        elif one.state == api.DEVIATION_STATE_CLOSED and one.severity == events.SEVERITY_CRITICAL:
            found.append(
                Why(say("Deviation %(deviation)s is critical: the lot can only be rejected.", **name), to)
            )
    return (*found, *map(Why, _of_laboratory(language, lot)))


def _of_laboratory(language: Language, lot: api.Lot) -> list[str]:
    say = language.say
    outcomes = {one.outcome for one in lot.investigations}
    found = []
    if events.INVESTIGATION_OUTCOME_UNSPECIFIED in outcomes:
        found.append(say("A laboratory investigation is open."))
    if events.INVESTIGATION_OUTCOME_CONFIRMED in outcomes:
        found.append(say("A result out of specification stands: the lot can only be rejected."))
    errors = [
        one
        for one in lot.investigations
        if one.outcome == events.INVESTIGATION_OUTCOME_LABORATORY_ERROR and not one.retest
    ]
    if errors:
        found.append(say("A retest within specification is missing after an error of the laboratory."))
    return found


async def _question(request: Request, key: str, deed: Deed) -> Question:
    backend: Backend = request.app.state.backend
    lot = (await backend.ask("production", "GetLot", fresh=True, lot=key)).lot
    language: Language = request.state.language
    say = language.say
    forbidden = _forbidden(language, lot, deed)
    now = _now(language, lot)
    deviations = [
        f"{one.detected.tag or one.detected.deviation}: {say(word(api.DeviationState.DESCRIPTOR, one.state))}"
        for one in lot.deviations
    ]
    facts = [
        (say("Lot"), key),
        (say("Product"), lot.product),
        (say("Equipment"), lot.equipment),
        (say("Started"), language.moment(lot.started if lot.HasField("started") else None)),
        (say("End of its run"), language.moment(lot.completed if lot.HasField("completed") else None)),
        (say("Deviations"), "; ".join(deviations)),
        (say("Runs of the safety loop"), ", ".join(run[:8] for run in lot.runs)),
        (say("State"), now),
    ]
    if forbidden and lot.state in deed.states:
        facts.append((say("What forbids it"), " ".join(one.says for one in forbidden)))
    marks = ",".join(f"{one.state}.{one.severity}" for one in lot.deviations)
    tested = ",".join(f"{one.outcome}.{bool(one.retest)}" for one in lot.investigations)
    return Question(
        title=say(deed.title),
        purpose=say("What you sign stands in the record of the lot under your name, for good."),
        back=path_of("lots", key),
        submit=say("Sign: %(what)s", what=say(deed.title)),
        facts=tuple(facts),
        fields=(Field("reason", say(deed.asked), "words"),) if deed.asked else (),
        meaning=say(deed.meaning),
        seen=f"{lot.state}|{lot.actor}|{lot.HasField('completed')}|{marks}|{tested}",
        now=" ".join((now, *(one.says for one in forbidden))),
        by=lot.actor,
        over=bool(forbidden),
        danger=deed.danger,
    )


def _now(language: Language, lot: api.Lot) -> str:
    """How a lot stands and who brought it there."""
    state = language.say(word(api.LotState.DESCRIPTOR, lot.state))
    told: dict[str, Any] = {"state": state, "actor": lot.actor, "reason": reason(lot, language) or "–"}
    if lot.actor:
        return language.say("It is now: %(state)s, by %(actor)s: %(reason)s", **told)
    return language.say("It is now: %(state)s", state=state)


@router.get(LOT + "/decide/{deed}")
async def ask(request: Request, key: str, deed: str) -> Response:
    """The second step of a decision."""
    return show(request, await _question(request, key, _deed(deed)))


@router.post(LOT + "/decide/{deed}")
async def told(request: Request, key: str, deed: str) -> Response:
    chosen = _deed(deed)
    return await settle(
        request,
        lambda: _question(request, key, chosen),
        "production",
        chosen.method,
        lambda form: {"lot": key, "reason": text(form, "reason")} if chosen.asked else {"lot": key},
    )


def _deed(name: str) -> Deed:
    if name not in DEEDS:
        raise HTTPException(404)
    return DEEDS[name]
