"""The relay: every committed event goes out, in order, and those who wait hear where it stands."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from datetime import timedelta

import pytest

from services.kit import lease, relay
from services.kit.bus.memory import MemoryProducer
from services.kit.bus.protocol import Failure, Outcome, Outgoing, Position
from services.kit.clock import wall_now
from services.kit.errors import Retryable
from services.kit.lease import LEASES, FencedLease, LeaseLost
from services.kit.metrics import EVENTS, OUTBOX_AGE, OUTBOX_BLOCKED, OUTBOX_WAITING, Metric
from services.kit.relay import Relay
from services.kit.store.kinds import OutboxRow, Plan
from services.kit.store.memory import AsyncMemoryStore
from services.kit.work import moment_text
from tests.unit.kit.support import Bench, Crash, eventually, running

TOPIC = "t"


@pytest.fixture
def bench() -> Bench:
    return Bench()


def commit(bench: Bench, *rows: tuple[str, str, int], topic: str = TOPIC) -> None:
    """Rows of the outbox: (id, aggregate, version)."""
    plan = Plan(
        (), tuple(OutboxRow(id, agg, seq, topic, agg.encode(), id.encode(), ()) for id, agg, seq in rows)
    )
    bench.store.transact(lambda txn: txn.write(plan))


def published(bench: Bench, topic: str = TOPIC) -> list[str]:
    return [(record.value or b"").decode() for record in bench.bus.all(topic)]


def of(bench: Bench, aggregate: str) -> list[str]:
    """What went out of one aggregate, in its order."""
    return [value for value in published(bench) if value.startswith(aggregate)]


def measured(bench: Bench, metric: Metric) -> float:
    return bench.metrics.registry.get_sample_value(metric.name, {"service": "rnd"}) or 0.0


class Away(MemoryProducer):
    """A log that does not answer until `back`; it takes nothing meanwhile."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.bus)
        self.asked = asyncio.Event()
        self._waiting: list[tuple[Sequence[Outgoing], Future[list[Outcome]]]] = []
        self._here = False

    def offer(self, records: Sequence[Outgoing]) -> Future[list[Outcome]]:
        if self._here:
            return super().offer(records)
        future: Future[list[Outcome]] = Future()
        self._waiting.append((records, future))
        self.asked.set()
        return future

    def abandon(self) -> None:
        self._waiting = []

    def back(self) -> None:
        self._here, waiting, self._waiting = True, self._waiting, []
        for records, future in waiting:
            future.set_result(super().offer(records).result())


def relay_with(
    bench: Bench, producer: MemoryProducer, store: AsyncMemoryStore | None = None, holder: str = "one"
) -> Relay:
    return Relay(store or bench.waiting, producer, bench.clock, bench.metrics, holder)


async def test_events_go_out_in_order_of_aggregate_and_version(bench: Bench) -> None:
    commit(bench, ("b2", "b", 2), ("a10", "a", 10))
    commit(bench, ("b1", "b", 1), ("a9", "a", 9))
    one = bench.relay()
    await one.publish_once()
    assert of(bench, "a") == ["a9", "a10"]
    assert of(bench, "b") == ["b1", "b2"]
    await one.publish_once()
    assert len(published(bench)) == 4, "what was published does not go out again"


async def test_a_record_carries_what_was_committed(bench: Bench) -> None:
    row = OutboxRow("e", "lot/a", 1, TOPIC, b"key", b"\x00\xff", (("ce_id", b"e"), ("x", b"\xff")))
    bench.store.transact(lambda txn: txn.write(Plan((), (row,))))
    await bench.relay().publish_once()
    (record,) = bench.bus.all(TOPIC)
    assert (record.key, record.value, record.headers) == (row.key, row.value, row.headers)


async def test_what_went_out_is_counted_by_type_and_dead_letters_are_not(bench: Bench) -> None:
    """A dead letter's headers are whatever somebody sent: no label is made of them."""
    names = (b"pharmaloop.x.v1.Said", b"pharmaloop.x.v1.Said", b"pharmaloop.x.v1.Other")
    rows = [OutboxRow(f"e{n}", f"a{n}", 1, TOPIC, b"k", b"v", (("ce_type", t),)) for n, t in enumerate(names)]
    rows.append(OutboxRow("dead", "d", 1, f"{TOPIC}.dlq", b"k", b"v", (("ce_type", b"Mrs. Miller"),)))
    bench.store.transact(lambda txn: txn.write(Plan((), tuple(rows))))
    await bench.relay().publish_once()
    counted = {
        sample.labels["type"]: sample.value
        for family in bench.metrics.registry.collect()
        for sample in family.samples
        if sample.name == EVENTS.name
    }
    assert counted == {"x.Said": 2, "x.Other": 1}


