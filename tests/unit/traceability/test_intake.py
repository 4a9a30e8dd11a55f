"""What is refused is malformed, with its field and reason; nothing else is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import events_pb2 as events
from services.kit.errors import Invalid
from services.kit.ids import dispense_id
from services.traceability import intake
from tests.unit.traceability.driver import lot, moment

SITES = ("hospital-a",)


def good_dispense() -> events.DispenseRecorded:
    return events.DispenseRecorded(
        lot=lot("1"),
        site="hospital-a",
        pseudonym="P1",
        order="o-1",
        source="pharmacy",
        at=moment(0),
        quantity=common.Quantity(value=30, unit="{tablet}"),
    )


def good_material() -> events.MaterialRecorded:
    inputs = [events.MaterialInput(lot=lot("1"), quantity=common.Quantity(value=2.5, unit="kg"))]
    return events.MaterialRecorded(lot=lot("2"), inputs=inputs, at=moment(0), record="r-1", source="mes")


def test_a_dispense_gets_the_id_that_every_source_gives_it() -> None:
    fact = intake.dispense_fact(good_dispense(), "me", SITES)
    assert fact.subject == dispense_id("hospital-a", "o-1", lot("1"))
    other = good_dispense()
    other.source = "hospital"
    assert intake.dispense_fact(other, "me", SITES).subject == fact.subject


def test_what_each_source_says_of_a_dispense_is_a_fact_of_its_own() -> None:
    """Under one id the second source's word would have no effect: its patient would be lost."""
    blind = good_dispense()
    blind.site = blind.pseudonym = ""
    first = intake.dispense_fact(blind, "pharmacy", SITES)
    known = good_dispense()
    known.dispense = first.subject
    second = intake.dispense_fact(known, "pharmacy", SITES)
    other = events.DispenseRecorded()
    other.CopyFrom(known)
    other.source = "wholesaler"
    assert second.id not in (first.id, intake.dispense_fact(other, "wholesaler", SITES).id)
    assert second.id == intake.dispense_fact(known, "pharmacy", SITES).id, "said again, it is the same fact"


def test_a_record_may_keep_the_id_from_before_its_site_was_known() -> None:
    blind = good_dispense()
    blind.site = blind.pseudonym = ""
    first = intake.dispense_fact(blind, "me", SITES)
    known = good_dispense()
    known.dispense = first.subject
    assert intake.dispense_fact(known, "me", SITES).subject == first.subject


def test_a_source_that_is_not_named_is_the_caller() -> None:
    record = good_dispense()
    record.source = ""
    message = intake.dispense_fact(record, "pharmacy-7", SITES).message
    assert isinstance(message, events.DispenseRecorded)
    assert message.source == "pharmacy-7"


def test_the_id_of_material_is_its_sources_own() -> None:
    fact = intake.material_fact(good_material(), "me", "fallback")
    assert fact.id == intake.material_fact(good_material(), "somebody else", "other").id
    unnamed = good_material()
    unnamed.record = ""
    assert intake.material_fact(unnamed, "me", "fallback").id == "fallback"


Change = Callable[[events.DispenseRecorded], object]


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        (lambda r: setattr(r, "lot", "a/b/c"), "NOT_CANONICAL", "lot"),
        (lambda r: setattr(r, "lot", "a/b/c d/e"), "NOT_CANONICAL", "lot"),
        (lambda r: setattr(r, "order", ""), "REQUIRED", "order"),
        (lambda r: setattr(r, "site", "hospital-x"), "UNKNOWN_SITE", "site"),
        (lambda r: r.ClearField("at"), "REQUIRED", "at"),
        (lambda r: r.at.ClearField("at"), "REQUIRED", "at"),
        (lambda r: setattr(r.at.at, "seconds", 10**14), "OUT_OF_RANGE", "at.at"),
        (lambda r: setattr(r.quantity, "value", float("nan")), "NOT_FINITE", "quantity.value"),
        (lambda r: setattr(r.quantity, "value", -1), "OUT_OF_RANGE", "quantity.value"),
        (lambda r: setattr(r.quantity, "unit", ""), "BAD_UNIT", "quantity.unit"),
        (lambda r: setattr(r.quantity, "unit", "kilo gram"), "BAD_UNIT", "quantity.unit"),
        (lambda r: setattr(r, "dispense", "another"), "DISPENSE_MISMATCH", "dispense"),
        (lambda r: setattr(r, "pseudonym", "P|1"), "BAD_TEXT", "pseudonym"),
        (lambda r: setattr(r, "pseudonym", "P\n1"), "BAD_TEXT", "pseudonym"),
        (lambda r: setattr(r, "source", "x" * 300), "BAD_TEXT", "source"),
    ],
)
def test_a_malformed_dispense_is_refused_with_its_field(change: Change, reason: str, field: str) -> None:
    record = good_dispense()
    change(record)
    with pytest.raises(Invalid) as refused:
        intake.dispense_fact(record, "me", SITES)
    assert (refused.value.reason, refused.value.field) == (reason, field)


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        (lambda r: setattr(r, "lot", ""), "NOT_CANONICAL", "lot"),
        (lambda r: setattr(r.inputs[0], "lot", "1"), "NOT_CANONICAL", "inputs[0].lot"),
        (lambda r: setattr(r.inputs[0].quantity, "unit", ""), "BAD_UNIT", "inputs[0].quantity.unit"),
        (lambda r: r.ClearField("at"), "REQUIRED", "at"),
    ],
)
def test_malformed_material_is_refused_with_its_field(
    change: Callable[[events.MaterialRecorded], object], reason: str, field: str
) -> None:
    record = good_material()
    change(record)
    with pytest.raises(Invalid) as refused:
        intake.material_fact(record, "me", "fallback")
    assert (refused.value.reason, refused.value.field) == (reason, field)


def test_an_unknown_site_is_answered_with_the_known_ones() -> None:
    record = good_dispense()
    record.site = "hospital-x"
    with pytest.raises(Invalid, match="hospital-a"):
        intake.dispense_fact(record, "me", SITES)


def test_the_implausible_is_not_refused() -> None:
    """Its own input, older than anything, nobody's patient: stored, and shown as suspect."""
    loop = good_material()
    loop.inputs[0].lot = loop.lot
    intake.material_fact(loop, "me", "fallback")
    blind = good_dispense()
    blind.site = blind.pseudonym = ""
    blind.at.at.FromJsonString("1970-01-01T00:00:00Z")
    intake.dispense_fact(blind, "me", SITES)
