"""What must hold of every study, by what the topics tell of it, whatever was done to the platform."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from math import inf
from typing import Any, TypeAlias

from google.protobuf.message import Message

from pharmaloop.exchange.v1 import events_pb2 as exchange
from services.exchange.domain.aggregation.context import MINIMUM_SITES
from services.kit.envelope import Event
from tests.unit.exchange.hospitals import SITES, TERMS, data, pooled

#: Every event once, where it came first; those of a topic in its order.
Told: TypeAlias = list[Event]
StudyRule: TypeAlias = Callable[[Told], Iterator[str]]


def rules(rows: int) -> Mapping[str, StudyRule]:
    """The rules, of hospitals with so many rows."""
    return {
        "answers are on record": answers_on_record,
        "a study ends once": one_end,
        "an answer is that of all rows": answers_of_all_rows(rows),
        "contributions are valued as agreed": valued_as_agreed,
    }


def of(events: Iterable[Event], *classes: type[Message]) -> list[Any]:
    return [event.message for event in events if isinstance(event.message, classes)]


def answers_on_record(told: Told) -> Iterator[str]:
    """An answer comes after the record of its rounds; one of a study; of three sites or more; and what
    every one of them contributed is metered once."""
    audited: set[str] = set()
    answered: dict[str, Any] = {}
    for event in told:
        message: Any = event.message
        match message:
            case exchange.JobOpened() if len(message.participants) < MINIMUM_SITES:
                yield f"a job of {message.study} has the sites {list(message.participants)}"
            case exchange.JobAudited():
                audited.add(message.job)
                if any(len(one.participants) < MINIMUM_SITES for one in message.rounds):
                    yield f"a sum of {message.study} was opened over less than {MINIMUM_SITES} sites"
            case exchange.InsightPublished():
                if message.job not in audited:
                    yield f"the answer of {message.study} came before the record of its rounds"
                if message.study in answered:
                    yield f"{message.study} was answered twice"
                if len(message.sites) < MINIMUM_SITES:
                    yield f"the answer of {message.study} is of {list(message.sites)}"
                answered[message.study] = message
    metered = metered_of(told)
    for name in sorted(answered.keys() | metered.keys()):
        sites = sorted(answered[name].sites) if name in answered else []
        found = sorted(one.site for one in metered[name])
        if found != sites:
            yield f"{name} was answered by {sites}, metered are {found}"


def metered_of(told: Iterable[Event]) -> dict[str, list[exchange.ContributionMetered]]:
    """What was metered of each study."""
    found: dict[str, list[exchange.ContributionMetered]] = defaultdict(list)
    for message in of(told, exchange.ContributionMetered):
        found[message.study].append(message)
    return found


def one_end(told: Told) -> Iterator[str]:
    """A study ends once, answered, refused, stopped, expired or failed, and no job is opened of it after."""
    ends: dict[str, str] = {}
    for event in told:
        message: Any = event.message
        study = getattr(message, "study", "")
        if study in ends and type(message) in (*_STUDY_ENDS, exchange.JobOpened):
            yield f"{study} ended with {ends[study]}, and then came {type(message).__name__}"
        is_end = type(message) in _STUDY_ENDS
        if is_end or (isinstance(message, exchange.JobEnded) and not message.suspended):
            ends.setdefault(study, type(message).__name__)


_STUDY_ENDS = (
    *(exchange.StudyRefused, exchange.StudyStopped, exchange.StudyExpired),
    exchange.InsightPublished,
)


def answers_of_all_rows(rows: int) -> StudyRule:
    """A published number is that of all rows in one place, of hospitals with so many rows."""

    def rule(told: Told) -> Iterator[str]:
        for answer in of(told, exchange.InsightPublished):
            found = {one.term: (one.estimate.value, one.standard_error) for one in answer.effects}
            for term, *numbers in _pooled(rows):
                apart = zip(found.get(term, ()), numbers, strict=True) if term in found else [(inf, 0.0)]
                if any(abs(one - other) > _DIGITS for one, other in apart):
                    yield f"{answer.study}: {term} is {found.get(term)}, of all rows {numbers}"

    return rule


#: How far a number that is computed over sites may be from that of all rows.
_DIGITS = 1e-9


@cache
def _pooled(rows: int) -> tuple[tuple[str, float, float], ...]:
    beta, errors = pooled([data(site, rows) for site in SITES])
    return tuple(zip(("intercept", *TERMS), beta.tolist(), errors.tolist(), strict=True))


#: Why contributions are not valued that everybody agreed to value, where something went wrong meanwhile.
_UNVALUED = {
    *("EVALUATOR_AWAY", "EVALUATOR_TOO_SLOW", "NOT_APPROVED_HERE"),
    *("COORDINATOR_RESTARTED", "SITE_RESTARTED", "SITE_DROPPED", "SITE_UNAVAILABLE"),
    # A site that lost its session after the answer begins none anew for a study that is over.
    "STUDY_OVER",
}


def valued_as_agreed(told: Told) -> Iterator[str]:
    """Contributions are valued only where that was asked and every owner agreed. All sites of a study or
    none are; their shares sum to 1."""
    asked = {message.study: message.valued for message in of(told, exchange.StudyRequested)}
    agreed = {(m.study, m.site) for m in of(told, exchange.StudyApproved) if m.valuation}
    for study, metered in metered_of(told).items():
        why = {one.not_valued for one in metered}
        wanted = _UNVALUED | {""}
        if not asked.get(study):
            wanted = {"NOT_ASKED"}
        elif any((study, one.site) not in agreed for one in metered):
            wanted = {"NOT_ALL_CONSENT"}
        if len(why) > 1 or not why <= wanted:
            yield f"{study}: not valued for {sorted(why)}, it may be {sorted(wanted)}"
        if {one.valued for one in metered} != {why == {""}}:
            yield f"{study}: valued are {[one.site for one in metered if one.valued]}, and {sorted(why)}"
    for study, shares in shares_of(told).items():
        if abs(sum(shares) - 1) > _DIGITS:
            yield f"{study}: the shares {shares} do not sum to 1"


def shares_of(told: Told) -> dict[str, tuple[float, ...]]:
    """The shares of each study that is valued, in the order of its sites."""
    return {
        study: tuple(one.share for one in sorted(metered, key=lambda one: one.site))
        for study, metered in metered_of(told).items()
        if all(one.valued for one in metered)
    }
