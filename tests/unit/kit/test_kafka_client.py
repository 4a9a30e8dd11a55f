"""How the Kafka client is used, where no broker is needed to see it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import confluent_kafka as ck
import pytest

from services.kit.bus.kafka import KafkaConsumer, KafkaProducer, client_config
from services.kit.bus.kafka_producer import KafkaOrderedProducer, ordered_config, producer_config
from services.kit.bus.protocol import Failure, Outcome, Outgoing
from services.kit.errors import Integrity, PharmaLoopError, Retryable
from services.kit.facts import _PUBLISH_SECONDS
from services.kit.settings import KafkaSettings

NOWHERE = KafkaSettings(bootstrap_servers="127.0.0.1:1")


class Message:
    """A record, or an error, as librdkafka hands it over."""

    def __init__(self, offset: int, error: ck.KafkaError | None = None) -> None:
        self._offset = offset
        self._error = error

    def error(self) -> ck.KafkaError | None:
        return self._error

    def __getattr__(self, name: str) -> Any:
        fields: dict[str, Any] = {
            "topic": "t",
            "partition": 0,
            "offset": self._offset,
            "key": b"k",
            "value": b"v",
            "headers": None,
            "timestamp": (1, 1000),
        }
        return lambda: fields[name]


class Full:
    """A client whose queue takes two records."""

    def __init__(self, reports: list[Any]) -> None:
        self._reports = reports

    def produce(self, topic: str, *, on_delivery: Any, **_: Any) -> None:
        if len(self._reports) == 2:
            raise BufferError("queue full")
        self._reports.append(on_delivery)

    def __getattr__(self, _name: str) -> Any:
        return lambda *args, **kwargs: 0


class Refusing:
    """A client that finds the first record of the key "bad" too large."""

    def __init__(self) -> None:
        self.reports: list[tuple[bytes, Any]] = []

    def produce(self, topic: str, *, key: bytes, value: bytes, on_delivery: Any, **_: Any) -> None:
        if value == b"2":
            raise ck.KafkaException(ck.KafkaError(ck.KafkaError.MSG_SIZE_TOO_LARGE))
        self.reports.append((value, on_delivery))

    def __getattr__(self, _name: str) -> Any:
        return lambda *args, **kwargs: 0


class Client:
    """Hands over what it was given, and nothing twice: its position has passed it."""

    def __init__(self, messages: list[Message]) -> None:
        self._messages = messages

    def poll(self, timeout: float) -> Message | None:
        return self._messages.pop(0) if self._messages else None

    def consume(self, count: int, timeout: float) -> list[Message]:
        taken, self._messages = self._messages[:count], self._messages[count:]
        return taken


def consumer_of(messages: list[Message]) -> KafkaConsumer:
    consumer = KafkaConsumer(NOWHERE, "group", "0")
    consumer._consumer = Client(messages)
    return consumer


def outcomes(consumer: KafkaConsumer) -> Iterator[list[int] | type[PharmaLoopError]]:
    """What call after call gives, until there is nothing."""
    while True:
        try:
            records = consumer.take(500, 0)
        except PharmaLoopError as error:
            yield type(error)
            continue
        if not records:
            return
        yield [record.offset for record in records]


NOT_ALLOWED = ck.KafkaError(ck.KafkaError.TOPIC_AUTHORIZATION_FAILED)
NO_TOPIC = ck.KafkaError(ck.KafkaError.UNKNOWN_TOPIC_OR_PART)
ALL_DOWN = ck.KafkaError(ck.KafkaError._ALL_BROKERS_DOWN)


def test_an_error_takes_no_record_with_it() -> None:
    # The watermark moves past whatever is taken next: a record lost here is never folded.
    messages = [Message(1), Message(2), Message(0, NOT_ALLOWED), Message(3), Message(4)]
    assert list(outcomes(consumer_of(messages))) == [[1, 2, 3, 4], Retryable]


def test_an_error_alone_is_told_at_once() -> None:
    assert list(outcomes(consumer_of([Message(0, NO_TOPIC), Message(1)]))) == [[1], Integrity]
    assert list(outcomes(consumer_of([Message(0, NOT_ALLOWED)]))) == [Retryable]


def test_brokers_that_are_away_for_a_while_are_no_error() -> None:
    assert list(outcomes(consumer_of([Message(0, ALL_DOWN), Message(1)]))) == [[1]]


def test_a_record_that_is_not_taken_fails_the_burst_once(monkeypatch: pytest.MonkeyPatch) -> None:
    producer = KafkaProducer(NOWHERE, "test")
    reports: list[Any] = []
    monkeypatch.setattr(producer._client, "producer", Full(reports))
    future = producer.publish([Outgoing("t", b"k", b"v", ())] * 5)
    assert not future.done(), "two records are still on their way"
    for report in reports:
        report(None, Message(1))
    with pytest.raises(Retryable, match="queue full"):
        future.result(1)
    producer.close()


def test_a_fact_is_not_sent_long_after_its_caller_was_told_that_it_failed() -> None:
    assert producer_config(NOWHERE, "c")["delivery.timeout.ms"] <= _PUBLISH_SECONDS * 1000


def test_what_is_behind_a_refused_record_is_not_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    producer = KafkaOrderedProducer(NOWHERE, "test")
    client = Refusing()
    monkeypatch.setattr(producer._client, "producer", client)
    keys = [b"a", b"b", b"bad", b"bad", b"c"]
    future = producer.offer([Outgoing("t", key, b"%d" % n, ()) for n, key in enumerate(keys)])
    for value, report in client.reports:
        report(None, Message(int(value)))
    outcomes = future.result(1)
    assert [o.about for o in outcomes if isinstance(o, Failure)] == ["record", "nothing"]
    assert [value for value, _ in client.reports] == [b"0", b"1", b"4"]
    producer.close()


def test_a_key_that_is_new_to_the_client_sends_its_first_record_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A broker takes the second batch of a client it does not know though it refused the first.
    producer, sent = KafkaOrderedProducer(NOWHERE, "test"), Refusing()
    monkeypatch.setattr(producer._client, "producer", sent)

    def offer(*keys: bytes) -> Future[list[Outcome]]:
        return producer.offer([Outgoing("t", key, b"v%d" % n, ()) for n, key in enumerate(keys)])

    def deliver() -> list[bytes]:
        """Report what was handed over since."""
        new, sent.reports = sent.reports, []
        for n, (_, report) in enumerate(new):
            report(None, Message(n))
        return [value for value, _ in new]

    future = offer(b"a", b"a", b"b", b"a")
    assert deliver() == [b"v0", b"v2"]
    assert not future.done()
    assert deliver() == [b"v1", b"v3"]
    assert future.done()
    offer(b"a", b"a", b"c", b"c")
    assert deliver() == [b"v0", b"v1", b"v2"], "it is known by now"
    assert deliver() == [b"v3"]
    monkeypatch.setattr("services.kit.bus.kafka_producer._KNOWN_SECONDS", -1.0)
    offer(b"a", b"a")
    assert deliver() == [b"v0"], "the brokers may have forgotten it"
    producer.close()


def test_a_client_that_stopped_itself_does_not_end_the_next_ones_burst() -> None:
    producer = KafkaOrderedProducer(NOWHERE, "test")
    first = producer.offer([Outgoing("t", b"k", b"v", ())])
    old = producer._client
    producer.abandon()
    assert isinstance(first.result(10)[0], Failure)
    second = producer.offer([Outgoing("t", b"k", b"v", ())])
    old.died()
    assert not second.done(), "the record is on its way, and would be sent twice"
    producer.abandon()
    assert isinstance(second.result(10)[0], Failure)
    producer.close()


def test_the_relays_client_keeps_order_whatever_fails() -> None:
    # Each of these was seen to let a later record through when it was set otherwise.
    config = ordered_config(NOWHERE, "c")
    assert config["enable.idempotence"]
    assert config["enable.gapless.guarantee"]
    assert config["delivery.timeout.ms"] == 0, "a record that timed out would be overtaken"


def test_credentials_are_settings() -> None:
    plain = client_config(KafkaSettings(bootstrap_servers="b:1"), "c")
    assert plain["security.protocol"] == "PLAINTEXT"
    assert not [name for name in plain if name.startswith("ssl.")]
    secured = KafkaSettings(
        bootstrap_servers="b:1",
        security_protocol="SSL",
        ssl_ca_location="ca",
        ssl_certificate_location="cert",
        ssl_key_location="key",
    )
    config = client_config(secured, "c")
    ssl = {name: value for name, value in config.items() if name.startswith("ssl.")}
    assert ssl == {"ssl.ca.location": "ca", "ssl.certificate.location": "cert", "ssl.key.location": "key"}
