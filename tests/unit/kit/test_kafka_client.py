"""How the Kafka client is used, where no broker is needed to see it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import confluent_kafka as ck
import pytest

from services.kit.bus.kafka import KafkaConsumer, KafkaProducer, client_config
from services.kit.bus.protocol import Outgoing
from services.kit.errors import Integrity, PharmaLoopError, Retryable
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
    consumer.close()
    consumer._consumer = Client(messages)  # type: ignore[assignment]
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

    class Full:
        def produce(self, topic: str, *, on_delivery: Any, **_: Any) -> None:
            if len(reports) == 2:
                raise BufferError("queue full")
            reports.append(on_delivery)

        def poll(self, seconds: float) -> int:
            return 0

        def flush(self, seconds: float) -> int:
            return 0

    monkeypatch.setattr(producer, "_producer", Full())
    future = producer.publish([Outgoing("t", b"k", b"v", ())] * 5)
    assert not future.done(), "two records are still on their way"
    for report in reports:
        report(None, Message(1))
    with pytest.raises(Retryable, match="queue full"):
        future.result(1)
    producer.close()


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
