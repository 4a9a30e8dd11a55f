"""What quality asks of deviations: judge, classify, close, and the rules that propose a class."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import Message

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.kit.ids import check_product, parse_lot
from services.kit.refused import refusals
from services.kit.work import Work
from services.production.domain import deviation, severity
from services.production.domain import lot as lots
from services.production.views import LOTS, SEVERITY_RULES


def _apply(work: Work, lot: str, decided: Iterable[Message], case: str = "") -> None:
    for event in decided:
        work.apply(LOTS, lot, event, case=case)


@refusals()
def start_investigation(work: Work, request: api.StartInvestigationRequest) -> api.StartInvestigationResponse:
    parse_lot(request.lot)
    lot, actor = work.get(LOTS, request.lot), work.cause.actor
    _apply(work, request.lot, deviation.decide_investigate(lot, request.deviation, request.reason, actor))
    return api.StartInvestigationResponse()


@refusals()
def confirm_deviation(work: Work, request: api.ConfirmDeviationRequest) -> api.ConfirmDeviationResponse:
    """A trigger of the safety loop: its case is the lot, its run is minted by `loops`."""
    parse_lot(request.lot)
    lot, actor = work.get(LOTS, request.lot), work.cause.actor
    decided = lots.decide_confirm(lot, request.deviation, request.reason, actor)
    _apply(work, request.lot, decided, case=request.lot)
    return api.ConfirmDeviationResponse()


@refusals()
def reject_deviation(work: Work, request: api.RejectDeviationRequest) -> api.RejectDeviationResponse:
    parse_lot(request.lot)
    lot, actor = work.get(LOTS, request.lot), work.cause.actor
    _apply(work, request.lot, deviation.decide_reject(lot, request.deviation, request.reason, actor))
    return api.RejectDeviationResponse()


@refusals()
def classify_deviation(work: Work, request: api.ClassifyDeviationRequest) -> api.ClassifyDeviationResponse:
    parse_lot(request.lot)
    lot, actor = work.get(LOTS, request.lot), work.cause.actor
    decided = deviation.decide_classify(lot, request.deviation, request.severity, request.impact, actor)
    _apply(work, request.lot, decided)
    return api.ClassifyDeviationResponse()


@refusals()
def close_deviation(work: Work, request: api.CloseDeviationRequest) -> api.CloseDeviationResponse:
    parse_lot(request.lot)
    lot, actor = work.get(LOTS, request.lot), work.cause.actor
    _apply(work, request.lot, deviation.decide_close(lot, request.deviation, request.reason, actor))
    return api.CloseDeviationResponse()


@refusals()
def set_severity_rules(work: Work, request: api.SetSeverityRulesRequest) -> api.SetSeverityRulesResponse:
    check_product(request.product)
    asked = events.SeverityRulesSet(product=request.product, rules=request.rules, actor=work.cause.actor)
    for event in severity.decide_set(work.get(SEVERITY_RULES, request.product), asked):
        work.apply(SEVERITY_RULES, request.product, event)
    return api.SetSeverityRulesResponse()
