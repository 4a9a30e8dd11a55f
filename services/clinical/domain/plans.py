"""The monitoring plan of one exposed patient in one run.

There is one document for each patient that a run names, whether or not a
plan could be opened, so that nobody is counted twice and nobody is lost:

    unnamed    only an answer is known; no journal entry named the patient yet
    pending    exposed; no record of the patient yet
    declined   exposed; does not consent to follow-up
    waiting    exposed and consents; opens with the next bulk
    open       the plan was opened and announced
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from pharmaloop.clinical.v1 import events_pb2 as clinical
from services.clinical.domain import moments

Stage = Literal["unnamed", "pending", "declined", "waiting", "open"]
#: At most so many plans in one event.
BULK = 500
#: The answer is expected within so much platform time.
FOLLOW_UP = timedelta(hours=8)
QUESTION = (
    "How have you felt since you took this medicine? Please tell us of any complaint, also a small one."
)


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
class Plan:
    """A patient's place in a run. `due` is ISO, UTC, on the platform clock."""

    plan: str
    run: str = ""
    pseudonym: str = ""
    lots: tuple[str, ...] = ()
    stage: Stage = "unnamed"
    due: str = ""
    answered: bool = False
    answer: Answer | None = None

    @property
    def affected(self) -> bool:
        return self.answer is not None and self.answer.affected


def first_stage(known: bool, consent: bool) -> Stage:
    """Where an exposed patient without a plan stands."""
    if not known:
        return "pending"
    return "waiting" if consent else "declined"


def at_stage(plan: Plan, stage: Stage) -> Plan:
    return replace(plan, stage=stage)


def named(plan: Plan, run: str, pseudonym: str, lot: str, stage: Stage) -> Plan:
    """A run names the patient for the first time."""
    return replace(plan, run=run, pseudonym=pseudonym, lots=(lot,), stage=stage)


def with_lot(plan: Plan, lot: str) -> Plan:
    """The patient received one more of the run's lots."""
    return replace(plan, lots=tuple(sorted({*plan.lots, lot})))


def opened(plan: Plan, moment: str) -> Plan:
    """The plan as it is opened at a moment of platform time."""
    due = datetime.fromisoformat(moment) + FOLLOW_UP
    return replace(plan, stage="open", due=due.isoformat(timespec="microseconds"))


def answered(plan: Plan, answer: Answer) -> Plan | None:
    """The plan with an answer; None when the answer known is as new."""
    if plan.answer is not None and plan.answer.rank >= answer.rank:
        return None
    return replace(plan, answered=True, answer=answer)


def message_of(plan: Plan) -> clinical.MonitoringPlan:
    return clinical.MonitoringPlan(
        plan=plan.plan,
        run=plan.run,
        pseudonym=plan.pseudonym,
        lots=plan.lots,
        question=QUESTION,
        due=moments.stamp_of(plan.due),
    )


def bulks(run: str, site: str, plans: Sequence[Plan]) -> Iterator[clinical.MonitoringPlansOpened]:
    """The opened plans as events."""
    for start in range(0, len(plans), BULK):
        bulk = [message_of(plan) for plan in plans[start : start + BULK]]
        yield clinical.MonitoringPlansOpened(run=run, site=site, plans=bulk)
