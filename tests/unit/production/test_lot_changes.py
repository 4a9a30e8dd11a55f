"""Which changes of lots a watcher is told, and what they say."""

from __future__ import annotations

import pytest

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.kit.bus.protocol import Record
from services.kit.errors import Invalid
from services.production import lot_changes
from services.production.domain.record import QualityState
from tests.unit.kit.support import NOON, lot_event, record_of

LOT, OTHER, SIBLING = "m/gtin/A/1", "m/gtin/AB/1", "m/gtin/A/2"
EVENTS = [
    (events.LotStarted(lot=LOT, product="m/gtin/A"), api.LOT_STATE_STARTED, ""),
    (events.LotCompleted(lot=LOT), api.LOT_STATE_COMPLETED, ""),
    (events.LotHeld(lot=LOT, reason="a smell"), api.LOT_STATE_HELD, "a smell"),
    (events.LotReleased(lot=LOT), api.LOT_STATE_RELEASED, ""),
    (events.LotRejected(lot=LOT, reason="a taste"), api.LOT_STATE_REJECTED, "a taste"),
]


def record(lot: str, message: object = None) -> Record:
    made = message or events.LotHeld(lot=lot)
    return record_of(lot_event(lot, 1, made))  # type: ignore[arg-type]


def told(request: api.WatchLotsRequest, *lots: str) -> list[bool]:
    wanted = lot_changes.chosen(request)
    return [wanted(record(lot)) for lot in lots]


def test_every_state_of_a_lot_is_told_by_its_event() -> None:
    happened = [lot_event(LOT, n, message) for n, (message, _, _) in enumerate(EVENTS)]
    shown = lot_changes.changes(happened)
    assert [(one.state, one.reason) for one in shown] == [(state, reason) for _, state, reason in EVENTS]
    assert {one.lot for one in shown} == {LOT}
    assert [one.event for one in shown] == [event.id for event in happened]
    assert [one.version for one in shown] == [event.seq for event in happened], "it grows within the lot"
    assert {one.at.ToDatetime(tzinfo=NOON.tzinfo) for one in shown} == {NOON}
    assert len(EVENTS) == len(QualityState.__args__)  # type: ignore[attr-defined]


def test_lots_and_products_choose() -> None:
    assert told(api.WatchLotsRequest(), LOT, OTHER, SIBLING) == [True] * 3
    assert told(api.WatchLotsRequest(lots=[LOT]), LOT, OTHER, SIBLING) == [True, False, False]
    assert told(api.WatchLotsRequest(products=["m/gtin/A"]), LOT, OTHER, SIBLING) == [True, False, True]
    either = api.WatchLotsRequest(products=["m/gtin/AB"], lots=[LOT])
    assert told(either, LOT, OTHER, SIBLING) == [True, True, False]


def test_states_choose_and_other_events_of_a_lot_are_no_change() -> None:
    wanted = lot_changes.chosen(api.WatchLotsRequest(states=[api.LOT_STATE_HELD, api.LOT_STATE_REJECTED]))
    assert [wanted(record(LOT, message)) for message, _, _ in EVENTS] == [False, False, True, False, True]
    every = lot_changes.chosen(api.WatchLotsRequest())
    assert not every(record(LOT, events.DeviationDetected(lot=LOT)))
    assert not every(Record("t", 0, 0, LOT.encode(), b"", (), 0))


@pytest.mark.parametrize(
    ("request_", "reason", "field"),
    [
        (api.WatchLotsRequest(lots=[LOT, "A"]), "NOT_CANONICAL", "lots[1]"),
        (api.WatchLotsRequest(products=["m/gtin/A/1"]), "NOT_CANONICAL", "products[0]"),
        (api.WatchLotsRequest(states=[api.LOT_STATE_UNSPECIFIED]), "UNKNOWN_STATE", "states[0]"),
        (
            api.WatchLotsRequest(
                from_start=True,
                after=common.PositionVector(positions=[common.LogPosition(topic="t")]),
            ),
            "START_AND_POSITION",
            "from_start",
        ),
    ],
)
def test_a_choice_that_cannot_be_is_named(request_: api.WatchLotsRequest, reason: str, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        lot_changes.chosen(request_)
    assert (refused.value.reason, refused.value.field) == (reason, field)