async def test_a_crash_before_the_mark_repeats_and_loses_nothing(bench: Bench) -> None:
    class Crashing(AsyncMemoryStore):
        async def mark_published(self, positions: Mapping[str, Position]) -> None:
            raise Crash

    commit(bench, ("a1", "a", 1), ("a2", "a", 2))
    with pytest.raises(Crash):
        await relay_with(bench, MemoryProducer(bench.bus), Crashing(bench.database)).publish_once()
    bench.clock.advance(11)  # the dead relay's lease runs out
    await bench.relay("two").publish_once()
    assert published(bench) == ["a1", "a2", "a1", "a2"]
    assert await bench.waiting.outbox_waiting() == 0


async def test_it_is_woken_by_a_commit_and_polls_beside(bench: Bench) -> None:
    relay = bench.relay()
    async with running(relay.run()):
        commit(bench, ("a1", "a", 1))
        relay.wake()
        await eventually(lambda: published(bench) == ["a1"], 0.4)  # sooner than the poll
        commit(bench, ("a2", "a", 2))  # another process committed it: nobody wakes this relay
        await eventually(lambda: published(bench) == ["a1", "a2"])


async def test_a_wake_may_come_from_any_thread(bench: Bench) -> None:
    relay = bench.relay()
    async with running(relay.run()):
        await asyncio.to_thread(commit, bench, ("a1", "a", 1))
        await asyncio.to_thread(relay.wake)
        await eventually(lambda: published(bench) == ["a1"], 0.4)


async def test_a_database_that_is_away_is_tried_again(bench: Bench) -> None:
    calls: list[int] = []

    class Down(AsyncMemoryStore):
        async def unpublished(self, limit: int, after: str = "") -> list[OutboxRow]:
            calls.append(1)
            if len(calls) == 1:
                raise Retryable("no primary")
            return await super().unpublished(limit, after)

    commit(bench, ("a1", "a", 1))
    async with running(relay_with(bench, MemoryProducer(bench.bus), Down(bench.database)).run()):
        await eventually(lambda: published(bench) == ["a1"])


# -- what the log refuses ---------------------------------------------------


def refusing(bench: Bench, *values: str, about: str = "record") -> list[str]:
    """The log refuses these events until they are taken off the list."""
    bad = list(values)

    def refuse(record: Outgoing) -> Failure | None:
        hit = (record.value or b"").decode() in bad or record.topic in bad
        return Failure(about, "no such thing") if hit else None  # type: ignore[arg-type]

    bench.bus.refuse = refuse
    return bad


async def turns(relay: Relay, monkeypatch: pytest.MonkeyPatch, count: int = 6) -> None:
    """Publish until nothing moves, and let refused events have their next try at once."""
    monkeypatch.setattr("services.kit.blocked._FIRST_SECONDS", 0.0)
    for _ in range(count):
        await relay.publish_once()


async def test_a_refused_event_holds_back_its_aggregate_and_nobody_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Receivers drop what is not newer: a3 in the log before a2 would lose a2 for ever.
    bad = refusing(bench, "a2")
    commit(bench, *((f"{agg}{n}", agg, n) for agg in "abc" for n in (1, 2, 3)))
    relay = bench.relay()
    await turns(relay, monkeypatch)
    assert of(bench, "a") == ["a1"]
    assert of(bench, "b") == ["b1", "b2", "b3"]
    assert of(bench, "c") == ["c1", "c2", "c3"]
    assert sorted(bench.database.published) == ["a1", "b1", "b2", "b3", "c1", "c2", "c3"]
    assert measured(bench, OUTBOX_BLOCKED) == 1
    commit(bench, ("a4", "a", 4), ("b4", "b", 4))
    await turns(relay, monkeypatch)
    assert of(bench, "a") == ["a1"]
    assert of(bench, "b")[-1] == "b4"
    bad.clear()  # somebody mended the topic
    await turns(relay, monkeypatch)
    assert of(bench, "a") == ["a1", "a2", "a3", "a4"], "it goes on by itself"
    assert measured(bench, OUTBOX_BLOCKED) == 0


