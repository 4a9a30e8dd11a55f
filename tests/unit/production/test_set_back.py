"""A plant whose database was set back: what stands beside its lots and actions comes back with them."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.message import Message

from pharmaloop.production.v1 import events_pb2 as events
from services.kit.bus.memory import MemoryBus
from services.kit.contracts import contract
from services.kit.envelope import Event, to_record
from services.kit.recovery import OwnLog
from services.kit.store.memory import MemoryDatabase, MemoryStore
from services.kit.work import STEPS
from services.production.domain.limits import Changed, Limits
from services.production.main import SPEC
from services.production.views import LIMITS

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOT, PRODUCT = "maker/item/granulate/L1", "maker/item/granulate"


def caught_up(kind: str, id: str, *told: Message) -> MemoryDatabase:
    """A new database, from topics that have these events of one aggregate."""
    bus, database = MemoryBus(), MemoryDatabase()
    for seq, message in enumerate(told, 1):
        topic, key = contract().route(message)
        event = Event(f"{id}-{seq}", f"/svc/production/{kind}", id, NOON, message, key, seq)
        bus.append(to_record(event, topic))
    own = OwnLog("production", contract(), bus, MemoryStore(database), SPEC.kinds, (), regain=SPEC.regain)
    assert own.catch_up() == len(told)
    return database


def test_the_profile_of_a_lot_that_was_completed_is_due() -> None:
    started = events.LotStarted(lot=LOT, product=PRODUCT, equipment="plant-1/dryer-1")
    assert not caught_up("lot", LOT, started).of(STEPS)
    database = caught_up("lot", LOT, started, events.LotCompleted(lot=LOT))
    assert list(database.of(STEPS)) == [f"profile|{LOT}"]


def test_a_limit_that_a_person_signed_is_in_force() -> None:
    proposed = events.CapaProposed(capa="c1", product=PRODUCT, tag="Temp", lot=LOT)
    changed = events.ProcessLimitChanged(product=PRODUCT, tag="Temp", limit_after=2.5, capa="c1")
    approved = events.CapaApproved(capa="c1", actor="qa")
    database = caught_up("capa", "c1", proposed, approved, changed)
    ((_, doc),) = database.of(LIMITS).items()
    held = LIMITS.from_doc(doc).state
    assert held == Limits(PRODUCT, (Changed("Temp", 2.5, "2026-03-01T12:00:00.000000+00:00", "c1"),))
