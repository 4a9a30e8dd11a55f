"""The relay: every committed event goes out, in order, and those who wait hear where it stands."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Future

import pytest

from services.kit.bus.memory import MemoryProducer
from services.kit.bus.protocol import Outgoing, Position
from services.kit.errors import Retryable
from services.kit.metrics import OUTBOX_WAITING
from services.kit.relay import LEASES, Relay, take_lease
from services.kit.store.kinds import OutboxRow, Plan
from services.kit.store.memory import AsyncMemoryStore
from services.kit.work import moment_text
from tests.unit.kit.support import Bench, Crash, eventually, running

TOPIC = "t"


@pytest.fixture
def bench() -> Bench:
    return Bench()


def commit(bench: Bench, *rows: tuple[str, str, int]) -> None:
    """Rows of the outbox: (id, aggregate, version)."""
    plan = Plan((), tuple(OutboxRow(id, agg, seq, TOPIC, b"k", id.encode(), ()) for id, agg, seq in rows))
    bench.store.transact(lambda txn: txn.write(plan))


def published(bench: Bench) -> list[str]:
    return [(record.value or b"").decode() for record in bench.bus.all(TOPIC)]


class Faulty(MemoryProducer):
    """Takes some records, then fails."""

    def __init__(self, bench: Bench, takes: int) -> None:
        super().__init__(bench.bus)
        self._takes = takes

    def publish(self, records: Sequence[Outgoing]) -> Future[list[Position]]:
        super().publish(records[: self._takes])
        future: Future[list[Position]] = Future()
        future.set_exception(Retryable("Kafka did not take every record"))
        return future


def relay_with(bench: Bench, producer: MemoryProducer, store: AsyncMemoryStore | None = None) -> Relay:
    return Relay(store or bench.waiting, producer, bench.clock, bench.metrics, "one")


async def test_events_go_out_in_order_of_aggregate_and_version(bench: Bench) -> None:
    commit(bench, ("b2", "lot/b", 2), ("a10", "lot/a", 10))
    commit(bench, ("b1", "lot/b", 1), ("a9", "lot/a", 9))
    await bench.relay().publish_once()
    assert published(bench) == ["a9", "a10", "b1", "b2"]
    await bench.relay().publish_once()
    assert len(published(bench)) == 4, "what was published does not go out again"


async def test_a_record_carries_what_was_committed(bench: Bench) -> None:
    row = OutboxRow("e", "lot/a", 1, TOPIC, b"key", b"\x00\xff", (("ce_id", b"e"), ("x", b"\xff")))
    bench.store.transact(lambda txn: txn.write(Plan((), (row,))))
    await bench.relay().publish_once()
    (record,) = bench.bus.all(TOPIC)
    assert (record.key, record.value, record.headers) == (row.key, row.value, row.headers)


async def test_what_kafka_took_only_in_part_goes_out_again_whole(bench: Bench) -> None:
    commit(bench, ("a1", "a", 1), ("a2", "a", 2), ("a3", "a", 3))
    with pytest.raises(Retryable):
        await relay_with(bench, Faulty(bench, takes=2)).publish_once()
    assert await bench.waiting.outbox_waiting() == 3
    await bench.relay().publish_once()
    assert published(bench) == ["a1", "a2", "a1", "a2", "a3"]


async def test_a_crash_before_the_mark_repeats_and_loses_nothing(bench: Bench) -> None:
    class Crashing(AsyncMemoryStore):
        async def mark_published(self, positions: Mapping[str, Position]) -> None:
            raise Crash

    commit(bench, ("a1", "a", 1), ("a2", "a", 2))
    with pytest.raises(Crash):
        await relay_with(bench, MemoryProducer(bench.bus), Crashing(bench.database)).publish_once()
    await bench.relay("two").publish_once()
    assert published(bench) == ["a1", "a2", "a1", "a2"]
    assert await bench.waiting.outbox_waiting() == 0


async def test_it_is_woken_by_a_commit_and_polls_beside(bench: Bench) -> None:
    relay = bench.relay()
    async with running(relay.run()):
        commit(bench, ("a1", "a", 1))
        relay.wake()
        await eventually(lambda: published(bench) == ["a1"], 0.3)  # sooner than the poll
        commit(bench, ("a2", "a", 2))  # another process committed it: nobody wakes this relay
        await eventually(lambda: published(bench) == ["a1", "a2"])


async def test_a_wake_may_come_from_any_thread(bench: Bench) -> None:
    relay = bench.relay()
    async with running(relay.run()):
        await asyncio.to_thread(commit, bench, ("a1", "a", 1))
        await asyncio.to_thread(relay.wake)
        await eventually(lambda: published(bench) == ["a1"], 0.3)


async def test_a_backbone_that_is_away_is_tried_again(bench: Bench) -> None:
    producer = Faulty(bench, takes=0)
    commit(bench, ("a1", "a", 1))
    async with running(relay_with(bench, producer).run()):
        value = bench.metrics.registry.get_sample_value
        await eventually(lambda: value(OUTBOX_WAITING.name, {"service": "rnd"}) == 1)
        producer.publish = MemoryProducer(bench.bus).publish  # type: ignore[method-assign]
        await eventually(lambda: published(bench) == ["a1"])


# -- the lease --------------------------------------------------------------


async def test_one_relay_of_a_service_works_at_a_time(bench: Bench) -> None:
    assert await take_lease(bench.waiting, "relay", "one", bench.clock)
    assert not await take_lease(bench.waiting, "relay", "two", bench.clock)
    bench.clock.advance(9)
    assert await take_lease(bench.waiting, "relay", "one", bench.clock), "its holder renews it"
    bench.clock.advance(9)
    assert not await take_lease(bench.waiting, "relay", "two", bench.clock)
    bench.clock.advance(2)
    assert await take_lease(bench.waiting, "relay", "two", bench.clock), "a dead relay's lease runs out"
    assert not await take_lease(bench.waiting, "relay", "one", bench.clock), "and it is fenced"
    assert await take_lease(bench.waiting, "another", "one", bench.clock)


async def test_of_two_that_ask_at_once_one_gets_it(bench: Bench) -> None:
    took = await asyncio.gather(*(take_lease(bench.waiting, "relay", str(n), bench.clock) for n in range(5)))
    assert sum(took) == 1


async def test_the_one_without_the_lease_publishes_nothing(bench: Bench) -> None:
    await take_lease(bench.waiting, "relay", "somebody else", bench.clock)
    commit(bench, ("a1", "a", 1))
    relay = bench.relay("one")
    async with running(relay.run()):
        relay.wake()
        await asyncio.sleep(0.05)
        assert published(bench) == []
        bench.clock.advance(11)
        await eventually(lambda: "a1" in bench.database.published)
    # That one is stopped: what it held is free at once, and its successor need not wait.
    commit(bench, ("a2", "a", 2))
    async with running(bench.relay("successor").run()):
        await eventually(lambda: published(bench) == ["a1", "a2"], 0.3)


async def test_a_stopped_relay_leaves_the_lease_of_another_alone(bench: Bench) -> None:
    async with running(bench.relay("one").run()):
        await eventually(lambda: "relay" in bench.states(LEASES))
        bench.clock.advance(11)
        assert await take_lease(bench.waiting, "relay", "two", bench.clock)
    held = bench.states(LEASES)["relay"]
    assert held.holder == "two"
    assert held.until > moment_text(bench.clock.wall())


# -- positions --------------------------------------------------------------


async def test_who_waits_hears_where_the_events_stand(bench: Bench) -> None:
    commit(bench, ("a1", "a", 1), ("a2", "a", 2))
    relay = bench.relay()
    waiting = asyncio.ensure_future(relay.positions(["a2", "a1"], 5))
    await asyncio.sleep(0)
    await relay.publish_once()
    stands = await waiting
    assert list(stands) == ["a2", "a1"], "in the order asked"
    assert [bench.bus.records[(at.topic, at.partition)][at.offset].value for at in stands.values()] == [  # type: ignore[index]
        b"a2",
        b"a1",
    ]


async def test_who_waits_for_nothing_waits_not_at_all(bench: Bench) -> None:
    assert await asyncio.wait_for(bench.relay().positions([], 5), 0.2) == {}


async def test_what_is_not_published_in_time_is_left_out(bench: Bench) -> None:
    commit(bench, ("a1", "a", 1), ("b1", "b", 1))
    relay = bench.relay()
    await relay.publish_once()
    commit(bench, ("c1", "c", 1))
    assert list(await relay.positions(["a1", "c1"], 0.05)) == ["a1"]


async def test_positions_are_known_when_another_process_publishes(bench: Bench) -> None:
    # This process serves the API, another one runs the relay: an answer must not wait its full second.
    commit(bench, ("a1", "a", 1))
    waiting = asyncio.ensure_future(bench.relay("api").positions(["a1"], 5))
    await asyncio.sleep(0.01)
    await bench.relay("relay").publish_once()
    assert list(await asyncio.wait_for(waiting, 0.5)) == ["a1"]


async def test_positions_outlive_the_process_that_published(bench: Bench) -> None:
    commit(bench, ("a1", "a", 1))
    await bench.relay().publish_once()
    assert list(await asyncio.wait_for(bench.relay("next").positions(["a1"], 5), 0.5)) == ["a1"]