async def test_what_was_refused_in_bad_company_goes_out_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Batching(MemoryProducer):
        """Refuses a whole batch for one bad record in it, as a broker does."""

        def offer(self, records: Sequence[Outgoing]) -> Future[list[Outcome]]:
            if any(record.value == b"b1" for record in records):
                future: Future[list[Outcome]] = Future()
                future.set_result([Failure("record", "too large")] * len(records))
                return future
            return super().offer(records)

    commit(bench, *((f"{agg}1", agg, 1) for agg in "abcd"), ("b2", "b", 2))
    relay = relay_with(bench, Batching(bench.bus))
    await turns(relay, monkeypatch, 8)
    assert sorted(published(bench)) == ["a1", "c1", "d1"]
    assert measured(bench, OUTBOX_BLOCKED) == 1


async def test_a_topic_that_refuses_is_left_in_peace_and_the_others_go_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = refusing(bench, "gone", about="topic")
    offers: list[int] = []

    class Counting(MemoryProducer):
        def offer(self, records: Sequence[Outgoing]) -> Future[list[Outcome]]:
            offers.append(sum(record.topic == "gone" for record in records))
            return super().offer(records)

    commit(bench, *((f"x{n}", f"x{n}", 1) for n in range(30)), topic="gone")
    relay = relay_with(bench, Counting(bench.bus))
    for _ in range(5):
        commit(bench, *((f"ok{n}", f"ok{n}", 1) for n in range(3)))
        await relay.publish_once()
    assert sorted(published(bench)) == ["ok0", "ok1", "ok2"]
    assert sum(offers[1:]) <= 5, "every event of the topic was tried again and again"
    bad.clear()
    monkeypatch.setattr("services.kit.blocked._LONGEST_SECONDS", 0.0)
    async with running(relay.run()):
        await eventually(lambda: len(published(bench, "gone")) == 30)


async def test_a_refused_event_is_tried_less_and_less_often(bench: Bench) -> None:
    refusing(bench, "a1")
    commit(bench, ("a1", "a", 1))
    tries: list[int] = []

    class Counting(MemoryProducer):
        def offer(self, records: Sequence[Outgoing]) -> Future[list[Outcome]]:
            tries.append(len(records))
            return super().offer(records)

    relay = relay_with(bench, Counting(bench.bus))
    for _ in range(50):
        await relay.publish_once()
    assert tries == [1], "not before its time"


async def test_no_aggregate_starves_behind_others(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "_BATCH", 5)
    one, rounds = bench.relay(), 0
    commit(bench, *((f"a{n:03}", "a", n) for n in range(12)), ("z1", "z", 1))
    while "z1" not in published(bench) and rounds < 20:
        # The first aggregate grows as fast as it is published.
        commit(bench, *((f"a{n:03}", "a", n) for n in range(12 + 5 * rounds, 17 + 5 * rounds)))
        await one.publish_once()
        rounds += 1
    assert "z1" in published(bench), "it waits for ever"
    while await one.publish_once():
        pass
    assert of(bench, "a") == sorted(bench.database.outbox)[:-1]
    assert await bench.waiting.outbox_waiting() == 0


async def test_what_is_refused_does_not_hide_what_stands_behind_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_BATCH", 5)
    refusing(bench, *(f"a{n}" for n in range(9)))
    commit(bench, *((f"a{n}", f"a{n}", 1) for n in range(9)), ("z1", "z", 1))
    one = bench.relay()
    for _ in range(6):
        await one.publish_once()
    assert published(bench) == ["z1"]


# -- the lease --------------------------------------------------------------


def leases(bench: Bench, *holders: str, name: str = "relay") -> list[FencedLease]:
    return [FencedLease(bench.waiting, name, holder, bench.clock) for holder in holders]


async def test_one_relay_of_a_service_works_at_a_time(bench: Bench) -> None:
    one, two = leases(bench, "one", "two")
    assert await one.hold()
    assert not await two.hold()
    bench.clock.advance(9)
    assert await one.hold(renew=True), "its holder renews it"
    bench.clock.advance(9)
    assert not await two.hold()
    bench.clock.advance(2)
    assert not one.valid(), "by its own clock it ran out, before anybody took it"
    assert await two.hold(), "a dead relay's lease runs out"
    assert not await one.hold(), "and it is fenced"
    assert two.token > 1
    (other,) = leases(bench, "one", name="another")
    assert await other.hold()


