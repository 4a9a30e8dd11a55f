"""Comparators: patients of the site who received a sibling lot, asked in the same way as a run's exposed.

A sibling lot is another one of the same maker and product that no run is
about. Whoever is in a run, in either arm, is not chosen: nobody is asked
twice, and the comparators of two runs are other people, so that what is told
of the ones and of the others cannot be subtracted. The choice is made once
for so many exposed patients and is an event: what the site knew at that
moment is not what it knows later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from pharmaloop.clinical.v1 import events_pb2 as clinical
from services.clinical.domain import moments, plans
from services.clinical.domain.evidence.prompted import Group
from services.clinical.domain.patients import ACTIVE, Patient
from services.clinical.domain.plans import Plan
from services.clinical.domain.templates import Asked

#: At most so many for each exposed patient.
RATIO = 2
#: Dispensed within the period in which the exposed received theirs, or so long before or after it.
PERIOD = timedelta(days=30)


@dataclass(frozen=True)
class Cohort:
    """The comparators of a run in numbers. `chosen_for`: exposed patients for whom they were chosen;
    `open` and `answered` count those who stand. `due` is the latest due time of their plans, `asked` when
    the last of them were asked (ISO, UTC), `longest` how long the longest of their follow-ups lasts."""

    chosen_for: int = 0
    open: int = 0
    answered: int = 0
    due: str = ""
    asked: str = ""
    longest: int = 0

    def complete(self, ended: str) -> bool:
        """Has everybody answered, or is their time over? `ended`: the due time that was passed last."""
        return self.answered == self.open or ended >= self.due


@dataclass(frozen=True)
class Comparator:
    """A patient who was chosen as comparator, in the runs named."""

    pseudonym: str
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A patient who received sibling lots of a product in the period."""

    pseudonym: str
    product: str
    lots: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """A patient who is chosen, to be compared with the exposed of a group."""

    pseudonym: str
    lots: tuple[str, ...]
    group: Group


def in_order(run: str, candidates: Iterable[Candidate]) -> list[Candidate]:
    """As they are chosen: in an order that nobody can influence, the same whenever it is asked for."""

    def place(candidate: Candidate) -> tuple[bytes, str]:
        text = f"{run}|{candidate.pseudonym}"
        return hashlib.sha256(text.encode()).digest(), candidate.product

    return sorted(candidates, key=place)


def wanted(exposed: Mapping[Group, int], chosen: Mapping[Group, int]) -> dict[Group, int]:
    """How many more are wanted in each group, for so many exposed patients of it."""
    return {group: max(0, RATIO * count - chosen.get(group, 0)) for group, count in sorted(exposed.items())}


def eligible(patient: Patient, of_patient: Iterable[Plan]) -> bool:
    """May the patient be chosen? Not who is in a run, as exposed or as comparator."""
    free = all(plan.stage == "unnamed" for plan in of_patient)
    return free and patient.known and patient.consent and patient.status == ACTIVE


def chosen(plan: Plan, message: clinical.MonitoringPlan) -> Plan:
    """The plan of a patient who was chosen; an answer that came before is kept."""
    return replace(
        plan,
        run=message.run,
        pseudonym=message.pseudonym,
        received=dict.fromkeys(message.lots, 1),
        due=moments.text_of(message.due),
        asked=Asked(message.template, message.version, message.hours),
        role="comparator",
    )


def stands(plan: Plan, patient: Patient, of_patient: Iterable[Plan]) -> Plan:
    """A comparator's plan, given all plans of the patient: who turns out to be exposed leaves."""
    exposed = any(other.role == "exposed" and other.live for other in of_patient)
    return plans.placed(replace(plan, left=exposed), patient)


def counted(cohort: Cohort, before: Plan, after: Plan) -> Cohort:
    """A comparator's plan is other than before."""
    for plan, sign in ((before, -1), (after, 1)):
        if plan.role == "comparator" and plan.stage == "open":
            cohort = replace(cohort, open=cohort.open + sign, answered=cohort.answered + sign * plan.answered)
    return replace(
        cohort,
        due=max(cohort.due, after.due),
        asked=max(cohort.asked, plans.asked_at(after, "")),
        longest=max(cohort.longest, after.hours),
    )
