"""What watches of all services say: changes by type, and records as they stand."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.common.v1 import changes_pb2 as api
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as production
from services.kit.bus.memory import MemoryBus
from services.kit.bus.protocol import Record
from services.kit.contracts import contract
from services.kit.errors import Invalid
from services.kit.positions import Positions
from services.kit.rpc.changes import ChangesServicer, as_they_stand
from services.kit.store.memory import AsyncMemoryStore, MemoryDatabase
from services.kit.watching import Batch, Watching
from tests.unit.kit.support import LOT_TOPIC, NOON, Bench, lot_event

HELD = "pharmaloop.production.v1.LotHeld"
STARTED = "pharmaloop.production.v1.LotStarted"
A, B = "m/item/G/a", "m/item/G/b"


@pytest.fixture
async def watching() -> AsyncIterator[Watching]:
    positions = Positions(AsyncMemoryStore(MemoryDatabase()), {})
    made = Watching(MemoryBus(1), positions, contract(), "production")
    yield made
    made.close()
    await made.leave()


async def test_a_change_says_which_record_and_what_happened(watching: Watching) -> None:
    bench = Bench(bus=watching._bus)  # type: ignore[arg-type]
    held = lot_event(A, 2, production.LotHeld(lot=A, reason="secret"), case="case-1", run="run-1")
    app: Any = SimpleNamespace(watching=watching, site="")
    request = api.WatchChangesRequest(types=[HELD])
    answers: Any = ChangesServicer(app).WatchChanges(request, None)
    assert not (await anext(answers)).changes
    bench.send(lot_event(A, 1), held)
    answer = await anext(answers)
    (change,) = answer.changes
    assert (change.type, change.id, change.event) == (HELD, A, held.id)
    assert (change.case, change.run, change.site) == ("case-1", "run-1", "")
    assert change.at.ToDatetime(tzinfo=NOON.tzinfo) == NOON
    assert b"secret" not in answer.SerializeToString(), "it says that something changed, not what it is now"
    await answers.aclose()
    app.site = "hospital-a"
    again: Any = ChangesServicer(app).WatchChanges(api.WatchChangesRequest(after=answer.position), None)
    bench.send_raw("x", b"\xff", (("ce_type", HELD.encode()),), LOT_TOPIC)
    bench.send_raw("x", b"\xff", (), LOT_TOPIC)
    bench.send(lot_event(B, 1, case="root lot"))
    await anext(again)
    told: list[api.Change] = []
    while not told:
        told += (await anext(again)).changes
    assert [(one.type, one.id) for one in told] == [(STARTED, B)], "what cannot be read is passed over"
    assert not told[0].case, "a site's answers name no root lot"
    await again.aclose()
    with pytest.raises(Invalid, match="UNKNOWN_TYPE"):
        await anext(ChangesServicer(app).WatchChanges(api.WatchChangesRequest(types=["no.Such"]), None))


@pytest.mark.parametrize(
    ("message", "site", "told"),
    [
        (clinical.ExposureReceived(run="r", site="hospital-b"), "hospital-a", "hospital-b"),
        (clinical.MonitoringPlansOpened(run="r"), "hospital-a", "hospital-a"),
        (production.LotHeld(lot=A), "", ""),
    ],
    ids=["named", "of a topic of its own", "of none"],
)
def test_a_change_says_the_site_that_it_is_of(message: Message, site: str, told: str) -> None:
    change = ChangesServicer(SimpleNamespace(site=site))._change(lot_event(A, 1, message))  # type: ignore[arg-type]
    assert change.site == told


def position(offset: int) -> common.PositionVector:
    return common.PositionVector(positions=[common.LogPosition(topic=LOT_TOPIC, offset=offset)])


async def batches(*keys: str) -> AsyncGenerator[Batch]:
    """An empty batch, and one for each group of keys."""
    yield Batch([], position(-1), 0)
    for n, group in enumerate(keys):
        records = [Record(LOT_TOPIC, 0, n, key.encode(), b"", (), 0) for key in group]
        yield Batch(records, position(n), n)


async def test_what_changed_often_at_once_is_told_once_as_it_stands() -> None:
    looked: list[str] = []

    async def look_up(key: str) -> str | None:
        looked.append(key)
        return None if key == "x" else f"{key}{len(looked)}"

    async def first() -> AsyncIterator[str]:
        for stands in ("a0", "b0"):
            yield stands

    told = [each async for each in as_they_stand(batches("aaaab", "x", "ba"), first, look_up)]
    items = [(item, where.positions[0].offset if where else None) for item, where, _ in told]
    assert items == [
        ("a0", None),
        ("b0", None),
        (None, -1),  # and now all that stood is told
        ("a1", None),
        ("b2", 0),
        (None, 1),
        ("b4", None),
        ("a5", 2),
    ]
    after = [each async for each in as_they_stand(batches("a"), None, look_up)]
    assert [item for item, _, _ in after] == [None, "a6"], "who goes on is not told what stood"
