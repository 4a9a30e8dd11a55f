"""Looks, before a loop starts, at what it needs of Kafka; says what is missing and the remedy.

A faust worker without its changelog, or without the right to write it, runs on
and loses states in silence. So it does not start.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import confluent_kafka as ck
from confluent_kafka.admin import AclOperation, AdminClient

from services.kit.errors import Integrity, Retryable
from services.kit.settings import KafkaSettings
from services.kit.startup.backbone import BackboneProbe, Needed, check_topics

_SECONDS = 5.0


@dataclass(frozen=True)
class Needs:
    """Topics of one loop: what it reads, where its table's changes go, what it writes, its dead letters."""

    source: str
    changelog: str
    partitions: int
    outputs: tuple[str, ...]
    group: str
    letters: str = ""

    @property
    def rights(self) -> dict[str, tuple[AclOperation, ...]]:
        """What it does with each topic."""
        wanted: dict[str, tuple[AclOperation, ...]] = dict.fromkeys(self.outputs, (AclOperation.WRITE,))
        wanted[self.source] = (AclOperation.READ,)
        if self.letters:  # they are read, and what is decided about them is told on the source
            wanted[self.letters] = wanted[self.source] = (AclOperation.READ, AclOperation.WRITE)
        wanted[self.changelog] = (AclOperation.DESCRIBE_CONFIGS, AclOperation.READ, AclOperation.WRITE)
        return wanted

    @property
    def topics(self) -> tuple[Needed, ...]:
        """Its own topics as they must be; those that it only writes are their owners' matter."""
        return (
            Needed(self.source, self.partitions),
            Needed(self.changelog, self.partitions, compacted=True),
        )


def check(kafka: KafkaSettings, needs: Needs, patience: float = 5.0) -> None:
    """Integrity or Invalid names the topic and the remedy; Retryable what may come by itself.

    It looks again for `patience` seconds: a topic made a moment ago shows late.
    """
    with BackboneProbe(kafka, "loops") as probe:
        deadline = time.monotonic() + patience
        while True:
            try:
                metadata = probe.check()
                _check_rights(probe.admin, needs)
                check_topics(probe.admin, metadata, needs.topics)
            except Retryable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return


def _check_rights(admin: AdminClient, needs: Needs) -> None:
    try:
        futures = admin.describe_topics(
            ck.TopicCollection(list(needs.rights)),
            include_authorized_operations=True,
            request_timeout=_SECONDS,
        )
        for name, future in futures.items():
            _check_granted(name, needs.rights[name], _granted(name, future))
        _check_group(admin, needs)
    except ck.KafkaException as error:
        raise Retryable(f"Kafka did not tell what this service may do: {error}") from error


def _granted(name: str, future: Any) -> Any:
    """The operations that we may do; None where the broker does not say."""
    try:
        return future.result().authorized_operations
    except ck.KafkaException as error:
        if _code(error) == ck.KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None  # said by the check of topics
        if _code(error) == ck.KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise Integrity(
                f"no right to describe topic {name}: grant this service's principal DESCRIBE on it"
            ) from error
        raise


def _check_granted(topic: str, operations: Iterable[AclOperation], granted: Any) -> None:
    if granted is None:
        return
    missing = [operation.name for operation in operations if operation not in granted]
    if missing:
        raise Integrity(
            f"no right to {' and '.join(missing)} topic {topic}: grant it to this service's principal "
            f"(kafka-acls --add --operation {missing[0]} --topic {topic}), then start again"
        )


def _check_group(admin: AdminClient, needs: Needs) -> None:
    asked = ck.ConsumerGroupTopicPartitions(needs.group, [ck.TopicPartition(needs.source, 0)])
    (future,) = admin.list_consumer_group_offsets([asked], request_timeout=_SECONDS).values()
    try:
        future.result()
    except ck.KafkaException as error:
        if _code(error) == ck.KafkaError.GROUP_AUTHORIZATION_FAILED:
            raise Integrity(
                f"no right to use consumer group {needs.group}: grant READ on group {needs.group}"
            ) from error
        raise


def _code(error: ck.KafkaException) -> int:
    cause: Any = error.args[0]
    return int(cause.code())
