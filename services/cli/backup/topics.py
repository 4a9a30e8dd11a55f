"""Topics read out: records from each partition's begin up to a cut, settings, offsets of groups.

The ends of the partitions are asked for before the databases are caught, and
reach then as far as the databases know: nothing that a database has noted lies
beyond what the backup has of the log, and the log tells nothing that its
database does not have. The groups' offsets and the ends of the loops' tables
come first of all, for they name places in the other topics.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import confluent_kafka as ck
from confluent_kafka import ConsumerGroupTopicPartitions, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, ConfigSource, OffsetSpec, ResourceType

from services.cli.backup import segments
from services.cli.backup.manifest import Group, Partition, Topic
from services.cli.session import Failure, Unreachable
from services.kit.bus.kafka_client import client_config
from services.kit.bus.migrate import UNFINISHED
from services.kit.errors import PharmaLoopError
from services.kit.settings import KafkaSettings
from services.kit.startup.backbone import BackboneProbe

Moved = Callable[[int], None]
Place = tuple[str, int]
_PREFIXES = ("pharmaloop.", "pharmaloop-")
#: The tables of the loops.
_TABLES = "pharmaloop-"
#: Topics that the loops' library makes for itself anew.
_INTERNAL = "__"
_SECONDS = 30.0
#: A partition that gives nothing for so long, although something is left, ends the backup.
_SILENT_SECONDS = 60.0
_TAKE = 2000
_NAMED = 3
_NO_RIGHT = (
    ck.KafkaError.TOPIC_AUTHORIZATION_FAILED,
    ck.KafkaError.GROUP_AUTHORIZATION_FAILED,
    ck.KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)
_ELECTING = (
    ck.KafkaError.NOT_LEADER_FOR_PARTITION,
    ck.KafkaError.LEADER_NOT_AVAILABLE,
    ck.KafkaError.UNKNOWN_TOPIC_OR_PART,
)
#: A group that nobody has: who may ask for it may ask for every group.
_ANY_GROUP = "pharmaloop-backup-any-group"
#: They follow from the cluster that the topics come to, not from that which they come from.
_OF_THE_CLUSTER = "min.insync.replicas"


@dataclass(frozen=True)
class Cut:
    """What is read: for each partition its first offset and its end."""

    ranges: Mapping[Place, tuple[int, int]]

    def of(self, topic: str) -> dict[int, tuple[int, int]]:
        return {number: range_ for (name, number), range_ in sorted(self.ranges.items()) if name == topic}

    @property
    def topics(self) -> list[str]:
        return sorted({topic for topic, _ in self.ranges})

    @property
    def most(self) -> int:
        """So many records at most."""
        return sum(end - first for first, end in self.ranges.values())


@contextmanager
def plain_errors(settings: KafkaSettings) -> Iterator[None]:
    """What the client raises, in one sentence."""
    try:
        yield
    except ck.KafkaException as error:
        cause: Any = error.args[0]
        if cause.code() in _NO_RIGHT:
            raise Unreachable(
                f"Kafka at {settings.bootstrap_servers}: this user lacks a right ({cause.name()})",
                "see 'Rights in Kafka' in docs/deploy.md for what a backup and a restore need; the chart "
                "pharmaloop-kafka makes users for them (users.backup=true, users.restore=true)",
            ) from None
        raise Unreachable(
            f"Kafka at {settings.bootstrap_servers}: {error.args[0]}",
            "see that it runs, and that the user of KAFKA_SASL_USERNAME may read, write and alter everything",
        ) from None
    except PharmaLoopError as error:
        raise Unreachable(str(error), "see that Kafka runs, and that the KAFKA_* settings name it") from None


class Backbone:
    """Asks a Kafka for what the backup needs to know."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings
        with BackboneProbe(settings, "backup") as probe:
            probe.check()
        self.admin: Any = AdminClient(client_config(settings, "backup"))

    def partitions(self, everything: bool = False) -> dict[str, int]:
        """How many partitions each topic of the platform has; `everything` counts unfinished restores too."""
        metadata = self.admin.list_topics(timeout=_SECONDS)
        return {
            name: len(topic.partitions)
            for name, topic in sorted(metadata.topics.items())
            if name.startswith(_PREFIXES) and _INTERNAL not in name and (everything or name != UNFINISHED)
        }

    def offsets(self, places: Iterable[Place], spec: Any) -> dict[Place, int]:
        """Asked for in one call; a topic that was made just now has no leader for a moment."""
        asked = {ck.TopicPartition(topic, number): spec for topic, number in places}
        end = time.monotonic() + _SECONDS
        while asked:
            answers = self.admin.list_offsets(asked, request_timeout=_SECONDS)
            try:
                return {(at.topic, at.partition): future.result().offset for at, future in answers.items()}
            except ck.KafkaException as error:
                cause: Any = error.args[0]
                if cause.code() not in _ELECTING or time.monotonic() > end:
                    raise
            time.sleep(0.1)
        return {}

    def ends(self) -> dict[Place, int]:
        """The end of every partition, now; those of the loops' tables are asked for before the others."""
        places = [(name, number) for name, count in self.partitions().items() for number in range(count)]
        tables = [place for place in places if place[0].startswith(_TABLES)]
        others = [place for place in places if not place[0].startswith(_TABLES)]
        return self.offsets(tables, OffsetSpec.latest()) | self.offsets(others, OffsetSpec.latest())

    def cut(self, ends: Mapping[Place, int], known: Mapping[Place, int]) -> Cut:
        """From the first record of every partition to its end, or further, as far as a database knows it."""
        further = [place for place in ends if known.get(place, 0) > ends[place]]
        present = self.offsets(further, OffsetSpec.latest())
        reached = {**ends, **{place: min(known[place], present[place]) for place in further}}
        firsts = self.offsets(reached, OffsetSpec.earliest())
        # Retention may have moved on between the questions.
        return Cut({place: (min(firsts[place], end), end) for place, end in reached.items()})

    def settings_of(self, topics: Iterable[str]) -> dict[str, dict[str, str]]:
        """The settings that each topic has of its own."""
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in topics]
        if not resources:
            return {}
        own = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
        answers = self.admin.describe_configs(resources, request_timeout=_SECONDS)
        return {
            resource.name: {
                entry.name: entry.value
                for entry in future.result().values()
                if _source(entry) == own and entry.name != _OF_THE_CLUSTER
            }
            for resource, future in answers.items()
        }

    def refuse_hidden(self, topics: Iterable[str]) -> None:
        """Failure where the user may not see one of the topics, or a group: Kafka lists what he may see."""
        unseen = sorted(set(topics) - self.partitions(everything=True).keys())
        answers: dict[str, Any] = {}
        if unseen:
            answers = self.admin.describe_topics(TopicCollection(unseen), request_timeout=_SECONDS)
        hidden = [name for name, future in answers.items() if _refused(future)]
        asked = self.admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(_ANY_GROUP)], request_timeout=_SECONDS
        )
        lacks = [f"topic {name}" for name in hidden[:_NAMED]]
        lacks += ["all groups"] if any(_refused(future) for future in asked.values()) else []
        if lacks:
            raise Failure(
                f"this user has no right to see {', '.join(lacks)} of Kafka at "
                f"{self.settings.bootstrap_servers}: the backup would lack them",
                "give it Read, Describe and DescribeConfigs on all topics that begin with 'pharmaloop', and "
                "Describe on all groups (chart pharmaloop-kafka: users.backup=true)",
            )

    def groups(self) -> tuple[Group, ...]:
        """What the groups of the platform's topics have told."""
        listed = self.admin.list_consumer_groups(request_timeout=_SECONDS).result().valid
        found = []
        for name in sorted(group.group_id for group in listed):
            asked = self.admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(name)], request_timeout=_SECONDS
            )
            offsets = tuple(
                (at.topic, at.partition, at.offset)
                for at in asked[name].result().topic_partitions
                if at.topic.startswith(_PREFIXES) and _INTERNAL not in at.topic and at.offset >= 0
            )
            if offsets:
                found.append(Group(name, tuple(sorted(offsets))))
        return tuple(found)


