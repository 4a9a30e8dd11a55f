"""What loops does with events and commands, on one page.

The router copies what matters to a case onto the case topic, keyed by the
case, so that one topic orders everything the case sees. The machine itself
runs on faust (`machine`); deadlines come back to it as records.
"""

from __future__ import annotations

from typing import cast

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.kit.envelope import Event
from services.kit.errors import Poison
from services.kit.runners.reactor import Events, Handler
from services.kit.work import Work
from services.loops.domain import runs
from services.loops.views import DEADLINES, RUNS

CASE_TOPIC = "pharmaloop.loops.case.v1"


def route_trigger(work: Work, event: Event) -> None:
    """A trigger opens or joins the case of its lot."""
    work.copy(event, CASE_TOPIC, cast(production.DeviationConfirmed, event.message).lot)


def route(work: Work, event: Event) -> None:
    """Everything else says itself which case it belongs to."""
    if not event.case:
        raise Poison("NO_CASE", f"{event.type} carries no pl_case")
    work.copy(event, CASE_TOPIC, event.case)


def route_if_cased(work: Work, event: Event) -> None:
    """Events that exist outside a run too (a hold by hand, say) are routed only from a run."""
    if event.case:
        work.copy(event, CASE_TOPIC, event.case)


ROUTED: dict[type[Message], Handler] = {
    production.DeviationConfirmed: route_trigger,
    production.LotImplicationAnswered: route,
    production.CapaProposed: route,
    production.ProcessLimitChanged: route_if_cased,
    traceability.ExposureAnnounced: route,
    traceability.ExposureSealed: route,
    traceability.ExposureExtended: route,
    traceability.ExposureAfterSeal: route,
    clinical.ExposureReceived: route,
    clinical.PlansOpened: route,
    clinical.ResponsesSummarised: route,
    rnd.InsightRecorded: route_if_cased,
    loops.DeadlinePassed: route,
}


def on_run_event(work: Work, event: Event) -> None:
    """Project a run for those who read it."""
    run = event.run
    view = runs.fold(work.get(RUNS, run), event.message, event.created)
    if view is not None:
        work.put(RUNS, run, view)


def on_deadline_set(work: Work, event: Event) -> None:
    deadline = cast(loops.DeadlineSet, event.message)
    at = deadline.due.ToDatetime(tzinfo=event.time.tzinfo)
    work.due(
        "deadline",
        f"{deadline.run}|{deadline.stage}",
        at,
        case=deadline.case,
        stage=deadline.stage,
        run=deadline.run,
    )


def on_stage_completed(work: Work, event: Event) -> None:
    done = cast(loops.StageCompleted, event.message)
    work.not_due("deadline", f"{done.run}|{done.stage}")


def pass_deadline(work: Work, passed: loops.DeadlinePassed) -> Message:
    """The platform clock passed a deadline: the case hears of it."""
    work.apply(DEADLINES, f"{passed.run}|{passed.stage}", passed, case=passed.case, run=passed.run)
    return passed


ROUTER: Events = ROUTED
PROJECTION: Events = {
    loops.SafetyRunOpened: on_run_event,
    loops.StageCompleted: on_run_event,
    loops.LoopStalled: on_run_event,
    loops.LoopClosed: on_run_event,
}
DEADLINE_EVENTS: Events = {
    loops.DeadlineSet: on_deadline_set,
    loops.StageCompleted: on_stage_completed,
}
COMMANDS = {"PassDeadline": pass_deadline}
