"""What the laboratory found of a transfer's first lot, beside what was expected.

A result counts when it is within its specification, or when the investigation
of it found that it stands. One that is under investigation, or that was an
error of the laboratory, does not. Of several that count, the one tested last
does (then the one with the later id), so that the order in which they arrive
makes no difference while the outcome is not recorded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain import laboratory
from services.production.domain.record import Lot
from services.production.domain.transfer import Attempt


@dataclass(frozen=True)
class Tested:
    """One result: its id, test, value and unit, when it was tested (ISO, UTC), and whether it is out of
    its specification."""

    result: str
    test: str
    value: float
    unit: str
    at: str
    out: bool


@dataclass(frozen=True)
class Results:
    """The results of a lot that is made by a transfer's recipe."""

    lot: str
    tested: tuple[Tested, ...] = ()


def taken(held: Results, result: events.TestResultRecorded, id: str, at: str) -> Results:
    """With one more result; one that is held already changes nothing."""
    if any(one.result == id for one in held.tested):
        return held
    out = bool(laboratory.broken(result))
    return replace(held, tested=(*held.tested, Tested(id, result.test, result.value, result.unit, at, out)))


def _counts(lot: Lot, one: Tested) -> bool:
    if not one.out:
        return True
    return any(held.result == one.result and held.outcome == "confirmed" for held in lot.investigations)


def _found(lot: Lot, tested: Iterable[Tested], attribute: str, unit: str) -> Tested | None:
    """The result that counts for an attribute; one in another unit cannot be compared."""
    counting = [one for one in tested if one.test == attribute and one.unit == unit and _counts(lot, one)]
    return max(counting, key=lambda one: (one.at, one.result), default=None)


def compared(held: Attempt, lot: Lot, results: Results) -> list[events.AttributeOutcome]:
    """Expected and found of every predicted attribute; nothing while one of them lacks a result."""
    outcomes = []
    for expected in held.predictions():
        found = _found(lot, results.tested, expected.attribute, expected.unit)
        if found is None:
            return []
        outcomes.append(
            events.AttributeOutcome(
                attribute=expected.attribute,
                unit=expected.unit,
                predicted=expected.target,
                actual=found.value,
                calibrated_by=expected.calibrated_by,
            )
        )
    return outcomes
