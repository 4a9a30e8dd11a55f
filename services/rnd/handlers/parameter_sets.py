"""Parameter sets through their signatures; each command runs inside the decider's transaction.

Contents come sealed: sealing is random, and a command may run twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from google.protobuf.message import Message

from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import service_pb2 as api
from services.kit.envelope import Event
from services.kit.errors import Retryable
from services.kit.ids import transfer_case
from services.kit.refused import refusals
from services.kit.work import Work
from services.rnd.domain import trials
from services.rnd.domain.parameter_sets import life
from services.rnd.views import PARAMETER_SETS, PRODUCTS, TRIALS


@refusals()
def draft(work: Work, asked: events.ParameterSetDrafted) -> api.DraftParameterSetResponse:
    held = work.get(PARAMETER_SETS, asked.set)
    if asked.version != (held.newest.version + 1 if held else 1):
        # What differs was told of another version.
        raise Retryable("another version was drafted at the same moment; send the same request again")
    life.check_product(work.get(PRODUCTS, asked.product), asked.product)
    if asked.trial:
        trials.check_support(work.get(TRIALS, asked.trial), asked.trial, asked.product)
    for event in life.decide_draft(held, asked):
        work.apply(PARAMETER_SETS, asked.set, event)
    return api.DraftParameterSetResponse(
        version=asked.version, content_hash=asked.content_hash, changes=asked.changes
    )


@refusals()
def review(work: Work, request: api.ReviewParameterSetRequest) -> api.ReviewParameterSetResponse:
    asked = events.ParameterSetReviewed(
        set=request.set, version=request.version, actor=work.cause.actor, meaning=request.meaning
    )
    for event in life.decide_review(work.get(PARAMETER_SETS, request.set), asked):
        work.apply(PARAMETER_SETS, request.set, event)
    return api.ReviewParameterSetResponse()


@refusals()
def release(work: Work, asked: api.SealedReleases) -> api.ReleaseParameterSetResponse:
    """Each release begins, or goes on with, the transfer of its plant: it is of that case."""
    set = asked.releases[0].set
    _of_transfers(work, set, life.decide_release(work.get(PARAMETER_SETS, set), asked.releases))
    return api.ReleaseParameterSetResponse()


@refusals()
def withdraw(work: Work, request: api.WithdrawParameterSetRequest) -> api.WithdrawParameterSetResponse:
    held = work.get(PARAMETER_SETS, request.set)
    decided = life.decide_withdraw(held, request.version, work.cause.actor, request.reason)
    _of_transfers(work, request.set, decided)
    return api.WithdrawParameterSetResponse()


def _of_transfers(work: Work, set: str, decided: Sequence[Message]) -> None:
    """The events belong to the transfers of their plants."""
    for event in decided:
        plant = cast(events.ParameterSetReleased, event).plant
        case = transfer_case(set, plant) if plant else ""
        work.apply(PARAMETER_SETS, set, event, case=case)


def on_process_limit_changed(work: Work, event: Event) -> None:
    """The safety loop changed a limit: the sets by which plants make the product are looked at."""
    changed = cast(production.ProcessLimitChanged, event.message)
    for set, held in work.where(PARAMETER_SETS, "product", changed.product).items():
        for asked in life.decide_request_review(held, changed):
            work.apply(PARAMETER_SETS, set, asked)
