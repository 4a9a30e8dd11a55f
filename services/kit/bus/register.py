"""The contract of the installation: which event types it has ever had, as the migrations wrote it down.

Consumers are upgraded before producers. When that goes wrong, an old build
meets an event type that it does not know. Whether that is garbage (dead-letter
it) or a newer contract (stop, and be upgraded) cannot be seen from the record;
the register tells. It is one record on a compacted topic, written by the topic
migration, which every newer build runs first; types are only ever added.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import confluent_kafka as ck
from google.protobuf.message import Message

from services.kit.bus.kafka_client import ELECTING, client_config
from services.kit.contracts import Contract, contract
from services.kit.errors import Integrity, Poison, Retryable
from services.kit.settings import KafkaSettings

TOPIC = "pharmaloop.platform.contract.v1"
_KEY = b"contract"
_SECONDS = 5.0
_AGAIN_SECONDS = 0.1
#: So long a type that the register did not know stays garbage without asking again; for a type not
#: met before, what was read may be this old.
_GARBAGE_SECONDS, _FRESH_SECONDS = 10.0, 1.0
_GARBAGE_TYPES = 1000
#: Only types of ours may come from a newer build of ours.
_NAMESPACE = "pharmaloop."
_MIGRATE = "run 'python -m services.kit.bus.migrate' of this build"


@dataclass(frozen=True)
class Installed:
    """What the installation has: `revision` counts the changes of its contract."""

    revision: int
    digest: str
    types: tuple[str, ...]


def digest_of(contract: Contract) -> str:
    """A short name of a build's contract: topics, event types and their fields."""
    hashed = hashlib.sha256()
    for topic in sorted(contract.topics, key=lambda t: t.name):
        hashed.update(json.dumps(asdict(topic), sort_keys=True).encode())
    files = {cls.DESCRIPTOR.file for cls in contract.classes.values()}
    for file in sorted(files, key=lambda f: str(f.name)):
        hashed.update(file.serialized_pb)
    return hashed.hexdigest()[:12]


def _ends(consumer: ck.Consumer, place: ck.TopicPartition) -> tuple[int, int]:
    """First offset and end of a partition; one that was made just now may have no leader for a moment."""
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            begin, end = consumer.get_watermark_offsets(place, timeout=_SECONDS)
        except ck.KafkaException as error:
            cause: Any = error.args[0]
            if cause.code() not in ELECTING or time.monotonic() > deadline:
                raise
            time.sleep(_AGAIN_SECONDS)
        else:
            return begin, end


def read_register(settings: KafkaSettings) -> Installed | None:
    """The newest record of the register; None where no migration has written one."""
    value = newest(settings, _KEY)
    return _parse(value) if value else None


def newest(settings: KafkaSettings, key: bytes) -> bytes | None:
    """The newest record of a key; None where there is none, or no topic."""
    consumer = ck.Consumer({**client_config(settings, "register"), "group.id": "register"})
    try:
        place = ck.TopicPartition(TOPIC, 0)
        begin, end = _ends(consumer, place)
        if begin == end:
            return None
        consumer.assign([ck.TopicPartition(TOPIC, 0, begin)])
        found, deadline = None, time.monotonic() + _SECONDS
        while consumer.position([place])[0].offset < end:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None and message.key() == key:
                found = message.value()
            if time.monotonic() > deadline:
                raise Retryable(f"Kafka did not give the contract of the installation ({TOPIC}) in time")
    except ck.KafkaException as error:
        cause: Any = error.args[0]
        if cause.code() in (ck.KafkaError.UNKNOWN_TOPIC_OR_PART, ck.KafkaError._UNKNOWN_PARTITION):
            return None
        raise Retryable(f"Kafka did not give the contract of the installation ({TOPIC}): {cause}") from None
    finally:
        consumer.close()
    return found


def _is_empty(settings: KafkaSettings) -> bool:
    consumer = ck.Consumer({**client_config(settings, "register"), "group.id": "register"})
    try:
        begin, end = _ends(consumer, ck.TopicPartition(TOPIC, 0))
    except ck.KafkaException:
        return False
    finally:
        consumer.close()
    return bool(begin == end)


def _parse(value: bytes) -> Installed:
    try:
        raw = json.loads(value)
        return Installed(int(raw["revision"]), str(raw["digest"]), tuple(raw["types"]))
    except (ValueError, TypeError, KeyError):
        raise Integrity(f"the newest record of {TOPIC} is not a contract: {_MIGRATE}") from None


