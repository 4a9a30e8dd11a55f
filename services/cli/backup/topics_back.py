"""Topics laid back into an empty Kafka, each record under the offset that it had.

While they are filled nothing is deleted or compacted: a topic gets the settings
of the backup last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import confluent_kafka as ck
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from services.cli.backup import refill, segments
from services.cli.backup.manifest import Broken, Manifest, Partition, Topic
from services.cli.backup.topics import Backbone, Moved, Place
from services.cli.session import Unreachable
from services.kit.bus.kafka_client import client_config
from services.kit.bus.migrate import UNFINISHED
from services.kit.bus.protocol import LARGEST_LETTER_BYTES
from services.kit.bus.register import TOPIC as REGISTER

#: While a topic is filled.
_MEANWHILE = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
_SECONDS = 60.0
#: Records that are under way at most, in messages and in KB.
_UNDER_WAY, _UNDER_WAY_KB = 100_000, 262_144
_MOVED_TOGETHER = 1000


class Filling:
    """Lays topics back: `begin`, `fill`, `end`, and `release` when the databases are back too."""

    def __init__(self, backbone: Backbone, folder: Path, manifest: Manifest) -> None:
        self._backbone = backbone
        self._admin = backbone.admin
        self._folder = folder
        self._manifest = manifest

    def begin(self) -> None:
        """Mark this Kafka, and make the topics that are missing; all of them keep everything for now."""
        there = self._backbone.partitions()
        replicas = self._backbone.settings.replication_factor
        self._create([NewTopic(UNFINISHED, 1, replicas)])
        if REGISTER in there:
            # A migration ran before; what it wrote of its build's contract is in the backup, or older.
            self._delete(REGISTER)
            there = {name: count for name, count in there.items() if name != REGISTER}
        missing = [topic for topic in self._manifest.topics if topic.name not in there]
        self._create(
            [
                NewTopic(
                    topic.name,
                    len(topic.partitions),
                    replicas,
                    config=self._lasting(topic) | _MEANWHILE,
                )
                for topic in missing
            ]
        )
        self._alter({topic.name: self._lasting(topic) | _MEANWHILE for topic in self._manifest.topics})
        self._backbone.offsets(self._places(), OffsetSpec.latest())  # answers when all have their leaders

    def _places(self) -> dict[Place, Partition]:
        return {
            (topic.name, part.number): part for topic in self._manifest.topics for part in topic.partitions
        }

    def _lasting(self, topic: Topic) -> dict[str, str]:
        return {
            **topic.settings,
            "min.insync.replicas": str(self._backbone.settings.min_insync_replicas),
        }

    def fill(self, moved: Moved) -> None:
        """All records, at their offsets."""
        places = self._places()
        empty = {at: refill.before(one.first, one.end, one.records) for at, one in places.items()}
        producer = _Producer(self._backbone)
        for at, count in empty.items():
            producer.send(at, 0, (segments.Kept(offset, 0, None, None) for offset in range(count)), _nothing)
        producer.finish()
        self._drop({at: count for at, count in empty.items() if count})
        for at, part in places.items():
            producer.send(at, empty[at], self._records(at, part), moved)
        producer.finish()
        self._compare(places)

    def _records(self, at: Place, part: Partition) -> Iterator[segments.Kept]:
        where = f"{at[0]}/{at[1]}"
        if not part.records:
            return iter(())
        kept = (record for file in part.files for record in segments.read(self._folder / file))
        return refill.laid_out(kept, part.first, part.end, where)

    def end(self) -> None:
        """Offsets of groups, and the settings that the topics are to have."""
        for group in self._manifest.groups:
            offsets = [ck.TopicPartition(*at) for at in group.offsets]
            asked = self._admin.alter_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group.name, offsets)]
            )
            for at in asked[group.name].result(_SECONDS).topic_partitions:
                if at.error is not None:
                    raise ck.KafkaException(at.error)
        self._alter({topic.name: self._lasting(topic) for topic in self._manifest.topics}, _MEANWHILE)

    def release(self) -> None:
        """Everything is laid back: the mark is taken away."""
        self._delete(UNFINISHED)

    # -- questions and orders to the cluster ------------------------------------

    def _create(self, topics: list[NewTopic]) -> None:
        for future in (self._admin.create_topics(topics) if topics else {}).values():
            future.result(_SECONDS)
        self._until(lambda: {topic.topic for topic in topics} <= self._names(), "shows its new topics")

    def _delete(self, name: str) -> None:
        self._admin.delete_topics([name])[name].result(_SECONDS)
        self._until(lambda: name not in self._names(), f"has let go of {name}")

    def _names(self) -> set[str]:
        return set(self._backbone.partitions(everything=True))

    def _until(self, test: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + _SECONDS
        while not test():
            if time.monotonic() > end:
                raise Unreachable(f"it was waited in vain until Kafka {what}", "see its log")
            time.sleep(0.1)

    def _alter(
        self, wanted: Mapping[str, Mapping[str, str]], unless: Mapping[str, str] | None = None
    ) -> None:
        """Set these; of `unless`, what is not among them goes back to the cluster's own."""
        resources = []
        for name, values in wanted.items():
            entries = [
                ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                for key, value in values.items()
            ]
            entries += [
                ConfigEntry(key, "", incremental_operation=AlterConfigOpType.DELETE)
                for key in unless or {}
                if key not in values
            ]
            resources.append(ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries))
        for future in (self._admin.incremental_alter_configs(resources) if resources else {}).values():
            future.result(_SECONDS)

    def _drop(self, counts: Mapping[Place, int]) -> None:
        """Delete the empty records, so that a partition begins where it began."""
        asked = [ck.TopicPartition(*at, count) for at, count in counts.items()]
        for future in (self._admin.delete_records(asked) if asked else {}).values():
            future.result(_SECONDS)

    def _compare(self, places: Mapping[Place, Partition]) -> None:
        ends = self._backbone.offsets(places, OffsetSpec.latest())
        starts = self._backbone.offsets(places, OffsetSpec.earliest())
        for at, part in places.items():
            wanted = (refill.before(part.first, part.end, part.records), part.end)
            if (starts[at], ends[at]) != wanted:
                raise Broken(
                    f"partition {at[1]} of {at[0]} goes from {starts[at]} to {ends[at]}, and should from "
                    f"{wanted[0]} to {wanted[1]}: somebody else writes to it"
                )


