"""What loops does with events and commands, on one page.

The router copies what matters to a case onto the case topic, keyed by the
case, so that one topic orders everything the case sees. The machines run on
faust (`machine`); deadlines come back to them as records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.exchange.v1 import events_pb2 as exchange
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.loops.v1 import service_pb2 as api
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.kit.envelope import Event
from services.kit.errors import Invalid, Poison, Rejected, Unknown
from services.kit.ids import loop_of, study_case, transfer_case
from services.kit.runners.decider import Command
from services.kit.runners.reactor import Events, Handler
from services.kit.words import check_words
from services.kit.work import Work
from services.loops.domain import runs
from services.loops.domain.cases import stages_of
from services.loops.views import CANCELS, DEADLINES, JOURNALS, RUNS, SCOPES

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


def route_release(work: Work, event: Event) -> None:
    """A release opens a run of its parameter set at its plant."""
    released = cast("rnd.ParameterSetReleased | rnd.ParameterSetWithdrawn", event.message)
    work.copy(event, CASE_TOPIC, transfer_case(released.set, released.plant))


def route_withdrawal(work: Work, event: Event) -> None:
    """A version that was never released is no plant's matter."""
    if cast(rnd.ParameterSetWithdrawn, event.message).plant:
        route_release(work, event)


def route_transfer(work: Work, event: Event) -> None:
    """What production says of a transfer, and what research learnt of it."""
    transfer: str = cast(production.TwinAdapted, event.message).transfer
    if loop_of(transfer) != "transfer":
        raise Poison("NO_TRANSFER", f"{event.type} names the transfer {transfer!r}, which is none")
    work.copy(event, CASE_TOPIC, transfer)


def route_calibration(work: Work, event: Event) -> None:
    """A calibration that a transfer's outcome led to."""
    if cast(rnd.PredictionCalibrated, event.message).transfer:
        route_transfer(work, event)


def route_study(work: Work, event: Event) -> None:
    """What is said of a study; research knows findings of no study too."""
    study = cast(exchange.StudyRequested, event.message).study
    if study:
        work.copy(event, CASE_TOPIC, study_case(study))


ROUTED: dict[type[Message], Handler] = {
    production.DeviationConfirmed: route_trigger,
    production.LotImplicationAnswered: route,
    production.CapaProposed: route,
    production.CapaRefused: route,
    production.HazardEvaluated: route,
    production.ProcessLimitChanged: route_if_cased,
    traceability.ExposureAnnounced: route,
    traceability.ExposureSealed: route,
    traceability.ExposureExtended: route,
    traceability.ExposureAfterSeal: route,
    clinical.ExposureReceived: route,
    clinical.PlansOpened: route,
    clinical.FollowUpSummarised: route,
    clinical.ResponsesSummarised: route,
    clinical.NoticesSummarised: route,
    rnd.InsightRecorded: route_if_cased,
    loops.DeadlinePassed: route,
    loops.RunCancelRequested: route,
    rnd.ParameterSetReleased: route_release,
    rnd.ParameterSetWithdrawn: route_withdrawal,
    production.TwinAdapted: route_transfer,
    production.TransferRefused: route_transfer,
    production.OptimisationProposed: route_transfer,
    production.OptimisationDecided: route_transfer,
    production.RecipeEffective: route_transfer,
    production.TransferOutcomeRecorded: route_transfer,
    rnd.PredictionCalibrated: route_calibration,
    exchange.StudyRequested: route_study,
    exchange.StudyApproved: route_study,
    exchange.StudyRefused: route_study,
    exchange.JobOpened: route_study,
    exchange.CohortFrozen: route_study,
    exchange.JobAudited: route_study,
    exchange.JobEnded: route_study,
    exchange.InsightPublished: route_study,
    exchange.StudyStopped: route_study,
    exchange.StudyExpired: route_study,
    rnd.HypothesisUpdated: route_study,
    rnd.InsightDeclined: route_study,
}


def on_run_event(work: Work, event: Event) -> None:
    """Project a run for those who read it."""
    run = event.run
    view = runs.fold(work.get(RUNS, run), event.message, event.created, event.time)
    if view is not None:
        work.put(RUNS, run, view)


def on_run_opened(work: Work, event: Event) -> None:
    """Project a new run, with what was told of it before.

    What it is about is told on other topics, perhaps at this moment: each side writes the scope, so that
    of two that commit together one runs again and sees the other.
    """
    view = runs.fold(None, event.message, event.created, event.time)
    assert view is not None
    scope = work.get(SCOPES, view.run) or runs.Scope()
    work.put(SCOPES, view.run, scope)
    plant, sites = view.plant or scope.plant, view.sites or scope.sites
    work.put(RUNS, view.run, replace(view, plant=plant, sites=sites))
    if isinstance(event.message, loops.SafetyRunOpened):
        _place(work, event.message)


def _place(work: Work, opened: loops.SafetyRunOpened) -> None:
    """The run is of the plant of its deviation; a successor is of the plant of the run that it follows."""
    parent = opened.follows or (_deviation(opened.deviation) if opened.deviation else "")
    if parent:
        scope = work.get(SCOPES, parent) or runs.Scope()
        work.put(SCOPES, parent, replace(scope, runs=tuple(sorted({*scope.runs, opened.run}))))
        _set_plant(work, opened.run, scope.plant)


def _set_plant(work: Work, id: str, plant: str) -> None:
    """The plant of a deviation or a run is known: it is that of every run that comes of it."""
    scope = work.get(SCOPES, id) or runs.Scope()
    if plant == scope.plant:
        return
    work.put(SCOPES, id, replace(scope, plant=plant))
    _tell(work, id, plant=plant)
    for run in scope.runs:
        _set_plant(work, run, plant)


