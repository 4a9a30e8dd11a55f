"""A case topic of its own on a real Kafka, loop workers on it, and the oracle that judges them.

The oracle replays the case topic, as Kafka has it, through the pure protocol.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import confluent_kafka as ck
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from pharmaloop.production.v1 import events_pb2 as production
from services.kit.bus.protocol import Headers, Outgoing, Record
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record, to_record
from services.kit.runners.loop import Case
from services.loops.engine import APP_ID
from tests.reliability.loop_child import HEARD, Heard

RUNS_TOPIC = "pharmaloop.loops.run.v1"
PARTITIONS = 6
FOREVER = {"retention.ms": "-1"}
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
_SECONDS = 120.0


def until(condition: Callable[[], bool], what: str, seconds: float = _SECONDS) -> None:
    """Return once the condition holds; AssertionError names what never came."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)


def comes(tell: Callable[[], dict[Any, Any]], wanted: dict[Any, Any], seconds: float = 30.0) -> None:
    """Return once it tells what is wanted; AssertionError has what still differs."""
    deadline = time.monotonic() + seconds
    while (have := tell()) != wanted and time.monotonic() < deadline:
        time.sleep(0.2)
    odd = {key: (have.get(key), wanted.get(key)) for key in have | wanted if have.get(key) != wanted.get(key)}
    assert not odd, f"has, and should have: {odd}"


