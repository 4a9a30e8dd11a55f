"""One run of a loop: how far it is, what led to what, the sites, the evidence, and what is to be done.

Decisions that belong to the run itself are here: the hazard's evaluation, a dispense that names nobody,
and ending the run before its time.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from pharmaloop.loops.v1 import events_pb2 as events
from pharmaloop.loops.v1 import service_pb2 as api
from pharmaloop.production.v1 import events_pb2 as production
from services.kit import lacking
from services.kit.hops import own, thing_of
from services.portal import evidence
from services.portal.addresses import path_of as path
from services.portal.backend import Backend
from services.portal.blockers import asked as asked_of_sites
from services.portal.blockers import blockers
from services.portal.clock import platform_time
from services.portal.confirming import Field, Question, settle, show, text
from services.portal.drawing.intervals import Row, intervals
from services.portal.languages import Language
from services.portal.limit_change import of_proposal
from services.portal.parts import parts
from services.portal.places import event_word, lot_of, place, short
from services.portal.render import page
from services.portal.running import may_cancel, stage_word, steps, turn
from services.portal.studied import studied
from services.portal.words import N_, WITHHELD, WORDS

router = APIRouter()
_HOPS = 500
_SHOWN_HOPS = 60
_UNATTRIBUTED = 50
#: What changes which steps of its corrective action a run waits for.
_OF_CONTROL = ("type:CapaApproved", "type:CapaRefused", "type:ChangeValidated", "type:ChangeFilingAssessed")
#: What changes which sites a run waits for.
_OF_SITES = ("type:ExposureReceived", "type:PlansOpened", "type:NoticesSummarised", "type:FollowUpSummarised")


@router.get("/runs/{run}")
async def one(request: Request, run: str) -> Response:
    """One run from its trigger to its end."""
    backend: Backend = request.app.state.backend
    told = (await backend.ask("loops", "GetRun", run=run)).run
    kind, id = thing_of(told)
    asked: dict[str, Awaitable[Any]] = {
        "now": platform_time(backend),
        "lineage": backend.ask("traceability", "GetLineage", id=id, kind=kind, most=_HOPS),
        "alerts": backend.ask("alerting", "ListAlerts", run=run, only_open=True, page_size=10),
    }
    if told.loop == "safety":
        asked["exposure"] = backend.ask("traceability", "GetExposure", run=run)
        asked["capas"] = backend.ask("production", "ListCapas", run=run)
        asked["unattributed"] = backend.ask(
            "traceability", "ListUnattributed", run=run, only_open=True, page_size=_UNATTRIBUTED
        )
        for site, process in backend.sites.items():
            asked[f"evidence:{site}"] = backend.ask(process, "GetEvidence", site=site, run=run)
    study = told.opened_evidence.study if told.loop == "evidence" else ""
    asked |= asked_of_sites(backend, told)
    if study:
        if "study" not in asked:  # the sites that it waits for are named by it as well
            asked["study"] = backend.ask("exchange", "GetStudy", study=study)
        asked["datasets"] = backend.ask("exchange", "ListDatasets", page_size=1000)
    found, missing = await parts(**asked)
    whole = {hop.event for hop in found["lineage"].hops} if found["lineage"] else set()
    hops = own(found["lineage"].hops, kind, id) if found["lineage"] else []
    shown = {hop.event for hop in hops[-_SHOWN_HOPS:]}
    language: Language = request.state.language
    values = {
        "run": told,
        "steps": steps(told, found["now"]),
        "turn": turn(told, hops, lacking.of_capas(found["capas"].capas) if found.get("capas") else None),
        "stage_word": stage_word,
        "blockers": blockers(told, found, missing, backend.sites),
        "may_cancel": may_cancel(told, found["exposure"].phase if found.get("exposure") else ""),
        "hops": hops[-_SHOWN_HOPS:],
        "hop_at": lambda event: _hop_at(event, shown, whole, kind, id),
        "earlier": _hop_at(hops[-_SHOWN_HOPS - 1].event, shown, whole, kind, id)
        if len(hops) > _SHOWN_HOPS
        else "",
        "ratio": lambda ratio: _said(language, ratio),
        "event_word": event_word,
        "place": place,
        "short": short,
        "lot_of": lot_of,
        "more_hops": max(0, len(hops) - _SHOWN_HOPS),
        "thing": id,
        "alerts": list(found["alerts"].alerts) if found["alerts"] else [],
        "exposure": found.get("exposure"),
        "unattributed": found.get("unattributed"),
        "sites": _sites(found),
        "people": _people(found),
        "capas": list(found["capas"].capas) if found.get("capas") else [],
        "change": lambda proposed: of_proposal(language, proposed),
        "missing": missing,
        "study": found["study"].study if found.get("study") else None,
        "of": studied(language, found["study"].study, found["datasets"]) if found.get("study") else None,
        **_evidence(found, language),
    }
    of_study = (study, f"study:{study}", "type:DatasetRegistered") if study else ()
    live = (run, told.case, "type:EvidenceReleased", *_OF_SITES, *_OF_CONTROL, *of_study)
    return page(request, "run.html", values, live=tuple(dict.fromkeys(live)))


def _hop_at(event: str, shown: set[str], whole: set[str], kind: str, id: str) -> str:
    """Where a hop stands: on this page, or in the lineage of the run's thing; empty where in neither."""
    here = f"#h-{quote(event)}"
    if event in shown:
        return here
    return (
        f"{path('lineage', id)}?{urlencode({'kind': kind, 'event': event})}{here}" if event in whole else ""
    )


