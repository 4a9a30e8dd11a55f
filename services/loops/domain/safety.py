"""The safety loop as a pure state machine on the events of one case.

A case is a root lot. It holds runs: at most one that is not sealed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.loops.domain.stages import Effect, Emitter, Happened, StageRule, Stages, later


@dataclass(frozen=True)
class Site:
    """What a run knows of one site: announced, acknowledged, planned, answered."""

    epoch: int = 0
    n: int = 0
    digest: str = ""
    ack_epoch: int = -1
    ack_digest: str = ""
    only_in_trace: int = 0
    only_at_site: int = 0
    patients: int = 0
    planned_patients: int = -1
    plans: int = 0
    without_consent: int = 0
    without_need: int = 0
    settled: int = 0
    pending: int = 0
    answered: int = 0
    affected: int = 0
    complete: bool = False
    to_tell: int = -1
    told: int = 0
    follow_up_hours: int = 0

    def received(self) -> bool:
        """Does the site hold exactly what was announced last?"""
        return self.ack_epoch == self.epoch and self.ack_digest == self.digest

    def agrees(self) -> bool:
        """Received, and its own records show neither more nor less, or a person explained it."""
        return self.received() and not self.only_in_trace and not self.only_at_site

    def disposed(self) -> bool:
        """Is it known of every member what became of it, or of its patient?"""
        return self.settled == self.n and not self.pending

    def notified(self) -> bool:
        """Was every exposed patient told, or tried to be told in every way?"""
        return self.to_tell == self.told

    def planned(self) -> bool:
        """Has every exposed patient a plan, or no consent to one, or no need of one?"""
        settled = self.plans + self.without_consent + self.without_need
        return self.planned_patients == self.patients == settled and self.received()


@dataclass(frozen=True)
class Trigger:
    """What opened a run, or joined it: a confirmed deviation, and the id of its event."""

    id: str
    deviation: str
    product: str
    tag: str


@dataclass(frozen=True)
class Refusal:
    """A person refused the corrective action that the run led to."""

    actor: str
    reason: str
    meaning: str


@dataclass(frozen=True)
class Run:
    """One run of the loop; `joined` are triggers that came while it was open. A run whose corrective action
    was `refused` ends where it would wait for the approval."""

    run: str
    lot: str
    deviation: str
    product: str
    tag: str
    follows: str
    trigger: str
    boundary: str
    stage: str = "trace"
    seq: int = 0
    version: int = 0
    lots: tuple[str, ...] = ()
    decided: tuple[str, ...] = ()
    unattributed: int = 0
    sites: dict[str, Site] = field(default_factory=dict)
    asked: int = 0
    sealed: int = 0
    members: int = 0
    capa: str = ""
    limited: bool = False
    insight: str = ""
    closed: bool = False
    evaluated: bool = False
    joined: tuple[Trigger, ...] = ()
    clock: str = ""
    refused: Refusal | None = None

    @property
    def case(self) -> str:
        return self.lot


@dataclass(frozen=True)
class Case:
    """The runs of a root lot, oldest first."""

    runs: tuple[Run, ...] = ()


def _all_sites(run: Run, test: Callable[[Site], bool]) -> bool:
    return run.version > 0 and all(test(site) for site in run.sites.values())


def lots_decided(run: Run) -> bool:
    return run.version > 0 and set(run.lots) <= set(run.decided)


def may_seal(run: Run) -> bool:
    """Rule 4 of the exposure protocol, for one run.

    A successor's journal leaves out what an earlier one of its root has, so a
    site's own records of these are no difference there.
    """
    agreed = Site.received if run.follows else Site.agrees
    if run.sealed or run.unattributed or not lots_decided(run):
        return False
    return _all_sites(run, lambda site: agreed(site) and site.disposed())


_QUICK = timedelta(hours=6)
RULES: tuple[StageRule[Run], ...] = (
    StageRule("trace", lambda r: r.version > 0, _QUICK, "the first announcement of the exposure journal"),
    StageRule("receive", lambda r: _all_sites(r, Site.received), _QUICK, "a site to hold what was announced"),
    StageRule("hold", lots_decided, _QUICK, "the owner's decision on an implicated lot"),
    StageRule("plan", lambda r: _all_sites(r, Site.planned), _QUICK, "monitoring plans of exposed patients"),
    StageRule(
        "seal", lambda r: r.sealed > 0, _QUICK, "the journal's seal: a site or a dispense is unexplained"
    ),
    StageRule(
        "evaluate", lambda r: r.evaluated, timedelta(hours=24), "a person to evaluate the health hazard"
    ),
    StageRule("notify", lambda r: _all_sites(r, Site.notified), timedelta(hours=24), "patients to be told"),
    StageRule(
        "respond", lambda r: _all_sites(r, lambda s: s.complete), timedelta(hours=24), "patients' answers"
    ),
    # Those whom the exposed are compared with may have as long to answer as these.
    StageRule(
        "propose", lambda r: bool(r.capa), timedelta(hours=16), "evidence of a site, or production to propose"
    ),
    # It ends when the change is in force, so more than a signature may be missing. Which steps are, the
    # machine does not hear: whoever shows the run asks production.
    StageRule(
        "approve",
        lambda r: r.limited,
        timedelta(hours=72),
        "the corrective action to be approved, validated and assessed for filing",
    ),
    StageRule("learn", lambda r: bool(r.insight), _QUICK, "research to take the insight"),
)
#: A successor adds exposures to a case whose deviation is already answered.
SUCCESSOR_RULES = RULES[:8]


def _rules_of(run: Run) -> tuple[StageRule[Run], ...]:
    return SUCCESSOR_RULES if run.follows else RULES


def react(case: Case | None, event: Happened, successor: Callable[[str], str]) -> tuple[Case, list[Effect]]:
    """The case after the event, and what it emits. `successor` makes a run's id from its trigger."""
    case = case or Case()
    message = event.message
    if isinstance(message, production.DeviationConfirmed):
        return _on_trigger(case, event, message, successor(event.id))
    if isinstance(message, traceability.ExposureAfterSeal):
        return _on_after_seal(case, event, message)
    for index, run in enumerate(case.runs):
        if run.run == event.run:
            changed, effects = _on_run_event(run, event)
            case = Case((*case.runs[:index], changed, *case.runs[index + 1 :]))
            if isinstance(message, loops.RunCancelRequested) and effects and not message.superseded_by:
                return _reopened(case, changed, event, effects, successor)
            return case, effects
    return case, []


