"""A person evaluates the hazard of a run; the runs that follow it take the evaluation over."""

from __future__ import annotations

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.kit.refused import refusals
from services.kit.work import Work
from services.production.domain import hazard
from services.production.domain.evidence import Evidence
from services.production.views import EVIDENCE, HAZARDS


@refusals()
def evaluate_hazard(work: Work, request: api.EvaluateHazardRequest) -> api.EvaluateHazardResponse:
    asked = events.HazardEvaluated(
        run=request.run,
        hazard_class=request.hazard_class,
        text=request.text,
        instruction=request.instruction,
        actor=work.cause.actor,
        meaning=request.meaning,
    )
    held = work.get(EVIDENCE, request.run)
    decided = hazard.decide_evaluate(work.get(HAZARDS, request.run), held, asked)
    assert held is not None
    for evaluated in decided:
        # A run that follows may be opened now: it writes itself into this one's evidence.
        work.hold(EVIDENCE, [held.run])
        _evaluated(work, held, evaluated)
    return api.EvaluateHazardResponse()


def take_over(work: Work, held: Evidence) -> None:
    """A run that follows another takes over its evaluation, if there is one."""
    before = work.get(HAZARDS, held.follows) if held.follows else None
    if before is not None and held.root and work.get(HAZARDS, held.run) is None:
        _evaluated(work, held, hazard.of_run(before.message(), held))


def _evaluated(work: Work, held: Evidence, evaluated: events.HazardEvaluated) -> None:
    work.apply(HAZARDS, held.run, evaluated, case=held.root, run=held.run)
    for run in held.followers:
        follower = work.get(EVIDENCE, run)
        if follower is not None:
            take_over(work, follower)
