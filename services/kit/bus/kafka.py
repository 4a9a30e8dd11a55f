"""The bus on Apache Kafka, through librdkafka.

Settings and their reasons: murmur2_random puts keys where every other client
expects them; cooperative-sticky and a static instance id make restarts quiet;
a consumer polls for the first record and drains the rest, because
`consume(n, t)` would wait the whole time for n.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, cast

import confluent_kafka as ck
from confluent_kafka.admin import AdminClient, OffsetSpec

from services.kit.bus.protocol import (
    LARGEST_LETTER_BYTES,
    Failure,
    Headers,
    Outcome,
    Outgoing,
    Partition,
    Position,
    Record,
)
from services.kit.errors import Integrity, PharmaLoopError, Retryable
from services.kit.log import get_logger
from services.kit.settings import KafkaSettings

_log = get_logger("kit.bus")
_REQUEST_SECONDS = 10.0
#: A fact that the log has not taken by then is told to have failed, and is not sent later.
DELIVERY_SECONDS = 30.0
#: A topic that the brokers do not know for so long does not exist.
_TOPIC_SECONDS = 5.0
_LAST_REPORTS_SECONDS = 1.0
#: Brokers forget a client that is silent on a partition (producer.id.expiration.ms, a day).
_KNOWN_SECONDS = 3600.0
_KNOWN_KEYS = 50_000
_Code = ck.KafkaError
_INVALID_DIFFERENT_RECORD = -138
#: The whole topic refuses.
_TOPIC_CODES = {
    _Code.TOPIC_AUTHORIZATION_FAILED,
    _Code.TOPIC_EXCEPTION,
    _Code.UNKNOWN_TOPIC_OR_PART,
    _Code._UNKNOWN_PARTITION,
    _Code._UNKNOWN_TOPIC,
}
#: The record was not tried, or was refused for another one's sake.
_UNTRIED_CODES = {
    _Code._DESTROY,
    _Code._FATAL,
    _Code._GAPLESS_GUARANTEE,
    _INVALID_DIFFERENT_RECORD,
    _Code._PURGE_INFLIGHT,
    _Code._PURGE_QUEUE,
    _Code._QUEUE_FULL,
    _Code.CLUSTER_AUTHORIZATION_FAILED,
}


def client_config(settings: KafkaSettings, client: str) -> dict[str, Any]:
    """The one place that says how a client connects."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": client,
        "security.protocol": settings.security_protocol,
        "logger": _Quiet(),
    }
    for name in ("ssl_ca_location", "ssl_certificate_location", "ssl_key_location"):
        if value := getattr(settings, name):
            config[name.replace("_", ".")] = value
    if settings.sasl:
        config["sasl.mechanism"] = settings.sasl_mechanism
        config["sasl.username"] = settings.sasl_username
        config["sasl.password"] = settings.sasl_password.get_secret_value()
    return config


class _Quiet:
    """Takes librdkafka's own log lines into ours, at debug: it repeats itself."""

    def log(self, _level: int, message: str, *args: Any) -> None:
        _log.debug("librdkafka", text=message % args if args else message)

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda message="", *args, **_: _log.debug("librdkafka", text=str(message))


def _failure(error: Any) -> Failure:
    """What a delivery error says about the record."""
    if error.code() in _TOPIC_CODES:
        return Failure("topic", str(error))
    return Failure("nothing" if error.code() in _UNTRIED_CODES else "record", str(error))


class _Burst:
    """Collects the outcomes of one call. Reports come from the delivery thread alone,
    so nothing is locked for each record, only at the end."""

    def __init__(self, count: int) -> None:
        self.future: Future[list[Outcome]] = Future()
        self.outcomes: list[Outcome] = [_UNKNOWN] * count
        self._reported = 0
        self._expected = -1
        self._lock = threading.Lock()
        self.future.set_running_or_notify_cancel()

    def report(self, index: int, error: Any, message: Any) -> None:
        """The delivery report of one record."""
        if error is None:
            at = Position(message.topic(), message.partition(), message.offset())
            self.outcomes[index] = at
        else:
            self.outcomes[index] = _failure(error)
        self._reported += 1
        if self._reported == self._expected:
            self.end()

    def handed_over(self, count: int) -> None:
        """So many records were handed to the client: so many reports will come."""
        self._expected = count
        if self._reported == count:
            self.end()

    def end(self) -> None:
        """Give the outcomes as far as they are known; what comes later is ignored."""
        with self._lock:
            if not self.future.done():
                self.future.set_result(list(self.outcomes))


