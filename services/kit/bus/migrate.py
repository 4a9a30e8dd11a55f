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

from services.kit.bus.owner import InstallationSettings, claim_topics, refuse_another
from services.kit.bus.protocol import LARGEST_LETTER_BYTES, LARGEST_RECORD_BYTES
from services.kit.bus.register import TOPIC as REGISTER
from services.kit.bus.register import register
from services.kit.clock import ensure_clock
from services.kit.contracts import Contract, contract
from services.kit.errors import Integrity, PharmaLoopError, Retryable
from services.kit.settings import KafkaSettings, PlatformSettings, read_settings
from services.kit.startup.backbone import BackboneProbe, check_partitions

#: Stands while a backup is being laid back; where that was broken off, nothing may start on what is there.
UNFINISHED = "pharmaloop.platform.restore.unfinished"
_FOREVER = "-1"
_DAY_MS = 86_400_000
_ROUNDS = 25
_NOBODY = InstallationSettings(installation="", take_over="")


def changelogs(contract: Contract, kafka: KafkaSettings, prefix: str = "") -> Iterator[NewTopic]:
    """The compacted topics of the loop processors' tables; `prefix` is for tests."""
    partitions = {topic.name: topic.partitions for topic in contract.topics}
    config = {
        "cleanup.policy": "compact",
        "min.insync.replicas": str(kafka.min_insync_replicas),
        "max.message.bytes": str(LARGEST_RECORD_BYTES),
    }
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
    kept = {"cleanup.policy": "compact", "min.insync.replicas": replicas}
    yield NewTopic(REGISTER, 1, kafka.replication_factor, config=kept)


def migrate(kafka: KafkaSettings, sites: tuple[str, ...], claim: InstallationSettings = _NOBODY) -> list[str]:
    """Create what is missing, register the contract and whose it is; answers the names created.

    Raises Integrity when the topics are another installation's, and nothing is made
    then; when a topic exists with another partition count or a restore did not end;
    Invalid when a setting keeps us out, and Retryable when the broker does not answer.
    """
    with BackboneProbe(kafka, "topic-migration") as probe:
        created = _migrate(probe, kafka, sites, claim)
    _register(kafka, REGISTER in created)
    claim_topics(kafka, claim)
    return created


def _register(kafka: KafkaSettings, fresh: bool) -> None:
    """A topic that was made a moment ago may still look for its leader."""
    for round_ in range(_ROUNDS):
        try:
            register(kafka, contract(), fresh)
            return
        except Retryable:
            if round_ == _ROUNDS - 1:
                raise
            time.sleep(0.2)


def _migrate(
    probe: BackboneProbe, kafka: KafkaSettings, sites: tuple[str, ...], claim: InstallationSettings
) -> list[str]:
    topics, created = list(wanted(contract(), sites, kafka)), list[str]()
    try:
        for _ in range(_ROUNDS):
            metadata = probe.check()
            _refuse_unfinished(metadata)
            if REGISTER in metadata.topics:
                refuse_another(kafka, claim)
            missing = _missing(topics, metadata)
            made = _create(probe.admin, missing)
            created += made
            if len(made) == len(missing):
                return created
            # Another migration made the rest; it shows in a moment, and is checked too.
            time.sleep(0.2)
    except ck.KafkaException as error:
        raise Retryable(f"Kafka at {kafka.bootstrap_servers} did not answer: {error}") from error
    servers = kafka.bootstrap_servers
    raise Retryable(
        f"Kafka at {servers} does not show the topics that it has: see its log, and run this again"
    )


def _refuse_unfinished(metadata: Any) -> None:
    if UNFINISHED in metadata.topics:
        raise Integrity(
            f"a backup is being laid back into this Kafka, or that was broken off (topic {UNFINISHED}): "
            "wait until 'pharmaloop backup restore' has ended; if it ended with an error, empty this Kafka "
            "and its MongoDB and restore again"
        )


def _missing(topics: list[NewTopic], metadata: Any) -> list[NewTopic]:
    for topic in topics:
        check_partitions(topic.topic, topic.num_partitions, metadata)
    return [topic for topic in topics if topic.topic not in metadata.topics]


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
        # Without a speed that was told, the default is for a platform that has no clock yet: nobody who runs
        # a migration in an upgrade means to change how fast a running one's time passes.
        told = "clock_speed" in platform.model_fields_set
        ensure_clock(platform.state_dir, platform.clock_speed, keep=not told)
        claim = read_settings(InstallationSettings)
        created = migrate(read_settings(KafkaSettings), platform.sites, claim)
    except PharmaLoopError as error:
        print(f"topic migration: {error}", file=sys.stderr)
        return 1
    print(f"topic migration: {len(created)} topics created in {time.monotonic() - begun:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
