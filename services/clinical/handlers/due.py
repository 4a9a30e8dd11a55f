"""What a change of a run's holding makes due beside the fold: the end of the follow-up, reminders,
the choice of comparators, the review of evidence."""

from __future__ import annotations

from datetime import datetime

from services.clinical.domain import releases, reminders
from services.clinical.domain.holdings import Holding
from services.clinical.handlers.here import Here
from services.kit.work import Work

#: Of a run; of `run|comparators`, whose plans may end later; and, for reminders, of `run|cause|number`, by
#: the event that asked. A moment would not do: a handler that is started anew reads the clock anew, and would
#: lack the state of another step each time.
FOLLOW_UP_STEP = "follow-up"
CHOICE_STEP, REVIEW_STEP = "comparators", "evidence"
#: Of a run whose database was set back: it is settled once more when everything is folded again.
SETTLE_STEP = "settle"


def make_due(here: Here, work: Work, before: Holding, after: Holding, opened: str) -> None:
    """`opened` is when plans of exposed patients were opened just now; empty where none were."""
    _ends(work, before, after)
    for number, (_, hours, due) in enumerate(sorted(_reminders(before, after, opened))):
        key = f"{after.run}|{work.cause.id}|{number}"
        work.due(FOLLOW_UP_STEP, key, datetime.fromisoformat(due), run=after.run, hours=str(hours))
    _evidence(here, work, before, after)


def _ends(work: Work, before: Holding, after: Holding) -> None:
    for key, was, now in (
        (after.run, before.ends, after.ends),
        (f"{after.run}|comparators", before.cohort.due, after.cohort.due),
    ):
        if now > was:
            work.due(FOLLOW_UP_STEP, key, datetime.fromisoformat(now))


def _reminders(before: Holding, after: Holding, opened: str) -> set[tuple[str, int, str]]:
    """Of those who are asked from now on: when they are asked, after how many hours, and when that is."""
    if after.hazard is None:
        return set()
    asked = {max(opened, after.hazard.at)} if opened else set()
    asked |= {after.hazard.at} if before.hazard is None else set()
    exposed = {(moment, *due) for moment in asked for due in reminders.dues(moment, after.longest).items()}
    was, now = (
        {(held.cohort.asked, *due) for due in reminders.dues(held.cohort.asked, held.cohort.longest).items()}
        for held in (before, after)
    )
    return exposed | (now - was)


def _evidence(here: Here, work: Work, before: Holding, after: Holding) -> None:
    """Whoever is lacking is chosen, and what became known is looked at."""
    more = before.plans != after.plans
    if after.lacks_comparators and (more or not before.lacks_comparators):
        work.due(CHOICE_STEP, after.run, here.now())
    size = releases.at_once(after.plans + after.cohort.open)
    told = after.responders // size > before.responders // size
    if told or (after.final and (more or not before.final)):
        work.due(REVIEW_STEP, after.run, here.now())
