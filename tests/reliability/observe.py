"""Reads a world's databases and topics as they are, past every service."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException
from confluent_kafka.admin import AdminClient

from services.exchange.handlers.runs import EXPIRY_STEP
from services.kit.bus.kafka import KafkaBus, client_config
from services.kit.bus.protocol import Partition, Record
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record
from services.kit.errors import Poison
from services.kit.settings import KafkaSettings
from tests.reliability.export import Doc, Export, export
from tests.reliability.specs import SITE, SPECS, database_of, runners
from tests.reliability.world import World, until

_REST_SECONDS, _ANSWER_SECONDS = 90.0, 10.0
#: Whose steps have to be done at rest: all of the trace's; of the exchange's all but those for the day on
#: which a study expires.
_STEPS: Mapping[str, Mapping[str, Any]] = {
    "traceability": {},
    "exchange": {"s.step": {"$ne": EXPIRY_STEP}},
}
_LOOP_GROUP, _CASE_TOPIC = "pharmaloop-loops", "pharmaloop.loops.case.v1"


@dataclass(frozen=True)
class Seen:
    """Everything at one moment. `bad` are the records that are no events."""

    databases: Mapping[str, Mapping[str, list[Doc]]]
    events: list[Event]
    bad: list[Record]
    letters: list[Record]
    ends: Mapping[Partition, int]

    def export(self, *, moments: bool = True) -> Export:
        return export(self.databases, self.events, moments=moments)


def _live(database: Any) -> dict[str, str]:
    """The collection that holds each kind: of a view that was made anew, the newest making."""
    names = sorted(database.list_collection_names(), key=lambda name: int(name.partition("~")[2] or 1))
    return {name.partition("~")[0]: name for name in names}


class Observer:
    """Looks at one world; what it has read of the topics it keeps, for they only grow."""

    def __init__(self, world: World) -> None:
        self.world = world
        #: Who is waited for; of another build, its own.
        self.runners: Mapping[str, tuple[str, ...]] = runners()
        self._bus = KafkaBus(KafkaSettings(bootstrap_servers=world.bootstrap), "observer")
        self._topics = [name for name, _ in contract().names((SITE,))]
        self._log = self._bus.log()
        self._admin = self._new_admin()
        self._at: dict[Partition, int] = {}
        self._records: list[Record] = []

    def _new_admin(self) -> AdminClient:
        settings = KafkaSettings(bootstrap_servers=self.world.bootstrap)
        return AdminClient(client_config(settings, "observer"))

    # -- at rest --------------------------------------------------------------

    def wait_for_rest(self, seconds: float = _REST_SECONDS) -> None:
        """Until nothing is left to do: twice in a row everything is folded and published."""
        calm: list[dict[Partition, int]] = []

        def rests() -> bool:
            ends = self._ends()
            behind = self.behind(ends)
            self.last_behind = behind
            calm.append({} if behind else ends)
            return len(calm) > 1 and bool(calm[-1]) and calm[-1] == calm[-2]

        try:
            until("the platform comes to rest", rests, seconds, pause=0.2)
        except AssertionError as error:
            raise AssertionError(f"{error}; still to do: {self.last_behind[:12]}") from None

    def behind(self, ends: Mapping[Partition, int]) -> list[str]:
        """What is left to do, in words."""
        found = []
        for service in SPECS:
            database = self.world.database[database_of(service)]
            if waiting := database["_outbox"].count_documents({"open": True}):
                found.append(f"{service}: {waiting} events wait in the outbox")
        marks = self.marks()
        for runner, topics in self.runners.items():
            for partition, end in ends.items():
                if partition.topic in topics and marks.get((runner, partition), 0) < end:
                    found.append(f"{runner}: {partition} at {marks.get((runner, partition), 0)} of {end}")
        for service, left in _STEPS.items():
            due = self.world.database[database_of(service)]["_step"]
            found += [f"{service}: step {doc['_id']}" for doc in due.find(left, {"_id": 1})]
        return [*found, *self._loop_behind(ends)]

    def _loop_behind(self, ends: Mapping[Partition, int]) -> list[str]:
        """The loop's own consumer says how far it is by the offsets of its group."""
        asked: Any = self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(_LOOP_GROUP)])
        try:
            done = asked[_LOOP_GROUP].result(_ANSWER_SECONDS).topic_partitions
        except (TimeoutError, KafkaException) as error:
            # A client whose connections a test has broken may ask the old ones for minutes.
            self._admin = self._new_admin()
            return [f"loops.cases: the broker does not tell its offsets: {error!r}"]
        at = {Partition(place.topic, place.partition): place.offset for place in done}
        return [
            f"loops.cases: {partition} at {at.get(partition, 0)} of {end}"
            for partition, end in ends.items()
            if partition.topic == _CASE_TOPIC and at.get(partition, 0) < end
        ]

    def _ends(self) -> dict[Partition, int]:
        return {place: end for place, end in self._log.ends(self._topics).items() if end}

    def marks(self) -> dict[tuple[str, Partition], int]:
        """How far each runner has folded, in its newest generation."""
        newest: dict[tuple[str, Partition], tuple[int, int]] = {}
        for service in SPECS:
            for doc in self.world.database[database_of(service)]["_mark"].find():
                mark = doc["s"]
                # Agents are several services of one name.
                runner = f"{service}.{mark['runner'].rpartition('.')[2]}"
                key = (runner, Partition(mark["topic"], mark["partition"]))
                newest[key] = max(newest.get(key, (0, 0)), (mark["generation"], mark["next"]))
        return {key: at for key, (_, at) in newest.items()}

    def report(self) -> list[str]:
        """What is left to do, what is parked or waits, and which runs are open."""
        lines = [f"left to do: {what}" for what in self.behind(self._ends())[:20]]
        for service in SPECS:
            database = self.world.database[database_of(service)]
            for name in ("_parked", "_waiting"):
                lines += [f"{service}{name}: {doc}" for doc in database[name].find().limit(5)]
        for doc in self.world.database[database_of("loops")]["run"].find({"s.state": {"$ne": "closed"}}):
            lines.append(f"open run: {doc['_id']} of {doc['s']['lot']} in stage {doc['s']['stage']}")
        return lines

    # -- everything -----------------------------------------------------------

    def records(self) -> list[Record]:
        """What has been read of the topics so far, in the order of each partition."""
        return list(self._records)

    def look(self) -> Seen:
        ends = self._ends()
        self._read(self._topics, ends)
        dlq = [f"{topic}.dlq" for topic in self._topics]
        graves = {place: end for place, end in self._log.ends(dlq).items() if end}
        letters = self._taken(dlq, {}, graves)
        events, bad = _events(self._records)
        return Seen(self._databases(), events, bad, letters, ends | graves)

    def _databases(self) -> dict[str, dict[str, list[Doc]]]:
        found: dict[str, dict[str, list[Doc]]] = {}
        for service in SPECS:
            database = self.world.database[database_of(service)]
            found[service] = {kind: list(database[name].find()) for kind, name in _live(database).items()}
        return found

    def _read(self, topics: Iterable[str], ends: Mapping[Partition, int]) -> None:
        start = dict(self._at)
        wanted = {place: end for place, end in ends.items() if start.get(place, 0) < end}
        self._records += self._taken(topics, start, wanted)
        self._at |= ends

    def _taken(
        self, topics: Iterable[str], start: Mapping[Partition, int], wanted: dict[Partition, int]
    ) -> list[Record]:
        """The records from `start` on up to the wanted ends, in the order of each partition."""
        found: list[Record] = []
        if not wanted:
            return found
        consumer = self._bus.consumer(f"observer-{uuid.uuid4().hex}", "0")
        names = sorted({place.topic for place in wanted} & set(topics))
        consumer.subscribe(names, lambda places: {p: start.get(p, 0) for p in places}, lambda places: None)
        left = dict(wanted)

        def all_read() -> bool:
            for record in consumer.take(2000, 0.2):
                place = Partition(record.topic, record.partition)
                if record.offset < wanted.get(place, 0):
                    found.append(record)
                if record.offset + 1 >= left.get(place, 0):
                    left.pop(place, None)
            return not left

        try:
            until(f"{names} are read", all_read, 60.0, pause=0.0)
        finally:
            consumer.close()
        return found


def _events(records: Iterable[Record]) -> tuple[list[Event], list[Record]]:
    events: list[Event] = []
    bad: list[Record] = []
    for record in records:
        try:
            events.append(from_record(contract(), record))
        except Poison:
            bad.append(record)
    return events, bad


def same(expected: Seen, found: Seen, *, moments: bool = True) -> None:
    """Assert that two worlds hold the same and have said the same."""
    one, two = expected.export(moments=moments), found.export(moments=moments)
    assert one.digest == two.digest, f"the exports differ:\n{one.difference(two)}"