def _sites(found: dict[str, Any]) -> list[tuple[str, Any]]:
    """Each site of the journal with its epoch, number and digest, by name."""
    exposure = found.get("exposure")
    return sorted(exposure.announced.sites.items()) if exposure else []


def _people(found: dict[str, Any]) -> dict[str, Any]:
    """Whom the run concerns by site, as it may be published; exact numbers stand on a site's own page."""
    exposure = found.get("exposure")
    people = dict.fromkeys(exposure.announced.sites) if exposure else {}
    return people | ({one.site: one for one in exposure.sites} if exposure else {})


def _evidence(found: dict[str, Any], language: Language) -> dict[str, Any]:
    """What sites released, and its forest plot; nothing else of a site's evidence is for this page."""
    released = [
        (name.partition(":")[2], told.released if told.HasField("released") else None)
        for name, told in found.items()
        if name.startswith("evidence:") and told is not None  # a site that is away is named above
    ]
    rows, pooled = evidence.of_sites(released)
    drawn = [_row(one.site, one.ratio) for one in rows if one.ratio.value]
    if pooled.value:
        drawn.append(_row(language.say("All sites"), pooled))
    plot = intervals(
        drawn,
        label=language.say("Risk ratio by site with its 95 % interval, on a logarithmic scale"),
        number=lambda value: language.number(math.exp(value), 2),
        marks=(0.0,),
    )
    return {"evidence": rows, "pooled": pooled, "plot": plot if drawn else ""}


def _said(language: Language, ratio: evidence.Ratio) -> str:
    """A ratio with its interval, or why there is none."""
    if ratio.value is None or ratio.lower is None or ratio.upper is None:
        return language.say(WORDS.get(ratio.reason, ratio.reason))
    value, lower, upper = (language.number(one) for one in (ratio.value, ratio.lower, ratio.upper))
    return language.say("%(value)s (%(lower)s to %(upper)s)", value=value, lower=lower, upper=upper)


def _row(name: str, ratio: evidence.Ratio) -> Row:
    def log(value: float | None) -> float | None:
        return math.log(value) if value else None

    return Row(name, log(ratio.value), log(ratio.lower), log(ratio.upper))


# -- ending a run ---------------------------------------------------------------


async def _cancelling(request: Request, run: str) -> Question:
    backend: Backend = request.app.state.backend
    told = (await backend.ask("loops", "GetRun", fresh=True, run=run)).run
    say = request.state.language.say
    phase = ""
    if told.loop == "safety":
        journal, _ = await parts(exposure=backend.ask("traceability", "GetExposure", fresh=True, run=run))
        phase = journal["exposure"].phase if journal["exposure"] else ""
    ended = told.state == api.RUN_STATE_CLOSED
    return Question(
        title=say("Cancel run %(run)s", run=run[:8]),
        purpose=say(
            "Ends a run that was opened by mistake, or that another run covers. Nothing is undone by it."
        ),
        back=path("runs", run),
        submit=say("Cancel the run"),
        facts=(
            (say("Loop"), say(WORDS.get(told.loop, told.loop))),
            (say("Case"), told.case),
            (say("Stage"), say(stage_word(told.loop, told.stage)) if told.stage else ""),
        ),
        fields=(
            Field("reason", say("Reason"), "words"),
            Field("superseded_by", say("Run that covers it"), required=False),
        ),
        meaning=say("I end this run before its time and stand for the reason."),
        seen=f"{told.state}|{told.stage}",
        now=_ended(say, told)
        if ended
        else say("The journal is sealed: its patients are known and followed, and the run ends by itself.")
        if not may_cancel(told, phase)
        else say("The run is now in the stage “%(stage)s”.", stage=say(stage_word(told.loop, told.stage))),
        by=told.closed.actor if ended else "",
        over=not may_cancel(told, phase),
        danger=True,
    )


def _ended(say: Any, run: Any) -> str:
    name = events.RunOutcome.Name(run.closed.outcome)
    outcome = say(WORDS.get(name, name))
    if run.closed.actor:
        return str(say("It ended (%(how)s) by %(actor)s.", how=outcome, actor=run.closed.actor))
    return str(say("It ended (%(how)s).", how=outcome))


@router.get("/runs/{run}/cancel")
async def cancel(request: Request, run: str) -> Response:
    return show(request, await _cancelling(request, run))


@router.post("/runs/{run}/cancel")
async def cancelled(request: Request, run: str) -> Response:
    return await settle(
        request,
        lambda: _cancelling(request, run),
        "loops",
        "CancelRun",
        lambda form: {
            "run": run,
            "reason": text(form, "reason"),
            "superseded_by": text(form, "superseded_by"),
        },
    )


