"""The evidence loop as a pure state machine on the events of one case.

A case is a study, and has one run. A study may need several jobs: one that is
suspended for want of something leaves the run where it is, and the next one
takes it on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeAlias, cast

from google.protobuf.message import Message

from pharmaloop.exchange.v1 import events_pb2 as exchange
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.loops.domain.stages import Effect, Emitter, Happened, StageRule, Stages, later


@dataclass(frozen=True)
class Job:
    """A job of the study: who computes together, whose cohorts are frozen, and whether its rounds are
    on record. `refused` are the sites that may not take part with their cohort."""

    participants: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    audited: bool = False

    def is_frozen(self) -> bool:
        """Has every participant frozen its cohort, and none found that it may not take part?"""
        ready = set(self.frozen) - set(self.refused)
        return bool(self.participants) and set(self.participants) <= ready


@dataclass(frozen=True)
class End:
    """How a study ended without a finding that was taken up: the number of a RunOutcome, why, by whom, and
    what that signature means."""

    outcome: int
    reason: str
    actor: str = ""
    meaning: str = ""


@dataclass(frozen=True)
class Run:
    """The run of a study. `run` is empty until the study is requested: what was heard before counts then."""

    run: str = ""
    case: str = ""
    study: str = ""
    product: str = ""
    sites: tuple[str, ...] = ()
    trigger: str = ""
    boundary: str = ""
    stage: str = "approve"
    seq: int = 0
    clock: str = ""
    closed: bool = False
    approved: tuple[str, ...] = ()
    jobs: dict[str, Job] = field(default_factory=dict)
    insight: str = ""
    taken_up: bool = False
    end: End | None = None


@dataclass(frozen=True)
class Case:
    """The run of a study."""

    run: Run = field(default_factory=Run)


def _all_approved(run: Run) -> bool:
    return bool(run.sites) and set(run.sites) <= set(run.approved)


_DAY = timedelta(hours=24)
RULES: tuple[StageRule[Run], ...] = (
    StageRule("approve", _all_approved, timedelta(days=14), "an owner to approve the study"),
    StageRule(
        "freeze",
        lambda r: any(job.is_frozen() for job in r.jobs.values()),
        _DAY,
        "a job whose sites have all frozen their cohorts",
    ),
    StageRule(
        "compute",
        lambda r: any(job.audited for job in r.jobs.values()),
        _DAY,
        "a job whose rounds are on record",
    ),
    StageRule("publish", lambda r: bool(r.insight), timedelta(hours=6), "the study's answer"),
    StageRule("take-up", lambda r: r.taken_up, timedelta(hours=72), "research to take up the finding"),
)


def _outcome(run: Run) -> loops.LoopClosed:
    return loops.LoopClosed(study=run.study, insight=run.insight)


STAGES: Stages[Run] = Stages("evidence", RULES, _outcome)


def react(case: Case | None, event: Happened, run_id: Callable[[str], str]) -> tuple[Case, list[Effect]]:
    """The case after the event, and what it emits. `run_id` makes the run's id from its trigger."""
    case, message = case or Case(), event.message
    if case.run.closed:
        return case, []
    run = replace(_take_in(case.run, message), clock=later(case.run, event))
    if isinstance(message, exchange.StudyRequested) and not run.run:
        out = _opened(run, event, message, run_id(event.id))
    elif not run.run:
        return Case(run), []
    else:
        out = Emitter(run)
    _go_on(out, event)
    return Case(out.run), out.effects


def _opened(known: Run, event: Happened, message: exchange.StudyRequested, run_id: str) -> Emitter[Run]:
    run = replace(
        known,
        run=run_id,
        case=event.case,
        study=message.study,
        product=message.product,
        sites=tuple(message.sites),
        trigger=event.id,
        boundary=event.wall.isoformat(),
    )
    opened = loops.EvidenceRunOpened(
        run=run.run,
        case=run.case,
        study=run.study,
        product=run.product,
        sites=run.sites,
        trigger=run.trigger,
    )
    return STAGES.open(run, opened, event)


def _go_on(out: Emitter[Run], event: Happened) -> None:
    message, end = event.message, out.run.end
    if isinstance(message, loops.RunCancelRequested):
        STAGES.cancel(out, message)
    elif end is not None:
        outcome = cast("loops.RunOutcome", end.outcome)
        STAGES.close(out, outcome, reason=end.reason, actor=end.actor, meaning=end.meaning)
    else:
        STAGES.stall(out, message)
        STAGES.advance(out, event)


# -- what each event says of a study ---------------------------------------


def _take_in(run: Run, message: Message) -> Run:
    taker = _TAKERS.get(type(message))
    return taker(run, message) if taker else run


def _job(run: Run, name: str, change: Callable[[Job], Job]) -> Run:
    return replace(run, jobs={**run.jobs, name: change(run.jobs.get(name, Job()))})


def _with(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(sorted({*names, name}))


def _frozen(run: Run, message: exchange.CohortFrozen) -> Run:
    if message.refusals:
        return _job(run, message.job, lambda job: replace(job, refused=_with(job.refused, message.site)))
    return _job(run, message.job, lambda job: replace(job, frozen=_with(job.frozen, message.site)))


def _opened_job(run: Run, message: exchange.JobOpened) -> Run:
    return _job(run, message.job, lambda job: replace(job, participants=tuple(message.participants)))


def _ended_job(run: Run, message: exchange.JobEnded) -> Run:
    """A suspended job leaves the study to the next one."""
    return run if message.suspended else _ended(run, loops.RUN_OUTCOME_STOPPED, message.statement)


def _ended(run: Run, outcome: loops.RunOutcome, reason: str) -> Run:
    return run if run.end else replace(run, end=End(int(outcome), reason))


Ends: TypeAlias = exchange.StudyRefused | exchange.StudyStopped | rnd.InsightDeclined


def _by_hand(outcome: loops.RunOutcome) -> Callable[[Run, Any], Run]:
    """A person ended the study, under signature."""

    def ended(run: Run, message: Ends) -> Run:
        end = End(int(outcome), message.reason, message.actor, message.meaning)
        return run if run.end else replace(run, end=end)

    return ended


_TAKERS: dict[type[Message], Callable[[Run, Message], Run]] = {
    exchange.StudyApproved: lambda run, m: replace(run, approved=_with(run.approved, m.site)),  # type: ignore[attr-defined]
    exchange.StudyRefused: _by_hand(loops.RUN_OUTCOME_REFUSED),
    exchange.StudyStopped: _by_hand(loops.RUN_OUTCOME_STOPPED),
    exchange.StudyExpired: lambda run, m: _ended(run, loops.RUN_OUTCOME_EXPIRED, "its time was over"),
    exchange.JobOpened: _opened_job,  # type: ignore[dict-item]
    exchange.CohortFrozen: _frozen,  # type: ignore[dict-item]
    exchange.JobAudited: lambda run, m: _job(run, m.job, lambda job: replace(job, audited=True)),  # type: ignore[attr-defined]
    exchange.JobEnded: _ended_job,  # type: ignore[dict-item]
    exchange.InsightPublished: lambda run, m: replace(run, insight=m.insight),  # type: ignore[attr-defined]
    rnd.HypothesisUpdated: lambda run, m: replace(run, taken_up=True),
    rnd.InsightDeclined: _by_hand(loops.RUN_OUTCOME_DECLINED),
}
