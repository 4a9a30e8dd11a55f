"""The gRPC face of follow-up: templates, plans, answers in several forms, adverse events."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from pharmaloop.common.v1 import types_pb2 as common
from services.clinical import fhir, responses
from services.clinical.domain import adverse, answers, moments, plans, reminders, templates
from services.clinical.domain.adverse import Course
from services.clinical.domain.holdings import Holding
from services.clinical.domain.plans import Plan
from services.clinical.domain.templates import DEFAULT
from services.clinical.domain.vocabulary import TERMS
from services.clinical.held_templates import asked_by, held
from services.clinical.intake import Intake, check_response, check_site
from services.clinical.views import ADVERSE, HOLDINGS, PATIENTS, PLANS, TEMPLATES
from services.kit.app import App
from services.kit.errors import Invalid, Rejected, Unknown
from services.kit.facts import Fact
from services.kit.rpc.api import Api
from services.kit.rpc.context import caller
from services.kit.work import moment_text

M = TypeVar("M")
_ANSWER = re.compile(r"answers\[([0-9]+)]")


class Asked(NamedTuple):
    """A plan that takes answers, with what it asks."""

    plan: Plan
    template: clinical.FollowUpTemplate


class FollowUpApi(Api):
    def __init__(self, app: App) -> None:
        super().__init__(app)
        self._intake = Intake(app.site, app.sealer)

    # -- templates -----------------------------------------------------------------

    async def RegisterFollowUpTemplate(
        self, request: api.RegisterFollowUpTemplateRequest, context: Any
    ) -> api.RegisterFollowUpTemplateResponse:
        check_site(request.site, self.app.site)
        return await self.decide("RegisterFollowUpTemplate", request, api.RegisterFollowUpTemplateResponse)

    async def ListFollowUpTemplates(
        self, request: api.ListFollowUpTemplatesRequest, context: Any
    ) -> api.ListFollowUpTemplatesResponse:
        check_site(request.site, self.app.site)
        await self.reach(request)
        page = await self.page(request, TEMPLATES, {})
        found = [item.state.newest for item in page.items]
        if not request.page_token and await held(self.app.store, self.app.site, DEFAULT.template) is None:
            found.insert(0, DEFAULT)
        return api.ListFollowUpTemplatesResponse(templates=found, next_page_token=page.token)

    async def _template(self, plan: Plan) -> clinical.FollowUpTemplate:
        """What the plan asks: the version with which it was opened."""
        if plan.asked is None:
            return DEFAULT
        return await asked_by(self.app.store, self.app.site, plan.asked.template, plan.asked.version)

    async def _templates(
        self, found: Iterable[Plan]
    ) -> dict[templates.Asked | None, clinical.FollowUpTemplate]:
        """What each of the plans asks, read once for all that ask the same."""
        one_of_each = {plan.asked: plan for plan in found}
        return {key: await self._template(plan) for key, plan in one_of_each.items()}

    # -- plans -----------------------------------------------------------------------

    async def ListPlans(self, request: api.ListPlansRequest, context: Any) -> api.ListPlansResponse:
        check_site(request.site, self.app.site)
        await self.reach(request)
        filters: dict[str, Any] = {"run": request.run, "pseudonym": request.pseudonym, "stage": "open"}
        if request.only_open or request.only_overdue:
            filters["answered"] = False
        held: dict[str, Holding | None] = {}
        now = moment_text(self.app.clock.now())
        found, token = await self._plans(request, filters, held, now)
        asked = await self._templates(found)
        views = [_view(plan, asked[plan.asked], held[plan.run], now) for plan in found]
        return api.ListPlansResponse(plans=views, next_page_token=token)

    async def _plans(
        self,
        request: api.ListPlansRequest,
        filters: dict[str, Any],
        held: dict[str, Holding | None],
        now: str,
    ) -> tuple[list[Plan], str]:
        """A page of plans, and what is held of their runs; of those that are overdue one that has any."""
        asked = api.ListPlansRequest()
        asked.CopyFrom(request)
        while True:
            page = await self.page(asked, PLANS, filters)
            found = [item.state for item in page.items]
            for run in {plan.run for plan in found} - set(held):
                held[run] = await self._holding(run)
            if request.only_overdue:
                found = [plan for plan in found if reminders.overdue(plan, _hazard_at(held[plan.run]), now)]
            if found or not page.token or not request.only_overdue:
                return found, page.token
            asked.page_token = page.token

    async def _holding(self, run: str) -> Holding | None:
        stored = await self.app.store.get(HOLDINGS, f"{run}|{self.app.site}")
        return stored.state if stored else None

    async def _asked(self, plan: str, pseudonym: str) -> Asked:
        """The plan that is answered; refused where it is none, another's, closed or a draft."""
        stored = await self.app.store.get(PLANS, plan)
        if stored is None or not stored.state.due:
            raise Unknown("UNKNOWN_PLAN", f"there is no plan {plan!r}; ListPlans shows the plans", "plan")
        if stored.state.pseudonym != pseudonym:
            raise Invalid("OTHER_PATIENT", "the plan belongs to another patient", "pseudonym")
        holding = await self._holding(stored.state.run)
        if stored.state.stage != "open" or (holding is not None and holding.over):
            said = "the plan is closed and takes no more answers; record a complaint as an adverse event"
            raise Rejected("PLAN_CLOSED", said, "plan")
        if holding is None or holding.hazard is None:
            said = "the plan is a draft: nobody is asked before the health hazard is evaluated"
            raise Rejected("PLAN_IS_DRAFT", said, "plan")
        return Asked(stored.state, await self._template(stored.state))

    # -- answers -----------------------------------------------------------------------

    async def RecordResponse(
        self, request: api.RecordResponseRequest, context: Any
    ) -> api.RecordResponseResponse:
        check_site(request.site, self.app.site)
        check_response(request)
        asked = await self._asked(request.plan, request.pseudonym)
        fact = await asyncio.to_thread(self._intake.response, request, asked.template)
        return api.RecordResponseResponse(receipt=await self._write([fact], True, ""))

    async def ListResponses(
        self, request: api.ListResponsesRequest, context: Any
    ) -> api.ListResponsesResponse:
        check_site(request.site, self.app.site)
        responses.check_asked(request)
        await self.reach(request)
        filters = {"run": request.run, "pseudonym": request.pseudonym, "stage": "open", "answered": True}
        page = await self.page(request, PLANS, filters)
        found = [item.state for item in page.items if item.state.answer is not None]
        asked = await self._templates(found)
        answered = [responses.Answered(plan, asked[plan.asked]) for plan in found]
        told = await asyncio.to_thread(responses.opened, self.app.sealer, answered, request.words)
        return api.ListResponsesResponse(responses=told, next_page_token=page.token)

    async def RecordFhirResources(
        self, request: api.RecordFhirResourcesRequest, context: Any
    ) -> api.RecordFhirResourcesResponse:
        check_site(request.site, self.app.site)
        facts = [await self._resource(resource) for resource in request.resources]
        receipt = await self._write(facts, request.all_or_nothing, "resources")
        return api.RecordFhirResourcesResponse(receipt=receipt)

    async def _resource(self, resource: str) -> Fact | Invalid:
        """The fact that a resource tells, or why it is none."""
        try:
            found = fhir.parsed(resource)
            if isinstance(found, fhir.FhirLab):
                return await self._lab(found)
            return await self._answers(found)
        except Invalid as error:
            return error

    async def _lab(self, found: fhir.FhirLab) -> Fact:
        if not found.lab.plan:
            return await asyncio.to_thread(self._intake.lab, found.lab, found.result, found.number)
        asked = await self._of_resource(found.lab.plan, found.lab.pseudonym)
        codes = [lab.code for lab in asked.template.labs]
        if found.lab.code not in codes:
            said = f"the plan does not ask for {found.lab.code}; it asks for {', '.join(codes) or 'no test'}"
            raise Invalid("UNKNOWN_LAB", said, "code.coding")
        return await asyncio.to_thread(self._intake.lab, found.lab, found.result, found.number)

    async def _answers(self, found: fhir.FhirResponse) -> Fact:
        asked = await self._of_resource(found.request.plan, found.request.pseudonym)
        if not answers.tells(asked.template):
            said = "no answer to the plan's questions tells a complaint; use RecordResponse, which asks"
            raise Invalid("NO_RULE", said, "basedOn[0].reference")
        fhir.check_units(found, asked.template)
        try:
            return await asyncio.to_thread(self._intake.response, found.request, asked.template)
        except Invalid as error:
            raise Invalid(error.reason, error.description, _path(error.field, found.paths)) from error

    async def _of_resource(self, plan: str, pseudonym: str) -> Asked:
        try:
            return await self._asked(plan, pseudonym)
        except Rejected as error:
            field = {"plan": "basedOn[0].reference", "pseudonym": "subject.reference"}[error.field]
            raise Invalid(error.reason, error.description, field) from error

    # -- adverse events ---------------------------------------------------------------------

    async def RecordAdverseEvents(
        self, request: api.RecordAdverseEventsRequest, context: Any
    ) -> api.RecordAdverseEventsResponse:
        check_site(request.site, self.app.site)
        judge = self._intake.adverse_event
        receipt = await self._record(request.reports, judge, request.all_or_nothing, "reports")
        return api.RecordAdverseEventsResponse(receipt=receipt)

    async def ListAdverseEvents(
        self, request: api.ListAdverseEventsRequest, context: Any
    ) -> api.ListAdverseEventsResponse:
        check_site(request.site, self.app.site)
        await self.reach(request)
        page = await self.page(request, ADVERSE, {"pseudonym": request.pseudonym})
        courses: list[Course] = [item.state for item in page.items]
        consents = {name: await self._consents(name) for name in {course.pseudonym for course in courses}}
        return api.ListAdverseEventsResponse(
            events=[event for course in courses for event in _events(course, consents[course.pseudonym])],
            next_page_token=page.token,
        )

    async def _consents(self, pseudonym: str) -> bool:
        stored = await self.app.store.get(PATIENTS, pseudonym)
        return stored is not None and stored.state.consent

    async def GetVocabulary(
        self, request: api.GetVocabularyRequest, context: Any
    ) -> api.GetVocabularyResponse:
        check_site(request.site, self.app.site)
        await self.reach(request)
        answer = api.GetVocabularyResponse()
        for term in TERMS.values():
            en, zh = term.group
            answer.terms.add(
                code=term.code,
                text=clinical.Wording(en=term.en, zh=term.zh),
                group=clinical.Wording(en=en, zh=zh),
                synonyms=term.synonyms,
            )
        return answer

    # -- facts --------------------------------------------------------------------------------

    async def _record(
        self, records: Iterable[M], judge: Callable[[M], Fact], all_or_nothing: bool, field: str
    ) -> common.FactReceipt:
        """Judge the records beside the event loop (sealing makes keys on disk), then record the good ones."""
        judged = await asyncio.to_thread(lambda: [_judged(judge, record) for record in records])
        return await self._write(judged, all_or_nothing, field)

    async def _write(
        self, judged: Sequence[Fact | Invalid], all_or_nothing: bool, field: str
    ) -> common.FactReceipt:
        return await self.app.facts.record(
            judged, _fact, all_or_nothing=all_or_nothing, actor=caller().actor, field=field
        )


