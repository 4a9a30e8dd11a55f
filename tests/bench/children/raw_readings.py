"""The yardstick of the charts: a raw consumer that takes the same batches and decodes their columns.

python -m tests.bench.children.raw_readings BATCHES
"""

from __future__ import annotations

import os
import sys
import time

import confluent_kafka as ck
import numpy as np

from pharmaloop.production.v1 import events_pb2 as production
from services.kit.bus.kafka import client_config
from services.kit.settings import KafkaSettings, read_settings
from tests.bench.framework import facts
from tests.bench.framework.machine import tell

_TAKE = 500


def main() -> None:
    wanted, group = int(sys.argv[1]), f"raw-readings-{os.getpid()}"
    consumer = ck.Consumer(
        {
            **client_config(read_settings(KafkaSettings), group),
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([facts.TOPIC])
    records = points = 0
    total, began = 0.0, 0.0
    while records < wanted:
        messages = consumer.consume(_TAKE, 0.5)
        for message in messages:
            if message.error() is not None:
                continue
            began = began or time.time()
            batch = production.ReadingsRecorded.FromString(message.value() or b"")
            for tag in batch.tags:
                column = np.asarray(tag.values)
                total += float(column[-1])
                points += len(column)
            records += 1
    tell("done", points=points, seconds=time.time() - began, total=total)
    consumer.close()


if __name__ == "__main__":
    main()