_UNKNOWN = Failure("nothing", "no report came")


def _all_or_nothing(burst: Future[list[Outcome]]) -> Future[list[Position]]:
    """The positions of a burst, or Retryable if any record failed."""
    result: Future[list[Position]] = Future()
    result.set_running_or_notify_cancel()

    def judge(done: Future[list[Outcome]]) -> None:
        outcomes = done.result()
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                result.set_exception(Retryable(f"Kafka did not take every record: {outcome.reason}"))
                return
        result.set_result(cast(list[Position], outcomes))

    burst.add_done_callback(judge)
    return result


def producer_config(settings: KafkaSettings, client: str) -> dict[str, Any]:
    """What every producer is set to."""
    return {
        **client_config(settings, client),
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",
        "linger.ms": 2,
        "compression.type": "lz4",
        "delivery.timeout.ms": int(DELIVERY_SECONDS * 1000),
        "queue.buffering.max.messages": 1_000_000,
        # While Kafka is away, callers hear "full" before the memory is.
        "queue.buffering.max.kbytes": 131_072,
        # The broker's topics decide; a record that the client refuses would stop the outbox.
        "message.max.bytes": LARGEST_LETTER_BYTES,
    }


def ordered_config(settings: KafkaSettings, client: str) -> dict[str, Any]:
    """A client that sends nothing behind a batch that was refused.

    It waits without limit, so that only what will not mend fails: a record
    that timed out would be overtaken. Without the gapless guarantee the client
    goes on behind a refused batch.
    """
    return {
        **producer_config(settings, client),
        "delivery.timeout.ms": 0,
        "enable.gapless.guarantee": True,
        "linger.ms": 1,
        "topic.metadata.propagation.max.ms": int(_TOPIC_SECONDS * 1000),
    }


class _Client:
    """A librdkafka producer with the thread that serves its delivery reports."""

    def __init__(self, config: dict[str, Any], died: Callable[[], None] = lambda: None) -> None:
        self.producer = ck.Producer(config)
        self._died = died
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="kafka-delivery", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                self.producer.poll(0.1)
            except ck.KafkaException as error:
                _log.warning("the Kafka client stopped itself", error=str(error))
                self._end()

    def _end(self) -> None:
        """A client that stopped itself may owe reports for ever: take what comes, then say so."""
        self.purge()
        end = time.monotonic() + _LAST_REPORTS_SECONDS
        while len(self.producer) and time.monotonic() < end:
            with contextlib.suppress(ck.KafkaException):
                self.producer.poll(0.05)
        self._died()

    def purge(self) -> None:
        self.producer.purge(in_queue=True, in_flight=True, blocking=False)

    def leave(self) -> None:
        """Let the thread end by itself: who calls must not wait."""
        self._closing.set()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(1.0)


class KafkaProducer:
    """Idempotent producer with acks=all, for records that have no order among them."""

    def __init__(self, settings: KafkaSettings, client: str) -> None:
        self._client = _Client(producer_config(settings, client))
        self._lock = threading.Lock()

    def publish(self, records: Sequence[Outgoing]) -> Future[list[Position]]:
        burst, produce, handed = _Burst(len(records)), self._client.producer.produce, 0
        with self._lock:
            for index, record in enumerate(records):
                try:
                    produce(
                        record.topic,
                        key=record.key,
                        value=record.value,
                        headers=list(record.headers),
                        on_delivery=partial(burst.report, index),
                    )
                except (BufferError, ck.KafkaException) as error:
                    burst.outcomes[index] = Failure("nothing", str(error))
                    break
                handed += 1
        burst.handed_over(handed)
        return _all_or_nothing(burst.future)

    def close(self) -> None:
        self._client.producer.flush(_REQUEST_SECONDS)
        self._client.close()


_Place = tuple[str, bytes]