def _judged(judge: Callable[[M], Fact], record: M) -> Fact | Invalid:
    try:
        return judge(record)
    except Invalid as error:
        return error


def _fact(_: int, judged: Fact | Invalid) -> Fact:
    if isinstance(judged, Invalid):
        raise judged
    return judged


def _path(field: str, paths: Sequence[str]) -> str:
    """Where in the resource the field of the request stood."""
    found = _ANSWER.match(field)
    if found:
        return paths[int(found[1])]
    names = {"answers": "item", "plan": "basedOn[0].reference", "pseudonym": "subject.reference"}
    return names.get(field, field)


def _hazard_at(holding: Holding | None) -> str:
    """When the hazard was evaluated; empty while it is not, and once a person ended the run."""
    return holding.hazard.at if holding and holding.hazard and not holding.over else ""


def _view(plan: Plan, template: clinical.FollowUpTemplate, holding: Holding | None, now: str) -> api.PlanView:
    hazard = holding.hazard if holding else None
    asked = plans.asked_at(plan, hazard.at if hazard else "")
    since = reminders.overdue_since(plan, _hazard_at(holding), now)
    return api.PlanView(
        plan=plans.message_of(plan, template.questions[0].text.en),
        answered=plan.answered,
        draft=hazard is None,
        template=template,
        visits_due=[moments.stamp_of(plans.later(asked, visit.offset_hours)) for visit in template.visits],
        ends=moments.stamp_of(plans.later(asked, plan.hours)),
        reminded=[moments.stamp_of(at) for at in sorted(plan.reminded.values())],
        labs=plan.labs,
        overdue=bool(since),
        overdue_since=moments.stamp_of(since) if since else None,
    )


def _events(course: Course, consents: bool) -> Iterator[api.AdverseEvent]:
    """What happened; what the patient answered only as long as they consent to follow-up."""
    term = TERMS[course.term]
    for event in adverse.events(course, solicited=consents):
        yield api.AdverseEvent(
            pseudonym=course.pseudonym,
            term=course.term,
            text=clinical.Wording(en=term.en, zh=term.zh),
            onset=moments.stamp_of(event.onset),
            serious=event.serious,
            solicited=event.told_by("solicited"),
            spontaneous=event.told_by("spontaneous"),
        )