def _deviation(id: str) -> str:
    return f"deviation|{id}"


def on_sites_announced(work: Work, event: Event) -> None:
    """Project which sites have exposures in a run's journal."""
    told = cast(traceability.ExposureAnnounced, event.message)
    before = work.get(SCOPES, told.run) or runs.Scope()
    scope = runs.exposed_sites(before, told)
    if scope != before:
        work.put(SCOPES, told.run, scope)
        _tell(work, told.run, sites=scope.sites)


def on_deviation_detected(work: Work, event: Event) -> None:
    """Project in which plant a deviation was, for the run that it may open."""
    detected = cast(production.DeviationDetected, event.message)
    _set_plant(work, _deviation(detected.deviation), runs.plant_of(detected.equipment))


def _tell(work: Work, run: str, **changes: Any) -> None:
    view = work.get(RUNS, run)
    if view is not None:
        work.put(RUNS, run, replace(view, **changes))


def on_journal_event(work: Work, event: Event) -> None:
    """Project what a run's journal holds, for those who end runs."""
    before = work.get(JOURNALS, event.run)
    after = runs.journal_after(before, event.message)
    if after != before:
        work.put(JOURNALS, event.run, after)


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


def on_loop_closed(work: Work, event: Event) -> None:
    """A run that a person ended has a stage that nothing completes."""
    closed = cast(loops.LoopClosed, event.message)
    for stage in stages_of(closed.loop):
        work.not_due("deadline", f"{closed.run}|{stage}")


def pass_deadline(work: Work, passed: loops.DeadlinePassed) -> Message:
    """The platform clock passed a deadline: the case hears of it."""
    work.apply(DEADLINES, f"{passed.run}|{passed.stage}", passed, case=passed.case, run=passed.run)
    return passed


def cancel_run(work: Work, request: api.CancelRunRequest) -> api.CancelRunResponse:
    """A person asks to end a run. The machine ends it, unless its journal is sealed by then."""
    check_words(request.reason, "reason")
    view = _run(work, request.run, "run")
    if view.state == runs.CLOSED:
        raise Rejected("RUN_ENDED", "the run has ended already; 'pharmaloop run list' shows how", "run")
    if view.loop == "safety" and _journal(work, view.run).sealed:
        said = "the journal is sealed: its patients are known and followed; the run ends by itself"
        raise Rejected("RUN_SEALED", said, "run")
    if request.superseded_by:
        _check_covers(work, _run(work, request.superseded_by, "superseded_by"), view)
    if work.get(CANCELS, view.run) is None:
        case = view.case or view.lot
        asked = loops.RunCancelRequested(
            run=view.run,
            case=case,
            reason=request.reason,
            actor=work.cause.actor,
            superseded_by=request.superseded_by,
        )
        work.apply(CANCELS, view.run, asked, case=case, run=view.run)
    return api.CancelRunResponse()


def _run(work: Work, run: str, field: str) -> runs.RunView:
    view = work.get(RUNS, run)
    if view is None:
        raise Unknown("UNKNOWN_RUN", f"there is no run {run!r}; ListRuns shows the runs", field)
    return view


def _journal(work: Work, run: str) -> runs.Journal:
    return work.get(JOURNALS, run) or runs.Journal()


def _check_covers(work: Work, other: runs.RunView, view: runs.RunView) -> None:
    """The run that is to cover this one must be another of its loop, not given up, and do what this one
    would have done: list its root lot, or be about its product."""
    if other.run == view.run:
        raise Invalid("SAME_RUN", "a run does not cover itself; name the other one", "superseded_by")
    if runs.was_given_up(other):
        said = "the run that is to cover this one was given up itself; name another, or none"
        raise Rejected("NOT_COVERED", said, "superseded_by")
    if other.loop != view.loop:
        said = f"the run {other.run} is of the {other.loop} loop, this one of the {view.loop} loop"
        raise Rejected("NOT_COVERED", said, "superseded_by")
    if view.loop != "safety":
        _check_product(other, view)
    elif view.lot not in _journal(work, other.run).lots:
        said = f"the run {other.run} does not list the lot {view.lot}: patients of this one would be lost"
        raise Rejected("NOT_COVERED", said, "superseded_by")


def _check_product(other: runs.RunView, view: runs.RunView) -> None:
    theirs, mine = runs.opened_of(other).product, runs.opened_of(view).product
    if theirs != mine:
        said = f"the run {other.run} is about the product {theirs!r}, this one about {mine!r}"
        raise Rejected("NOT_COVERED", said, "superseded_by")


ROUTER: Events = ROUTED
RUN_EVENTS: Events = {
    loops.SafetyRunOpened: on_run_opened,
    loops.TransferRunOpened: on_run_opened,
    loops.EvidenceRunOpened: on_run_opened,
    loops.DeadlineSet: on_run_event,
    loops.StageCompleted: on_run_event,
    loops.LoopStalled: on_run_event,
    loops.LoopClosed: on_run_event,
}
PROJECTION: Events = {
    **RUN_EVENTS,
    traceability.ExposureAnnounced: on_sites_announced,
    production.DeviationDetected: on_deviation_detected,
}
JOURNAL_EVENTS: Events = {
    traceability.ExposureAnnounced: on_journal_event,
    traceability.ExposureSealed: on_journal_event,
}
DEADLINE_EVENTS: Events = {
    loops.LoopClosed: on_loop_closed,
    loops.DeadlineSet: on_deadline_set,
    loops.StageCompleted: on_stage_completed,
}
COMMANDS: Mapping[str, Command] = {"PassDeadline": pass_deadline, "CancelRun": cancel_run}
