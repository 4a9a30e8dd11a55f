"""Loads columnar readings of many runs onto their topic, as fast as the broker takes them.

python -m tests.bench.children.historian KIND LOTS SAMPLES WIDTH
"""

from __future__ import annotations

import sys
from typing import Any

import confluent_kafka as ck

from services.kit.bus.kafka import client_config
from services.kit.envelope import Event, headers_of
from services.kit.ids import derived_id
from services.kit.settings import KafkaSettings, read_settings
from tests.bench.framework import facts, process
from tests.bench.framework.machine import tell


def main() -> None:
    kind, (lots, samples, width) = sys.argv[1], (int(word) for word in sys.argv[2:5])
    producer = ck.Producer(
        {
            **client_config(read_settings(KafkaSettings), "bench-historian"),
            "acks": "all",
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "compression.type": "lz4",
        }
    )
    sent = 0
    for batch in process.windows(kind, lots, samples, width):
        event = Event(
            id=derived_id("bench", kind, str(sent)),
            source="/svc/production/fact",
            subject=batch.lot,
            time=process.moment(sent),
            message=batch,
            actor="bench/historian",
        )
        headers: Any = list(headers_of(event))
        producer.produce(facts.TOPIC, batch.SerializeToString(), batch.lot, headers=headers)
        sent += 1
        producer.poll(0)
        if sent % 1000 == 0:
            producer.flush(60)
    tell("produced", count=sent, left=producer.flush(120))


if __name__ == "__main__":
    main()
