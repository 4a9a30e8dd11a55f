"""Subscriptions: each goes on exactly after its place, and none costs another anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

import pytest

from pharmaloop.common.v1 import types_pb2 as common
from services.kit.bus.memory import MemoryBus
from services.kit.bus.protocol import Outgoing, Partition, Record
from services.kit.contracts import contract
from services.kit.errors import Exhausted, Invalid, OutOfRange, PharmaLoopError, Retryable
from services.kit.positions import Positions
from services.kit.store.memory import AsyncMemoryStore, MemoryDatabase
from services.kit.watching import Batch, Limits, Watching
from tests.unit.kit.support import INSIGHT_TOPIC, LOT_TOPIC, Bench, eventually, lot_event, note_lot, started

HELD = "pharmaloop.production.v1.LotHeld"
SERVICE = {"service": "production"}
EMPTY = common.PositionVector()


class Log:
    """A log of lots and who watches it."""

    def __init__(self) -> None:
        self.bus = MemoryBus(2)
        self.opened: list[Watching] = []

    def watching(self, *, limits: Limits | None = None, positions: Positions | None = None) -> Watching:
        known = positions or Positions(AsyncMemoryStore(MemoryDatabase()), {})
        self.opened.append(Watching(self.bus, known, contract(), "production", limits=limits))
        return self.opened[-1]

    def say(self, *numbers: int, size: int = 1) -> None:
        for n in numbers:
            self.bus.append(Outgoing(LOT_TOPIC, f"m/item/G/{n % 5}".encode(), b"%d" % n * size, ()))


@pytest.fixture
async def log() -> AsyncIterator[Log]:
    log = Log()
    yield log
    for watching in log.opened:
        watching.close()
        await watching.leave()


def follow(
    watching: Watching,
    after: common.PositionVector = EMPTY,
    *,
    from_start: bool = False,
    actor: str = "a",
    wanted: Callable[[Record], bool] = lambda record: True,
) -> AsyncGenerator[Batch]:
    return watching.follow([LOT_TOPIC], after, wanted, actor=actor, from_start=from_start)


def numbers(records: list[Record]) -> list[int]:
    return [int(record.value or b"") for record in records]


async def some(batches: AsyncGenerator[Batch], count: int) -> list[Record]:
    """So many records of a subscription, and whatever more came with the last of them."""
    found: list[Record] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            found += (await anext(batches)).records
    return found


async def refused(batches: AsyncGenerator[Batch], error: type[PharmaLoopError]) -> str:
    with pytest.raises(error) as caught:
        async with asyncio.timeout(10):
            await anext(batches)
    return str(caught.value)


def place(topic: str, partition: int, offset: int) -> common.PositionVector:
    given = common.LogPosition(topic=topic, partition=partition, offset=offset)
    return common.PositionVector(positions=[given])


async def test_it_tells_what_comes_from_now_on(log: Log) -> None:
    log.say(1, 2, 3)
    async with aclosing(follow(log.watching())) as batches:
        first = await anext(batches)
        assert (first.records, first.lag) == ([], 0), "the first answer says where the subscription begins"
        log.say(4, 5)
        assert sorted(numbers(await some(batches, 2))) == [4, 5]


async def test_from_the_start_it_tells_everything_and_then_what_comes(log: Log) -> None:
    log.say(*range(1200))
    async with aclosing(follow(log.watching(), from_start=True)) as batches:
        first = await anext(batches)
        assert first.lag == 1200
        assert {p.offset for p in first.position.positions} == {-1}, "before the first record"
        told = await some(batches, 1200)
        log.say(1200)
        told += await some(batches, 1)
    assert sorted(numbers(told)) == list(range(1201))
    for lot in range(5):
        mine = [n for n in numbers(told) if n % 5 == lot]
        assert mine == sorted(mine), "in order for each key"


async def test_every_position_gives_exactly_what_follows_it(log: Log) -> None:
    watching, elsewhere = log.watching(), log.watching()
    told: list[int] = []
    async with aclosing(follow(watching)) as batches:
        positions = [(await anext(batches)).position]
        for n in range(40):
            log.say(n)
            batch = await anext(batches)
            told += numbers(batch.records)
            positions.append(batch.position)
        assert told == list(range(40))
        for done, position in enumerate(positions[:-1]):
            for other in (watching, elsewhere):  # from its rings; from the log, for it has no rings yet
                async with aclosing(follow(other, position)) as again:
                    rest = numbers(await some(again, 40 - done))
                assert sorted(rest) == told[done:], f"after {done} records"


async def test_every_place_of_a_partition_gives_its_suffix(log: Log) -> None:
    log.say(*range(30))
    records = log.bus.records[Partition(LOT_TOPIC, 0)]
    watching = log.watching()
    for offset in range(-1, len(records) - 1):
        async with aclosing(follow(watching, place(LOT_TOPIC, 0, offset))) as batches:
            assert await some(batches, 1) == records[offset + 1 :]


async def test_a_partition_without_records_loses_nothing_over_a_break(log: Log) -> None:
    """Its position is named too: else what comes during the break would be "before now"."""
    watching = log.watching()
    async with aclosing(follow(watching)) as batches:
        position = (await anext(batches)).position
    log.say(*range(10))
    async with aclosing(follow(watching, position)) as batches:
        assert sorted(numbers(await some(batches, 10))) == list(range(10))


async def test_who_reads_slowly_loses_nothing_and_delays_nobody(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.kit.watching._RING_RECORDS", 8)
    watching = log.watching()
    async with aclosing(follow(watching)) as slow, aclosing(follow(watching)) as quick:
        await anext(slow)  # and now it does not read
        await anext(quick)
        heard: list[int] = []
        for n in range(0, 600, 4):
            log.say(n, n + 1, n + 2, n + 3)
            heard += numbers(await some(quick, 4))
        assert sorted(heard) == list(range(600))
        assert sum(len(ring._records) for ring in watching._rings.values()) <= 16, "nothing is kept for it"
        assert sorted(numbers(await some(slow, 600))) == list(range(600)), "it reads the log itself"
        log.say(600)
        assert numbers(await some(slow, 1)) == [600], "and then it is with the others again"


async def test_records_too_large_for_a_ring_are_read_from_the_log(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.kit.watching._RING_BYTES", 50)
    async with aclosing(follow(log.watching())) as batches:
        await anext(batches)
        log.say(7, size=100)
        log.say(8)
        assert len(await some(batches, 2)) == 2


async def test_a_batch_is_no_larger_than_a_client_takes(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.kit.watching._BATCH_BYTES", 100)
    log.say(*range(40), size=15)
    async with aclosing(follow(log.watching(), from_start=True)) as batches:
        told = 0
        while told < 40:
            records = (await anext(batches)).records
            assert sum(len(record.value or b"") for record in records) <= 100
            told += len(records)
        log.say(7, size=500)
        assert len(await some(batches, 1)) == 1, "one that is larger comes alone"


async def test_a_busy_partition_does_not_starve_another(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.kit.watching._BATCH", 1)
    async with aclosing(follow(log.watching())) as batches:
        await anext(batches)
        log.say(*range(10))
        await asyncio.sleep(0.05)
        told = [(await anext(batches)).records[0].partition for _ in range(4)]
    assert set(told) == {0, 1}


async def test_what_is_not_wanted_moves_the_position_and_is_not_told(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = log.watching()
    even = follow(watching, wanted=lambda record: int(record.value or b"") % 2 == 0)
    async with aclosing(even) as batches:
        begin = (await anext(batches)).position
        log.say(1, 3, 5)
        monkeypatch.setattr("services.kit.watching.HEARTBEAT_SECONDS", 0.05)
        log.say(6)
        batch = await anext(batches)
        assert numbers(batch.records) == [6]
        log.say(7)
        await asyncio.sleep(0.2)
        async with asyncio.timeout(5):
            while (batch := await anext(batches)).lag:
                assert batch.records == []
        assert sum(p.offset for p in batch.position.positions) == 5 - 2, "five records, offsets from 0"
        assert batch.position != begin


async def test_it_says_that_the_subscription_stands(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.kit.watching.HEARTBEAT_SECONDS", 0.02)
    async with aclosing(follow(log.watching())) as batches, asyncio.timeout(5):
        first = await anext(batches)
        assert [await anext(batches) for _ in range(3)] == [first] * 3


async def test_a_record_is_told_once_it_is_folded(log: Log) -> None:
    bench = Bench(service="production", bus=log.bus)
    turner = bench.turner({type(started("m/item/G/1")): note_lot})
    positions = Positions(bench.waiting, {turner.runner.name: (LOT_TOPIC,)})
    async with aclosing(follow(log.watching(positions=positions))) as batches:
        await anext(batches)
        bench.send(lot_event("m/item/G/1", 1), lot_event("m/item/G/2", 1))
        telling = asyncio.ensure_future(some(batches, 2))
        await asyncio.sleep(0.15)
        assert not telling.done(), "its query would not show it"
        turner.settle()
        assert len(await telling) == 2


async def test_what_no_query_shows_yet_is_still_to_come(log: Log) -> None:
    """Who asks for a list and then watches would miss what was in the log and not in the list."""
    bench = Bench(service="production", bus=log.bus)
    turner = bench.turner({type(started("m/item/G/1")): note_lot})
    positions = Positions(bench.waiting, {turner.runner.name: (LOT_TOPIC,)})
    bench.send(lot_event("m/item/G/1", 1), lot_event("m/item/G/1", 2))
    turner.settle()
    bench.send(lot_event("m/item/G/1", 3))
    async with aclosing(follow(log.watching(positions=positions))) as batches:
        assert (await anext(batches)).lag == 1
        turner.settle()
        assert [record.offset for record in await some(batches, 1)] == [2]


async def test_now_is_not_before_what_is_kept(log: Log) -> None:
    log.say(*range(10))
    (at, kept), *_ = log.bus.log().ends([LOT_TOPIC]).items()
    log.bus.kept[at] = kept  # all of it is removed, and a runner that never saw it has no mark
    positions = Positions(AsyncMemoryStore(MemoryDatabase()), {"production.new": (LOT_TOPIC,)})
    async with aclosing(follow(log.watching(positions=positions))) as batches:
        first = await anext(batches)
    assert {p.partition: p.offset for p in first.position.positions}[at.number] == kept - 1


async def test_a_place_that_cannot_be_is_named(log: Log) -> None:
    log.say(1, 2, 3)
    watching = log.watching()
    other = await refused(follow(watching, place(INSIGHT_TOPIC, 0, 0)), Invalid)
    assert "UNKNOWN_TOPIC" in other
    assert INSIGHT_TOPIC in other
    assert LOT_TOPIC in other
    number = await refused(follow(watching, place(LOT_TOPIC, 7, 0)), Invalid)
    assert "no partition 7; it has 2" in number
    assert "NO_OFFSET" in await refused(follow(watching, place(LOT_TOPIC, 0, -2)), Invalid)
    beyond = await refused(follow(watching, place(LOT_TOPIC, 0, 99)), OutOfRange)
    assert "BEYOND_END" in beyond
    assert "begin anew" in beyond
    assert watching.subscriptions == 0


async def test_what_retention_removed_is_told_and_not_passed_over(log: Log) -> None:
    log.say(*range(30))
    log.bus.kept[Partition(LOT_TOPIC, 0)] = 5
    watching = log.watching()
    gone = await refused(follow(watching, place(LOT_TOPIC, 0, 3)), OutOfRange)
    assert "NOT_KEPT" in gone
    assert "begins at 5" in gone
    assert "begin anew" in gone
    async with aclosing(follow(watching, place(LOT_TOPIC, 0, 4))) as batches:
        assert (await some(batches, 1))[0].offset == 5, "the next one is there"


async def test_retention_may_overtake_a_slow_reader(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.kit.watching._RING_RECORDS", 2)
    async with aclosing(follow(log.watching())) as slow:
        await anext(slow)
        log.say(*range(40))
        await asyncio.sleep(0.3)
        log.bus.kept[Partition(LOT_TOPIC, 0)] = log.bus.kept[Partition(LOT_TOPIC, 1)] = 5
        assert "NOT_KEPT" in await refused(slow, OutOfRange)


async def test_one_subscription_too_many_is_refused_with_the_limit(log: Log) -> None:
    watching = log.watching(limits=Limits(process=3, actor=2))
    standing = [follow(watching, actor=actor) for actor in ("a", "a", "b")]
    for one in standing:
        await anext(one)
    assert watching._metrics.registry.get_sample_value("pharmaloop_subscriptions", SERVICE) == 3
    many = await refused(follow(watching, actor="a"), Exhausted)
    assert "TOO_MANY_OF_ACTOR" in many
    assert "has 2 subscriptions" in many
    assert "end one" in many
    full = await refused(follow(watching, actor="c"), Exhausted)
    assert "this process has 3 subscriptions" in full
    assert "try again later" in full
    await standing[0].aclose()
    async with aclosing(follow(watching, actor="c")) as free:
        assert (await anext(free)).records == []
    for one in standing:
        await one.aclose()
    assert watching.subscriptions == 0


async def test_the_log_is_followed_while_somebody_watches(log: Log) -> None:
    watching = log.watching()
    assert not watching._tasks
    one, other = follow(watching), follow(watching)
    await anext(one)
    await anext(other)
    assert set(watching._tasks) == {"tail", "folds"}
    await one.aclose()
    log.say(1)
    assert numbers(await some(other, 1)) == [1]
    await other.aclose()
    await eventually(lambda: not watching._tasks)
    assert not watching._rings
    async with aclosing(follow(watching)) as again:
        await anext(again)
        log.say(2)
        assert numbers(await some(again, 1)) == [2]


async def test_a_stop_ends_every_subscription_so_that_it_goes_on_elsewhere(log: Log) -> None:
    watching = log.watching()
    batches = follow(watching)
    position = (await anext(batches)).position
    waiting = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0.02)
    watching.close()
    with pytest.raises(Retryable, match="go on after your last position"):
        await waiting
    assert "stops" in await refused(follow(watching), Retryable)
    log.say(1)
    async with aclosing(follow(log.watching(), position)) as batches:
        assert numbers(await some(batches, 1)) == [1]


async def test_a_log_that_fails_for_a_while_loses_nothing(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.kit.watching._AGAIN_SECONDS", 0.01)
    consumer = type(log.bus.reader({}))
    takes, take = [0], consumer.take

    def fails(self: object, limit: int, timeout: float) -> list[Record]:
        takes[0] += 1
        if takes[0] % 2:
            raise Retryable("no broker answers")
        return take(self, limit, 0.01)  # type: ignore[arg-type]

    monkeypatch.setattr(consumer, "take", fails)
    log.say(*range(20))
    async with aclosing(follow(log.watching(), from_start=True)) as batches:
        told = numbers(await some(batches, 20))
        for n in range(20, 30):
            log.say(n)
            told += numbers(await some(batches, 1))
    assert sorted(told) == list(range(30))


async def test_a_service_tells_of_its_own_topics_at_its_own_site(log: Log) -> None:
    positions = Positions(AsyncMemoryStore(MemoryDatabase()), {})

    def told(service: str, site: str = "") -> set[str]:
        return set(Watching(log.bus, positions, contract(), service, site).topics())

    assert LOT_TOPIC in told("production")
    assert told("traceability") & told("production") == set()
    clinical = told("clinical", "hospital-b")
    assert "pharmaloop.clinical.hospital-b.record.v1" in clinical
    assert not any("hospital-a" in topic or "{site}" in topic for topic in clinical)
    assert not any("{site}" in topic or topic == ".exposure.v1" for topic in told("traceability"))
    assert "pharmaloop.loops.case.v1" not in told("loops"), "copies are told by whom they are of"
    watching = log.watching()
    assert watching.topics([HELD]) == (LOT_TOPIC,)
    with pytest.raises(Invalid, match="AlertRaised") as caught:
        watching.topics([HELD, "pharmaloop.alerting.v1.AlertRaised"])
    assert (caught.value.reason, caught.value.field) == ("UNKNOWN_TYPE", "types[1]")