def _on_trigger(
    case: Case, event: Happened, message: production.DeviationConfirmed, run_id: str
) -> tuple[Case, list[Effect]]:
    trigger = Trigger(event.id, message.deviation, message.product, message.tag)
    for index, run in enumerate(case.runs):
        if not run.sealed and not run.closed:  # it joins the run that is going on
            joined = replace(run, joined=(*run.joined, trigger))
            return Case((*case.runs[:index], joined, *case.runs[index + 1 :])), []
    return _open(case, _triggered(run_id, message.lot, trigger, event), event)


def _triggered(run_id: str, lot: str, trigger: Trigger, event: Happened) -> Run:
    return Run(
        run=run_id,
        lot=lot,
        deviation=trigger.deviation,
        product=trigger.product,
        tag=trigger.tag,
        follows="",
        trigger=trigger.id,
        boundary=event.wall.isoformat(),
    )


def _reopened(
    case: Case, ended: Run, event: Happened, effects: list[Effect], successor: Callable[[str], str]
) -> tuple[Case, list[Effect]]:
    """A run was cancelled: a deviation that had joined it is not, and gets a run of its own."""
    if not ended.joined:
        return case, effects
    first, *others = ended.joined
    fresh = replace(_triggered(successor(first.id), ended.lot, first, event), joined=tuple(others))
    case, more = _open(case, fresh, event)
    return case, effects + more


def _on_after_seal(
    case: Case, event: Happened, message: traceability.ExposureAfterSeal
) -> tuple[Case, list[Effect]]:
    if any(run.run == message.successor for run in case.runs):
        return case, []
    run = Run(
        run=message.successor,
        lot=message.root,
        deviation="",
        product="",
        tag="",
        follows=message.run,
        trigger=event.id,
        boundary=event.wall.isoformat(),
    )
    return _open(case, run, event)


def _open(case: Case, run: Run, event: Happened) -> tuple[Case, list[Effect]]:
    opened = loops.SafetyRunOpened(
        run=run.run,
        case=run.lot,
        lot=run.lot,
        deviation=run.deviation,
        product=run.product,
        tag=run.tag,
        follows=run.follows,
        trigger=run.trigger,
    )
    out = STAGES.open(run, opened, event)
    return Case((*case.runs, out.run)), out.effects


def _on_run_event(run: Run, event: Happened) -> tuple[Run, list[Effect]]:
    out = Emitter(replace(_take_in(run, event.message), clock=later(run, event)))
    message = event.message
    if out.run.closed:
        return out.run, out.effects
    if isinstance(message, loops.RunCancelRequested):
        # One whose journal is sealed goes on, for its patients are known.
        if not out.run.sealed:
            STAGES.cancel(out, message)
        return out.run, out.effects
    STAGES.stall(out, message)
    if may_seal(out.run) and out.run.asked != out.run.version:
        out.change(asked=out.run.version)
        out.emit(loops.SealRequested(run=run.run, version=out.run.version))
    STAGES.advance(out, event)
    _end_if_refused(out)
    return out.run, out.effects


def _end_if_refused(out: Emitter[Run]) -> None:
    """A refused action never takes effect, so nothing more is waited for. Not before the approval's stage:
    the refusal may overtake what sites say, and the run tells what they said."""
    said = out.run.refused
    if said is not None and out.run.stage == "approve" and not out.run.closed:
        STAGES.close(
            out, loops.RUN_OUTCOME_REFUSED, reason=said.reason, actor=said.actor, meaning=said.meaning
        )


