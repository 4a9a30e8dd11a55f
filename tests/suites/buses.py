"""What every bus must do, in memory and on Kafka: one suite for all that stand behind the protocols."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future

import pytest

from services.kit.bus.holes import goes_on_at
from services.kit.bus.memory import murmur2
from services.kit.bus.protocol import (
    LARGEST_LETTER_BYTES,
    LARGEST_RECORD_BYTES,
    Bus,
    Consumer,
    Failure,
    Outgoing,
    Partition,
    Position,
    Record,
    size_of,
)
from services.kit.errors import Retryable

#: Every topic of the suite has so many partitions.
PARTITIONS = 3
_PATIENCE_SECONDS = 20.0
#: Makes a topic that no other test uses, and names it.
NewTopic = Callable[[], str]
#: Joins a group of its own, to begin at the offsets given.
Join = Callable[[str, dict[Partition, int]], Consumer]


def outgoing(topic: str, key: str, value: str | bytes | None = b"v") -> Outgoing:
    body = value.encode() if isinstance(value, str) else value
    return Outgoing(topic, key.encode(), body, (("ce_id", b"1"), ("raw", b"\x00\xff"), ("empty", b"")))


def too_large(topic: str, key: str) -> Outgoing:
    """A record that no topic takes."""
    return outgoing(topic, key, os.urandom(LARGEST_LETTER_BYTES + 1))


def sent(future: Future[list[Position]]) -> list[Position]:
    return future.result(_PATIENCE_SECONDS)


def taken(consumer: Consumer, count: int) -> list[Record]:
    """So many records; more than was asked for is given too, so that a test sees it."""
    found: list[Record] = []
    end = time.monotonic() + _PATIENCE_SECONDS
    while len(found) < count and time.monotonic() < end:
        found += consumer.take(500, 0.2)
    return found


def by_partition(records: Iterable[Record]) -> dict[int, list[int]]:
    offsets: dict[int, list[int]] = {}
    for record in records:
        offsets.setdefault(record.partition, []).append(record.offset)
    return offsets


def spread(topic: str, count: int) -> list[Outgoing]:
    """Records over many keys, numbered in the order of publishing."""
    return [outgoing(topic, f"key-{n % 7}", str(n)) for n in range(count)]


class BusSuite:
    """Subclasses give the fixtures `bus`, `new_topic` and `join`."""

    def test_records_stand_where_the_producer_says(self, bus: Bus, new_topic: NewTopic, join: Join) -> None:
        topic, producer = new_topic(), bus.producer()
        records = spread(topic, 200)
        positions = sent(producer.publish(records)) + sent(producer.publish(records[:3]))
        found = {Position(r.topic, r.partition, r.offset): r for r in taken(join(topic, {}), 203)}
        assert len(found) == 203
        assert [found[at].value for at in positions] == [r.value for r in [*records, *records[:3]]]
        producer.close()

    def test_records_of_a_key_keep_their_order(self, bus: Bus, new_topic: NewTopic, join: Join) -> None:
        topic, producer = new_topic(), bus.producer()
        records = spread(topic, 300)
        bursts = [producer.publish(records[n : n + 10]) for n in range(0, 300, 10)]  # none is waited for
        for burst in bursts:
            sent(burst)
        found = taken(join(topic, {}), 300)
        for offsets in by_partition(found).values():
            assert offsets == sorted(offsets)
        for key in {r.key for r in found}:
            numbers = [int(r.value or b"") for r in found if r.key == key]
            assert numbers == sorted(numbers)
        producer.close()

    def test_a_record_arrives_byte_for_byte(self, bus: Bus, new_topic: NewTopic, join: Join) -> None:
        topic, producer = new_topic(), bus.producer()
        values: list[bytes | None] = [b"\x00\xff" * 500, b"", None]
        before = time.time() * 1000
        sent(producer.publish([outgoing(topic, "ключ/药", value) for value in values]))
        found = taken(join(topic, {}), 3)
        assert [r.value for r in found] == values
        assert {r.key for r in found} == {"ключ/药".encode()}
        assert {r.headers for r in found} == {(("ce_id", b"1"), ("raw", b"\x00\xff"), ("empty", b""))}
        assert all(before - 1000 <= r.timestamp_ms <= time.time() * 1000 + 1000 for r in found)
        producer.close()

    def test_nothing_to_publish_is_published_at_once(self, bus: Bus) -> None:
        producer = bus.producer()
        assert sent(producer.publish([])) == []
        producer.close()

    def test_the_ends_of_a_burst_are_its_last_positions(self, bus: Bus, new_topic: NewTopic) -> None:
        topic, producer = new_topic(), bus.producer()
        sent(producer.publish(spread(topic, 50)))
        ends = sent(producer.publish_ends(spread(topic, 200)))
        assert {Partition(at.topic, at.partition): at.offset + 1 for at in ends} == bus.log().ends([topic])
        assert len(ends) == PARTITIONS
        assert sent(producer.publish_ends([])) == []
        producer.close()

    def test_a_burst_that_fails_in_part_fails(self, bus: Bus, new_topic: NewTopic) -> None:
        topic, producer = new_topic(), bus.producer()
        burst = [outgoing(topic, "a"), too_large(topic, "b"), outgoing(topic, "c")]
        for publish in (producer.publish, producer.publish_ends):
            with pytest.raises(Retryable, match="every record"):
                sent(publish(burst))
        assert len(sent(producer.publish([outgoing(topic, "a")]))) == 1, "the next one is taken"
        producer.close()

    def test_ordered_records_have_their_outcomes_one_by_one(
        self, bus: Bus, new_topic: NewTopic, join: Join
    ) -> None:
        topic, producer = new_topic(), bus.ordered_producer()
        records = spread(topic, 50)
        outcomes = producer.offer(records).result(_PATIENCE_SECONDS)
        outcomes += producer.offer(records[:5]).result(_PATIENCE_SECONDS)
        found = {Position(r.topic, r.partition, r.offset): r.value for r in taken(join(topic, {}), 55)}
        assert [found[at] for at in outcomes if isinstance(at, Position)] == [
            r.value for r in [*records, *records[:5]]
        ]
        assert producer.offer([]).result(_PATIENCE_SECONDS) == []
        producer.close()

    def test_nothing_of_a_key_enters_the_log_behind_a_refused_record(
        self, bus: Bus, new_topic: NewTopic, join: Join
    ) -> None:
        topic, producer = new_topic(), bus.ordered_producer()
        burst = [outgoing(topic, "a", "a1"), outgoing(topic, "b", "b1"), too_large(topic, "a")]
        burst += [outgoing(topic, "a", "a3"), outgoing(topic, "a", "a4")]
        outcomes = producer.offer(burst).result(_PATIENCE_SECONDS)
        assert [isinstance(outcome, Position) for outcome in outcomes[2:]] == [False] * 3
        refused, *behind = (outcome for outcome in outcomes[2:] if isinstance(outcome, Failure))
        assert refused.about == "record"
        assert [failure.about for failure in behind] == ["nothing", "nothing"]
        # What was not refused goes through when it is offered again.
        again = [record for record, at in zip(burst, outcomes, strict=True) if not isinstance(at, Position)]
        after = producer.offer(again[1:]).result(_PATIENCE_SECONDS)
        assert all(isinstance(outcome, Position) for outcome in after)
        values = [r.value for r in taken(join(topic, {}), 4) if r.key == b"a"]
        assert values == [b"a1", b"a3", b"a4"]
        producer.close()

    def test_the_largest_record_that_may_be_planned_is_taken(self, bus: Bus, new_topic: NewTopic) -> None:
        topic = new_topic()
        record = outgoing(topic, "k", os.urandom(LARGEST_RECORD_BYTES))
        fits = outgoing(topic, "k", os.urandom(2 * LARGEST_RECORD_BYTES - size_of(record)))
        assert size_of(fits) == LARGEST_RECORD_BYTES
        for producer in (bus.producer(), bus.ordered_producer()):
            offered = producer.publish([fits]) if hasattr(producer, "publish") else producer.offer([fits])
            assert all(isinstance(outcome, Position) for outcome in offered.result(_PATIENCE_SECONDS))
            producer.close()

    def test_a_consumer_begins_where_it_is_told(self, bus: Bus, new_topic: NewTopic, join: Join) -> None:
        topic, producer = new_topic(), bus.producer()
        sent(producer.publish(spread(topic, 60)))
        ends = bus.log().ends([topic])
        begin = {p: end // 2 for p, end in ends.items()}
        found = taken(join(topic, begin), sum(ends[p] - begin[p] for p in ends))
        expected = {p.number: list(range(begin[p], ends[p])) for p in ends if ends[p] > begin[p]}
        assert by_partition(found) == expected
        producer.close()

    def test_a_consumer_is_asked_for_every_partition_and_told_no_more_than_it_asks(
        self, bus: Bus, new_topic: NewTopic
    ) -> None:
        topic, producer = new_topic(), bus.producer()
        asked: list[Partition] = []
        sent(producer.publish(spread(topic, 30)))
        consumer = bus.consumer(f"group-{topic}", "0")

        def start(partitions: Iterable[Partition]) -> dict[Partition, int]:
            asked.extend(partitions)
            return {}  # nothing stored yet: from the beginning

        consumer.subscribe([topic], start, lambda partitions: None)
        assert sorted(by_partition(taken(consumer, 30)).values()) == sorted(
            list(range(end)) for end in bus.log().ends([topic]).values() if end
        )
        assert sorted(asked) == [Partition(topic, n) for n in range(PARTITIONS)]
        consumer.close()
        producer.close()

    def test_what_was_committed_does_not_decide_where_to_begin(
        self, bus: Bus, new_topic: NewTopic, join: Join
    ) -> None:
        topic, producer = new_topic(), bus.producer()
        sent(producer.publish(spread(topic, 20)))
        first = join(topic, {})
        assert len(taken(first, 20)) == 20
        first.commit(bus.log().ends([topic]))
        first.close()
        # The database was restored from a backup: its watermark is older than the group's offset.
        stored = {Partition(topic, n): 0 for n in range(PARTITIONS)}
        assert len(taken(join(topic, stored), 20)) == 20
        producer.close()

    def test_a_rewound_consumer_takes_again(self, bus: Bus, new_topic: NewTopic, join: Join) -> None:
        topic, producer = new_topic(), bus.producer()
        sent(producer.publish([outgoing(topic, "one key", str(n)) for n in range(10)]))
        consumer = join(topic, {})
        first = taken(consumer, 10)
        consumer.rewind({Partition(topic, first[0].partition): 4})
        assert [r.value for r in taken(consumer, 6)] == [b"%d" % n for n in range(4, 10)]
        sent(producer.publish([outgoing(topic, "one key", "10")]))
        assert [r.value for r in taken(consumer, 1)] == [b"10"]
        producer.close()

    def test_take_gives_no_more_than_asked_and_loses_nothing(
        self, bus: Bus, new_topic: NewTopic, join: Join
    ) -> None:
        topic, producer = new_topic(), bus.producer()
        sent(producer.publish(spread(topic, 25)))
        consumer, end = join(topic, {}), time.monotonic() + _PATIENCE_SECONDS
        sizes: list[int] = []
        while sum(sizes) < 25 and time.monotonic() < end:
            sizes.append(len(consumer.take(4, 0.2)))
        assert max(sizes) <= 4
        assert sum(sizes) == 25
        assert consumer.take(1, 0) == []
        producer.close()

    def test_take_waits_for_the_first_record_only(self, bus: Bus, new_topic: NewTopic, join: Join) -> None:
        topic, producer = new_topic(), bus.producer()
        sent(producer.publish([outgoing(topic, "k", "0")]))
        consumer = join(topic, {})
        assert len(taken(consumer, 1)) == 1  # it has joined its group
        later = threading.Timer(0.1, lambda: producer.publish([outgoing(topic, "k", "1")]))
        later.start()
        began = time.monotonic()
        assert [r.value for r in consumer.take(500, 10)] == [b"1"]
        assert time.monotonic() - began < 5, "it waited for five hundred"
        began = time.monotonic()
        assert consumer.take(500, 0.2) == []
        assert time.monotonic() - began > 0.1, "a runner without work would turn as fast as it can"
        later.join()
        producer.close()

    def test_who_holds_takes_nothing_and_loses_nothing(
        self, bus: Bus, new_topic: NewTopic, join: Join
    ) -> None:
        topic, producer = new_topic(), bus.producer()
        sent(producer.publish(spread(topic, 20)))
        consumer = join(topic, {})
        found = taken(consumer, 20)
        later = threading.Timer(0.05, lambda: producer.publish(spread(topic, 30)))
        later.start()
        began = time.monotonic()
        consumer.hold(0.4)
        assert time.monotonic() - began >= 0.35, "a runner that waits for its database would not wait"
        later.join()
        found += taken(consumer, 30)
        ends = bus.log().ends([topic])
        assert by_partition(found) == {p.number: list(range(end)) for p, end in ends.items() if end}
        producer.close()

    def test_a_rewind_counts_after_a_hold(self, bus: Bus, new_topic: NewTopic, join: Join) -> None:
        topic, producer = new_topic(), bus.producer()
        sent(producer.publish([outgoing(topic, "one key", str(n)) for n in range(6)]))
        consumer = join(topic, {})
        first = taken(consumer, 6)
        consumer.rewind({Partition(topic, first[0].partition): 3})
        consumer.hold(0.2)
        assert [r.value for r in taken(consumer, 3)] == [b"3", b"4", b"5"]
        producer.close()

    def test_a_reader_takes_its_partitions_from_where_it_is_told(self, bus: Bus, new_topic: NewTopic) -> None:
        topic, producer = new_topic(), bus.producer()
        sent(producer.publish(spread(topic, 60)))
        ends = bus.log().ends([topic])
        *some, last = [p for p in sorted(ends) if ends[p] > 1]
        reader, other = bus.reader(dict.fromkeys(some, 1)), bus.reader({last: 0})
        found = taken(reader, sum(ends[p] - 1 for p in some))
        assert by_partition(found) == {p.number: list(range(1, ends[p])) for p in some}
        assert by_partition(taken(other, ends[last])) == {last.number: list(range(ends[last]))}
        sent(producer.publish(spread(topic, 60)))
        more = bus.log().ends([topic])
        found = taken(reader, sum(more[p] - ends[p] for p in some))
        assert by_partition(found) == {p.number: list(range(ends[p], more[p])) for p in some}
        reader.close()
        other.close()
        producer.close()

    def test_a_reader_may_be_told_to_take_others(self, bus: Bus, new_topic: NewTopic) -> None:
        topic, producer = new_topic(), bus.producer()
        sent(producer.publish(spread(topic, 60)))
        ends = bus.log().ends([topic])
        first, second, *_ = (p for p in sorted(ends, key=lambda p: -ends[p]))
        reader = bus.reader({})
        assert reader.take(500, 0.1) == []
        reader.assign({first: 0})
        assert len(reader.take(1, _PATIENCE_SECONDS)) == 1
        reader.assign({second: 1})
        found = taken(reader, ends[second] - 1) + reader.take(500, 0.2)
        assert by_partition(found) == {second.number: list(range(1, ends[second]))}
        reader.assign({second: ends[second] - 1, first: ends[first] - 1})
        assert len(taken(reader, 2)) == 2
        reader.assign({})
        assert reader.take(500, 0.1) == []
        reader.close()
        producer.close()

    def test_a_reader_takes_nothing_from_a_group(self, bus: Bus, new_topic: NewTopic, join: Join) -> None:
        topic, producer = new_topic(), bus.producer()
        sent(producer.publish(spread(topic, 20)))
        consumer = join(topic, {})
        assert len(taken(consumer, 20)) == 20
        readers = [bus.reader({Partition(topic, n): 0 for n in range(PARTITIONS)}) for _ in range(2)]
        assert [len(taken(reader, 20)) for reader in readers] == [20, 20]
        sent(producer.publish(spread(topic, 7)))
        assert len(taken(consumer, 7)) == 7
        for reader in readers:
            reader.close()
        producer.close()

    def test_the_log_tells_where_it_starts(self, bus: Bus, new_topic: NewTopic) -> None:
        full, empty, producer = new_topic(), new_topic(), bus.producer()
        sent(producer.publish(spread(full, 40)))
        partitions = [Partition(topic, n) for topic in (full, empty) for n in range(PARTITIONS)]
        assert bus.log().starts([full, empty]) == dict.fromkeys(partitions, 0)
        assert bus.log().starts([]) == {}
        producer.close()

    def test_the_log_tells_its_ends(self, bus: Bus, new_topic: NewTopic) -> None:
        full, empty, producer = new_topic(), new_topic(), bus.producer()
        sent(producer.publish(spread(full, 40)))
        ends = bus.log().ends([full, empty])
        assert set(ends) == {Partition(topic, n) for topic in (full, empty) for n in range(PARTITIONS)}
        assert sum(ends[p] for p in ends if p.topic == full) == 40
        assert sum(ends[p] for p in ends if p.topic == empty) == 0
        assert bus.log().ends([]) == {}
        producer.close()

    def test_a_log_without_holes_goes_on_where_it_is_asked(self, bus: Bus, new_topic: NewTopic) -> None:
        topic, producer = new_topic(), bus.producer()
        sent(producer.publish(spread(topic, 60)))
        ends = bus.log().ends([topic])
        place = max(ends, key=lambda p: ends[p])
        for offset in (0, ends[place] - 1):
            assert goes_on_at(bus, place, offset, _PATIENCE_SECONDS) == offset
        assert goes_on_at(bus, place, ends[place], 0.1) == ends[place]
        producer.close()

    def test_a_key_stands_where_every_client_expects_it(self, bus: Bus, new_topic: NewTopic) -> None:
        topic, producer = new_topic(), bus.producer()
        keys = [*(f"owner/gtin/{n}/lot-{n % 13}" for n in range(1000)), "", "é", "药" * 50]
        positions = sent(producer.publish([outgoing(topic, key) for key in keys]))
        expected = [(murmur2(key.encode()) & 0x7FFFFFFF) % PARTITIONS for key in keys]
        assert [at.partition for at in positions] == expected
        producer.close()