def _refused(future: Any) -> bool:
    """Whether the user may not know; what is not there is not hidden, and another error is the caller's."""
    try:
        future.result()
    except ck.KafkaException as error:
        cause: Any = error.args[0]
        code = cause.code()
        if code not in (*_NO_RIGHT, ck.KafkaError.UNKNOWN_TOPIC_OR_PART):
            raise
        return code in _NO_RIGHT
    return False


def _source(entry: Any) -> int:
    source = entry.source
    return int(source.value if isinstance(source, ConfigSource) else source)


def copy(
    settings: KafkaSettings, folder: Path, cut: Cut, own: Mapping[str, dict[str, str]], moved: Moved
) -> tuple[Topic, ...]:
    """Write the records below the cut, topic by topic."""
    consumer = ck.Consumer(
        {
            **client_config(settings, "backup"),
            "group.id": "backup-reader",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "queued.max.messages.kbytes": 65_536,
            # The topic that is read next waits until the broker has answered for the one before.
            "fetch.wait.max.ms": 10,
        }
    )
    try:
        # Otherwise the client learns of each topic's leaders at its next turn, which is once a second.
        consumer.list_topics(timeout=_SECONDS)
        return tuple(
            _Reading(consumer, folder, name, cut.of(name), moved).topic(own[name]) for name in cut.topics
        )
    finally:
        consumer.close()


