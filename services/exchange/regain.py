"""What stands beside a study, brought back from its own events: steps, and what is to be metered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pharmaloop.exchange.v1 import events_pb2 as events
from services.exchange.domain import studies
from services.exchange.handlers.runs import EXPIRY_STEP, JOB_STEP, VALUATION_STEP
from services.exchange.views import METERS, STUDIES, Meters
from services.kit.envelope import Event
from services.kit.recovery import Regain
from services.kit.store.kinds import Kind
from services.kit.work import Work


def of_study(work: Work, event: Event) -> None:
    """One event of a study. Its steps look at how it stands, and have nothing to do where it is over."""
    told = event.message
    if isinstance(told, events.StudyRequested):
        work.due(EXPIRY_STEP, event.subject, studies.moment(told.expires, "expires"))
    if isinstance(told, events.InsightPublished):
        work.put(METERS, event.subject, Meters(_bare(told)))
        work.due(VALUATION_STEP, event.subject, work.now)
    work.due(JOB_STEP, event.subject, work.now)


REGAIN: Mapping[Kind[Any], Regain] = {STUDIES: of_study}


def _bare(told: events.InsightPublished) -> tuple[bytes, ...]:
    """Without what only the coordinator knew that computed the answer. What is metered already stays."""
    meters = (
        events.ContributionMetered(study=told.study, job=told.job, site=site, rounds=told.rounds)
        for site in told.sites
    )
    return tuple(one.SerializeToString() for one in meters)
