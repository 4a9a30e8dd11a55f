"""Creates the topics that `topics.yaml` names, and refuses a backbone that differs.

Run as `python -m services.kit.bus.migrate`. Partition counts are fixed at
creation: another count would break key order and tables, so it is an error
here and not repaired.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import confluent_kafka as ck
from confluent_kafka.admin import AdminClient, NewTopic

from services.kit.bus.kafka import client_config
from services.kit.bus.protocol import LARGEST_LETTER_BYTES, LARGEST_RECORD_BYTES
from services.kit.clock import ensure_clock
from services.kit.contracts import Contract, contract
from services.kit.errors import Integrity, PharmaLoopError, Retryable
from services.kit.settings import KafkaSettings, PlatformSettings, read_settings

_FOREVER = "-1"
_DAY_MS = 86_400_000
_ROUNDS = 25


def changelogs(contract: Contract, kafka: KafkaSettings, prefix: str = "") -> Iterator[NewTopic]:
    """The compacted topics of the loop processors' tables; `prefix` is for tests."""
    partitions = {topic.name: topic.partitions for topic in contract.topics}
    config = {"cleanup.policy": "compact", "min.insync.replicas": str(kafka.min_insync_replicas)}
    for log in contract.changelogs:
        yield NewTopic(prefix + log.name, partitions[log.source], kafka.replication_factor, config=config)


def wanted(contract: Contract, sites: tuple[str, ...], kafka: KafkaSettings) -> Iterator[NewTopic]:
    """Every topic with its companions: `.dlq` for each, changelogs for tables."""
    replicas = str(kafka.min_insync_replicas)
    for name, topic in contract.names(sites):
        keep = _FOREVER if topic.keep_days is None else str(topic.keep_days * _DAY_MS)
        config = {
            "cleanup.policy": "delete",
            "retention.ms": keep,
            "min.insync.replicas": replicas,
            "max.message.bytes": str(LARGEST_RECORD_BYTES),
        }
        yield NewTopic(name, topic.partitions, kafka.replication_factor, config=config)
        forever = {**config, "retention.ms": _FOREVER, "max.message.bytes": str(LARGEST_LETTER_BYTES)}
        yield NewTopic(f"{name}.dlq", 1, kafka.replication_factor, config=forever)
    yield from changelogs(contract, kafka)


def _existing(admin: AdminClient) -> dict[str, int]:
    return {name: len(meta.partitions) for name, meta in admin.list_topics(timeout=10).topics.items()}


def migrate(kafka: KafkaSettings, sites: tuple[str, ...]) -> list[str]:
    """Create what is missing; answers the names created.

    Raises Integrity when a topic exists with another partition count, and
    Retryable when the broker does not answer.
    """
    admin = AdminClient(client_config(kafka, "topic-migration"))
    topics, created = list(wanted(contract(), sites, kafka)), list[str]()
    try:
        for _ in range(_ROUNDS):
            missing = _missing(topics, _existing(admin))
            made = _create(admin, missing)
            created += made
            if len(made) == len(missing):
                return created
            # Another migration made the rest; it shows in a moment, and is checked too.
            time.sleep(0.2)
    except ck.KafkaException as error:
        raise Retryable(f"Kafka at {kafka.bootstrap_servers} did not answer: {error}") from error
    raise Retryable(f"Kafka at {kafka.bootstrap_servers} does not show the topics that it has")


def _missing(topics: list[NewTopic], existing: dict[str, int]) -> list[NewTopic]:
    for topic in topics:
        have = existing.get(topic.topic, topic.num_partitions)
        if have != topic.num_partitions:
            raise Integrity(
                f"topic {topic.topic} has {have} partitions and topics.yaml says {topic.num_partitions}; "
                "counts are fixed at creation: make a new version of the topic"
            )
    return [topic for topic in topics if topic.topic not in existing]


def _create(admin: AdminClient, missing: list[NewTopic]) -> list[str]:
    """Names of the topics made; those that somebody else made meanwhile are left out."""
    made = []
    for name, future in (admin.create_topics(missing) if missing else {}).items():
        try:
            future.result()
            made.append(name)
        except ck.KafkaException as error:
            cause: Any = error.args[0]
            if cause.code() != ck.KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    return made


def main() -> int:
    begun = time.monotonic()
    try:
        platform = read_settings(PlatformSettings)
        ensure_clock(platform.state_dir, platform.clock_speed)
        created = migrate(read_settings(KafkaSettings), platform.sites)
    except PharmaLoopError as error:
        print(f"topic migration: {error}", file=sys.stderr)
        return 1
    print(f"topic migration: {len(created)} topics created in {time.monotonic() - begun:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
