"""What the laboratory found of a transfer's first lot, beside what was expected.

A result counts when it is within its specification, or when the investigation
of it found that it stands. While one of the lot is out of specification and not
explained, nothing is concluded. Where it was an error of the laboratory the
retest counts: what was tested before it does not. Of several that count, the
one tested last does (then the one with the later id), so that the order in which
they arrive makes no difference while the outcome is not recorded. A lot that is
made on other equipment than that of the line which the set was adapted to says
nothing of the prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain import laboratory
from services.production.domain.record import Lot
from services.production.domain.transfer import Attempt

#: A value in one unit, in another one; None where the two do not convert.
Convert: TypeAlias = Callable[[float, str, str], float | None]


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


def compared(held: Attempt, lot: Lot, results: Results, convert: Convert) -> list[events.AttributeOutcome]:
    """Expected and found of every predicted attribute, in the unit of the prediction; nothing while one of
    them lacks a result, or while a result of the lot that is out of specification is not explained, and of a
    lot of another line."""
    if _elsewhere(held, lot) or _unexplained(lot, results):
        return []
    outcomes = []
    for expected in held.predictions():
        found = _found(lot, results.tested, expected, convert)
        if found is None:
            return []
        outcomes.append(
            events.AttributeOutcome(
                attribute=expected.attribute,
                unit=expected.unit,
                predicted=expected.target,
                actual=found,
                calibrated_by=expected.calibrated_by,
            )
        )
    return outcomes


def withheld(
    held: Attempt, lot: Lot, results: Results, convert: Convert
) -> list[events.TransferOutcomeWithheld]:
    """What does not count for good: the lot, where it is made on another line; else results of predicted
    attributes in a unit that does not convert to the prediction's."""
    if _elsewhere(held, lot):
        adapted = held.adaptation()
        said = (
            f"it is made on {lot.equipment}, and the set was adapted to line {adapted.line}, which is "
            f"{adapted.equipment}; make a lot there, or release a version for the other line"
        )
        told = events.TransferOutcomeWithheld(lot=lot.lot, rule="OTHER_LINE", field="lot.equipment")
        told.statement = said
        return [told]
    units = {one.attribute: one.unit for one in held.predictions()}
    return [
        events.TransferOutcomeWithheld(
            lot=lot.lot,
            rule="INCONVERTIBLE",
            field=f"results.{one.test}.unit",
            result=one.result,
            statement=(
                f"the result of {one.test} is in {one.unit}, which does not convert to {units[one.test]}, "
                f"the unit of the prediction; record the result in a unit that does"
            ),
        )
        for one in results.tested
        if one.test in units and convert(one.value, one.unit, units[one.test]) is None
    ]


def _elsewhere(held: Attempt, lot: Lot) -> bool:
    equipment = held.adaptation().equipment  # empty: by a build that did not note it
    return bool(equipment) and lot.equipment != equipment


def _unexplained(lot: Lot, results: Results) -> bool:
    """Is a result out of specification, and nobody has said yet whether it stands? The investigation of a
    result may be opened after the result was taken in here."""
    explained = {held.result for held in lot.investigations if held.outcome != "open"}
    out = {one.result for one in results.tested if one.out}
    return bool(out - explained) or any(held.outcome == "open" for held in lot.investigations)


def _found(
    lot: Lot, tested: Iterable[Tested], expected: events.AttributePrediction, convert: Convert
) -> float | None:
    """What counts of an attribute, in the unit of its prediction."""
    outcomes = {held.result: held.outcome for held in lot.investigations}
    mine = [one for one in tested if one.test == expected.attribute]
    void = max((one.at for one in mine if outcomes.get(one.result) == "laboratory_error"), default="")
    counting = [
        (one.at, one.result, value)
        for one in mine
        if (one.at > void and not one.out) or outcomes.get(one.result) == "confirmed"
        if (value := convert(one.value, one.unit, expected.unit)) is not None
    ]
    return max(counting)[2] if counting else None
