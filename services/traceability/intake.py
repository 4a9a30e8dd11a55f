"""What a fact must look like to be recorded. Only the malformed is refused.

A dispense of a lot that nobody knows, or older than its lot, is well-formed:
it is stored and shown, never refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from datetime import datetime

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import events_pb2 as events
from services.kit.errors import Invalid
from services.kit.facts import Fact
from services.kit.ids import claim_id, derived_id, dispense_id, parse_lot
from services.traceability.domain.moments import when

Recorded = events.ShipmentRecorded | events.ReturnRecorded | events.DispenseCorrected
_MAX_TEXT = 256
#: UCUM: printable ASCII without spaces; annotations such as {tablet} included.
_UNIT = re.compile(r"[A-Za-z0-9*^%\[\]{}()./'\"_+-]{1,40}")


def _text(value: str, field: str, *, required: bool = False) -> None:
    if required and not value:
        raise Invalid("REQUIRED", f"{field} must be given", field)
    if len(value) > _MAX_TEXT or "|" in value or not value.isprintable():
        raise Invalid(
            "BAD_TEXT", f"{field} must be at most {_MAX_TEXT} printable characters without '|'", field
        )


def _moment(moment: common.Moment, given: bool) -> datetime:
    if not given or not moment.HasField("at"):
        raise Invalid("REQUIRED", "say when it happened", "at")
    text = when(moment)
    if not text:
        raise Invalid("OUT_OF_RANGE", "the moment is outside the calendar (years 1 to 9999)", "at.at")
    return datetime.fromisoformat(text)


def _quantity(quantity: common.Quantity, field: str) -> None:
    if not math.isfinite(quantity.value):
        raise Invalid("NOT_FINITE", "the quantity must be a finite number", f"{field}.value")
    if quantity.value < 0:
        raise Invalid("OUT_OF_RANGE", "the quantity must not be negative", f"{field}.value")
    if not _UNIT.fullmatch(quantity.unit):
        raise Invalid(
            "BAD_UNIT", f"{quantity.unit!r} is no UCUM code; for example kg, mL, {{tablet}}", f"{field}.unit"
        )


def material_fact(record: events.MaterialRecorded, actor: str, fallback: str) -> Fact:
    """The fact of a material record; its id is its source's, or `fallback` where the source has none."""
    parse_lot(record.lot)
    for number, item in enumerate(record.inputs):
        parse_lot(item.lot, f"inputs[{number}].lot")
        if item.HasField("quantity"):
            _quantity(item.quantity, f"inputs[{number}].quantity")
    if record.HasField("quantity"):
        _quantity(record.quantity, "quantity")
    _text(record.record, "record")
    _text(record.source, "source")
    time = _moment(record.at, record.HasField("at"))
    fact = events.MaterialRecorded()
    fact.CopyFrom(record)
    fact.source = record.source or actor
    own = derived_id("material", fact.source, record.record) if record.record else fallback
    return Fact(fact, own, time, record.lot)


def dispense_fact(record: events.DispenseRecorded, actor: str, sites: Collection[str]) -> Fact:
    """The fact of a dispense. The dispense's id is the same from every source; the fact's own is
    that of what this source says, for each source's claim has its effect."""
    parse_lot(record.lot)
    _text(record.order, "order", required=True)
    for field in ("dispense", "pseudonym", "source"):
        _text(getattr(record, field), field)
    if record.site and record.site not in sites:
        known = ", ".join(sorted(sites)) or "none yet"
        raise Invalid("UNKNOWN_SITE", f"{record.site!r} is not registered; registered: {known}", "site")
    for number, lot in enumerate(record.possible_lots):
        parse_lot(lot, f"possible_lots[{number}]")
    if record.HasField("quantity"):
        _quantity(record.quantity, "quantity")
    time = _moment(record.at, record.HasField("at"))
    fact = events.DispenseRecorded()
    fact.CopyFrom(record)
    fact.source = record.source or actor
    fact.dispense = _dispense_id(record)
    said = (fact.source, fact.lot, fact.site, fact.pseudonym, when(record.at), *sorted(fact.possible_lots))
    return Fact(fact, claim_id(fact.dispense, *said), time, fact.dispense)


def _dispense_id(record: events.DispenseRecorded) -> str:
    """The id as given, if it fits; a record may keep the id from before its site was known."""
    made = dispense_id(record.site, record.order, record.lot)
    siteless = dispense_id("", record.order, record.lot)
    if record.dispense and record.site and record.dispense not in (made, siteless):
        raise Invalid(
            "DISPENSE_MISMATCH",
            f"site, order and lot make the id {made}; leave it out, or correct what differs",
            "dispense",
        )
    return record.dispense or made


def shipment_fact(record: events.ShipmentRecorded, actor: str, fallback: str) -> Fact:
    """The fact of a shipment; its id is its source's, or `fallback` where the source has none."""
    parse_lot(record.lot)
    for field in ("from_place", "to_place"):
        _text(getattr(record, field), field, required=True)
    if record.from_place == record.to_place:
        raise Invalid("SAME_PLACE", "a shipment goes from one place to another", "to_place")
    if not record.HasField("quantity"):
        raise Invalid("REQUIRED", "say how much went, with its UCUM unit", "quantity")
    _quantity(record.quantity, "quantity")
    return _recorded(record, "shipment", actor, fallback, record.lot)


def return_fact(record: events.ReturnRecorded, actor: str, fallback: str) -> Fact:
    """The fact that a pack came back."""
    _check_of_dispense(record)
    if record.state == events.RETURN_STATE_UNSPECIFIED:
        raise Invalid("REQUIRED", "say whether the pack came back unopened and complete, or opened", "state")
    if record.HasField("quantity"):
        _quantity(record.quantity, "quantity")
    return _recorded(record, "return", actor, fallback, record.dispense)


def correction_fact(record: events.DispenseCorrected, actor: str, fallback: str) -> Fact:
    """The fact that a source took back what it said of a dispense."""
    _check_of_dispense(record)
    _text(record.replaced_by, "replaced_by")
    if not record.reason.strip():
        raise Invalid("REQUIRED", "say why the record was wrong", "reason")
    if record.replaced_by == record.dispense:
        said = "a dispense is not replaced by itself: what is right has another order number or lot"
        raise Invalid("SAME_DISPENSE", said, "replaced_by")
    return _recorded(record, "correction", actor, fallback, record.dispense)


def _check_of_dispense(record: events.ReturnRecorded | events.DispenseCorrected) -> None:
    parse_lot(record.lot)
    _text(record.dispense, "dispense", required=True)


def _recorded(record: Recorded, kind: str, actor: str, fallback: str, subject: str) -> Fact:
    """The fact of a record that has an id at its source."""
    _text(record.record, "record")
    _text(record.source, "source")
    time = _moment(record.at, record.HasField("at"))
    fact = type(record)()
    fact.CopyFrom(record)  # type: ignore[arg-type]
    fact.source = record.source or actor
    fact.record = record.record or fallback
    return Fact(fact, derived_id(kind, fact.source, fact.record), time, subject)


def fallback_id(kind: str, actor: str, request_id: str, index: int) -> str:
    """Id of a record that has none at its source."""
    return derived_id(f"{kind}-request", actor, request_id, str(index))
