"""What people of a hospital record and explain, one patient at a time: a difference between two sources, an
own record that was wrong, a notice that was given, an answer to a plan.

Each form is asked of the process of its own site alone.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from starlette.datastructures import FormData

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from services.portal.addresses import path_of
from services.portal.backend import Backend, Missing
from services.portal.clock import platform_time
from services.portal.confirming import Field, Question, moment, number, settle, show, text, written
from services.portal.followed import asked_text, wording
from services.portal.languages import Language
from services.portal.several import every
from services.portal.words import word

router = APIRouter()


def process_of(request: Request, site: str) -> str:
    """The process that speaks for a site; no page for another name."""
    backend: Backend = request.app.state.backend
    if site not in backend.sites:
        raise HTTPException(404)
    return backend.sites[site]


def _back(site: str, run: str, patient: str = "") -> str:
    asked = {"run": run, "shown": "all"} | ({"patient": patient} if patient else {})
    return f"{path_of('sites', site)}?{urlencode(asked)}"


async def _at(request: Request, process: str, label: str, help: str = "") -> Field:
    """When it happened: now on the platform clock, unless somebody writes another time."""
    zone = request.state.language.zone
    try:
        now = await platform_time(request.app.state.backend, process)
    except Missing:
        now = datetime.now(UTC)
    return Field("at", label, "moment", value=written(now, zone), help=help)


# -- differences ------------------------------------------------------------------


async def _difference(request: Request, site: str, run: str, dispense: str) -> Any:
    """The exposure as the two sources have it now; no page for one that the site does not know."""
    backend: Backend = request.app.state.backend
    of: dict[str, Any] = {"site": site, "run": run, "fresh": True}
    for narrow in ({"only_differences": True}, {}):  # one that was explained is none any more
        exposures, _ = await every(
            backend, process_of(request, site), "ListExposures", "exposures", **of, **narrow
        )
        if found := next((one for one in exposures if one.dispense == dispense), None):
            return found
    raise HTTPException(404)


def _exposure_facts(language: Language, site: str, run: str, exposure: Any) -> tuple[tuple[str, str], ...]:
    say = language.say
    return (
        (say("Site"), site),
        (say("Run"), run),
        (say("Dispense"), exposure.dispense),
        (say("Patient"), exposure.pseudonym),
        (say("Lot"), exposure.lot),
        (say("Dispensed"), language.moment(exposure.at)),
    )


@router.get("/sites/{site}/explain")
async def explain(request: Request, site: str, run: str, dispense: str) -> Response:
    """What does not agree, before somebody explains it under their name."""
    return show(request, await _explaining(request, site, run, dispense))


@router.post("/sites/{site}/explain")
async def explained(request: Request, site: str, run: str, dispense: str) -> Response:
    return await settle(
        request,
        lambda: _explaining(request, site, run, dispense),
        process_of(request, site),
        "ExplainDifference",
        lambda form: {
            "site": site,
            "dispense": dispense,
            "reason": text(form, "reason"),
        },
    )


async def _explaining(request: Request, site: str, run: str, dispense: str) -> Question:
    language: Language = request.state.language
    say = language.say
    difference = await _difference(request, site, run, dispense)
    if difference.difference == api.EXPOSURE_DIFFERENCE_ONLY_AT_SITE:
        raise HTTPException(404)  # what the site alone has is no member of the run to explain
    if difference.at_site:
        now = say("The site's own records show this dispense now.")
    elif difference.explained:
        now = say("Somebody has explained this difference.")
    else:
        now = say("Nobody has explained this difference yet.")
    return Question(
        title=say("Explain a difference"),
        purpose=say("A dispense names a patient of this site, and the site's own records do not show it."),
        back=f"{path_of('sites', site)}?{urlencode({'run': run})}",
        submit=say("Sign the explanation"),
        facts=(
            *_exposure_facts(language, site, run, difference),
            (say("What became of it"), difference.disposition),
            (say("State"), now),
        ),
        fields=(Field("reason", say("Why the two sources differ"), "words"),),
        meaning=say("I have looked into it and stand for this explanation."),
        seen=f"{difference.at_site}|{difference.explained}",
        now=now,
        over=difference.at_site or difference.explained,
    )


@router.get("/sites/{site}/correct")
async def correct(request: Request, site: str, run: str, dispense: str) -> Response:
    """A record that the site alone has, before somebody takes it back."""
    return show(request, await _correcting(request, site, run, dispense))


@router.post("/sites/{site}/correct")
async def corrected(request: Request, site: str, run: str, dispense: str) -> Response:
    found = await _difference(request, site, run, dispense)
    return await settle(
        request,
        lambda: _correcting(request, site, run, dispense),
        process_of(request, site),
        "RecordMedicationCorrections",
        lambda form: {
            "site": site,
            "all_or_nothing": True,
            "corrections": [
                clinical.MedicationCorrected(
                    dispense=dispense,
                    site=site,
                    pseudonym=found.pseudonym,
                    reason=text(form, "reason"),
                    at=moment(form, "at", request.state.language.zone),
                )
            ],
        },
    )


async def _correcting(request: Request, site: str, run: str, dispense: str) -> Question:
    language: Language = request.state.language
    say = language.say
    found = await _difference(request, site, run, dispense)
    alone = found.difference == api.EXPOSURE_DIFFERENCE_ONLY_AT_SITE
    now = (
        say("Only the site's own records show this dispense.")
        if alone
        else say("The run's journal shows this dispense too, or the record was taken back.")
    )
    return Question(
        title=say("Take an own record back"),
        purpose=say(
            "The site's own records show a dispense that the run's journal does not have. "
            "If it happened, leave it: the site tells the trace of it again until a journal has it."
        ),
        back=f"{path_of('sites', site)}?{urlencode({'run': run})}",
        submit=say("Take the record back"),
        facts=(*_exposure_facts(language, site, run, found), (say("State"), now)),
        fields=(
            Field("reason", say("Why the record was wrong"), "words"),
            await _at(request, process_of(request, site), say("When it was found to be wrong")),
        ),
        seen=str(alone),
        now=now,
        over=not alone,
        danger=True,
    )


# -- notices ----------------------------------------------------------------------------

_OUTCOMES = {
    "told": clinical.NOTICE_OUTCOME_NOTIFIED,
    "unreachable": clinical.NOTICE_OUTCOME_UNREACHABLE,
}


@router.get("/sites/{site}/notice")
async def notice(request: Request, site: str, run: str, patient: str) -> Response:
    """Who is to be told and with which words, before somebody records that it was done."""
    return show(request, await _noticing(request, site, run, patient))


@router.post("/sites/{site}/notice")
async def noticed(request: Request, site: str, run: str, patient: str) -> Response:
    return await settle(
        request,
        lambda: _noticing(request, site, run, patient),
        process_of(request, site),
        "RecordNotices",
        lambda form: {
            "site": site,
            "all_or_nothing": True,
            "notices": [
                clinical.NoticeRecorded(
                    run=run,
                    site=site,
                    pseudonym=patient,
                    outcome=_OUTCOMES.get(text(form, "outcome"), clinical.NOTICE_OUTCOME_UNSPECIFIED),
                    at=moment(form, "at", request.state.language.zone),
                )
            ],
        },
    )


async def _noticing(request: Request, site: str, run: str, patient: str) -> Question:
    language: Language = request.state.language
    say = language.say
    process = process_of(request, site)
    found, hazard = await _notice(request.app.state.backend, process, site, run, patient)
    kind = clinical.NoticeOutcome.DESCRIPTOR
    state = say(word(kind, found.outcome)) if found.outcome else say("Not told yet")
    over = found.outcome == clinical.NOTICE_OUTCOME_NOTIFIED
    return Question(
        title=say("Record a notice"),
        purpose=say("Says that a patient was told of what they received, or that every way was tried."),
        back=_back(site, run),
        submit=say("Record the notice"),
        facts=(
            (say("Site"), site),
            (say("Run"), run),
            (say("Patient"), patient),
            (say("Lots"), ", ".join(found.lots)),
            (say("Hazard class"), hazard.hazard_class),
            (say("What patients are told"), hazard.text),
            (say("What patients should do"), hazard.instruction),
            (say("State"), state),
        ),
        fields=(
            Field(
                "outcome",
                say("What came of it"),
                "pick",
                options=tuple((name, say(word(kind, number))) for name, number in _OUTCOMES.items()),
            ),
            await _at(request, process, say("When the patient was told, or tried last")),
        ),
        seen=str(found.outcome),
        now=say("The notice stands as: %(state)s.", state=state),
        over=over,
    )


async def _notice(backend: Backend, process: str, site: str, run: str, patient: str) -> tuple[Any, Any]:
    """The patient's notice, and the answer that says what they are told."""
    token = ""
    while True:
        answer = await backend.ask(
            process, "ListNotices", fresh=True, site=site, run=run, page_size=1000, page_token=token
        )
        if found := next((one for one in answer.notices if one.pseudonym == patient), None):
            return found, answer
        token = answer.next_page_token
        if not token:
            raise HTTPException(404)


