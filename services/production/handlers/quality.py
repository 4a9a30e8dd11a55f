"""What production does when a run of the safety loop concerns its lots.

An implicated lot is held and the run is answered, always. The evidence of a
run is kept until it is whole, and then leads to one proposed action.
"""

from __future__ import annotations

from typing import cast

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.kit.envelope import Event
from services.kit.ids import derived_id
from services.kit.work import Work
from services.production.domain import capa as capas
from services.production.domain import deviation, evidence, limits
from services.production.domain import lot as lots
from services.production.domain.evidence import Evidence
from services.production.domain.monitor import propose_limit
from services.production.handlers import hazards
from services.production.handlers.models import narrowest
from services.production.views import CAPAS, EVIDENCE, LIMITS, LOTS, MODELS


def on_lot_implicated(work: Work, event: Event) -> None:
    implicated = cast(traceability.LotImplicated, event.message)
    _keep(work, evidence.implicated(_held(work, implicated.run), implicated))
    lot = work.get(LOTS, implicated.lot)
    for decided in lots.decide_implicate(lot, implicated.lot, implicated.run, implicated.root):
        work.apply(LOTS, implicated.lot, decided, case=implicated.root, run=implicated.run)


def on_safety_run_opened(work: Work, event: Event) -> None:
    opened = cast(loops.SafetyRunOpened, event.message)
    _keep(work, evidence.opened(_held(work, opened.run), opened))
    hazards.take_over(work, _held(work, opened.run))


def on_exposure_announced(work: Work, event: Event) -> None:
    announced = cast(traceability.ExposureAnnounced, event.message)
    _keep(work, evidence.announced(_held(work, announced.run), announced))


def on_exposure_sealed(work: Work, event: Event) -> None:
    sealed = cast(traceability.ExposureSealed, event.message)
    _keep(work, evidence.sealed(_held(work, sealed.run), sealed))


def on_follow_up_summarised(work: Work, event: Event) -> None:
    summarised = cast(clinical.FollowUpSummarised, event.message)
    _keep(work, evidence.answered(_held(work, summarised.run), summarised))


def on_evidence_released(work: Work, event: Event) -> None:
    released = cast(clinical.EvidenceReleased, event.message)
    _keep(work, evidence.released(_held(work, released.run), released))


def on_responses_summarised(work: Work, event: Event) -> None:
    summarised = cast(clinical.ResponsesSummarised, event.message)
    _keep(work, evidence.answered_openly(_held(work, summarised.run), summarised))


def _held(work: Work, run: str) -> Evidence:
    return work.get(EVIDENCE, run) or Evidence(run)


def _keep(work: Work, held: Evidence) -> None:
    """Store the evidence and act on it if it is whole; tell the runs that follow this one.

    A follower writes itself into the evidence of the run before it, so that
    the two meet also when they are folded at the same moment.
    """
    if held.follows:
        before = evidence.followed(_held(work, held.follows), held.run)
        work.put(EVIDENCE, before.run, before)
        held = evidence.inherited(held, before)
    work.put(EVIDENCE, held.run, held)
    if evidence.is_whole(held):
        _propose(work, held)
    if held.tag:
        for follower in (_held(work, run) for run in held.followers):
            if not follower.tag:
                _keep(work, follower)


def _propose(work: Work, held: Evidence) -> None:
    id = derived_id("capa", held.run)
    proposed = work.get(CAPAS, id)
    if proposed is not None and proposed.state == "refused":
        return  # what is told of the run later does not ask anybody again
    model = work.get(MODELS, held.product)
    trained = model.message() if model else None
    before = limits.in_force(held.tag, work.get(LIMITS, held.product), trained, _detected(work, held).limit)
    floor = narrowest(trained, held.tag)
    after = propose_limit(before, held.answered, held.affected, floor)
    for decided in capas.decide_propose(proposed, held, id, before, after, floor):
        work.apply(CAPAS, id, decided, case=held.root, run=held.run)
    root = work.get(LOTS, held.root)
    for decided in deviation.decide_require_capa(root, held.deviation, id):
        work.apply(LOTS, held.root, decided, case=held.root, run=held.run)


def _detected(work: Work, held: Evidence) -> production.DeviationDetected:
    """The deviation that the run is about; empty where this plant does not know it."""
    lot = work.get(LOTS, held.root)
    found = lot.deviation(held.deviation) if lot else None
    return production.DeviationDetected.FromString(found.detected if found else b"")