class KafkaOrderedProducer:
    """The relay's producer: nothing of a key enters the log behind a refused record of it.

    A broker refuses what is out of sequence only from a client that it knows on
    the partition: of a new client it takes the second batch though it refused
    the first (seen on 4.3, with one request in flight too). So of a key that is
    new to the client the first record goes alone, and the others when it is in
    the log. A client that failed is made anew for the next burst.
    """

    def __init__(self, settings: KafkaSettings, client: str) -> None:
        self._config = ordered_config(settings, f"{client}-relay")
        self._burst = _Burst(0)
        #: Keys of which the brokers have taken a record of this client, and when.
        self._known: dict[_Place, float] = {}
        self._stale = False
        self._client = self._new_client()

    def _new_client(self) -> _Client:
        return _Client(self._config, self._end_burst)

    def _end_burst(self) -> None:
        self._burst.end()

    def offer(self, records: Sequence[Outgoing]) -> Future[list[Outcome]]:
        if self._stale:
            self._client.purge()
            self._client.leave()
            self._client, self._stale = self._new_client(), False
            self._known.clear()
        first, later = self._waves(records)
        result: Future[list[Outcome]] = Future()
        result.set_running_or_notify_cancel()

        def go_on(burst: Future[list[Outcome]]) -> None:
            outcomes = burst.result()
            self._learn(records, outcomes)
            behind = {(records[n].topic, records[n].key) for n in first if isinstance(outcomes[n], Failure)}
            rest = [n for n in later if (records[n].topic, records[n].key) not in behind]
            for n in later:
                outcomes[n] = _BEHIND
            self._send(records, rest, outcomes).add_done_callback(end)

        def end(burst: Future[list[Outcome]]) -> None:
            outcomes = burst.result()
            self._learn(records, outcomes)
            self._stale = self._stale or any(isinstance(outcome, Failure) for outcome in outcomes)
            result.set_result(outcomes)

        sent = self._send(records, first, [_UNKNOWN] * len(records))
        sent.add_done_callback(go_on if later else end)
        return result

    def _waves(self, records: Sequence[Outgoing]) -> tuple[list[int], list[int]]:
        """Which records may go at once, and which after the first of their key."""
        oldest, seen = time.monotonic() - _KNOWN_SECONDS, set[_Place]()
        first: list[int] = []
        later: list[int] = []
        for index, record in enumerate(records):
            place = (record.topic, record.key)
            if place in seen and self._known.get(place, -math.inf) < oldest:
                later.append(index)
            else:
                first.append(index)
                seen.add(place)
        return first, later

    def _learn(self, records: Sequence[Outgoing], outcomes: list[Outcome]) -> None:
        now = time.monotonic()
        for record, outcome in zip(records, outcomes, strict=True):
            if isinstance(outcome, Position):
                self._known[(record.topic, record.key)] = now
        while len(self._known) > _KNOWN_KEYS:
            del self._known[next(iter(self._known))]

    def _send(
        self, records: Sequence[Outgoing], indexes: list[int], outcomes: list[Outcome]
    ) -> Future[list[Outcome]]:
        """Hand these over; the future has `outcomes` with theirs."""
        burst = self._burst = _Burst(len(records))
        burst.outcomes = outcomes
        behind: set[_Place] = set()
        handed = 0
        for index in indexes:
            record = records[index]
            place = (record.topic, record.key)
            failure = _BEHIND if place in behind else self._hand_over(record, partial(burst.report, index))
            if failure is None:
                handed += 1
            else:
                burst.outcomes[index] = failure
                behind.add(place)
        burst.handed_over(handed)
        return burst.future

    def _hand_over(self, record: Outgoing, on_delivery: Callable[[Any, Any], None]) -> Failure | None:
        try:
            self._client.producer.produce(
                record.topic,
                key=record.key,
                value=record.value,
                headers=list(record.headers),
                on_delivery=on_delivery,
            )
        except BufferError as error:
            return Failure("nothing", str(error))
        except ck.KafkaException as error:
            return _failure(error.args[0])
        return None

    def abandon(self) -> None:
        self._stale = True
        self._client.purge()

    def close(self) -> None:
        self._client.purge()
        self._client.close()


_BEHIND = Failure("nothing", "an earlier record of its key failed")


def _headers(raw: list[tuple[str, bytes | None]] | None) -> Headers:
    """A header without a value is an empty one. Nearly all have one, and are not copied one by one."""
    if raw is None:
        return ()
    for _, value in raw:
        if value is None:
            return tuple((name, value or b"") for name, value in raw)
    return cast(Headers, tuple(raw))