def register(settings: KafkaSettings, contract: Contract, fresh: bool) -> Installed:
    """Note a build's contract; one that adds nothing (an older build) changes nothing.

    `fresh`: the topic has just been made, so a broker that does not know it yet is no fault.
    """
    before = read_register(settings)
    if before is None and not fresh and not _is_empty(settings):
        raise Retryable(f"Kafka did not give the contract of the installation ({TOPIC})")
    types = tuple(sorted({*contract.classes, *(before.types if before else ())}))
    if before and (before.types == types and _covers(before, contract)):
        return before
    now = Installed((before.revision if before else 0) + 1, digest_of(contract), types)
    write(settings, _KEY, json.dumps(asdict(now)).encode())
    return now


def write(settings: KafkaSettings, key: bytes, value: bytes) -> None:
    """Write one record. Retryable where Kafka does not take it."""
    producer = ck.Producer({**client_config(settings, "register"), "acks": "all", "message.timeout.ms": 5000})
    failed: list[str] = []
    producer.produce(
        TOPIC,
        key=key,
        value=value,
        on_delivery=lambda error, _: failed.append(str(error)) if error else None,
    )
    if producer.flush(_SECONDS) or failed:
        raise Retryable(f"Kafka did not take the contract of the installation: {failed or 'no answer'}")


def _covers(installed: Installed, contract: Contract) -> bool:
    """An older build (fewer types) does not write its digest over that of a newer one."""
    return installed.digest == digest_of(contract) or set(contract.classes) < set(installed.types)


def check_contract(installed: Installed | None, mine: Contract) -> str:
    """May this build run here? Answers what an operator should know, if anything."""
    if installed is None:
        raise Retryable(f"no contract is registered ({TOPIC}): {_MIGRATE}")
    new = sorted(set(mine.classes) - set(installed.types))
    if new:
        raise Retryable(
            f"this build's contract {digest_of(mine)} has {len(new)} event types that the installation's "
            f"(revision {installed.revision}, {installed.digest}) has not, such as {new[0]}: {_MIGRATE}"
        )
    lacking = len(set(installed.types) - set(mine.classes))
    if lacking:
        return (
            f"this build lacks {lacking} event types of the installation's contract "
            f"(revision {installed.revision}): it will stop at the first of them; upgrade this service"
        )
    return ""


class _Asked:
    """Reads the register when an unknown type is met, and remembers garbage: it may come in masses."""

    def __init__(self, read: Callable[[], Installed | None]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._installed: Installed | None = None
        self._read_at = -math.inf
        self._garbage: dict[str, float] = {}

    def __call__(self, event_type: str) -> Installed | None:
        """The installation's contract if it has the type, else None."""
        with self._lock:
            now = time.monotonic()
            if now - self._garbage.get(event_type, -math.inf) < _GARBAGE_SECONDS:
                return None
            if now - self._read_at > _FRESH_SECONDS:
                self._installed, self._read_at = self._read(), time.monotonic()
            if self._installed and event_type in self._installed.types:
                return self._installed
            if len(self._garbage) >= _GARBAGE_TYPES:
                self._garbage.clear()
            self._garbage[event_type] = now
            return None


@dataclass(frozen=True)
class InstalledContract(Contract):
    """A build's contract that knows the installation's: an unknown type is not garbage by itself."""

    newer: Callable[[str], Installed | None] = lambda event_type: None

    def class_of(self, event_type: str) -> type[Message]:
        try:
            return super().class_of(event_type)
        except Poison:
            installed = self.newer(event_type) if event_type.startswith(_NAMESPACE) else None
            if installed is None:
                raise
        raise Integrity(
            f"{event_type} is an event of the installation's contract (revision {installed.revision}, "
            f"{installed.digest}) that this build ({digest_of(contract())}) does not know: upgrade this "
            "service first, then restart it; the record waits and nothing was dead-lettered"
        )


def installed_contract(read: Callable[[], Installed | None], base: Contract) -> InstalledContract:
    """The build's contract `base`, beside the installation's as `read` gives it."""
    values = {field.name: getattr(base, field.name) for field in fields(base)}
    return InstalledContract(**values, newer=_Asked(read))