class Child:
    """One worker process."""

    def __init__(self, world: LoopWorld, instance: str, data_dir: Path, **environment: str) -> None:
        command = [sys.executable, "-m", "tests.reliability.loop_child"]
        arguments = [world.kafka, str(data_dir), instance, world.prefix, world.source]
        path = os.pathsep.join([str(ROOT), str(ROOT / "proto" / "gen")])
        self.log_file = data_dir.with_suffix(".log")
        data_dir.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as errors:
            self.process = subprocess.Popen(
                [*command, *arguments],
                env={**os.environ, "PYTHONPATH": path, **environment},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.status: dict[str, Any] = {"state": "", "records": 0, "detail": ""}
        self.states: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith('{"state"'):
                self.status, _ = json.JSONDecoder().raw_decode(line)  # a library may write on, after it
                self.states.append(self.status["state"])

    def until(self, condition: Callable[[dict[str, Any]], bool], what: str) -> None:
        def holds() -> bool:
            assert self.process.poll() is None or condition(self.status), (
                f"worker ended with {self.process.returncode} before {what}: {self.log()}"
            )
            return condition(self.status)

        until(holds, what)

    def running(self) -> Child:
        self.until(lambda status: status["state"] == "running", "worker runs")
        return self

    def dies(self) -> int:
        """Wait until it has ended; the exit code (-9 when it was killed)."""
        return self.process.wait(_SECONDS)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(_SECONDS)

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(_SECONDS)
        self._reader.join(_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()


@dataclass
class LoopWorld:
    """Topics of one test."""

    kafka: str
    folder: Path
    name: str = field(default_factory=lambda: f"l{uuid.uuid4().hex[:10]}")
    children: list[Child] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.prefix = f"{self.name}."
        self.source = f"{self.name}.case"
        self.changelog = f"{self.prefix}{APP_ID}-heard-changelog"
        self.group = self.prefix + APP_ID
        self.admin = AdminClient({"bootstrap.servers": self.kafka, "log_level": 0})
        self._seq: dict[tuple[str, str], int] = defaultdict(int)

    def create(
        self, policy: str = "compact", partitions: int = PARTITIONS, changelog: dict[str, str] | None = None
    ) -> LoopWorld:
        topics = [
            NewTopic(self.source, PARTITIONS, 1, config=FOREVER),
            NewTopic(f"{self.source}.dlq", 1, 1),
            NewTopic(self.changelog, partitions, 1, config={"cleanup.policy": policy, **(changelog or {})}),
        ]
        for made in self.admin.create_topics(topics).values():
            made.result(10)
        return self

    # -- input --------------------------------------------------------------

    def event(self, case: str, name: str = "s", **fields: Any) -> Event:
        """The next event of a source within a case."""
        key = f"{self.name}/{case}"
        self._seq[key, name] += 1
        seq = self._seq[key, name]
        event = Event(
            id=f"{key}/{name}/{seq}",
            source="/svc/test",
            subject=f"{key}/{name}",
            time=NOON,
            message=production.LotStarted(lot=key, product="m/item/G", equipment="dryer-1"),
            key=key,
            seq=seq,
            case=key,
            trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        return event._replace(**fields)

    def events(self, count: int, cases: int = 20) -> list[Event]:
        return [self.event(f"c{n % cases}", f"s{n % 3}") for n in range(count)]

    def feed(self, events: Iterable[Event], **producer: Any) -> None:
        self.publish([to_record(event, self.source) for event in events], **producer)

    def publish(self, records: Iterable[Outgoing], **options: Any) -> None:
        config = {"bootstrap.servers": self.kafka, "partitioner": "murmur2_random", "log_level": 0, **options}
        producer = ck.Producer(config)
        for record in records:
            producer.produce(record.topic, record.value, record.key or None, headers=list(record.headers))
            producer.poll(0)
        assert producer.flush(_SECONDS) == 0, "the test's own records are in the log"

    # -- workers ------------------------------------------------------------

    def worker(self, instance: str = "w1", data: str = "", **environment: str) -> Child:
        child = Child(self, instance, self.folder / f"{self.name}-{data or instance}", **environment)
        self.children.append(child)
        return child

    def close(self) -> None:
        for child in self.children:
            child.stop()

    # -- what Kafka has -----------------------------------------------------

    def ends(self, topic: str) -> dict[int, int]:
        numbers = self.admin.list_topics(topic, timeout=10).topics[topic].partitions
        asked: Any = {ck.TopicPartition(topic, n): OffsetSpec.latest() for n in numbers}
        answers = cast(Any, self.admin).list_offsets(asked, request_timeout=10)
        return {tp.partition: future.result().offset for tp, future in answers.items()}

    def committed(self) -> dict[int, int]:
        asked = [ck.TopicPartition(self.source, n) for n in range(PARTITIONS)]
        request = [ck.ConsumerGroupTopicPartitions(self.group, asked)]
        (future,) = self.admin.list_consumer_group_offsets(request).values()
        return {tp.partition: tp.offset for tp in future.result().topic_partitions}

    def lag(self) -> int:
        committed = self.committed()
        return sum(end - max(0, committed.get(n, 0)) for n, end in self.ends(self.source).items())

    def until_taken(self) -> None:
        try:
            until(lambda: self.lag() == 0, "lag is back to 0")
        except AssertionError as error:
            error.add_note(f"acknowledged {self.committed()} of {self.ends(self.source)}")
            for child in self.children:
                error.add_note(f"{child.status} {child.log()}")
            raise

    def read(self, topic: str) -> list[Record]:
        """Every record that the topic has now, by partition and offset."""
        ends = {n: end for n, end in self.ends(topic).items() if end}
        settings = {"bootstrap.servers": self.kafka, "group.id": f"{self.name}-look", "log_level": 0}
        consumer = ck.Consumer({**settings, "enable.auto.commit": False, "enable.partition.eof": True})
        found: list[Record] = []
        try:
            consumer.assign([ck.TopicPartition(topic, n, 0) for n in ends])
            deadline = time.monotonic() + _SECONDS
            while ends:
                assert time.monotonic() < deadline, f"{topic} could not be read"
                for message in consumer.consume(500, 0.2):
                    error = message.error()
                    if error is None:
                        found.append(_record(message))
                    elif error.code() == ck.KafkaError._PARTITION_EOF:
                        ends.pop(cast(int, message.partition()), None)
        finally:
            consumer.close()
        return sorted(found, key=lambda record: (record.partition, record.offset))

    def effects(self) -> list[Record]:
        mine = f"run/{self.name}/".encode()
        return [record for record in self.read(RUNS_TOPIC) if (record.key or b"").startswith(mine)]

    def letters(self) -> list[dict[str, str]]:
        found = self.read(f"{self.source}.dlq")
        return [{name: value.decode(errors="replace") for name, value in one.headers} for one in found]

    def cases(self) -> dict[tuple[int, bytes], Case[Heard]]:
        """The table, as its changelog says."""
        latest = {(one.partition, one.key or b""): one.value for one in self.read(self.changelog)}
        return {place: HEARD.load(value) for place, value in latest.items() if value}

    # -- judging ------------------------------------------------------------

    def judge(self) -> int:
        """Assert that every state is exact, every effect is there, in order, and as it must be.

        What is committed may still be asked for once more (`loop_driver`), so both may come a moment
        after the lag is 0. Answers how many effects were sent more than once.
        """
        cases, wanted = self.oracle()
        comes(self.cases, cases)
        comes(
            lambda: _news(self.effects()),
            {key: [_facts(event) for event in events] for key, events in wanted.items()},
        )
        return len(self.effects()) - sum(map(len, wanted.values()))

    def oracle(self) -> tuple[dict[tuple[int, bytes], Case[Heard]], dict[bytes, list[Event]]]:
        """Cases and effects, by replaying the case topic with nothing going wrong."""
        cases: dict[tuple[int, bytes], Case[Heard]] = {}
        wanted: dict[bytes, list[Event]] = defaultdict(list)
        for record in self.read(self.source):
            place = (record.partition, record.key or b"")
            turn = HEARD.take("oracle", cases.get(place), record)
            cases[place] = turn.case
            if turn.fresh:
                for event in turn.effects:
                    wanted[event.key.encode()].append(event)
        return cases, dict(wanted)


def _record(message: Any) -> Record:
    headers: Headers = tuple((name, value or b"") for name, value in message.headers() or ())
    stamp = message.timestamp()[1]
    where = (message.topic(), message.partition(), message.offset())
    return Record(*where, message.key(), message.value(), headers, stamp)


def _facts(event: Event) -> tuple[Any, ...]:
    return (event.id, event.type, event.seq, event.cause, event.case, event.run, event.time, event.message)


def _news(records: Iterable[Record]) -> dict[bytes, list[tuple[Any, ...]]]:
    """What a receiver keeps that drops what is not newer; a changed repeat is an error here."""
    kept: dict[bytes, list[tuple[Any, ...]]] = defaultdict(list)
    known: dict[str, tuple[Any, ...]] = {}
    for record in records:
        event = from_record(contract(), record)
        facts = _facts(event)
        assert known.setdefault(event.id, facts) == facts, "a repeat says the same"
        have = kept[record.key or b""]
        if not have or cast(int, event.seq) > have[-1][2]:
            have.append(facts)
    return dict(kept)


@contextmanager
def loop_world(kafka: str, folder: Path) -> Iterator[LoopWorld]:
    """A world whose workers are gone at the end."""
    world = LoopWorld(kafka, folder)
    try:
        yield world
    finally:
        world.close()
