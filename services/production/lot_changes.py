"""What becomes of lots, for those who watch: a choice of lots, and their events as changes of state."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC
from typing import cast

from google.protobuf.message import Message

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.kit.bus.protocol import Record
from services.kit.contracts import event_type
from services.kit.envelope import Event
from services.kit.errors import Invalid
from services.kit.ids import check_product, parse_lot
from services.kit.rpc.changes import of_types
from services.kit.rpc.status import timestamp

#: The state that a lot comes to with each event.
STATES: dict[type[Message], api.LotState] = {
    events.LotStarted: api.LOT_STATE_STARTED,
    events.LotCompleted: api.LOT_STATE_COMPLETED,
    events.LotHeld: api.LOT_STATE_HELD,
    events.LotReleased: api.LOT_STATE_RELEASED,
    events.LotRejected: api.LOT_STATE_REJECTED,
}


def types_of(request: api.WatchLotsRequest) -> list[str]:
    """The event types that bring lots to the states asked for; Invalid names the field that is wrong."""
    for index, state in enumerate(request.states):
        if state not in STATES.values():
            raise Invalid("UNKNOWN_STATE", "name a state of a lot, or leave states empty", f"states[{index}]")
    wanted = set(request.states)
    return [event_type(event) for event, state in STATES.items() if not wanted or state in wanted]


def chosen(request: api.WatchLotsRequest) -> Callable[[Record], bool]:
    """Is a record a change that the request asks for? Invalid names the field that is wrong."""
    if request.from_start and request.after.positions:
        said = "begin at the start, or go on after a position: give one of the two"
        raise Invalid("START_AND_POSITION", said, "from_start")
    for index, lot in enumerate(request.lots):
        parse_lot(lot, f"lots[{index}]")
    for index, product in enumerate(request.products):
        check_product(product, f"products[{index}]")
    lots, products = frozenset(request.lots), frozenset(request.products)
    told = of_types(types_of(request))

    def wanted(record: Record) -> bool:
        key = (record.key or b"").decode(errors="replace")
        fits = not (lots or products) or key in lots or key.rpartition("/")[0] in products
        return fits and told(record)

    return wanted


def changes(happened: Iterable[Event]) -> list[api.LotChange]:
    """The events as changes of state."""
    return [_change(event) for event in happened]


def _change(event: Event) -> api.LotChange:
    said = cast(events.LotHeld, event.message)
    why = said.reason if isinstance(event.message, events.LotHeld | events.LotRejected) else ""
    return api.LotChange(
        event=event.id,
        lot=said.lot,
        state=STATES[type(event.message)],
        reason=why,
        at=timestamp(event.time.astimezone(UTC)),
        version=event.seq or 0,  # its number in the lot's own record; 0 only of what is none of a record
    )
