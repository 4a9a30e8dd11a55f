"""Producers on Apache Kafka, through librdkafka.

Two of them, for they promise different things: `KafkaProducer` ends in time
(facts: who sends them is waiting, and they have no order among them), and
`KafkaOrderedProducer` keeps order whatever fails (the outbox: a version that
is published before an earlier one would lose that one to every receiver).
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, cast

import confluent_kafka as ck

from services.kit.bus.kafka_client import client_config
from services.kit.bus.protocol import LARGEST_LETTER_BYTES, Failure, Outcome, Outgoing, Position
from services.kit.errors import Retryable
from services.kit.log import get_logger
from services.kit.settings import KafkaSettings

_log = get_logger("kit.bus")
_FLUSH_SECONDS = 10.0
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


class _Ends:
    """Collects where the last record of each partition stands. One callback serves every
    record: to note each place costs a third of what producing a record costs."""

    def __init__(self) -> None:
        self.future: Future[list[Position]] = Future()
        self._last: dict[tuple[str, int], int] = {}
        self._error = ""
        self._reported = 0
        self._expected = -1
        self._lock = threading.Lock()
        self.future.set_running_or_notify_cancel()

    def report(self, error: Any, message: Any) -> None:
        if error is None:
            place, offset = (message.topic(), message.partition()), message.offset()
            if offset > self._last.get(place, -1):
                self._last[place] = offset
        else:
            self._error = self._error or str(error)
        self._reported += 1
        if self._reported == self._expected:
            self._end()

    def handed_over(self, count: int, error: str) -> None:
        self._error = self._error or error
        self._expected = count
        if self._reported == count:
            self._end()

    def _end(self) -> None:
        with self._lock:
            if self.future.done():
                return
            if self._error:
                self.future.set_exception(_not_every(self._error))
            else:
                self.future.set_result([Position(*place, offset) for place, offset in self._last.items()])


def _not_every(reason: str) -> Retryable:
    return Retryable(f"Kafka did not take every record: {reason}")


def _all_or_nothing(burst: Future[list[Outcome]]) -> Future[list[Position]]:
    """The positions of a burst, or Retryable if any record failed."""
    result: Future[list[Position]] = Future()
    result.set_running_or_notify_cancel()

    def judge(done: Future[list[Outcome]]) -> None:
        outcomes = done.result()
        failed = next((outcome for outcome in outcomes if isinstance(outcome, Failure)), None)
        if failed is None:
            result.set_result(cast(list[Position], outcomes))
        else:
            result.set_exception(_not_every(failed.reason))

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

    def __init__(self, config: dict[str, Any]) -> None:
        self.producer = ck.Producer(config)
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
        self.died()

    def died(self) -> None:
        """The client stopped itself, and reports no more."""

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
        burst = _Burst(len(records))
        handed, error = self._hand_over(records, lambda index: partial(burst.report, index))
        if error:
            burst.outcomes[handed] = Failure("nothing", error)
        burst.handed_over(handed)
        return _all_or_nothing(burst.future)

    def publish_ends(self, records: Sequence[Outgoing]) -> Future[list[Position]]:
        ends = _Ends()
        report = ends.report
        ends.handed_over(*self._hand_over(records, lambda index: report))
        return ends.future

    def _hand_over(
        self, records: Sequence[Outgoing], report: Callable[[int], Callable[[Any, Any], None]]
    ) -> tuple[int, str]:
        """How many records the client took, and why no more if it was not all."""
        produce = self._client.producer.produce
        with self._lock:
            for index, (topic, key, value, headers) in enumerate(records):
                try:
                    produce(topic, key=key, value=value, headers=list(headers), on_delivery=report(index))
                except (BufferError, ck.KafkaException) as error:
                    return index, str(error)
        return len(records), ""

    def close(self) -> None:
        self._client.producer.flush(_FLUSH_SECONDS)
        self._client.close()


class _OrderedClient(_Client):
    """Ends its own burst when it stops itself; the next client's burst is none of its business."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.burst = _Burst(0)
        super().__init__(config)

    def died(self) -> None:
        self.burst.end()


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
        #: Keys of which the brokers have taken a record of this client, and when.
        self._known: dict[_Place, float] = {}
        self._stale = False
        self._client = _OrderedClient(self._config)

    def offer(self, records: Sequence[Outgoing]) -> Future[list[Outcome]]:
        if self._stale:
            self._client.purge()
            self._client.leave()
            self._client, self._stale = _OrderedClient(self._config), False
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
        burst = self._client.burst = _Burst(len(records))
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