# -- answers ----------------------------------------------------------------------------


@router.get("/sites/{site}/answer")
async def answer(request: Request, site: str, run: str, patient: str, plan: str) -> Response:
    """What a patient is asked, before somebody records what they answered."""
    view, at = await _plan(request, site, run, patient, plan)
    return show(request, await _answering(request, site, view, at))


@router.post("/sites/{site}/answer")
async def answered(request: Request, site: str, run: str, patient: str, plan: str) -> Response:
    view, _ = await _plan(request, site, run, patient, plan)

    async def question() -> Question:
        return await _answering(request, site, *await _plan(request, site, run, patient, plan))

    return await settle(
        request,
        question,
        process_of(request, site),
        "RecordResponse",
        lambda form: {
            "site": site,
            "plan": plan,
            "pseudonym": patient,
            "affected": text(form, "affected") == "yes",
            "words": text(form, "words"),
            "at": moment(form, "at", request.state.language.zone),
            "answers": _answers(form, view.template, request.state.language.zone),
        },
    )


async def _plan(request: Request, site: str, run: str, patient: str, plan: str) -> tuple[Any, str]:
    """The plan, and when it was answered last ("" for never)."""
    backend: Backend = request.app.state.backend
    process = process_of(request, site)
    asked: dict[str, Any] = {"site": site, "run": run, "pseudonym": patient}
    found, _ = await every(backend, process, "ListPlans", "plans", fresh=True, **asked)
    view = next((one for one in found if one.plan.plan == plan), None)
    if view is None:
        raise HTTPException(404)
    if not view.answered:
        return view, ""
    told, _ = await every(backend, process, "ListResponses", "responses", fresh=True, **asked)
    return view, next((one.at.ToJsonString() for one in told if one.plan == plan), "?")


