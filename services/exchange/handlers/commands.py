"""What people, sites and the steps of the exchange ask; each runs inside the decider's transaction."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import Message

from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from services.exchange.domain import datasets, evaluators, studies
from services.exchange.domain.disclosure.limits import Breach
from services.exchange.domain.evaluators import Evaluator
from services.exchange.domain.studies import Study
from services.exchange.handlers.runs import EXPIRY_STEP, JOB_STEP, VALUATION_STEP
from services.exchange.valuing import COORDINATOR
from services.exchange.views import (
    BUDGETS,
    DATASETS,
    EVALUATOR,
    EVALUATORS,
    METERS,
    RUNS,
    STUDIES,
    Budget,
    Meters,
)
from services.kit.ids import check_product, derived_id, study_case
from services.kit.refused import refusals
from services.kit.work import Work


@refusals()
def register_dataset(work: Work, request: api.RegisterDatasetRequest) -> api.RegisterDatasetResponse:
    asked = events.DatasetRegistered(
        dataset=request.dataset,
        site=request.site,
        title=request.title,
        products=request.products,
        covariates=request.covariates,
        queries_per_analyst=request.queries_per_analyst,
        signing_key=request.signing_key,
        mask_key=request.mask_key,
        actor=work.cause.actor,
    )
    if request.HasField("rounds_per_analyst"):
        asked.rounds_per_analyst = request.rounds_per_analyst
    if request.HasField("epsilon_per_analyst"):
        asked.epsilon_per_analyst = request.epsilon_per_analyst
    of_site = work.where(DATASETS, "site", request.site).values()
    for event in datasets.decide_register(work.get(DATASETS, request.dataset), asked, of_site):
        work.apply(DATASETS, request.dataset, event)
    return api.RegisterDatasetResponse()


@refusals()
def request_study(work: Work, request: api.RequestStudyRequest) -> api.RequestStudyResponse:
    if request.definition.product:
        check_product(request.definition.product, "definition.product")
    study = request.study or derived_id("study", work.cause.id)
    asked = events.StudyRequested(
        study=study,
        question=request.question,
        purpose=request.purpose,
        datasets=request.datasets,
        definition=request.definition,
        model=request.model,
        specification=request.specification,
        most_rounds=request.most_rounds,
        ethics=request.ethics,
        profile=request.profile,
        epsilon=request.epsilon,
        delta=request.delta,
        valued=request.valued,
        expires=request.expires if request.HasField("expires") else None,
        actor=work.cause.actor,
        follows=request.follows,
    )
    evaluator = work.get(EVALUATORS, EVALUATOR) if request.valued else None
    if evaluator is not None:
        asked.evaluator, asked.evaluator_key = evaluator.name, evaluator.key
    work.load(DATASETS, request.datasets)
    named = {name: work.get(DATASETS, name) for name in request.datasets}
    mine = _of_analyst(work, work.cause.actor)
    decided = studies.decide_request(
        work.get(STUDIES, study),
        asked,
        named,
        lambda name, epsilon: _breaches(work, name, mine, epsilon),
        work.get(STUDIES, request.follows) if request.follows else None,
        work.now,
    )
    _apply(work, study, decided)
    work.due(EXPIRY_STEP, study, studies.moment(asked.expires, "expires"))
    return api.RequestStudyResponse(study=study)


@refusals()
def approve_study(work: Work, request: api.ApproveStudyRequest) -> api.ApproveStudyResponse:
    asked = events.StudyApproved(
        study=request.study,
        site=request.site,
        actor=work.cause.actor,
        meaning=request.meaning,
        valuation=request.valuation,
    )
    decided = studies.decide_approve(work.get(STUDIES, request.study), asked, work.now)
    _apply(work, request.study, decided)
    if decided:
        work.due(JOB_STEP, request.study, work.now)
    return api.ApproveStudyResponse()


@refusals()
def refuse_study(work: Work, request: api.RefuseStudyRequest) -> api.RefuseStudyResponse:
    asked = events.StudyRefused(
        study=request.study, site=request.site, actor=work.cause.actor, reason=request.reason
    )
    _apply(work, request.study, studies.decide_refuse(work.get(STUDIES, request.study), asked))
    return api.RefuseStudyResponse()


@refusals()
def stop_study(work: Work, request: api.StopStudyRequest) -> api.StopStudyResponse:
    asked = events.StudyStopped(study=request.study, actor=work.cause.actor, reason=request.reason)
    _apply(work, request.study, studies.decide_stop(work.get(STUDIES, request.study), asked))
    return api.StopStudyResponse()


def expire_study(work: Work, request: events.StudyExpired) -> Message:
    _apply(work, request.study, studies.decide_expire(work.get(STUDIES, request.study), work.now))
    return request


# -- jobs --------------------------------------------------------------------


@refusals()
def open_job(work: Work, request: events.JobOpened) -> Message:
    held = work.get(STUDIES, request.study)
    actor = held.actor if held else ""
    mine = _of_analyst(work, actor)
    decided = studies.decide_open(
        held, request, lambda name, epsilon: _breaches(work, name, mine, epsilon), work.now
    )
    before = work.get(BUDGETS, actor)
    work.put(BUDGETS, actor, Budget(before.jobs + 1 if before else 1))
    _apply(work, request.study, decided)
    return request


@refusals()
def freeze_cohort(work: Work, request: events.CohortFrozen) -> Message:
    _apply(work, request.study, studies.decide_freeze(work.get(STUDIES, request.study), request))
    return request


@refusals()
def audit_job(work: Work, request: events.JobAudited) -> Message:
    _apply(work, request.study, studies.decide_audit(work.get(STUDIES, request.study), request))
    return request


@refusals()
def end_job(work: Work, request: events.JobEnded) -> Message:
    _apply(work, request.study, studies.decide_end(work.get(STUDIES, request.study), request))
    return request


@refusals()
def publish_insight(work: Work, request: api.AnsweredJob) -> Message:
    """The answer, and with it what each site contributed: a restart in between would lose the latter.

    What is valued first is kept with the answer, for the step that has it valued.
    """
    told = request.insight
    _apply(work, told.study, studies.decide_publish(work.get(STUDIES, told.study), told))
    if request.valued_later:
        work.put(METERS, told.study, Meters(tuple(one.SerializeToString() for one in request.contributions)))
        work.due(VALUATION_STEP, told.study, work.now)
    else:
        _meter(work, request)
    return request


@refusals()
def meter_contributions(work: Work, request: api.AnsweredJob) -> Message:
    """What each site contributed, valued or not, once."""
    _meter(work, request)
    for study in {one.study for one in request.contributions}:
        if work.get(METERS, study) is not None:
            work.drop(METERS, study)
    return request


def _meter(work: Work, request: api.AnsweredJob) -> None:
    for one in request.contributions:
        _apply(work, one.study, studies.decide_meter(work.get(STUDIES, one.study), one))


@refusals()
def register_evaluator(work: Work, request: api.RegisterEvaluatorRequest) -> api.RegisterEvaluatorResponse:
    held = work.get(EVALUATORS, EVALUATOR)
    named = evaluators.register(held, Evaluator(request.evaluator, request.key), COORDINATOR)
    if held is None:
        work.put(EVALUATORS, EVALUATOR, named)
    return api.RegisterEvaluatorResponse()


def _of_analyst(work: Work, actor: str) -> list[Study]:
    return list(work.where(STUDIES, "actor", actor).values())


def _breaches(work: Work, name: str, mine: Iterable[Study], epsilon: float) -> list[Breach]:
    held = work.get(DATASETS, name)
    return studies.budget_breaches(held, mine, epsilon) if held else []


def _apply(work: Work, study: str, decided: Iterable[Message]) -> None:
    """A study's events are of its case, and of the run that was opened for it."""
    run = work.get(RUNS, study)
    for event in decided:
        work.apply(STUDIES, study, event, case=study_case(study), run=run.run if run else "")
