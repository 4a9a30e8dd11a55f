"""The bus on a real Kafka: the shared suite, and what only a broker and its clients can do."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer  # type: ignore[import-untyped]
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin import NewTopic as TopicSpec

from pharmaloop.production.v1.events_pb2 import LotStarted
from services.kit.bus import kafka_producer
from services.kit.bus.holes import goes_on_at
from services.kit.bus.kafka import KafkaBus
from services.kit.bus.memory import MemoryBus
from services.kit.bus.migrate import migrate
from services.kit.bus.owner import InstallationSettings, read_owner
from services.kit.bus.protocol import (
    LARGEST_RECORD_BYTES,
    Bus,
    Consumer,
    Failure,
    Partition,
    Position,
)
from services.kit.bus.register import read_register
from services.kit.contracts import contract
from services.kit.errors import Integrity, Retryable
from services.kit.metrics import Metrics
from services.kit.runners.batch import BatchRunner, Surroundings
from services.kit.runners.reactor import Reactor
from services.kit.settings import KafkaSettings
from services.kit.store.memory import MemoryDatabase
from tests.suites.buses import PARTITIONS, BusSuite, Join, NewTopic, by_partition, outgoing, sent, taken
from tests.unit.rough_stores import Unsteady


@pytest.fixture
def bus(kafka: str) -> Bus:
    return KafkaBus(KafkaSettings(bootstrap_servers=kafka), "test")


@pytest.fixture
def new_topic(kafka: str) -> NewTopic:
    admin = AdminClient({"bootstrap.servers": kafka})

    def make() -> str:
        name = f"suite-{uuid.uuid4().hex}"
        largest = {"max.message.bytes": str(LARGEST_RECORD_BYTES)}  # as the migration makes them
        admin.create_topics([TopicSpec(name, PARTITIONS, 1, config=largest)])[name].result(timeout=10)
        return name

    return make


@pytest.fixture
def join(bus: Bus) -> Iterator[Join]:
    opened: list[Consumer] = []

    def join_group(topic: str, begin: dict[Partition, int]) -> Consumer:
        consumer = bus.consumer(f"group-{topic}", "0")
        consumer.subscribe([topic], lambda partitions: begin, lambda partitions: None)
        opened.append(consumer)
        return consumer

    yield join_group
    for consumer in opened:
        consumer.close()


class TestKafkaBus(BusSuite):
    pass


@pytest.mark.parametrize("together", [1, 4, 10_000], ids=["one by one", "by four", "all together"])
@pytest.mark.parametrize("bad", [0, 3], ids=["the client's first record", "a later one"])
def test_what_a_broker_refuses_is_never_overtaken(
    bus: Bus, kafka: str, join: Join, monkeypatch: pytest.MonkeyPatch, bad: int, together: int
) -> None:
    """A plain idempotent client goes on behind a refused batch: the version after it would be published."""
    config = kafka_producer.ordered_config

    def batching(settings: KafkaSettings, client: str) -> dict[str, Any]:
        return {**config(settings, client), "batch.num.messages": together}

    monkeypatch.setattr(kafka_producer, "ordered_config", batching)
    topic = f"small-{uuid.uuid4().hex}"
    admin = AdminClient({"bootstrap.servers": kafka})
    small = TopicSpec(topic, 1, 1, config={"max.message.bytes": "20000"})
    admin.create_topics([small])[topic].result(timeout=10)
    producer = bus.ordered_producer()
    records = [outgoing(topic, "k", os.urandom(60_000 if n == bad else 100)) for n in range(12)]
    outcomes = producer.offer(records).result(30)
    in_log = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Position)]
    assert in_log == list(range(len(in_log)))
    assert len(in_log) <= bad
    refused = outcomes[bad]
    assert isinstance(refused, Failure)
    assert refused.about == "record"
    # The client mends itself: without the bad one everything goes through, in order.
    rest = [records[n] for n in range(12) if n not in in_log and n != bad]
    again = producer.offer(rest).result(30)
    assert all(isinstance(outcome, Position) for outcome in again)
    found = taken(join(topic, {}), 11)
    assert [r.value for r in found] == [r.value for n, r in enumerate(records) if n != bad]
    producer.close()


def test_a_topic_that_does_not_exist_is_told_and_harms_no_other(
    bus: Bus, new_topic: NewTopic, kafka: str
) -> None:
    there, gone, producer = new_topic(), f"gone-{uuid.uuid4().hex}", bus.ordered_producer()
    burst = [outgoing(gone, "k"), outgoing(there, "k"), outgoing(gone, "k")]
    outcomes = producer.offer(burst).result(30)
    assert isinstance(outcomes[1], Position)
    assert [o.about for o in outcomes if isinstance(o, Failure)] == ["topic", "nothing"]
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([TopicSpec(gone, 1, 1)])[gone].result(timeout=10)
    end = time.monotonic() + 20
    while not isinstance(producer.offer([outgoing(gone, "k")]).result(30)[0], Position):
        assert time.monotonic() < end, "a topic that was made later is never found"
        time.sleep(0.1)
    producer.close()


def test_an_abandoned_burst_ends_and_is_not_sent_later() -> None:
    nowhere = KafkaBus(KafkaSettings(bootstrap_servers="127.0.0.1:1"), "test")
    producer = nowhere.ordered_producer()
    future = producer.offer([outgoing("t", "k"), outgoing("t", "k")])
    assert not future.done()
    producer.abandon()
    assert [o.about for o in future.result(10) if isinstance(o, Failure)] == ["nothing", "nothing"]
    began = time.monotonic()
    producer.close()
    assert time.monotonic() - began < 5, "a stop waits for a Kafka that is away"


async def test_a_key_has_one_partition_whichever_client_writes_it(
    bus: Bus, kafka: str, new_topic: NewTopic
) -> None:
    # The loops write through aiokafka, everybody else through librdkafka: a key on two
    # partitions has no order, and a table looks for it in the wrong place.
    topic, memory, producer = new_topic(), MemoryBus(PARTITIONS), bus.producer()
    keys = [f"owner/gtin/{n}/lot-{n % 13}" for n in range(1000)]
    by_librdkafka = [at.partition for at in sent(producer.publish([outgoing(topic, key) for key in keys]))]
    in_memory = [memory.append(outgoing(topic, key)).partition for key in keys]
    producer.close()
    async with AIOKafkaProducer(bootstrap_servers=kafka) as client:
        futures = [await client.send(topic, b"v", key=key.encode()) for key in keys]
        by_aiokafka = [(await future).partition for future in futures]
    assert by_librdkafka == in_memory == by_aiokafka
    assert len(set(in_memory)) == PARTITIONS


async def test_what_we_compress_other_clients_read(bus: Bus, kafka: str, new_topic: NewTopic) -> None:
    topic, producer = new_topic(), bus.producer()
    sent(producer.publish([outgoing(topic, "k", b"x" * 5000) for _ in range(20)]))
    producer.close()
    async with AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest") as client:
        record = await client.getone()
    assert record.value == b"x" * 5000
    assert record.headers == outgoing(topic, "k").headers


def test_a_header_without_a_value_is_empty(bus: Bus, kafka: str, new_topic: NewTopic, join: Join) -> None:
    # Kafka allows null there; nothing behind the bus has to.
    topic, producer = new_topic(), Producer({"bootstrap.servers": kafka})
    headers: Any = [("ce_id", None), ("x", b"1")]
    producer.produce(topic, value=b"v", headers=headers)
    producer.flush(10)
    assert [r.headers for r in taken(join(topic, {}), 1)] == [(("ce_id", b""), ("x", b"1"))]


def test_a_topic_that_does_not_exist_stops_whoever_reads_it(bus: Bus) -> None:
    consumer = bus.consumer(f"group-{uuid.uuid4().hex}", "0")
    consumer.subscribe([f"none-{uuid.uuid4().hex}"], lambda partitions: {}, lambda partitions: None)
    with pytest.raises(Integrity, match="run the topic migration"):
        taken(consumer, 1)
    consumer.close()


def test_the_ends_of_a_topic_that_does_not_exist_are_not_zero(bus: Bus) -> None:
    # Zero would say: nothing to wait for. A cut noted so would miss patients.
    with pytest.raises(Retryable, match="run the topic migration"):
        bus.log().ends([f"none-{uuid.uuid4().hex}"])


def test_the_log_starts_where_its_oldest_record_is(bus: Bus, kafka: str, new_topic: NewTopic) -> None:
    # What retention has deleted cannot be read again: a rebuild must know.
    topic, producer = new_topic(), bus.producer()
    sent(producer.publish([outgoing(topic, "one key", str(n)) for n in range(10)]))
    (full,) = [p for p, end in bus.log().ends([topic]).items() if end]
    admin = AdminClient({"bootstrap.servers": kafka})
    for future in admin.delete_records([TopicPartition(topic, full.number, 4)]).values():
        future.result(timeout=30)
    assert bus.log().starts([topic])[full] == 4
    assert bus.log().ends([topic])[full] == 10
    assert goes_on_at(bus, full, 1, 20.0) == 4, "a hole is told"
    reader = bus.reader({full: 4})
    assert [r.value for r in taken(reader, 6)] == [b"%d" % n for n in range(4, 10)]
    reader.close()
    producer.close()


def test_the_start_of_a_topic_that_does_not_exist_is_not_told(bus: Bus) -> None:
    with pytest.raises(Retryable, match="run the topic migration"):
        bus.log().starts([f"none-{uuid.uuid4().hex}"])


def test_a_partition_that_moves_is_lost_before_another_begins_it(bus: Bus, new_topic: NewTopic) -> None:
    topic, producer = new_topic(), bus.producer()
    story: list[tuple[str, str, int]] = []
    sent(producer.publish([outgoing(topic, f"key-{n}") for n in range(30)]))

    def joined(name: str) -> Consumer:
        def start(partitions: Iterable[Partition]) -> dict[Partition, int]:
            story.extend((name, "starts", p.number) for p in partitions)
            return {}

        def lost(partitions: Iterable[Partition]) -> None:
            story.extend((name, "loses", p.number) for p in partitions)

        consumer = bus.consumer(f"group-{topic}", name)
        consumer.subscribe([topic], start, lost)
        return consumer

    first = joined("first")
    assert len(taken(first, 30)) == 30
    second, end = joined("second"), time.monotonic() + 30
    while not any(step[:2] == ("second", "starts") for step in story) and time.monotonic() < end:
        first.take(10, 0.05)
        second.take(10, 0.05)
    moved = [number for name, what, number in story if (name, what) == ("second", "starts")]
    assert moved
    for number in moved:
        assert story.index(("first", "loses", number)) < story.index(("second", "starts", number))
    second.close()
    first.close()
    producer.close()


def test_who_cannot_ask_where_to_begin_begins_with_the_first_record_all_the_same(
    bus: Bus, new_topic: NewTopic
) -> None:
    """A client that is told nothing begins by itself, and gives its first record to nobody."""
    topic, producer = new_topic(), bus.producer()
    sent(producer.publish([outgoing(topic, f"key-{n}") for n in range(30)]))
    store = Unsteady(MemoryDatabase())
    around = Surroundings("rnd", "", contract(), bus, store, Metrics("rnd"), lambda: None)
    runner = BatchRunner(Reactor("test", {LotStarted: lambda work, event: None}), around)
    consumer = bus.consumer(f"group-{topic}", "0")
    store.away = 3
    consumer.subscribe([topic], runner._start_at, runner._lost)
    found = taken(consumer, 30)
    assert store.away == 0
    ends = bus.log().ends([topic])
    assert by_partition(found) == {p.number: list(range(end)) for p, end in ends.items() if end}
    consumer.close()
    producer.close()


def test_a_hold_that_fails_leaves_nothing_held(
    bus: Bus, new_topic: NewTopic, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(seconds: float) -> None:
        raise Retryable("the log is away")

    topic, producer = new_topic(), bus.producer()
    sent(producer.publish([outgoing(topic, f"key-{n}") for n in range(30)]))
    consumer = join(topic, {})
    taken(consumer, 30)
    with monkeypatch.context() as away:
        away.setattr(consumer, "_poll_paused", fails)
        with pytest.raises(Retryable):
            consumer.hold(0.2)
    sent(producer.publish([outgoing(topic, f"key-{n}") for n in range(30)]))
    assert len(taken(consumer, 30)) == 30
    producer.close()


def test_the_migration_makes_every_topic_once_and_refuses_another_count(kafka: str, backbone: str) -> None:
    settings, sites = KafkaSettings(bootstrap_servers=kafka), ("hospital-a",)
    assert migrate(settings, sites) == [], "a second run makes nothing"
    admin = AdminClient({"bootstrap.servers": kafka})
    there = admin.list_topics(timeout=10).topics
    for name, topic in contract().names(sites):
        assert len(there[name].partitions) == topic.partitions
        assert f"{name}.dlq" in there
    site = f"site-{uuid.uuid4().hex[:8]}"
    name = f"pharmaloop.clinical.{site}.plan.v1"
    admin.create_topics([TopicSpec(name, 1, 1)])[name].result(timeout=10)
    with pytest.raises(Integrity, match=f"{name} has 1 partitions and topics.yaml says 6"):
        migrate(settings, (site,))


def test_a_second_installation_on_one_kafka_is_refused_by_the_name_of_the_first(
    kafka: str, backbone: str
) -> None:
    settings, site = KafkaSettings(bootstrap_servers=kafka), f"site-{uuid.uuid4().hex[:8]}"
    first, second = (f"{name}-{uuid.uuid4().hex[:8]}/pharmaloop" for name in ("one", "two"))

    def run(name: str, take_over: str = "", sites: tuple[str, ...] = ("hospital-a",)) -> list[str]:
        return migrate(settings, sites, InstallationSettings(installation=name, take_over=take_over))

    before = read_owner(settings)
    run(first, take_over=before)
    run(first)
    with pytest.raises(Integrity, match=f"belong to the installation {first}, and this is {second}"):
        run(second, sites=("hospital-a", site))
    there = AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=10).topics
    assert not [name for name in there if site in name], "nothing was made for who was refused"
    run(second, take_over=first)
    assert read_owner(settings) == second
    with pytest.raises(Integrity):
        run(first)
    # Who tells no name, as every other test, goes on; and the contract that is registered beside stands.
    assert migrate(settings, ("hospital-a",)) == []
    assert read_register(settings) is not None
