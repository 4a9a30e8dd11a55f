"""Facts that come in: checked for form, given the id of their source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from pharmaloop.production.v1 import events_pb2 as events
from services.kit.errors import Invalid
from services.kit.facts import Fact
from services.kit.ids import derived_id, parse_lot, product_of
from services.kit.refused import refusals
from services.kit.units import conversion
from services.production.domain import laboratory, readings
from services.production.domain.equipment import Equipment


def readings_fact(equipment: dict[str, Equipment]) -> Callable[[int, events.ReadingsRecorded], Fact]:
    """Readings as facts: the same window of the same tags is the same fact."""

    def to_fact(_index: int, batch: events.ReadingsRecorded) -> Fact:
        parse_lot(batch.lot)
        known = equipment.get(batch.equipment)
        batch = _in_units_of(known, batch) if known else batch
        with refusals():
            readings.check(batch, known)
        start = batch.start.at.ToDatetime(tzinfo=UTC)
        first, last = batch.offsets_ms[0], batch.offsets_ms[-1]
        window = (batch.start.at.ToJsonString(), str(first), str(last), str(len(batch.offsets_ms)))
        tags = sorted(tag.tag for tag in batch.tags)
        id = derived_id("readings", batch.equipment, batch.lot, *window, *tags)
        return Fact(batch, id, _later(start, last), batch.lot)

    return to_fact


def _in_units_of(equipment: Equipment, batch: events.ReadingsRecorded) -> events.ReadingsRecorded:
    """The batch with every value in the unit of its tag, as far as the units convert."""
    made = None
    for number, sent in enumerate(batch.tags):
        tag = equipment.tag(sent.tag)
        if tag is None or sent.unit == tag.unit:
            continue
        convert = conversion(sent.unit, tag.unit)
        if convert is None:
            continue
        if made is None:
            made = events.ReadingsRecorded()
            made.CopyFrom(batch)
        made.tags[number].unit = tag.unit
        made.tags[number].values[:] = map(convert, sent.values)
    return made or batch


def _later(start: datetime, milliseconds: int) -> datetime:
    try:
        return start + timedelta(milliseconds=milliseconds)
    except OverflowError:
        raise Invalid("OUT_OF_RANGE", "the window ends after the year 9999", "start.at") from None


def result_fact(
    units: Mapping[tuple[str, str], str], actor: str
) -> Callable[[int, events.TestResultRecorded], Fact]:
    """Laboratory results as facts; `units` are those of each product's test, as known before."""
    known = dict(units)

    def to_fact(_index: int, result: events.TestResultRecorded) -> Fact:
        parse_lot(result.lot)
        test = (product_of(result.lot), result.test)
        with refusals():
            laboratory.check(result, known.get(test))
        known.setdefault(test, result.unit)
        fact = events.TestResultRecorded()
        fact.CopyFrom(result)
        fact.source = result.source or actor
        time = result.at.at.ToDatetime(tzinfo=UTC)
        return Fact(fact, derived_id("result", fact.source, fact.record), time, result.lot)

    return to_fact
