"""Read your writes: an answer waits until the places it was given are folded."""

from __future__ import annotations

import asyncio

import pytest

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as production
from services.kit.bus.protocol import Partition, Position
from services.kit.errors import Invalid, Retryable
from services.kit.facts import vector
from services.kit.positions import Positions
from services.kit.runners.notes import MARKS, Mark
from tests.unit.kit.support import LOT_TOPIC, Bench, lot_event, note_lot

A, B = "m/item/G/a", "m/item/G/b"
EVENTS = {production.LotStarted: note_lot}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.kit.positions._WAIT_SECONDS", 0.1)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def positions(bench: Bench, *runners: str) -> Positions:
    return Positions(bench.waiting, {runner: (LOT_TOPIC,) for runner in runners or ("rnd.test",)})


async def test_what_is_folded_is_reached_at_once(bench: Bench) -> None:
    stands = bench.send(lot_event(A, 1), lot_event(B, 1))
    bench.turner(EVENTS).turn()
    await positions(bench).reached(vector(stands))
    await positions(bench).reached(common.PositionVector())


async def test_it_waits_for_what_is_not_folded_yet(bench: Bench) -> None:
    turner = bench.turner(EVENTS)
    (at,) = bench.send(lot_event(A, 1))
    waiting = asyncio.ensure_future(positions(bench).reached(vector([at])))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    turner.turn()
    await waiting


async def test_the_last_offset_must_be_folded_and_not_only_reached(bench: Bench) -> None:
    (first,) = bench.send(lot_event(A, 1))
    bench.turner(EVENTS).turn()
    after = Position(first.topic, first.partition, first.offset + 1)
    with pytest.raises(Retryable):
        await positions(bench).reached(vector([after]))


async def test_a_topic_that_nobody_folds_is_refused_by_name(bench: Bench) -> None:
    with pytest.raises(Invalid) as caught:
        await positions(bench).reached(vector([Position("pharmaloop.rnd.insight.v1", 0, 0)]))
    assert (caught.value.reason, caught.value.field) == ("WRONG_TOPIC", "min_position")
    assert LOT_TOPIC in caught.value.description, "it says what it does fold"


async def test_every_runner_of_the_topic_must_have_folded_it(bench: Bench) -> None:
    (at,) = bench.send(lot_event(A, 1))
    bench.turner(EVENTS, name="test").turn()
    both = positions(bench, "rnd.test", "rnd.other")
    with pytest.raises(Retryable, match="ask again"):
        await both.reached(vector([at]))
    bench.turner(EVENTS, name="other").turn()
    await both.reached(vector([at]))


async def test_one_place_that_is_not_reached_is_enough_to_wait(bench: Bench) -> None:
    stands = bench.send(lot_event(A, 1))
    bench.turner(EVENTS).turn()
    with pytest.raises(Retryable):
        await positions(bench).reached(vector([*stands, Position(LOT_TOPIC, 5, 0)]))


async def test_positions_are_those_of_the_making_that_queries_read(bench: Bench) -> None:
    for generation, at in ((2, 5), (1, 90)):
        mark = Mark("rnd.test", generation, LOT_TOPIC, 0, at)
        bench.database.docs[MARKS.name][f"rnd.test|{generation}|{LOT_TOPIC}|0"] = MARKS.to_doc("m", 1, mark)
    assert await positions(bench).of("rnd.test") == {Partition(LOT_TOPIC, 0): 90}
    swapped = Positions(bench.waiting, {"rnd.test": (LOT_TOPIC,)}, lambda runner: 2)
    assert await swapped.of("rnd.test") == {Partition(LOT_TOPIC, 0): 5}
    assert await swapped.all() == {"rnd.test": {Partition(LOT_TOPIC, 0): 5}}
    assert await positions(bench).of("rnd.unknown") == {}


def test_a_vector_names_each_partition_once_with_its_highest_offset() -> None:
    stands = [Position("b", 0, 5), Position("a", 1, 3), Position("b", 0, 9), Position("b", 0, 7)]
    found = [(p.topic, p.partition, p.offset) for p in vector(stands).positions]
    assert found == [("a", 1, 3), ("b", 0, 9)]
