"""Transfers of parameter sets to plants: what changes with the scale, what the twin expects, who decides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from markupsafe import Markup

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.portal.addresses import path_of
from services.portal.backend import Backend
from services.portal.confirming import Field, Question, settle, show, text
from services.portal.drawing.intervals import Row, intervals, row
from services.portal.languages import Language
from services.portal.parts import parts
from services.portal.render import page
from services.portal.words import N_, WORDS, word

router = APIRouter()
_STATES = {
    "proposed": api.TRANSFER_STATE_PROPOSED,
    "change-control": api.TRANSFER_STATE_IN_CHANGE_CONTROL,
    "adapted": api.TRANSFER_STATE_ADAPTED,
    "refused": api.TRANSFER_STATE_REFUSED,
    "effective": api.TRANSFER_STATE_EFFECTIVE,
    "concluded": api.TRANSFER_STATE_CONCLUDED,
    "ended": api.TRANSFER_STATE_ENDED,
}
_ROWS = 100
#: How a state is drawn: what waits for a person, and what went wrong, stand out.
_KINDS = {
    api.TRANSFER_STATE_PROPOSED: "watch",
    api.TRANSFER_STATE_IN_CHANGE_CONTROL: "watch",
    api.TRANSFER_STATE_REFUSED: "abnormal",
    api.TRANSFER_STATE_EFFECTIVE: "good",
    api.TRANSFER_STATE_CONCLUDED: "over",
    api.TRANSFER_STATE_ENDED: "over",
}


def _waits(transfer: Any) -> str:
    """What a transfer waits for, as a sentence to be translated; empty where it waits for nothing."""
    if transfer.state == api.TRANSFER_STATE_ADAPTED:
        return N_("The twin's advice")
    if transfer.state == api.TRANSFER_STATE_PROPOSED:
        return N_("A decision on the proposed set-points")
    if transfer.state == api.TRANSFER_STATE_EFFECTIVE:
        return N_("The first lot and its results")
    if transfer.state == api.TRANSFER_STATE_IN_CHANGE_CONTROL:
        lacking = (not transfer.HasField("validated"), not transfer.HasField("filing"))
        return {
            (True, True): N_("Validation and filing assessment"),
            (True, False): N_("Validation"),
            (False, True): N_("Filing assessment"),
        }.get(lacking, "")
    return ""


@router.get("/transfers")
async def transfers(request: Request, state: str = "", plant: str = "", token: str = "") -> Response:
    """Every transfer, newest first."""
    backend: Backend = request.app.state.backend
    fields: dict[str, Any] = {"plant": plant.strip(), "page_size": _ROWS, "page_token": token}
    if state in _STATES:
        fields["state"] = _STATES[state]
    found, missing = await parts(transfers=backend.ask("production", "ListTransfers", **fields))
    rows = list(found["transfers"].transfers) if found["transfers"] else []
    after = found["transfers"].next_page_token if found["transfers"] else ""
    values = {
        "rows": rows,
        "kinds": _KINDS,
        "waits": _waits,
        "state": state,
        "states": {name: word(api.TransferState.DESCRIPTOR, number) for name, number in _STATES.items()},
        "plant": plant,
        "next": f"?{urlencode({'state': state, 'plant': plant, 'token': after})}" if after else "",
        "missing": missing,
    }
    return page(request, "transfers.html", values, live=tuple(f"type:{one}" for one in _EVENTS))


_EVENTS = {
    "TwinAdapted": N_("Adapted to the line"),
    "TransferRefused": N_("Does not fit the plant"),
    "OptimisationProposed": N_("Set-points proposed"),
    "OptimisationDecided": N_("Decided"),
    "RecipeValidated": N_("Validation recorded"),
    "RecipeFilingAssessed": N_("Filing assessed"),
    "RecipeEffective": N_("Effective"),
    "TransferOutcomeRecorded": N_("First lot tested"),
    "TransferOutcomeWithheld": N_("A lot does not count"),
    "TransferEnded": N_("Ended"),
}


@router.get("/transfers/{transfer:path}/decide")
async def decide(request: Request, transfer: str, answer: str = "") -> Response:
    return show(request, await _decision(request, transfer, answer))


@router.post("/transfers/{transfer:path}/decide")
async def decided(request: Request, transfer: str, answer: str = "") -> Response:
    return await settle(
        request,
        lambda: _decision(request, transfer, answer),
        "production",
        "DecideTransfer",
        lambda form: {
            "transfer": transfer,
            "proposal": text(form, "seen").partition("|")[0],
            "accepted": answer == "accept",
            "reason": text(form, "reason"),
        },
    )


@router.get("/transfers/{transfer:path}/validate")
async def validate(request: Request, transfer: str) -> Response:
    return show(request, await _validation(request, transfer))


@router.post("/transfers/{transfer:path}/validate")
async def validated(request: Request, transfer: str) -> Response:
    return await settle(
        request,
        lambda: _validation(request, transfer),
        "production",
        "RecordRecipeValidation",
        lambda form: {
            "transfer": transfer,
            "record": text(form, "record"),
            "statement": text(form, "statement"),
            "version": _version(text(form, "seen")),
        },
    )


@router.get("/transfers/{transfer:path}/file")
async def file(request: Request, transfer: str) -> Response:
    return show(request, await _filing(request, transfer))


@router.post("/transfers/{transfer:path}/file")
async def filed(request: Request, transfer: str) -> Response:
    return await settle(
        request,
        lambda: _filing(request, transfer),
        "production",
        "RecordRecipeFiling",
        lambda form: {
            "transfer": transfer,
            "category": _CATEGORIES.get(text(form, "category"), 0),
            "reference": text(form, "reference"),
            "statement": text(form, "statement"),
            "version": _version(text(form, "seen")),
        },
    )


_CATEGORIES = {str(number): number for number in events.FilingCategory.values() if number}


def _version(seen: str) -> int:
    """The version that a form was shown for, which stands first in what was seen."""
    number = seen.partition("|")[0]
    return int(number) if number.isdecimal() else 0


@router.get("/transfers/{transfer:path}")
async def one(request: Request, transfer: str) -> Response:
    """One transfer from the released set to its first lot."""
    backend: Backend = request.app.state.backend
    answer = await backend.ask("production", "GetTransfer", transfer=transfer)
    shown = answer.transfer
    found: dict[str, Any] = {"gaps": None}
    missing: list[Any] = []
    if shown.adapted.product:
        found, missing = await parts(
            gaps=backend.ask("rnd", "GetTransferGaps", product=shown.adapted.product, plant=shown.plant)
        )
    language: Language = request.state.language
    values = {
        "transfer": shown,
        "kind": _KINDS.get(shown.state, "normal"),
        "waits": _waits(shown),
        "predictions": _predictions(language, shown),
        "set_points": _set_points(answer.adapted, answer.proposed, answer.recipe),
        "history": list(reversed(answer.history)),
        "events": _EVENTS,
        "gaps": found["gaps"],
        "series": _series(language, found["gaps"].outcomes) if found["gaps"] else [],
        "missing": missing,
    }
    live = (transfer, shown.run, "type:PredictionCalibrated")
    return page(request, "transfer.html", values, live=tuple(name for name in live if name))


def _predictions(language: Language, transfer: Any) -> list[dict[str, Any]]:
    """Each attribute at both scales, adapted and proposed, with its drawing beside the specification."""
    say = language.say
    proposed = {one.attribute: one for one in transfer.proposed.predictions}
    found = []
    for one in transfer.adapted.predictions:
        rows = [row(say("Development"), one.source), row(say("Plant, adapted"), one.target)]
        if one.attribute in proposed:
            rows.append(row(say("Plant, proposed"), proposed[one.attribute].target))
        marks = [getattr(one, end) for end in ("low", "high") if one.HasField(end)]
        label = say("%(attribute)s in %(unit)s at both scales", attribute=one.attribute, unit=one.unit)
        found.append(
            {
                "prediction": one,
                "proposed": proposed.get(one.attribute),
                "drawing": intervals(rows, label=label, number=language.number, marks=marks),
            }
        )
    return found


def _set_points(*recipes: Iterable[Any]) -> list[dict[str, Any]]:
    """A row for each parameter, with its value as adapted, as proposed and as decided."""
    rows: dict[str, dict[str, Any]] = {}
    for place, recipe in enumerate(recipes):
        for one in recipe:
            held = rows.setdefault(
                one.parameter, {"parameter": one.parameter, "unit": one.unit, "values": [None, None, None]}
            )
            held["values"][place] = one.value
    return list(rows.values())


def _series(language: Language, outcomes: Iterable[Any]) -> list[tuple[str, Markup]]:
    """By attribute, what was expected of each transferred lot and what was found, drawn in order."""
    rows: dict[tuple[str, str], list[Row]] = {}
    for outcome in outcomes:
        name = f"{outcome.version} · {outcome.lot.rpartition('/')[2]}"
        for gap in outcome.gaps:
            rows.setdefault((gap.attribute, gap.unit), []).append(row(name, gap.predicted, gap.actual))
    drawn = []
    for (attribute, unit), held in rows.items():
        label = language.say(
            "%(attribute)s in %(unit)s: expected and found", attribute=attribute, unit=unit or "1"
        )
        drawn.append((f"{attribute} [{unit}]", intervals(held, label=label, number=language.number)))
    return drawn


async def _fresh(request: Request, transfer: str) -> Any:
    backend: Backend = request.app.state.backend
    answer = await backend.ask("production", "GetTransfer", fresh=True, transfer=transfer)
    return answer.transfer


def _facts(language: Language, transfer: Any) -> tuple[tuple[str, str], ...]:
    say = language.say
    return (
        (say("Parameter set"), f"{transfer.set} / {transfer.version}"),
        (say("Plant"), transfer.plant),
        (say("Line"), transfer.adapted.line),
        (say("State"), say(word(api.TransferState.DESCRIPTOR, transfer.state))),
    )


def _estimate(language: Language, estimate: Any, unit: str = "") -> str:
    """An estimate with its interval, as a person reads it."""
    if not estimate.HasField("value"):
        return f"– ({estimate.reason})" if estimate.reason else "–"
    value = language.number(estimate.value)
    if estimate.HasField("lower") and estimate.HasField("upper"):
        value = language.say(
            "%(value)s (%(lower)s to %(upper)s)",
            value=value,
            lower=language.number(estimate.lower),
            upper=language.number(estimate.upper),
        )
    return f"{value} {unit}".strip()


async def _decision(request: Request, transfer: str, answer: str) -> Question:
    if answer not in ("accept", "refuse"):
        raise HTTPException(404)
    language: Language = request.state.language
    say = language.say
    found = await _fresh(request, transfer)
    proposal = found.proposed
    accepting = answer == "accept"
    expected = tuple(
        (
            say("Expected of %(attribute)s", attribute=one.attribute),
            _estimate(language, one.target, one.unit),
        )
        for one in (proposal if accepting else found.adapted).predictions
    )
    over = found.state != api.TRANSFER_STATE_PROPOSED
    now = say("It stands at: %(state)s.", state=say(word(api.TransferState.DESCRIPTOR, found.state)))
    if found.HasField("decided"):
        told = {"actor": found.decided.actor, "reason": found.decided.reason or "–"}
        accepted = found.decided.accepted
        said = (
            say("%(actor)s accepted it: %(reason)s", **told)
            if accepted
            else say("%(actor)s refused it: %(reason)s", **told)
        )
        now = f"{said} {now}"
    gain = _estimate(language, proposal.gain, "") + f" ({proposal.attribute})" if proposal.attribute else "–"
    return Question(
        title=say("Accept the proposed set-points") if accepting else say("Keep the adapted set-points"),
        purpose=say(
            "Either way the recipe that stands goes into change control; no lot is made by it before."
        ),
        back=path_of("transfers", transfer),
        submit=say("Sign: accept") if accepting else say("Sign: refuse"),
        facts=(
            *_facts(language, found),
            (say("Moved within"), say(word(events.AdviceBasis.DESCRIPTOR, proposal.basis))),
            (say("Parameters moved"), ", ".join(proposal.moved)),
            (say("Expected gain"), gain),
            *expected,
        ),
        fields=(Field("reason", say("Reason"), "words", required=not accepting),),
        meaning=say("I have judged the predictions at both scales and approve these set-points.")
        if accepting
        else say("I have judged the proposal and keep the adapted set-points."),
        seen=f"{proposal.proposal}|{found.state}",
        now=now,
        by=found.decided.actor,
        over=over,
        danger=not accepting,
    )


async def _validation(request: Request, transfer: str) -> Question:
    language: Language = request.state.language
    say = language.say
    found = await _fresh(request, transfer)
    done = found.HasField("validated")
    return Question(
        title=say("Record the validation of the recipe"),
        purpose=say("With its filing assessment, by another person, the recipe takes effect."),
        back=path_of("transfers", transfer),
        submit=say("Record the validation"),
        facts=_facts(language, found),
        fields=(
            Field("record", say("Where it is on record")),
            Field("statement", say("What was shown"), "words"),
        ),
        meaning=say("I stand for the validation of this recipe as recorded here."),
        seen=f"{found.version}|{found.state}|{done}",
        now=say("%(actor)s recorded it: %(what)s", actor=found.validated.actor, what=found.validated.record)
        if done
        else say("It stands at: %(state)s.", state=say(word(api.TransferState.DESCRIPTOR, found.state))),
        by=found.validated.actor,
        over=done or found.state != api.TRANSFER_STATE_IN_CHANGE_CONTROL,
    )


async def _filing(request: Request, transfer: str) -> Question:
    language: Language = request.state.language
    say = language.say
    found = await _fresh(request, transfer)
    done = found.HasField("filing")
    options = tuple(
        (value, say(WORDS[events.FilingCategory.Name(number)])) for value, number in _CATEGORIES.items()
    )
    return Question(
        title=say("Record the filing assessment"),
        purpose=say("With its validation, by another person, the recipe takes effect."),
        back=path_of("transfers", transfer),
        submit=say("Record the assessment"),
        facts=_facts(language, found),
        fields=(
            Field("category", say("What the change needs"), "pick", options=options),
            Field("reference", say("Approval or notification"), required=False),
            Field("statement", say("Why"), "words"),
        ),
        meaning=say("I have assessed what the change to this recipe needs, and stand for it."),
        seen=f"{found.version}|{found.state}|{done}",
        now=say(
            "%(actor)s recorded it: %(what)s",
            actor=found.filing.actor,
            what=say(word(events.FilingCategory.DESCRIPTOR, found.filing.category)),
        )
        if done
        else say("It stands at: %(state)s.", state=say(word(api.TransferState.DESCRIPTOR, found.state))),
        by=found.filing.actor,
        over=done or found.state != api.TRANSFER_STATE_IN_CHANGE_CONTROL,
    )