async def test_two_with_one_name_are_two(bench: Bench) -> None:
    # Two instances with one instance id, or a process number that came again in a container.
    one, twin = leases(bench, "one", "one")
    assert await one.hold()
    assert not await twin.hold()
    bench.clock.advance(11)
    assert await twin.hold()
    assert not await one.check()
    assert not await one.hold()


async def test_a_lease_that_was_given_up_is_free_and_its_token_goes_on(bench: Bench) -> None:
    one, two = leases(bench, "one", "two")
    await one.hold()
    first = one.token
    await one.release()
    assert not one.valid()
    assert await two.hold()
    assert two.token > first
    await one.release()
    assert await two.check(), "one that does not hold it cannot give it up"


async def test_of_two_that_ask_at_once_one_gets_it(bench: Bench) -> None:
    took = await asyncio.gather(*(one.hold() for one in leases(bench, *map(str, range(5)))))
    assert sum(took) == 1


async def test_the_database_has_the_last_word(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # The other machine's clock goes ahead: by ours the lease still runs.
    monkeypatch.setattr(lease, "_FRESH_SECONDS", -1.0)
    (one,) = leases(bench, "one")
    ahead = type(bench.clock)(bench.clock.moment + timedelta(seconds=30))
    assert await one.hold()
    assert await FencedLease(bench.waiting, "relay", "two", ahead).hold()
    assert one.valid()
    assert not await one.check()
    assert not one.valid()


async def test_the_one_without_the_lease_publishes_nothing(bench: Bench) -> None:
    (somebody,) = leases(bench, "somebody else")
    await somebody.hold()
    commit(bench, ("a1", "a", 1))
    relay = bench.relay("one")
    assert not await relay.publish_once()
    async with running(relay.run()):
        relay.wake()
        await asyncio.sleep(0.05)
        assert published(bench) == []
        bench.clock.advance(11)
        await eventually(lambda: "a1" in bench.database.published)
    # That one is stopped: what it held is free at once, and its successor need not wait.
    commit(bench, ("a2", "a", 2))
    async with running(bench.relay("successor").run()):
        await eventually(lambda: published(bench) == ["a1", "a2"], 0.4)


async def test_a_stopped_relay_leaves_the_lease_of_another_alone(bench: Bench) -> None:
    async with running(bench.relay("one").run()):
        await eventually(lambda: "relay" in bench.states(LEASES))
        bench.clock.advance(11)
        (two,) = leases(bench, "two")
        assert await two.hold()
    held = bench.states(LEASES)["relay"]
    assert held.holder == "two"
    assert held.until > moment_text(bench.clock.wall())


async def test_a_relay_that_was_paused_hands_nothing_over(bench: Bench) -> None:
    """It read its rows, stood still past its lease, and another published them and more."""

    class Pausing(AsyncMemoryStore):
        async def unpublished(self, limit: int, after: str = "") -> list[OutboxRow]:
            rows = await super().unpublished(limit, after)
            bench.clock.advance(11)
            await bench.relay("two").publish_once()
            return rows

    commit(bench, ("a1", "a", 1), ("a2", "a", 2))
    paused = relay_with(bench, MemoryProducer(bench.bus), Pausing(bench.database))
    with pytest.raises(LeaseLost):
        await paused.publish_once()
    assert published(bench) == ["a1", "a2"]
    assert not await paused.publish_once(), "it waits for its turn"


async def test_a_relay_that_was_paused_while_it_published_marks_nothing(bench: Bench) -> None:
    class Pausing(MemoryProducer):
        def offer(self, records: Sequence[Outgoing]) -> Future[list[Outcome]]:
            future = super().offer(records)
            bench.clock.advance(11)
            return future

    commit(bench, ("a1", "a", 1))
    with pytest.raises(LeaseLost):
        await relay_with(bench, Pausing(bench.bus)).publish_once()
    assert not bench.database.published
    two = bench.relay("two")
    await two.publish_once()
    assert published(bench) == ["a1", "a1"], "repeated, and not lost"
    assert bench.database.published["a1"].offset == 1


async def test_the_lease_is_renewed_while_the_log_does_not_answer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "LEASE_SECONDS", 0.03)
    producer = Away(bench)
    commit(bench, ("a1", "a", 1))
    first, (second,) = relay_with(bench, producer), leases(bench, "two")
    async with running(first.run()):
        await producer.asked.wait()
        for _ in range(4):  # longer than a lease, in steps shorter than one
            before = bench.states(LEASES)["relay"].until
            bench.clock.advance(4)
            await eventually(lambda before=before: bench.states(LEASES)["relay"].until > before)  # type: ignore[misc]
            assert not await second.hold()
        producer.back()
        await eventually(lambda: "a1" in bench.database.published)
    assert published(bench) == ["a1"]