def _fields(language: Language, template: Any) -> list[Field]:
    """A field for each question, in the order of the template."""
    say = language.say
    yes_no = (("yes", say("Yes")), ("no", say("No")))
    made = []
    for question in template.questions:
        name, label = f"answer-{question.id}", asked_text(language, question)
        if question.answer == clinical.ANSWER_KIND_YES_NO:
            made.append(Field(name, label, "pick", options=yes_no))
        elif question.answer == clinical.ANSWER_KIND_CHOICE:
            options = tuple((one.id, wording(language, one.text) or one.id) for one in question.options)
            made.append(Field(name, label, "pick", options=options))
        elif question.answer == clinical.ANSWER_KIND_NUMBER:
            made.append(Field(name, label, help=say("A number in %(unit)s", unit=question.unit)))
        else:
            made.append(Field(name, label, "words", required=False))
    return made


async def _answering(request: Request, site: str, view: Any, at: str) -> Question:
    language: Language = request.state.language
    say = language.say
    plan, template = view.plan, view.template
    fields = _fields(language, template)
    fields.append(
        Field(
            "affected",
            say("Does the patient report a complaint?"),
            "pick",
            options=(("yes", say("Yes")), ("no", say("No"))),
            help=say("An answer above that is a complaint counts as one, whatever is said here."),
        )
    )
    if any(question.term for question in template.questions):
        fields.append(Field("onset", say("When the complaint began"), "moment", required=False))
    if not any(field.kind == "words" for field in fields):
        fields.append(Field("words", say("What else the patient said"), "words", required=False))
    fields.append(await _at(request, process_of(request, site), say("When the patient answered")))
    if view.draft:
        now = say("Nobody is asked yet: the hazard of the run is not evaluated.")
    elif at:
        now = say("An answer is on record. The one with the latest time counts.")
    else:
        now = say("No answer is on record.")
    return Question(
        title=say("Record an answer"),
        purpose=say("What a patient answered to their monitoring plan. It is sealed under their own key."),
        back=_back(site, plan.run, plan.pseudonym),
        submit=say("Record the answer"),
        facts=(
            (say("Site"), site),
            (say("Run"), plan.run),
            (say("Patient"), plan.pseudonym),
            (say("Lots"), ", ".join(plan.lots)),
            (say("Ends"), language.moment(view.ends)),
            (say("State"), now),
        ),
        fields=tuple(fields),
        seen=f"{view.draft}|{at}",
        now=now,
        over=view.draft,
    )


def _answers(form: FormData, template: Any, zone: str) -> list[clinical.QuestionAnswer]:
    """What was written, as the contract says it; Unreadable where a number or a time is none."""
    onset = moment(form, "onset", zone) if text(form, "onset") else None
    found = []
    for question in template.questions:
        name = f"answer-{question.id}"
        told = clinical.QuestionAnswer(question=question.id)
        if question.answer == clinical.ANSWER_KIND_YES_NO:
            told.yes = text(form, name) == "yes"
        elif question.answer == clinical.ANSWER_KIND_CHOICE:
            told.choice = text(form, name)
        elif question.answer == clinical.ANSWER_KIND_NUMBER:
            told.number = number(form, name)
        elif not text(form, name):
            continue
        else:
            told.words = text(form, name)
        if onset is not None and question.term:
            told.onset.CopyFrom(onset)
        found.append(told)
    return found
