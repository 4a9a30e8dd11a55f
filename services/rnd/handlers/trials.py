"""Virtual trials: run outside, put on record here."""

from __future__ import annotations

from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import service_pb2 as api
from services.kit.errors import Unknown
from services.kit.work import Work
from services.rnd.domain import trials
from services.rnd.views import PRODUCTS, TRIALS


def complete(work: Work, completed: events.TrialCompleted) -> api.RunTrialResponse:
    """The trial of a registered product, with its molecule; one that was run before stands as it is."""
    held = work.get(TRIALS, completed.trial)
    product = work.get(PRODUCTS, completed.product)
    if product is None:
        said = f"no product {completed.product!r} is registered; register it with RegisterProduct first"
        raise Unknown("UNKNOWN_PRODUCT", said, "product")
    told = events.TrialCompleted()
    told.CopyFrom(completed)
    told.molecule, told.actor = product.molecule, work.cause.actor
    for event in trials.decide_complete(held, told):
        work.apply(TRIALS, told.trial, event)
    return api.RunTrialResponse(trial=held.message() if held else told)