async def test_who_lost_the_lease_while_the_log_was_away_sends_nothing_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "LEASE_SECONDS", 0.03)
    producer, (two,) = Away(bench), leases(bench, "two")
    commit(bench, ("a1", "a", 1))
    one = relay_with(bench, producer)
    waiting = asyncio.ensure_future(one.publish_once())
    await producer.asked.wait()
    bench.clock.advance(11)  # it was paused, and another took over
    assert await two.hold()
    with pytest.raises(LeaseLost):
        await waiting
    producer.back()
    assert published(bench) == [], "it sent behind its successor"


async def test_a_relay_that_cannot_reach_the_log_makes_room(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "LEASE_SECONDS", 0.01)
    monkeypatch.setattr(relay, "_PATIENCE_SECONDS", 0.02)
    producer = Away(bench)
    commit(bench, ("a1", "a", 1))
    with pytest.raises(Retryable, match="another relay"):
        await relay_with(bench, producer).publish_once()
    await bench.relay("two").publish_once()
    assert published(bench) == ["a1"]


# -- stopping and telling ---------------------------------------------------


async def test_a_relay_that_stops_publishes_everything_first(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_BATCH", 3)
    commit(bench, *((f"a{n}", f"a{n % 4}", n) for n in range(20)))
    assert await bench.relay().drain(5) == 0
    assert len(published(bench)) == 20


async def test_a_stop_is_not_held_up_by_what_cannot_go_out(bench: Bench) -> None:
    refusing(bench, "a1")
    commit(bench, ("a1", "a", 1), ("b1", "b", 1))
    async with asyncio.timeout(3):
        assert await bench.relay().drain(60) == 1
    assert published(bench) == ["b1"]
    producer = Away(bench)
    assert await relay_with(bench, producer, holder="two").drain(0.05) == 1, "the log is away"
    (other,) = leases(bench, "three")
    assert await other.hold(), "whoever stops makes room at once"
    async with asyncio.timeout(3):
        await relay_with(bench, producer, holder="four").drain(60)  # another one leads


async def test_what_waits_is_measured_though_nothing_goes_out(bench: Bench) -> None:
    commit(bench, ("a1", "a", 1), ("a2", "a", 2))
    bench.clock.moment = wall_now() + timedelta(seconds=90)
    (somebody,) = leases(bench, "somebody else")
    await somebody.hold()
    async with running(bench.relay().run()):
        await eventually(lambda: measured(bench, OUTBOX_WAITING) == 2)
    assert 89 <= measured(bench, OUTBOX_AGE) < 120
    await somebody.release()
    one = bench.relay()
    await one.publish_once()
    await one.tell_backlog()
    assert (measured(bench, OUTBOX_WAITING), measured(bench, OUTBOX_AGE)) == (0, 0)


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


async def test_many_who_wait_ask_the_database_together(bench: Bench) -> None:
    asked: list[int] = []

    class Asked(AsyncMemoryStore):
        async def positions_of(self, ids: Iterable[str]) -> dict[str, Position]:
            asked.append(1)
            return await super().positions_of(ids)

    commit(bench, *((f"a{n}", f"a{n}", 1) for n in range(50)))
    api = relay_with(bench, MemoryProducer(bench.bus), Asked(bench.database), "api")
    waiting = [asyncio.ensure_future(api.positions([f"a{n}"], 5)) for n in range(50)]
    await asyncio.sleep(0.05)
    await bench.relay("relay").publish_once()
    found = await asyncio.wait_for(asyncio.gather(*waiting), 2)
    assert [list(one) for one in found] == [[f"a{n}"] for n in range(50)]
    assert len(asked) < 50, "each of them asked for itself"