def _limit(run: Run) -> timedelta:
    """How long the stage may take. Patients have the time that their hospitals give them: the exposed, and
    then, for the evidence, those whom they are compared with."""
    limit = STAGES.rule(run).limit
    if run.stage not in ("respond", "propose"):
        return limit
    hours = max((site.follow_up_hours for site in run.sites.values()), default=0)
    return max(limit, timedelta(hours=hours + 1))


def _outcome(run: Run) -> loops.LoopClosed:
    sites = run.sites.values()
    return loops.LoopClosed(
        deviation=run.deviation,
        lots=run.lots,
        members=run.members,
        patients=sum(site.patients for site in sites),
        plans=sum(site.plans for site in sites),
        answered=sum(site.answered for site in sites),
        affected=sum(site.affected for site in sites),
        capa=run.capa,
        insight=run.insight,
    )


STAGES: Stages[Run] = Stages("safety", RULES, _outcome, of=_rules_of, limit=_limit)


# -- what each event says of a run ---------------------------------------


def _take_in(run: Run, message: Message) -> Run:
    taker = _TAKERS.get(type(message))
    return taker(run, message) if taker else run


def _announced(run: Run, message: traceability.ExposureAnnounced) -> Run:
    if message.version <= run.version:
        return run
    sites = {
        name: replace(run.sites.get(name, Site()), epoch=at.epoch, n=at.n, digest=at.digest.hex())
        for name, at in sorted(message.sites.items())
    }
    return replace(
        run,
        version=message.version,
        lots=tuple(message.lots),
        unattributed=message.unattributed,
        sites={**run.sites, **sites},
    )


def _site(run: Run, name: str, **changes: int | str | bool) -> Run:
    site = replace(run.sites.get(name, Site()), **changes)  # type: ignore[arg-type]
    return replace(run, sites={**run.sites, name: site})


def _received(run: Run, message: clinical.ExposureReceived) -> Run:
    return _site(
        run,
        message.site,
        ack_epoch=message.epoch,
        ack_digest=message.digest.hex(),
        only_in_trace=message.only_in_trace,
        only_at_site=message.only_at_site,
        patients=message.patients,
    )


def _plans(run: Run, message: clinical.PlansOpened) -> Run:
    at = message.members
    return _site(
        run,
        message.site,
        planned_patients=message.patients,
        plans=message.plans,
        without_consent=message.without_consent,
        without_need=message.without_need,
        settled=at.planned + at.declined + at.void + at.deceased + at.moved,
        pending=at.pending,
    )


def _follow_up(run: Run, message: clinical.FollowUpSummarised) -> Run:
    return _site(
        run,
        message.site,
        answered=message.answered,
        complete=message.complete,
        follow_up_hours=message.follow_up_hours,
    )


def _responses(run: Run, message: clinical.ResponsesSummarised) -> Run:
    """As sites told it when they still told complaints."""
    return _site(
        run,
        message.site,
        answered=message.answered,
        affected=message.affected,
        complete=message.complete,
        follow_up_hours=message.follow_up_hours,
    )


def _notices(run: Run, message: clinical.NoticesSummarised) -> Run:
    return _site(run, message.site, to_tell=message.patients, told=message.notified + message.unreachable)


def _decided(run: Run, message: production.LotImplicationAnswered) -> Run:
    return replace(run, decided=tuple(sorted({*run.decided, message.lot})))


def _refused(run: Run, message: production.CapaRefused) -> Run:
    return replace(run, refused=Refusal(message.actor, message.reason, message.meaning))


_TAKERS: dict[type[Message], Callable[[Run, Message], Run]] = {
    traceability.ExposureAnnounced: _announced,  # type: ignore[dict-item]
    clinical.ExposureReceived: _received,  # type: ignore[dict-item]
    clinical.PlansOpened: _plans,  # type: ignore[dict-item]
    clinical.FollowUpSummarised: _follow_up,  # type: ignore[dict-item]
    clinical.ResponsesSummarised: _responses,  # type: ignore[dict-item]
    clinical.NoticesSummarised: _notices,  # type: ignore[dict-item]
    production.HazardEvaluated: lambda run, m: replace(run, evaluated=True),
    production.LotImplicationAnswered: _decided,  # type: ignore[dict-item]
    traceability.ExposureSealed: lambda run, m: replace(run, sealed=m.version, members=m.members),  # type: ignore[attr-defined]
    production.CapaProposed: lambda run, m: replace(run, capa=m.capa),  # type: ignore[attr-defined]
    production.CapaRefused: _refused,  # type: ignore[dict-item]
    production.ProcessLimitChanged: lambda run, m: replace(run, limited=True),
    rnd.InsightRecorded: lambda run, m: replace(run, insight=m.insight),  # type: ignore[attr-defined]
}
