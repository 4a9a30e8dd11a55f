"""Loads facts onto the readings topic: at once, or at a fixed rate (open loop).

    python -m tests.bench.children.producer FIRST COUNT KEYS RATE

A rate of 0 means as fast as the broker takes them. The records carry all
headers of the platform. A late start of a record is never forgiven: the
schedule stands, as that of a plant does.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import confluent_kafka as ck

from services.kit.bus.kafka import client_config
from services.kit.envelope import Event, headers_of
from services.kit.ids import derived_id
from services.kit.settings import KafkaSettings, read_settings
from tests.bench.framework import facts
from tests.bench.framework.machine import tell

_SLICE_SECONDS = 0.02


def _producer() -> ck.Producer:
    return ck.Producer(
        {
            **client_config(read_settings(KafkaSettings), "bench-producer"),
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
        }
    )


def _send(producer: ck.Producer, index: int, keys: int) -> None:
    message = facts.message(index, keys)
    event = Event(
        id=derived_id("bench", str(index)),
        source="/svc/production/fact",
        subject=message.lot,
        time=facts.time_of(index),
        message=message,
        actor="bench/historian",
    )
    while True:
        try:
            headers: Any = list(headers_of(event))
            producer.produce(facts.TOPIC, message.SerializeToString(), message.lot, headers=headers)
            return
        except BufferError:
            producer.poll(0.05)


def main() -> None:
    first, count, keys, rate = (int(word) for word in sys.argv[1:5])
    producer, began = _producer(), time.perf_counter()
    sent = 0
    while sent < count:
        due = count if not rate else min(count, int((time.perf_counter() - began) * rate))
        while sent < due:
            _send(producer, first + sent, keys)
            sent += 1
            if sent % 1000 == 0:
                producer.poll(0)
        if rate and sent < count:
            time.sleep(_SLICE_SECONDS)
    left = producer.flush(120)
    tell("produced", count=sent, left=left, seconds=time.perf_counter() - began, at=time.time())


if __name__ == "__main__":
    main()
