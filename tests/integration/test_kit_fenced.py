"""A member of a consumer group whose place another one takes, or a later build of it, on a real Kafka."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from services.kit.bus import kafka as bus
from services.kit.bus.kafka import KafkaConsumer
from services.kit.bus.protocol import Partition
from services.kit.errors import Integrity
from services.kit.settings import KafkaSettings

_PATIENCE = 60.0


def new_topic(kafka: str) -> str:
    name = f"fenced-{uuid.uuid4().hex}"
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(name, 3, 1)])[name].result(timeout=10)
    # It is made at the controller; a consumer asks the broker, which hears of it a moment later.
    end = time.monotonic() + _PATIENCE
    while len(admin.list_topics(name, timeout=10).topics[name].partitions) < 3:
        assert time.monotonic() < end
        time.sleep(0.05)
    return name


@pytest.fixture
def topic(kafka: str) -> str:
    return new_topic(kafka)


@dataclass
class Member:
    """A consumer of one instance id, and what it was given."""

    consumer: KafkaConsumer
    given: list[Partition] = field(default_factory=list)
    lost: list[Partition] = field(default_factory=list)

    @classmethod
    @contextmanager
    def joins(cls, kafka: str, topic: str, *more: str) -> Iterator[Member]:
        member = cls(KafkaConsumer(KafkaSettings(bootstrap_servers=kafka), f"{topic}-group", "7", "rnd"))

        def start(partitions: Iterable[Partition]) -> dict[Partition, int]:
            member.given += partitions
            return dict.fromkeys(partitions, 0)

        member.consumer.subscribe([topic, *more], start, member.lost.extend)
        with closing(member.consumer):
            yield member

    def turn(self, until: Callable[[], bool]) -> None:
        end = time.monotonic() + _PATIENCE
        while not until():
            assert time.monotonic() < end
            self.consumer.take(10, 0.1)


def test_who_is_fenced_out_of_a_group_says_by_which_setting(
    kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no database tells: of two consumers of one instance id the older one leaves."""
    monkeypatch.setattr(bus, "_ALONE_SECONDS", _PATIENCE)  # on a slow machine a turn takes long
    with Member.joins(kafka, topic) as older:
        older.turn(lambda: bool(older.given))
        with Member.joins(kafka, topic) as newer:
            newer.turn(lambda: bool(newer.given))
            older.given.clear()
            older.turn(lambda: bool(older.given))  # it may have been its own doing
            newer.given.clear()
            newer.turn(lambda: bool(newer.given))
            with pytest.raises(Integrity, match="PHARMALOOP_RND_INSTANCE"):
                older.turn(lambda: False)


def test_who_was_fenced_by_nobody_who_stays_goes_on(kafka: str, topic: str) -> None:
    """As a process does to itself that got no processor for a while: it must not stand still for good."""
    with Member.joins(kafka, topic) as member:
        member.turn(lambda: bool(member.given))
        had = sorted(member.given)
        with Member.joins(kafka, topic) as passing:
            passing.turn(lambda: bool(passing.given))
        member.given.clear()
        member.turn(lambda: sorted(member.given) == had)
        assert sorted(member.lost) == had, "what it held is given back before it is taken anew"


@pytest.mark.faults
def test_a_later_build_of_a_member_is_given_what_only_it_reads(kafka: str, topic: str) -> None:
    """The broker gives a static member that comes back what it had, whatever it asks for now."""
    with Member.joins(kafka, topic) as earlier:
        earlier.turn(lambda: len(earlier.given) == 3)
    also = new_topic(kafka)
    with Member.joins(kafka, topic, also) as later:
        later.turn(lambda: {part.topic for part in later.given} == {topic, also})
    with Member.joins(kafka, topic) as back:
        back.turn(lambda: len(back.given) == 3)
        assert {part.topic for part in back.given} == {topic}, "and nothing that it cannot read"
