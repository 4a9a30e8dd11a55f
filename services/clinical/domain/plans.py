"""The monitoring plan of one exposed patient in one run.

There is one document for each patient that a run names, whether or not a
plan could be opened, so that nobody is counted twice and nobody is lost.
Where the patient stands follows from what is known of them, whatever came
last:

    unnamed    only an answer is known; no journal entry named the patient yet
    void       all that they were named for came back unopened or was never given
    deceased   died
    moved      went to another site, which follows them up
    pending    exposed; no record of the patient yet
    declined   exposed; does not consent to follow-up
    waiting    exposed and consents; opens with the next bulk
    open       the plan was opened and announced
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from pharmaloop.clinical.v1 import events_pb2 as clinical
from services.clinical.domain import moments
from services.clinical.domain.dispenses import Member
from services.clinical.domain.patients import ACTIVE, DECEASED, Patient
from services.clinical.domain.templates import Asked

Stage = Literal["unnamed", "void", "deceased", "moved", "pending", "declined", "waiting", "open"]
Notice = Literal["", "owed", "notified", "unreachable"]
Role = Literal["exposed", "comparator"]
ROLES: dict[Role, clinical.PlanRole] = {
    "exposed": clinical.PLAN_ROLE_EXPOSED,
    "comparator": clinical.PLAN_ROLE_COMPARATOR,
}
#: At most so many plans in one event.
BULK = 500
#: How long plans last that were opened before there were templates.
FOLLOW_UP_HOURS = 8


@dataclass(frozen=True)
class Answer:
    """A patient's answer. `text` is a serialised Sealed; `record` is the fact's id."""

    at: str
    affected: bool
    record: str
    text: bytes

    @property
    def rank(self) -> tuple[str, bool, str]:
        """The greater one holds: the later, and of two at one moment the one with a complaint."""
        return self.at, self.affected, self.record


@dataclass(frozen=True)
class Result:
    """A laboratory result. `sealed` is a serialised Sealed; `record` is the fact's id."""

    at: str
    record: str
    sealed: bytes

    @property
    def rank(self) -> tuple[str, str]:
        """The greater one holds: the later."""
        return self.at, self.record


@dataclass(frozen=True)
class Told:
    """What came of telling the patient. Who was reached once knows, whatever was tried before or later."""

    notified: bool
    at: str

    @property
    def rank(self) -> tuple[bool, str]:
        return self.notified, self.at


@dataclass(frozen=True)
class Plan:
    """A patient's place in a run. `due` is ISO, UTC, on the platform clock, once the plan was opened;
    where the hazard was evaluated later, the answer is expected so long after that.

    `received` counts the members by lot that the patient may have taken of,
    `void` those that they did not. `notice` says whether the patient is to be
    told ("owed"), knows, or could not be reached; empty when nobody need tell them.
    `asked` is the template it was opened with. `reminded` says when a reminder
    became due, by its hours; `labs` are the LOINC codes of the results that came,
    `results` the newest of each.
    A comparator has `received` a sibling lot; `left` once they turn out to be exposed.
    """

    plan: str
    run: str = ""
    pseudonym: str = ""
    received: dict[str, int] = field(default_factory=dict)
    void: int = 0
    stage: Stage = "unnamed"
    due: str = ""
    answered: bool = False
    answer: Answer | None = None
    told: Told | None = None
    notice: Notice = ""
    asked: Asked | None = None
    reminded: dict[str, str] = field(default_factory=dict)
    labs: tuple[str, ...] = ()
    results: dict[str, Result] = field(default_factory=dict)
    role: Role = "exposed"
    left: bool = False

    @property
    def hours(self) -> int:
        """How long the follow-up lasts, in platform time."""
        return self.asked.hours if self.asked else FOLLOW_UP_HOURS

    @property
    def lots(self) -> tuple[str, ...]:
        return tuple(sorted(lot for lot, members in self.received.items() if members))

    @property
    def live(self) -> int:
        """Members that the patient may have taken of."""
        return sum(self.received.values())

    @property
    def affected(self) -> bool:
        return self.answer is not None and self.answer.affected


