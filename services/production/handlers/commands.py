"""What people and the plant ask of production; each runs inside the decider's transaction."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import Message

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.kit.errors import Invalid, Unknown
from services.kit.ids import check_product, parse_lot, product_of
from services.kit.refused import refusals
from services.kit.rpc.status import timestamp
from services.kit.work import Work
from services.production.domain import equipment as equipments
from services.production.domain import lot as lots
from services.production.domain import transfer as transfers
from services.production.domain.record import Deviation, Lot
from services.production.views import EQUIPMENT, EVIDENCE, LOTS, MODELS, PROFILE_STEP, TRANSFERS


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
    if request.transfer:
        asked.transfer = request.transfer
        asked.transfer_version = transfers.usable(work.get(TRANSFERS, request.transfer), product)
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
    work.due(PROFILE_STEP, request.lot, work.now)
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
    lot = work.get(LOTS, request.lot)
    touching = _touching(work, lot) if lot else []
    _apply(work, request.lot, lots.decide_release(lot, work.cause.actor, touching))
    return api.ReleaseLotResponse()


def _touching(work: Work, lot: Lot) -> list[Deviation]:
    """The deviations of other lots that brought this one into a run of the safety loop.

    One that no record here shows cannot be disposed of here: it counts as open.
    """
    found = []
    for run in lot.runs:
        evidence = work.get(EVIDENCE, run)
        if evidence is None or not evidence.deviation or evidence.root == lot.lot:
            continue
        root = work.get(LOTS, evidence.root)
        held = root.deviation(evidence.deviation) if root else None
        found.append(held or Deviation(evidence.deviation, b""))
    return found


@refusals()
def reject_lot(work: Work, request: api.RejectLotRequest) -> api.RejectLotResponse:
    parse_lot(request.lot)
    lot = work.get(LOTS, request.lot)
    _apply(work, request.lot, lots.decide_reject(lot, request.reason, work.cause.actor))
    return api.RejectLotResponse()


# -- laboratory and models -------------------------------------------------


@refusals()
def close_investigation(work: Work, request: api.CloseInvestigationRequest) -> api.CloseInvestigationResponse:
    parse_lot(request.lot)
    lot = work.get(LOTS, request.lot)
    decided = lots.decide_close_investigation(
        lot, request.investigation, request.outcome, request.reason, work.cause.actor
    )
    _apply(work, request.lot, decided)
    return api.CloseInvestigationResponse()


def train_model(work: Work, trained: events.GoldenModelTrained) -> api.TrainModelResponse:
    """Put a trained model in force; the training itself happened before, outside."""
    check_product(trained.product)
    held = work.get(MODELS, trained.product)
    if held is None or held.version != trained.version:
        work.apply(MODELS, trained.product, trained)
    return api.TrainModelResponse(version=trained.version)
