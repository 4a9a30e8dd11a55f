"""Corrective actions through change control: signed or refused, validated, assessed, in force, checked."""

from __future__ import annotations

from google.protobuf.message import Message

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.kit.ids import derived_id
from services.kit.refused import refusals
from services.kit.work import Work, moment_text
from services.production.domain import capa as capas
from services.production.domain import deviation, limits
from services.production.domain.capa import Capa, InForce
from services.production.views import CAPAS, LIMITS, LOTS, MODELS


@refusals()
def approve_capa(work: Work, request: api.ApproveCapaRequest) -> api.ApproveCapaResponse:
    held = work.get(CAPAS, request.capa)
    _apply(work, held, capas.decide_approve(held, work.cause.actor, request.meaning))
    return api.ApproveCapaResponse()


@refusals()
def refuse_capa(work: Work, request: api.RefuseCapaRequest) -> api.RefuseCapaResponse:
    """What was to be answered by it waits for a person again."""
    held = work.get(CAPAS, request.capa)
    _apply(work, held, capas.decide_refuse(held, work.cause.actor, request.reason, request.meaning))
    assert held is not None, "refused before"
    proposed = held.message()
    for event in deviation.decide_refuse_capa(work.get(LOTS, proposed.lot), held.capa):
        work.apply(LOTS, proposed.lot, event, case=proposed.lot, run=proposed.run)
    return api.RefuseCapaResponse()


@refusals()
def record_validation(work: Work, request: api.RecordValidationRequest) -> api.RecordValidationResponse:
    held = work.get(CAPAS, request.capa)
    asked = events.ChangeValidated(
        capa=request.capa, record=request.record, statement=request.statement, actor=work.cause.actor
    )
    _apply(work, held, capas.decide_validate(held, asked, lambda: _in_force(work, held)))
    return api.RecordValidationResponse()


@refusals()
def record_filing_assessment(
    work: Work, request: api.RecordFilingAssessmentRequest
) -> api.RecordFilingAssessmentResponse:
    held = work.get(CAPAS, request.capa)
    asked = events.ChangeFilingAssessed(
        capa=request.capa,
        category=request.category,
        reference=request.reference,
        statement=request.statement,
        actor=work.cause.actor,
    )
    _apply(work, held, capas.decide_assess_filing(held, asked, lambda: _in_force(work, held)))
    return api.RecordFilingAssessmentResponse()


@refusals()
def record_effectiveness_check(
    work: Work, request: api.RecordEffectivenessCheckRequest
) -> api.RecordEffectivenessCheckResponse:
    """What was effective closes its deviation, too; what was not leaves it to quality."""
    held = work.get(CAPAS, request.capa)
    asked = events.CapaEffectivenessChecked(
        capa=request.capa, outcome=request.outcome, statement=request.statement, actor=work.cause.actor
    )
    _apply(work, held, capas.decide_check(held, asked))
    if held and request.outcome == events.EFFECTIVENESS_OUTCOME_EFFECTIVE:
        proposed = held.message()
        lot = work.get(LOTS, proposed.lot)
        for event in deviation.decide_close_with(lot, held.capa, work.cause.actor):
            work.apply(LOTS, proposed.lot, event, case=proposed.lot, run=proposed.run)
    return api.RecordEffectivenessCheckResponse()


def _in_force(work: Work, held: Capa | None) -> InForce:
    """The limit of the action's tag as it is now, and the names of its change."""
    assert held is not None, "asked for by a decision about it"
    proposed = held.message()
    changed, model = work.get(LIMITS, proposed.product), work.get(MODELS, proposed.product)
    now = limits.in_force(proposed.tag, changed, model.message() if model else None, proposed.limit_before)
    return InForce(now, changed.version + 1 if changed else 1, derived_id("insight", held.capa))


def _apply(work: Work, held: Capa | None, decided: list[Message]) -> None:
    """The events of an action belong to the run that brought its evidence."""
    assert held is not None, "refused before"
    proposed = held.message()
    for event in decided:
        work.apply(CAPAS, held.capa, event, case=proposed.lot, run=proposed.run)
        if isinstance(event, events.ProcessLimitChanged):
            changed = limits.change(work.get(LIMITS, proposed.product), event, moment_text(work.now))
            work.put(LIMITS, proposed.product, changed)
