"""Listens to topics beside the platform and keeps every event with the wall time of its record."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import confluent_kafka as ck

from services.kit.bus.kafka import KafkaLog, client_config
from services.kit.bus.protocol import Record
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record
from services.kit.settings import KafkaSettings


class Tap:
    """From now on, everything on the topics; a context that ends with it."""

    def __init__(self, kafka: KafkaSettings, topics: Iterable[str]) -> None:
        ends = KafkaLog(kafka, "bench-tap").ends(topics)
        self._consumer = ck.Consumer(
            {**client_config(kafka, "bench-tap"), "group.id": "bench-tap", "enable.auto.commit": False}
        )
        self._consumer.assign([ck.TopicPartition(p.topic, p.number, end) for p, end in ends.items()])
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tap", daemon=True)
        self.events: list[Event] = []

    def __enter__(self) -> Tap:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(10)
        self._consumer.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            for message in self._consumer.consume(500, 0.1):
                if message.error() is None:
                    self.events.append(from_record(contract(), _record(message)))


def _record(message: ck.Message) -> Record:
    headers = tuple((name, value or b"") for name, value in message.headers() or ())
    topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
    return Record(topic, partition, offset, message.key(), message.value(), headers, message.timestamp()[1])