class _Reading:
    """Reads one topic."""

    def __init__(
        self, consumer: Any, folder: Path, name: str, ranges: Mapping[int, tuple[int, int]], moved: Moved
    ) -> None:
        self._consumer = consumer
        self._folder = folder
        self._name = name
        self._ranges = ranges
        self._moved = moved
        self._writers: dict[int, segments.Writer] = {}
        self._left = {number: end for number, (first, end) in ranges.items() if first < end}

    def topic(self, own: dict[str, str]) -> Topic:
        if self._left:
            self._read()
        return Topic(self._name, tuple(self._partition(number) for number in sorted(self._ranges)), own)

    def _read(self) -> None:
        starts = [ck.TopicPartition(self._name, number, self._ranges[number][0]) for number in self._left]
        self._consumer.assign(starts)
        heard = time.monotonic()
        try:
            while self._left:
                for message in self._come():
                    heard = time.monotonic()
                    self._take(message)
                if time.monotonic() - heard > _SILENT_SECONDS:
                    raise Unreachable(
                        f"Kafka gives no more records of {self._name}, partitions {sorted(self._left)}",
                        "see that its brokers are well, and make the backup again",
                    )
        finally:
            self._consumer.unassign()
            for writer in self._writers.values():
                writer.close()

    def _come(self) -> list[Any]:
        """What has come. Waits for the first alone: `consume` would wait its whole time for the last."""
        first = self._consumer.poll(1.0)
        return [] if first is None else [first, *self._consumer.consume(_TAKE, 0)]

    def _take(self, message: Any) -> None:
        number, error = message.partition(), message.error()
        if error is not None:
            # Behind the last record there may be none (compaction), so the end itself is heard too.
            if error.code() == ck.KafkaError._PARTITION_EOF:
                self._reached(number, message.offset())
            elif not error.retriable():
                raise ck.KafkaException(error)
            return
        if number in self._left and message.offset() < self._left[number]:
            self._write(number, message)
        self._reached(number, message.offset() + 1)

    def _write(self, number: int, message: Any) -> None:
        if number not in self._writers:
            self._writers[number] = segments.Writer(self._folder / "topics" / self._name / str(number))
        headers = tuple((name, value) for name, value in message.headers() or ())
        record = segments.Kept(
            message.offset(), message.timestamp()[1], message.key(), message.value(), headers
        )
        self._writers[number].write(record)
        self._moved(1)

    def _reached(self, number: int, offset: int) -> None:
        if number in self._left and offset >= self._left[number]:
            del self._left[number]
            self._consumer.pause([ck.TopicPartition(self._name, number)])

    def _partition(self, number: int) -> Partition:
        _, end = self._ranges[number]
        writer = self._writers.get(number)
        if writer is None:
            return Partition(number, end, end, 0)
        files = tuple(path.relative_to(self._folder).as_posix() for path in writer.files)
        return Partition(number, writer.first, end, writer.records, files)


def counted(topics: Iterable[Topic]) -> dict[str, int]:
    """Records by topic."""
    found: dict[str, int] = defaultdict(int)
    for topic in topics:
        found[topic.name] += sum(part.records for part in topic.partitions)
    return dict(found)


def refuse_unfinished(backbone: Backbone) -> None:
    """Failure where a restore into this Kafka did not end."""
    if UNFINISHED in backbone.partitions(everything=True):
        raise Failure(
            f"a restore into Kafka at {backbone.settings.bootstrap_servers} did not end (topic {UNFINISHED})",
            "empty this Kafka and its MongoDB, and restore again",
        )