def with_member(plan: Plan, member: Member, before: Member | None) -> Plan:
    """The plan after a member of the patient joined, or something became of it."""
    received, void = dict(plan.received), plan.void
    for held, change in ((before, -1), (member, 1)):
        if held is None or not held.entered:
            continue
        if held.void:
            void += change
        else:
            received[held.lot] = received.get(held.lot, 0) + change
    return replace(plan, run=member.run, pseudonym=member.pseudonym, received=received, void=void)


def placed(plan: Plan, patient: Patient) -> Plan:
    """The plan at the stage that follows from it and from what is known of the patient."""
    return _with_notice(replace(plan, stage=_stage(plan, patient)))


def told(plan: Plan, notified: bool, at: str) -> Plan | None:
    """The plan after its patient was told, or was not reached; None when that is known already."""
    news = Told(notified, at)
    if plan.told is not None and plan.told.rank >= news.rank:
        return None
    return _with_notice(replace(plan, told=news))


def _with_notice(plan: Plan) -> Plan:
    """Everybody who may have taken of it is to be told, whether or not they consent to follow-up."""
    if plan.stage in ("unnamed", "void", "deceased") or plan.role == "comparator":
        return replace(plan, notice="")
    if plan.told is None:
        return replace(plan, notice="owed")
    return replace(plan, notice="notified" if plan.told.notified else "unreachable")


def _stage(plan: Plan, patient: Patient) -> Stage:
    if plan.left:
        return "void"
    if not plan.live:
        return "void" if plan.void else "unnamed"
    if not patient.known:
        return "pending"
    # What they said before they died or left still counts.
    said = bool(plan.due) and plan.answered and patient.consent
    if patient.status != ACTIVE and not said:
        return "deceased" if patient.status == DECEASED else "moved"
    if not patient.consent:
        return "declined"
    return "open" if plan.due else "waiting"


def opened(plan: Plan, moment: str, asked: Asked) -> Plan:
    """The plan as it is opened, with its template, at a moment of platform time."""
    due = later(moment, asked.hours)
    return replace(plan, stage="open", due=due, asked=asked)


def asked_at(plan: Plan, hazard: str) -> str:
    """When the patient was asked: as the plan opened, or the hazard was evaluated where that is later."""
    return max(later(plan.due, -plan.hours), hazard)


def later(moment: str, hours: int) -> str:
    """A moment so many hours later, ISO, UTC."""
    then = datetime.fromisoformat(moment) + timedelta(hours=hours)
    return then.isoformat(timespec="microseconds")


def with_lab(plan: Plan, code: str, result: Result) -> Plan:
    """The plan after a laboratory result came; of several of one test the latest holds."""
    known = plan.results.get(code)
    newest = result if known is None else max(known, result, key=lambda one: one.rank)
    return replace(plan, labs=tuple(sorted({*plan.labs, code})), results={**plan.results, code: newest})


def answered(plan: Plan, answer: Answer) -> Plan | None:
    """The plan with an answer; None when the answer known is as new."""
    if plan.answer is not None and plan.answer.rank >= answer.rank:
        return None
    return replace(plan, answered=True, answer=answer)


def message_of(plan: Plan, question: str) -> clinical.MonitoringPlan:
    """The plan as an event; `question` is the first that its template asks."""
    return clinical.MonitoringPlan(
        plan=plan.plan,
        run=plan.run,
        pseudonym=plan.pseudonym,
        lots=plan.lots,
        question=question,
        due=moments.stamp_of(plan.due),
        template=plan.asked.template if plan.asked else "",
        version=plan.asked.version if plan.asked else 0,
        role=ROLES[plan.role],
        hours=plan.hours,
    )


def bulks(
    run: str, site: str, plans: Sequence[clinical.MonitoringPlan]
) -> Iterator[clinical.MonitoringPlansOpened]:
    """The opened plans as events."""
    for start in range(0, len(plans), BULK):
        bulk = plans[start : start + BULK]
        yield clinical.MonitoringPlansOpened(run=run, site=site, plans=bulk)
