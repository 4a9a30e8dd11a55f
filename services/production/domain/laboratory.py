"""Laboratory results against their specification, and the investigation of one that is out of it.

A result out of specification (OOS) stops the release of its lot until the
laboratory knows why: an error of its own makes the result void, and a retest
within specification is needed; a result that stands rejects the lot (FDA,
Guidance for Industry: Investigating Out-of-Specification Test Results for
Pharmaceutical Production, 2006, revised 2022). A result is never averaged away.
"""

from __future__ import annotations

import math
from dataclasses import replace

from google.protobuf.message import Message

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain.equipment import is_ucum
from services.production.domain.readings import check_moment
from services.production.domain.record import Investigation, Lot, Outcome, given, known
from services.refusals import Absent, Malformed, Refusal
from services.sayings import saying

_OUTCOMES: dict[events.InvestigationOutcome, Outcome] = {
    events.INVESTIGATION_OUTCOME_LABORATORY_ERROR: "laboratory_error",
    events.INVESTIGATION_OUTCOME_CONFIRMED: "confirmed",
}


def check(result: events.TestResultRecorded, unit: str | None) -> None:
    """Malformed names the first rule of form that the result breaks.

    `unit` is the one that the product's earlier results of the test have; None before the first.
    """
    for field in ("test", "record"):
        given(getattr(result, field), field, f"name the {field}")
    check_moment(result.at, "at", "say when it was tested")
    if not is_ucum(result.unit):
        said = f"{result.unit!r} is not a UCUM code; write for example '%', 'mg/g' or '1'"
        raise Malformed("NOT_UCUM", said, "unit")
    if unit is not None and result.unit != unit:
        said = f"earlier results of {result.test!r} are in {unit!r}, not in {result.unit!r}; convert it"
        raise Malformed("WRONG_UNIT", said, "unit")
    for field in ("value", "low", "high"):
        if not math.isfinite(getattr(result, field)):
            raise Malformed("NOT_FINITE", f"the {field} must be a finite number", field)
    if result.HasField("low") and result.HasField("high") and result.low > result.high:
        said = f"the specification's lower limit {result.low:g} lies above the upper one {result.high:g}; "
        said += "exchange or correct them"
        raise Malformed("OUT_OF_RANGE", said, "low")


_SIDES = {"low": "below the lower", "high": "above the upper"}
_CODES = {"low": "RESULT_BELOW", "high": "RESULT_ABOVE"}


def _beyond(result: events.TestResultRecorded) -> str:
    """Which limit the result is beyond, "low" or "high"; empty when it is within specification."""
    if result.HasField("low") and result.value < result.low:
        return "low"
    return "high" if result.HasField("high") and result.value > result.high else ""


def broken(result: events.TestResultRecorded) -> str:
    """The limit that the result is beyond, in words; empty when it is within specification."""
    limit = _beyond(result)
    if not limit:
        return ""
    said = f"{result.test} of {result.value:g} {result.unit} is {_SIDES[limit]} limit"
    return f"{said} of {getattr(result, limit):g} {result.unit}"


def broken_saying(result: events.TestResultRecorded) -> common.Saying | None:
    """The same as a code with its values; None when the result is within specification."""
    limit = _beyond(result)
    if not limit:
        return None
    told = {"test": result.test, "unit": result.unit}
    return saying(_CODES[limit], **told, value=result.value, limit=float(getattr(result, limit)))


def investigate(
    lot: Lot, result: events.TestResultRecorded, id: str, investigation: str, at: str, retest: str
) -> list[Message]:
    """What a result does to the lot's investigations: opens one, or is the retest that one waits for.

    `id` is the result's, `at` when it was tested (ISO, UTC). `retest` is a result within specification that
    was tested after it and came before it, if there is one.
    """
    rule = broken(result)
    if rule and lot.investigation(investigation):
        return []
    if rule:
        opened = events.LaboratoryInvestigationOpened(
            lot=lot.lot,
            investigation=investigation,
            result=id,
            test=result.test,
            at=result.at.at,
            rule=rule,
            rule_saying=broken_saying(result),
        )
        passed = events.RetestPassed(lot=lot.lot, investigation=investigation, result=retest)
        return [opened, passed] if retest else [opened]
    return [
        events.RetestPassed(lot=lot.lot, investigation=held.investigation, result=id)
        for held in lot.investigations
        if held.test == result.test and held.at < at and not held.retest and held.outcome != "confirmed"
    ]


def close(
    lot: Lot | None,
    investigation: str,
    outcome: events.InvestigationOutcome,
    reason: str,
    actor: str,
) -> events.InvestigationClosed:
    """Close an investigation with what was found."""
    found = known(lot)
    held = found.investigation(investigation)
    if held is None:
        said = f"the lot has no investigation {investigation!r}; list them with ListResults"
        raise Absent("UNKNOWN_INVESTIGATION", said, "investigation")
    if outcome not in _OUTCOMES:
        said = "say what was found: an error of the laboratory, or a result that stands"
        raise Malformed("REQUIRED", said, "outcome")
    given(reason, "reason", "say what was looked at and found")
    if held.outcome != "open":
        said = f"the investigation was closed by {held.actor}; what it found is not changed"
        raise Refusal("ALREADY_CLOSED", said, "investigation")
    return events.InvestigationClosed(
        lot=found.lot,
        investigation=investigation,
        result=held.result,
        outcome=outcome,
        actor=actor,
        reason=reason,
    )


def check_release(lot: Lot) -> None:
    """Refusal while a result out of specification is unexplained, stands, or was not tested again."""
    for held in lot.investigations:
        name = f"investigation {held.investigation} ({held.rule})"
        if held.outcome == "open":
            raise Refusal("OOS_OPEN", f"{name} is open; close it first", "lot")
        if held.outcome == "confirmed":
            raise Refusal(
                "OOS_CONFIRMED", f"{name} found that it stands; the lot can only be rejected", "lot"
            )
        if not held.retest:
            said = f"{name} found an error of the laboratory; record a retest within specification first"
            raise Refusal("RETEST_MISSING", said, "lot")


def evolve(lot: Lot, event: Message) -> Lot:
    """The lot after an event of one of its investigations."""
    match event:
        case events.LaboratoryInvestigationOpened():
            at = event.at.ToDatetime().isoformat(timespec="microseconds") + "+00:00"
            opened = Investigation(event.investigation, event.result, event.test, at, event.rule)
            return replace(lot, investigations=(*lot.investigations, opened))
        case events.RetestPassed():
            return _changed(lot, event.investigation, retest=event.result)
        case events.InvestigationClosed():
            outcome = _OUTCOMES[event.outcome]
            return _changed(lot, event.investigation, outcome=outcome, actor=event.actor, reason=event.reason)
    raise TypeError(f"no investigation folds {type(event).__name__}")


def _changed(lot: Lot, investigation: str, **changes: str) -> Lot:
    changed = tuple(
        replace(held, **changes) if held.investigation == investigation else held  # type: ignore[arg-type]
        for held in lot.investigations
    )
    return replace(lot, investigations=changed)