class KafkaConsumer:
    """Consumer of the classic group protocol that starts where it is told to."""

    def __init__(self, settings: KafkaSettings, group: str, instance: str, client: str = "") -> None:
        self._who = instance, client
        self._consumer = ck.Consumer(
            {
                **client_config(settings, f"{group}-{instance}"),
                "group.id": group,
                # A reader is in no group; a member keeps its place through a restart.
                **({"group.instance.id": f"{group}-{instance}"} if instance else {}),
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "partition.assignment.strategy": "cooperative-sticky",
                "isolation.level": "read_committed",
                "session.timeout.ms": 10_000,
                "heartbeat.interval.ms": 2_000,
                "max.poll.interval.ms": 300_000,
                "fetch.wait.max.ms": 50,
                "fetch.min.bytes": 1,
                "enable.partition.eof": False,
            }
        )
        self._error: PharmaLoopError | None = None

    def subscribe(
        self,
        topics: Iterable[str],
        start: Callable[[Iterable[Partition]], dict[Partition, int]],
        lost: Callable[[Iterable[Partition]], None],
    ) -> None:
        def on_assign(consumer: Any, partitions: list[Any]) -> None:
            offsets = start([Partition(p.topic, p.partition) for p in partitions])
            for p in partitions:
                p.offset = offsets.get(Partition(p.topic, p.partition), ck.OFFSET_BEGINNING)
            consumer.incremental_assign(partitions)

        def on_lost(consumer: Any, partitions: list[Any]) -> None:
            lost([Partition(p.topic, p.partition) for p in partitions])
            consumer.incremental_unassign(partitions)

        self._consumer.subscribe(list(topics), on_assign=on_assign, on_revoke=on_lost, on_lost=on_lost)

    def assign(self, starts: dict[Partition, int]) -> None:
        """Take these partitions from these offsets, without a group."""
        self._consumer.assign([ck.TopicPartition(*place, offset) for place, offset in starts.items()])

    def take(self, limit: int, timeout: float) -> list[Record]:
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
        for message in [first, *(self._consumer.consume(limit - 1, 0) if limit > 1 else ())]:
            try:
                record = self._record(message)
            except PharmaLoopError as error:
                self._error = self._error or error
                continue
            if record is not None:
                records.append(record)
        return records

    def _record(self, message: Any) -> Record | None:
        error = message.error()
        if error is not None:
            if error.retriable() or error.code() == ck.KafkaError._ALL_BROKERS_DOWN:
                return None
            if error.code() == ck.KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise Integrity(f"{error.str()}; run the topic migration, then restart")
            # Where it is told a second time, librdkafka does not mark it as fatal any more.
            if error.fatal() or error.code() == ck.KafkaError._FATAL:
                raise self._fatal(error)
            raise Retryable(str(error))
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
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            message = self._consumer.poll(left)
            # Only a partition that came just now gives something: it is not paused yet.
            record = self._record(message) if message is not None else None
            if record is not None:
                self._consumer.seek(ck.TopicPartition(record.topic, record.partition, record.offset))
                self._consumer.pause(self._consumer.assignment())
        self._consumer.resume(self._consumer.assignment())

    def _fatal(self, error: Any) -> Integrity:
        """The client is of no use any more; the usual cause is a second process of the same name."""
        instance, service = self._who
        if "fenced" in str(error).lower():
            return Integrity(
                f"another process has joined as instance {instance!r}, so this one leaves: "
                f"give each process its own PHARMALOOP_{service.upper()}_INSTANCE"
            )
        return Integrity(f"the Kafka client gave up ({error.str()}): restart this process")

    def rewind(self, positions: dict[Partition, int]) -> None:
        for (topic, number), offset in positions.items():
            self._consumer.seek(ck.TopicPartition(topic, number, offset))

    def commit(self, positions: dict[Partition, int]) -> None:
        offsets = [ck.TopicPartition(topic, number, offset) for (topic, number), offset in positions.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except ck.KafkaException as error:
            _log.debug("commit skipped", error=str(error))

    def close(self) -> None:
        self._consumer.close()


class KafkaLog:
    """End offsets, through the admin client."""

    def __init__(self, settings: KafkaSettings, client: str) -> None:
        self._admin = AdminClient(client_config(settings, client))
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
        try:
            asked: Any = {
                ck.TopicPartition(topic, number): spec for topic in topics for number in self._numbers(topic)
            }
            answers = cast(Any, self._admin).list_offsets(asked, request_timeout=_REQUEST_SECONDS)
            return {
                Partition(tp.topic, tp.partition): future.result().offset for tp, future in answers.items()
            }
        except ck.KafkaException as error:
            raise Retryable(f"Kafka did not tell its offsets: {error}") from error


class KafkaBus:
    """Producers, consumers and the log of the installation that the settings name."""

    def __init__(self, settings: KafkaSettings, client: str) -> None:
        self._settings = settings
        self._client = client

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
        return KafkaLog(self._settings, self._client)
