"""Reminders: who was asked and has not answered hears of it again, a day and three days later.

Only while the follow-up lasts: one that ends before, or as, a reminder would
be due has none. Each is given once; that it was given is kept with the plan.
"""

from __future__ import annotations

from dataclasses import replace

from services.clinical.domain import plans
from services.clinical.domain.plans import Plan

#: So many hours after the patient was asked, in platform time.
AFTER_HOURS = (24, 72)


def dues(asked_at: str, lasts: int) -> dict[int, str]:
    """When reminders of those who were asked at a moment are due, by their hours (ISO, UTC).

    `lasts` is how long their follow-up does, in hours.
    """
    return {hours: plans.later(asked_at, hours) for hours in AFTER_HOURS if hours < lasts}


def reminded(plan: Plan, hazard: str, hours: int, moment: str) -> Plan | None:
    """The plan after its reminder at a moment; None where its patient need not be reminded now.

    `hazard` is when the hazard was evaluated (ISO, UTC).
    """
    if plan.stage != "open" or plan.answered or str(hours) in plan.reminded:
        return None
    due = dues(plans.asked_at(plan, hazard), plan.hours).get(hours)
    if due is None or due > moment:
        return None
    return replace(plan, reminded={**plan.reminded, str(hours): moment})


def overdue(plan: Plan, hazard: str, moment: str) -> bool:
    """Was the patient asked, and has not answered though reminded, or though the time for it is over?"""
    return _unanswered(plan, hazard) and (bool(plan.reminded) or late(plan, hazard, moment))


def overdue_since(plan: Plan, hazard: str, moment: str) -> str:
    """Since when it is overdue (ISO, UTC): its first reminder, or its end; empty while it is not."""
    if not overdue(plan, hazard, moment):
        return ""
    ends = _ends(plan, hazard)
    return min([*plan.reminded.values(), *([ends] if ends <= moment else [])])


def late(plan: Plan, hazard: str, moment: str) -> bool:
    """Has the patient not answered though the last reminder was due, or the follow-up ended?"""
    if not _unanswered(plan, hazard):
        return False
    return str(AFTER_HOURS[-1]) in plan.reminded or _ends(plan, hazard) <= moment


def _ends(plan: Plan, hazard: str) -> str:
    """By when an answer is expected at the latest."""
    return plans.later(plans.asked_at(plan, hazard), min(plan.hours, AFTER_HOURS[-1]))


def _unanswered(plan: Plan, hazard: str) -> bool:
    """A draft asks nobody."""
    return bool(hazard) and plan.stage == "open" and not plan.answered
