"""The bus on Apache Kafka, through librdkafka.

Settings and their reasons: murmur2_random puts keys where every other client
expects them; cooperative-sticky and a static instance id make restarts quiet;
a consumer polls for the first record and drains the rest, because
`consume(n, t)` would wait the whole time for n.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

import confluent_kafka as ck
from confluent_kafka.admin import AdminClient, OffsetSpec

from services.kit.bus.kafka_client import ELECTING, client_config
from services.kit.bus.kafka_producer import KafkaOrderedProducer, KafkaProducer
from services.kit.bus.protocol import Headers, Partition, Record
from services.kit.errors import Integrity, PharmaLoopError, Retryable
from services.kit.log import get_logger
from services.kit.settings import KafkaSettings

__all__ = ["KafkaBus", "KafkaConsumer", "KafkaLog", "KafkaProducer", "client_config"]
_log = get_logger("kit.bus")
_REQUEST_SECONDS = 10.0
#: Fenced again within so many seconds: there is another process, and this one leaves. Two of one name fence
#: each other with every heartbeat; a lost coordinator takes a session's time to do it, and may be lost again.
_ALONE_SECONDS = 30.0
_REFUSED = (ck.KafkaError.TOPIC_AUTHORIZATION_FAILED, ck.KafkaError.GROUP_AUTHORIZATION_FAILED)


def _headers(raw: list[tuple[str, bytes | None]] | None) -> Headers:
    """A header without a value is an empty one. Nearly all have one, and are not copied one by one."""
    if raw is None:
        return ()
    for _, value in raw:
        if value is None:
            return tuple((name, value or b"") for name, value in raw)
    return cast(Headers, tuple(raw))


def _is_fenced(error: Any) -> bool:
    return "fenced" in str(error).lower()


class KafkaConsumer:
    """Consumer of the classic group protocol that starts where it is told to."""

    def __init__(self, settings: KafkaSettings, group: str, instance: str, client: str = "") -> None:
        self._who = instance, client
        self._config: dict[str, Any] = {
            **client_config(settings, f"{group}-{instance}"),
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": "cooperative-sticky",
            "isolation.level": "read_committed",
            "session.timeout.ms": 10_000,
            "heartbeat.interval.ms": 2_000,
            "max.poll.interval.ms": 300_000,
            "fetch.wait.max.ms": 200,
            "fetch.min.bytes": 1,
            # A consumer that catches up prefetches so much, and no more.
            "queued.max.messages.kbytes": 16_384,
            "enable.partition.eof": False,
        }
        self._consumer: Any = None  # made when it is told what to read
        self._error: PharmaLoopError | None = None
        self._subscribe: Callable[[], None] = lambda: None
        self._forget: Callable[[], None] = lambda: None
        self._is_out = False
        self._joined_anew = -_ALONE_SECONDS

    def subscribe(
        self,
        topics: Iterable[str],
        start: Callable[[Iterable[Partition]], dict[Partition, int]],
        lost: Callable[[Iterable[Partition]], None],
    ) -> None:
        mine: set[Partition] = set()

        def on_assign(consumer: Any, partitions: list[Any]) -> None:
            came = [Partition(p.topic, p.partition) for p in partitions]
            offsets = start(came)
            mine.update(came)
            for place, p in zip(came, partitions, strict=True):
                p.offset = offsets.get(place, ck.OFFSET_BEGINNING)
            consumer.incremental_assign(partitions)

        def on_lost(consumer: Any, partitions: list[Any]) -> None:
            gone = [Partition(p.topic, p.partition) for p in partitions]
            mine.difference_update(gone)
            lost(gone)
            consumer.incremental_unassign(partitions)

        def forget() -> None:
            lost(sorted(mine))
            mine.clear()

        wanted = sorted(topics)
        self._config["group.instance.id"] = self._member(wanted)

        def subscribe() -> None:
            self._consumer = ck.Consumer(self._config)
            self._consumer.subscribe(wanted, on_assign=on_assign, on_revoke=on_lost, on_lost=on_lost)

        self._forget, self._subscribe = forget, subscribe
        subscribe()

    def _member(self, topics: list[str]) -> str:
        """A member keeps its place through a restart: the broker gives it what it had, whatever it asks for.
        Another build that reads other topics is therefore another member, and waits for a session."""
        digest = hashlib.sha256("\n".join(topics).encode()).hexdigest()[:8]
        return f"{self._config['group.id']}-{self._who[0]}-{digest}"

    def assign(self, starts: dict[Partition, int]) -> None:
        """Read from places, in no group."""
        self._consumer = ck.Consumer(self._config)
        self._consumer.assign([ck.TopicPartition(*place, offset) for place, offset in starts.items()])

    def take(self, limit: int, timeout: float) -> list[Record]:
        if self._is_out:
            self._join_anew()
        records = [] if self._error else self._drained(limit, timeout)
        if self._error and not records:
            error, self._error = self._error, None
            raise error
        return records

    def _drained(self, limit: int, timeout: float) -> list[Record]:
        """What has come. An error among it is told by the next call: its neighbours would
        be lost with it, for the client's position has passed them."""
        first = self._consumer.poll(timeout)
        if first is None:
            return []
        records = []
        for message in [first, *self._more(limit - 1)]:
            try:
                record = self._record(message)
            except PharmaLoopError as error:
                self._error = self._error or error
                continue
            if record is not None:
                records.append(record)
        return records

    def _more(self, limit: int) -> list[Any]:
        """What else is here. It may call back, and what that raises must not lose the first one."""
        try:
            return self._consumer.consume(limit, 0) if limit else []
        except PharmaLoopError as error:
            self._error = self._error or error
            return []

    def _record(self, message: Any) -> Record | None:
        error = message.error()
        if error is not None:
            if error.retriable() or error.code() == ck.KafkaError._ALL_BROKERS_DOWN:
                return None
            if error.code() == ck.KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise Integrity(f"{error.str()}; run the topic migration, then restart")
            # Where it is told a second time, librdkafka does not mark it as fatal any more.
            if error.fatal() or error.code() == ck.KafkaError._FATAL:
                if not self._may_join_anew(error):
                    raise self._fatal(error)
                self._is_out = True
                return None
            if error.code() in _REFUSED:
                raise Retryable(f"{error.str()}: give KAFKA_SASL_USERNAME the right to read it")
            raise Retryable(f"Kafka does not give records: {error.str()}")
        return Record(
            message.topic(),
            message.partition(),
            message.offset(),
            message.key(),
            message.value(),
            _headers(message.headers()),
            message.timestamp()[1],
        )

    def hold(self, seconds: float) -> None:
        """A consumer that does not poll is thrown out of its group; paused partitions give nothing."""
        self._consumer.pause(self._consumer.assignment())
        try:
            self._poll_paused(seconds)
        finally:
            self._consumer.resume(self._consumer.assignment())

    def _poll_paused(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self._is_out:  # nothing to poll for: the next `take` joins anew
                time.sleep(left)
                return
            message = self._consumer.poll(left)
            # Only a partition that came just now gives something: it is not paused yet.
            record = self._record(message) if message is not None else None
            if record is not None:
                self._consumer.seek(ck.TopicPartition(record.topic, record.partition, record.offset))
                self._consumer.pause(self._consumer.assignment())

    def _may_join_anew(self, error: Any) -> bool:
        """A process that got no processor for a while fences itself: it asks to join a second time, and the
        broker holds the first request for an older process. So does one whose coordinator was killed: the
        session ends before another broker stands in, and the client then goes on without its member id.
        Whoever is fenced at once again is not alone."""
        return _is_fenced(error) and time.monotonic() - self._joined_anew > _ALONE_SECONDS

    def _join_anew(self) -> None:
        """With a new client, for the old one is of no use any more. Watermarks say where it goes on."""
        _log.warning("fenced out of its group, joins anew", group=self._config["group.id"])
        self._consumer.close()
        self._forget()
        self._is_out, self._joined_anew = False, time.monotonic()
        self._subscribe()

    def _fatal(self, error: Any) -> Integrity:
        """The client is of no use any more; the usual cause is a second process of the same name."""
        instance, service = self._who
        if _is_fenced(error):
            return Integrity(
                f"another process has joined as instance {instance!r}, so this one leaves: "
                f"give each process its own PHARMALOOP_{service.upper()}_INSTANCE"
            )
        return Integrity(f"the Kafka client gave up ({error.str()}): restart this process")

    def rewind(self, positions: dict[Partition, int]) -> None:
        mine = {(part.topic, part.partition) for part in self._consumer.assignment()}
        for place, offset in positions.items():
            # One that was lost meanwhile is begun by whoever has it now, where it stands.
            if place in mine:
                self._consumer.seek(ck.TopicPartition(*place, offset))

    def commit(self, positions: dict[Partition, int]) -> None:
        offsets = [ck.TopicPartition(topic, number, offset) for (topic, number), offset in positions.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except ck.KafkaException as error:
            _log.debug("commit skipped", error=str(error))

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()


_LEADER_SECONDS, _LOOK_SECONDS = 5.0, 1.0


class KafkaLog:
    """End offsets, through the admin client."""

    def __init__(self, settings: KafkaSettings, client: str) -> None:
        self._admin = AdminClient(client_config(settings, client))
        self._servers = settings.bootstrap_servers
        self._partitions: dict[str, list[int]] = {}

    def _numbers(self, topic: str) -> list[int]:
        # Partition counts are fixed at creation, so they are asked for once.
        if topic not in self._partitions:
            metadata = self._admin.list_topics(topic, timeout=_REQUEST_SECONDS).topics[topic]
            if metadata.error is not None:
                raise Retryable(f"topic {topic}: {metadata.error}; run the topic migration")
            self._partitions[topic] = sorted(metadata.partitions)
        return self._partitions[topic]

    def starts(self, topics: Iterable[str]) -> dict[Partition, int]:
        return self._offsets(topics, OffsetSpec.earliest())

    def ends(self, topics: Iterable[str]) -> dict[Partition, int]:
        return self._offsets(topics, OffsetSpec.latest())

    def _offsets(self, topics: Iterable[str], spec: OffsetSpec) -> dict[Partition, int]:
        wanted, end = list(topics), time.monotonic() + _LEADER_SECONDS
        while True:
            try:
                return self._ask(wanted, spec)
            except ck.KafkaException as error:
                # A topic that was just made, or whose broker has just come back, has no leader for a moment.
                cause: Any = error.args[0]
                if cause.code() not in ELECTING or time.monotonic() > end:
                    raise Retryable(f"Kafka at {self._servers} did not tell its offsets: {error}") from error
            self._look_anew()
            time.sleep(0.1)

    def _look_anew(self) -> None:
        """Who leads now? What was heard before would be believed for minutes."""
        with contextlib.suppress(ck.KafkaException):
            self._admin.list_topics(timeout=_LOOK_SECONDS)

    def _ask(self, topics: list[str], spec: OffsetSpec) -> dict[Partition, int]:
        asked: Any = {
            ck.TopicPartition(topic, number): spec for topic in topics for number in self._numbers(topic)
        }
        answers = cast(Any, self._admin).list_offsets(asked, request_timeout=_REQUEST_SECONDS)
        return {Partition(tp.topic, tp.partition): future.result().offset for tp, future in answers.items()}


class KafkaBus:
    """Producers, consumers and the log of the installation that the settings name."""

    def __init__(self, settings: KafkaSettings, client: str) -> None:
        self._settings = settings
        self._client = client
        self._log: KafkaLog | None = None

    def producer(self) -> KafkaProducer:
        return KafkaProducer(self._settings, self._client)

    def ordered_producer(self) -> KafkaOrderedProducer:
        return KafkaOrderedProducer(self._settings, self._client)

    def consumer(self, group: str, instance: str) -> KafkaConsumer:
        return KafkaConsumer(self._settings, group, instance, self._client)

    def reader(self, starts: dict[Partition, int]) -> KafkaConsumer:
        reader = KafkaConsumer(self._settings, f"{self._client}-reader", "")
        reader.assign(starts)
        return reader

    def log(self) -> KafkaLog:
        """One for all who ask: each client costs four threads and a megabyte."""
        if self._log is None:
            self._log = KafkaLog(self._settings, self._client)
        return self._log
