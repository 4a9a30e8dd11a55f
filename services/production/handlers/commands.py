"""What people and the plant ask of production; each runs inside the decider's transaction."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import Message

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.kit.errors import Invalid, Unknown
from services.kit.ids import check_product, derived_id, parse_lot, product_of
from services.kit.rpc.status import timestamp
from services.kit.work import Work, moment_text
from services.production.domain import capa as capas
from services.production.domain import equipment as equipments
from services.production.domain import limits
from services.production.domain import lot as lots
from services.production.handlers.refusals import refusals
from services.production.views import CAPAS, EQUIPMENT, EVIDENCE, LIMITS, LOTS, MODELS


def _apply(work: Work, lot: str, decided: Iterable[Message], case: str = "", run: str = "") -> None:
    for event in decided:
        work.apply(LOTS, lot, event, case=case, run=run)


# -- equipment ------------------------------------------------------------


@refusals()
def register_equipment(work: Work, request: api.RegisterEquipmentRequest) -> api.RegisterEquipmentResponse:
    asked = events.EquipmentRegistered(equipment=request.equipment, plant=request.plant, tags=request.tags)
    for event in equipments.decide_register(work.get(EQUIPMENT, request.equipment), asked):
        work.apply(EQUIPMENT, request.equipment, event)
    return api.RegisterEquipmentResponse()


# -- lots -----------------------------------------------------------------


@refusals()
def start_lot(work: Work, request: api.StartLotRequest) -> api.StartLotResponse:
    parse_lot(request.lot)
    product = request.product or product_of(request.lot)
    if product != product_of(request.lot):
        said = f"the lot is of product {product_of(request.lot)!r}; give that, or leave it out"
        raise Invalid("WRONG_PRODUCT", said, "product")
    if work.get(EQUIPMENT, request.equipment) is None:
        said = f"no equipment {request.equipment!r} is registered; register it first"
        raise Unknown("UNKNOWN_EQUIPMENT", said, "equipment")
    at = request.at if request.HasField("at") else timestamp(work.now)
    asked = events.LotStarted(lot=request.lot, product=product, equipment=request.equipment, at=at)
    lot = work.get(LOTS, request.lot)
    run = lot.runs[0] if lot and lot.runs else ""
    evidence = work.get(EVIDENCE, run) if run else None
    for event in lots.decide_start(lot, asked):
        by_run = evidence is not None and isinstance(event, events.LotHeld)
        case = evidence.root if evidence else ""
        work.apply(LOTS, request.lot, event, case=case if by_run else "", run=run if by_run else "")
    return api.StartLotResponse()


@refusals()
def complete_lot(work: Work, request: api.CompleteLotRequest) -> api.CompleteLotResponse:
    parse_lot(request.lot)
    at = request.at if request.HasField("at") else timestamp(work.now)
    asked = events.LotCompleted(lot=request.lot, at=at)
    _apply(work, request.lot, lots.decide_complete(work.get(LOTS, request.lot), asked))
    return api.CompleteLotResponse()


@refusals()
def hold_lot(work: Work, request: api.HoldLotRequest) -> api.HoldLotResponse:
    parse_lot(request.lot)
    lot = work.get(LOTS, request.lot)
    _apply(work, request.lot, lots.decide_hold(lot, request.reason, work.cause.actor))
    return api.HoldLotResponse()


@refusals()
def release_lot(work: Work, request: api.ReleaseLotRequest) -> api.ReleaseLotResponse:
    parse_lot(request.lot)
    _apply(work, request.lot, lots.decide_release(work.get(LOTS, request.lot), work.cause.actor))
    return api.ReleaseLotResponse()


@refusals()
def reject_lot(work: Work, request: api.RejectLotRequest) -> api.RejectLotResponse:
    parse_lot(request.lot)
    lot = work.get(LOTS, request.lot)
    _apply(work, request.lot, lots.decide_reject(lot, request.reason, work.cause.actor))
    return api.RejectLotResponse()


# -- deviations -----------------------------------------------------------


@refusals()
def confirm_deviation(work: Work, request: api.ConfirmDeviationRequest) -> api.ConfirmDeviationResponse:
    """A trigger of the safety loop: its case is the lot, its run is minted by `loops`."""
    parse_lot(request.lot)
    lot = work.get(LOTS, request.lot)
    decided = lots.decide_confirm(lot, request.deviation, request.reason, work.cause.actor)
    _apply(work, request.lot, decided, case=request.lot)
    return api.ConfirmDeviationResponse()


@refusals()
def reject_deviation(work: Work, request: api.RejectDeviationRequest) -> api.RejectDeviationResponse:
    parse_lot(request.lot)
    lot = work.get(LOTS, request.lot)
    decided = lots.decide_reject_deviation(lot, request.deviation, request.reason, work.cause.actor)
    _apply(work, request.lot, decided)
    return api.RejectDeviationResponse()


# -- models and corrective actions ------------------------------------------


def train_model(work: Work, trained: events.GoldenModelTrained) -> api.TrainModelResponse:
    """Put a trained model in force; the training itself happened before, outside."""
    check_product(trained.product)
    held = work.get(MODELS, trained.product)
    if held is None or held.version != trained.version:
        work.apply(MODELS, trained.product, trained)
    return api.TrainModelResponse(version=trained.version)


@refusals()
def approve_capa(work: Work, request: api.ApproveCapaRequest) -> api.ApproveCapaResponse:
    """The limit changes and research hears of it, in one commit."""
    held = work.get(CAPAS, request.capa)
    proposed = held.message() if held else events.CapaProposed()
    changed, model = work.get(LIMITS, proposed.product), work.get(MODELS, proposed.product)
    now = limits.in_force(proposed.tag, changed, model.message() if model else None, proposed.limit_before)
    insight = derived_id("insight", request.capa)
    for event in capas.decide_approve(held, work.cause.actor, request.meaning, now, insight):
        work.apply(CAPAS, request.capa, event, case=proposed.lot, run=proposed.run)
        if isinstance(event, events.ProcessLimitChanged):
            at = moment_text(work.now)
            work.put(LIMITS, proposed.product, limits.change(changed, event, at))
    return api.ApproveCapaResponse()
