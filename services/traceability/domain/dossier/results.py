"""Laboratory results of a lot: what was recorded, what was judged of it, and both together.

Results are facts that come beside what the plant judges of them, in any
order; a lot that the plant does not know is not judged at all. So a result
beyond the limits that it was tested against is a finding by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from pharmaloop.production.v1 import events_pb2 as production
from services.traceability.domain.dossier.names import name
from services.traceability.domain.dossier.newest import Decided
from services.traceability.domain.moments import iso, when

OUT_OF_SPECIFICATION, OUT_OF_TREND = "out_of_specification", "out_of_trend"
NOT_JUDGED, INVESTIGATED, REVIEW = "not_judged", "investigated", "review"


@dataclass(frozen=True)
class Result:
    """A result as it was recorded. `out_of` is its lot where it is beyond its limits, else empty."""

    result: str
    lot: str
    test: str
    tested: str
    value: float
    unit: str
    low: float | None
    high: float | None
    source: str
    record: str
    out_of: str


@dataclass(frozen=True)
class Investigation:
    """The investigation of a result out of specification; `retest` is the result of a retest that passed."""

    investigation: str
    result: str
    test: str
    tested: str
    rule: str
    state: str = INVESTIGATED
    retest: str = ""
    closed: str = ""
    who: str = ""
    why: str = ""
    #: The rule as its code and values: the bytes of a Saying, empty where none was told.
    rule_saying: bytes = b""


@dataclass(frozen=True)
class Review:
    """The review of a result out of trend."""

    result: str
    test: str
    rule: str
    rule_saying: bytes = b""


class Recorded(NamedTuple):
    """What is on record of a lot: the results that are asked for, by id, and how many there are in all,
    and beyond their limits."""

    results: Mapping[str, Result]
    total: int
    out: int


class Finding(NamedTuple):
    """A result that is not as it should be. `recorded` is None while only the judgement is known."""

    result: str
    kind: str
    test: str
    tested: str
    state: str
    rule: str = ""
    recorded: Result | None = None
    investigation: Investigation | None = None
    rule_saying: bytes = b""


def recorded(event: production.TestResultRecorded, id: str) -> Result:
    low = event.low if event.HasField("low") else None
    high = event.high if event.HasField("high") else None
    out = (low is not None and event.value < low) or (high is not None and event.value > high)
    return Result(
        result=id,
        lot=event.lot,
        test=event.test,
        tested=when(event.at),
        value=event.value,
        unit=event.unit,
        low=low,
        high=high,
        source=event.source,
        record=event.record,
        out_of=event.lot if out else "",
    )


def opened(event: production.LaboratoryInvestigationOpened) -> Investigation:
    return Investigation(
        event.investigation,
        event.result,
        event.test,
        iso(event.at),
        event.rule,
        rule_saying=event.rule_saying.SerializeToString(deterministic=True),
    )


def changed(
    held: Investigation, event: production.RetestPassed | production.InvestigationClosed, at: str
) -> Investigation:
    if isinstance(event, production.RetestPassed):
        return replace(held, retest=event.result)
    return replace(held, state=_outcome(event), closed=at, who=event.actor, why=event.reason)


def decided(event: production.InvestigationClosed, at: str, id: str) -> Decided:
    what = f"OOS_{_outcome(event).upper()}"
    return Decided(at, id, what, event.actor, event.reason, event.meaning, subject=event.investigation)


def _outcome(event: production.InvestigationClosed) -> str:
    return name(production.InvestigationOutcome, event.outcome, "INVESTIGATION_OUTCOME_")


def findings(
    investigations: Iterable[Investigation], reviews: Iterable[Review], told: Recorded
) -> list[Finding]:
    """Every result that is not as it should be, once, in order of the tests and then of the ids."""
    found = {
        one.result: Finding(one.result, OUT_OF_SPECIFICATION, one.test, one.tested, NOT_JUDGED, recorded=one)
        for one in told.results.values()
        if one.out_of
    }
    for held in investigations:
        result = told.results.get(held.result)
        found[held.result] = Finding(
            held.result,
            OUT_OF_SPECIFICATION,
            held.test,
            held.tested,
            held.state,
            held.rule,
            result,
            held,
            held.rule_saying,
        )
    for review in reviews:
        result = told.results.get(review.result)
        tested = result.tested if result else ""
        found[review.result] = Finding(
            review.result,
            OUT_OF_TREND,
            review.test,
            tested,
            REVIEW,
            review.rule,
            result,
            rule_saying=review.rule_saying,
        )
    return sorted(found.values(), key=lambda one: (one.tested, one.result))