# -- the health hazard ------------------------------------------------------------


def _published(language: Language, count: Any) -> str:
    if count.withheld:
        return language.say(WITHHELD)
    return language.count(count.value)


_CLASSES = {
    "I": production.HAZARD_CLASS_I,
    "II": production.HAZARD_CLASS_II,
    "III": production.HAZARD_CLASS_III,
}


async def _evaluating(request: Request, run: str) -> Question:
    backend: Backend = request.app.state.backend
    told = (await backend.ask("loops", "GetRun", run=run)).run
    if told.loop != "safety":
        raise HTTPException(404)
    answer = await backend.ask("production", "GetHazard", fresh=True, run=run)
    exposure, _ = await parts(exposure=backend.ask("traceability", "GetExposure", run=run))
    found = exposure["exposure"]
    language: Language = request.state.language
    say = language.say
    hazard = answer.hazard if answer.HasField("hazard") else None
    return Question(
        title=say("Evaluate the health hazard of run %(run)s", run=run[:8]),
        purpose=say(
            "Says how dangerous it is and what patients are told. Once it is signed, hospitals begin to tell."
        ),
        back=path("runs", run),
        submit=say("Sign the evaluation"),
        facts=(
            (say("Root lot"), told.case),
            (say("Deviation"), told.opened.deviation),
            (say("Tag"), told.opened.tag),
            (say("Dispenses to patients"), _published(language, found.people.dispenses) if found else ""),
            (say("Implicated lots"), language.count(len(found.announced.lots)) if found else ""),
        ),
        fields=(
            Field(
                "hazard_class",
                say("Hazard class"),
                "pick",
                options=tuple((key, say(WORDS[f"HAZARD_CLASS_{key}"])) for key in _CLASSES),
            ),
            Field("text", say("What patients are told"), "words"),
            Field("instruction", say("What patients should do"), "words"),
        ),
        meaning=say("I evaluated the health hazard of this lot and stand for it."),
        seen=f"{hazard.hazard_class}|{hazard.actor}" if hazard else "open",
        now=say("%(actor)s evaluated it: %(text)s", actor=hazard.actor, text=hazard.text) if hazard else "",
        by=hazard.actor if hazard else "",
        over=hazard is not None,
    )


@router.get("/runs/{run}/hazard")
async def hazard(request: Request, run: str) -> Response:
    return show(request, await _evaluating(request, run))


@router.post("/runs/{run}/hazard")
async def evaluated(request: Request, run: str) -> Response:
    return await settle(
        request,
        lambda: _evaluating(request, run),
        "production",
        "EvaluateHazard",
        lambda form: {
            "run": run,
            "hazard_class": _CLASSES.get(text(form, "hazard_class"), production.HAZARD_CLASS_UNSPECIFIED),
            "text": text(form, "text"),
            "instruction": text(form, "instruction"),
        },
    )


# -- a dispense that names nobody --------------------------------------------------

_WHY = {
    "NO_PATIENT": N_("It names no patient"),
    "UNKNOWN_SITE": N_("It names a site that is not registered"),
    "CONFLICT": N_("Two sources name different patients"),
}


async def _explaining(request: Request, run: str, dispense: str) -> Question:
    backend: Backend = request.app.state.backend
    say = request.state.language.say
    found, token = None, ""
    while found is None:
        answer = await backend.ask(
            "traceability", "ListUnattributed", fresh=True, run=run, page_size=1000, page_token=token
        )
        found = next((one for one in answer.dispenses if one.dispense == dispense), None)
        token = answer.next_page_token
        if not token:
            break
    if found is None:
        raise HTTPException(404)
    return Question(
        title=say("Explain dispense %(dispense)s", dispense=dispense[:12]),
        purpose=say(
            "Nobody can be named for this dispense. Say what was done to find out; the run waits for it."
        ),
        back=path("runs", run),
        submit=say("Sign the explanation"),
        facts=(
            (say("Dispense"), dispense),
            (say("Lot"), found.lot),
            (say("Why"), say(_WHY.get(found.why, found.why))),
            (say("Told by"), ", ".join(found.sources)),
            (say("Dispensed"), request.state.language.moment(found.at)),
        ),
        fields=(Field("reason", say("Reason"), "words"),),
        meaning=say("I looked for the patient of this dispense in every source that I know of."),
        seen="explained" if found.explained else "open",
        now=say("Somebody explained it already.") if found.explained else "",
        over=found.explained,
    )


@router.get("/runs/{run}/dispenses/{dispense:path}")
async def explain(request: Request, run: str, dispense: str) -> Response:
    return show(request, await _explaining(request, run, dispense))


@router.post("/runs/{run}/dispenses/{dispense:path}")
async def explained(request: Request, run: str, dispense: str) -> Response:
    return await settle(
        request,
        lambda: _explaining(request, run, dispense),
        "traceability",
        "ExplainUnattributed",
        lambda form: {
            "run": run,
            "dispense": dispense,
            "reason": text(form, "reason"),
        },
    )
