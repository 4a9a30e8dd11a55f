"""How runs of the transfer and the evidence loop must end, by a few lines over what their cases heard.

Written from what the loops promise (`services/loops/README.md`), without stages, deadlines or numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from pharmaloop.exchange.v1 import events_pb2 as exchange
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd

OPEN = "open"
#: All that a transfer needs before research learns from its lot.
_WANTED = (
    production.TwinAdapted,
    production.OptimisationProposed,
    production.OptimisationDecided,
    production.RecipeEffective,
    production.TransferOutcomeRecorded,
)
#: What ends a study without an answer that is taken up.
_ENDS: Mapping[type[Message], str] = {
    exchange.StudyRefused: "refused",
    exchange.StudyStopped: "stopped",
    exchange.StudyExpired: "expired",
    rnd.InsightDeclined: "declined",
    loops.RunCancelRequested: "cancelled",
}


@dataclass
class _Release:
    end: str = OPEN
    seen: set[type[Message]] = field(default_factory=set)
    lots: list[str] = field(default_factory=list)


def transfer_ends(heard: Iterable[Message], versions: Mapping[str, int]) -> dict[int, str]:
    """How each version's run stands after what its case heard; `versions` by the name of their run."""
    releases: dict[int, _Release] = {}
    withdrawn: set[int] = set()
    learnt: set[str] = set()
    for told in heard:
        message: Any = told
        if isinstance(message, rnd.ParameterSetReleased):
            for earlier in releases.values():
                earlier.end = "superseded" if earlier.end == OPEN else earlier.end
            releases[message.version] = _Release()
        elif isinstance(message, rnd.ParameterSetWithdrawn):
            withdrawn.add(message.version)
        elif isinstance(message, rnd.PredictionCalibrated):
            learnt.add(message.lot)
        elif (release := releases.get(versions.get(message.run, 0))) and release.end == OPEN:
            release.seen.add(type(message))
            if isinstance(message, production.TransferOutcomeRecorded):
                release.lots.append(message.lot)
        for version, release in releases.items():
            if release.end == OPEN:
                release.end = _end(release, version in withdrawn, learnt)
    return {version: release.end for version, release in releases.items()}


def _end(release: _Release, withdrawn: bool, learnt: set[str]) -> str:
    if withdrawn:
        return "withdrawn"
    if production.TransferRefused in release.seen:
        return "refused"
    if loops.RunCancelRequested in release.seen:
        return "cancelled"
    done = set(_WANTED) <= release.seen and release.lots[0] in learnt
    return "closed" if done else OPEN


def study_end(heard: Iterable[Message]) -> str:
    """How a study's run stands after what its case heard."""
    requested, end = False, OPEN
    approved: set[str] = set()
    participants: dict[str, set[str]] = {}
    frozen: dict[str, set[str]] = {}
    audited = published = taken_up = False
    sites: set[str] = set()
    for told in heard:
        message: Any = told
        if end != OPEN:
            break
        match message:
            case exchange.StudyRequested():
                requested, sites = True, set(message.sites)
            case exchange.StudyApproved():
                approved.add(message.site)
            case exchange.JobOpened():
                participants[message.job] = set(message.participants)
            case exchange.CohortFrozen() if not message.refusals:
                frozen.setdefault(message.job, set()).add(message.site)
            case exchange.JobAudited():
                audited = True
            case exchange.JobEnded() if not message.suspended:
                end = "stopped"
            case exchange.InsightPublished():
                published = True
            case rnd.HypothesisUpdated():
                taken_up = True
            case _:
                end = _ENDS.get(type(message), OPEN)
        all_frozen = any(named <= frozen.get(job, set()) for job, named in participants.items())
        if end == OPEN and requested and approved >= sites and all_frozen and audited:
            end = "closed" if published and taken_up else OPEN
    return end