def _nothing(_: int) -> None:
    """Empty records are no progress."""


@dataclass
class _Due:
    """The offset that the next record of a partition is to get; a record's report comes in its turn."""

    at: Place
    offset: int


class _Producer:
    """Sends records one after the other to a partition, and sees that each gets the offset it is to have."""

    def __init__(self, backbone: Backbone) -> None:
        self._servers = backbone.settings.bootstrap_servers
        self._failed: list[str] = []
        self._producer: Any = ck.Producer(
            {
                **client_config(backbone.settings, "restore"),
                "acks": "all",
                "enable.idempotence": True,
                "message.max.bytes": LARGEST_LETTER_BYTES + 1_000_000,
                "linger.ms": 20,
                "compression.type": "zstd",
                "queue.buffering.max.messages": _UNDER_WAY,
                "queue.buffering.max.kbytes": _UNDER_WAY_KB,
            }
        )

    def send(self, at: Place, first: int, records: Iterator[segments.Kept], moved: Moved) -> None:
        """Hand over the records of a partition; the first gets the offset `first`."""
        report = partial(self._report, _Due(at, first))
        count = 0
        for count, record in enumerate(records, 1):
            self._hand_over(at, record, report)
            if count % _MOVED_TOGETHER == 0:
                moved(_MOVED_TOGETHER)
                self._check()
        moved(count % _MOVED_TOGETHER)

    def _hand_over(self, at: Place, record: segments.Kept, report: Any) -> None:
        while True:
            try:
                self._producer.produce(
                    at[0],
                    value=record.value,
                    key=record.key,
                    partition=at[1],
                    timestamp=record.timestamp_ms,
                    headers=list(record.headers),
                    on_delivery=report,
                )
                return
            except BufferError:
                self._producer.poll(0.5)
                self._check()

    def _report(self, due: _Due, error: Any, message: Any) -> None:
        topic, number = due.at
        if error is not None:
            self._failed.append(f"Kafka at {self._servers} did not take a record of {topic}: {error}")
        elif message.offset() != due.offset:
            self._failed.append(
                f"a record of {topic}, partition {number}, came to offset {message.offset()} and not to "
                f"{due.offset}: somebody else writes to it"
            )
        due.offset += 1

    def _check(self) -> None:
        if self._failed:
            raise Unreachable(
                self._failed[0], "stop whoever uses this Kafka, empty it and its MongoDB, and restore again"
            )

    def finish(self) -> None:
        """Until everything that was handed over is in the log."""
        while self._producer.flush(1.0):
            self._check()
        self._check()
