"""Facts recorded through the kit's FactLog, as an API records what a partner sends.

    python -m tests.bench.children.fact_log kit|raw COUNT

`raw` is the yardstick: the raw producer with the same settings, messages of
the same size, the same number of headers, and a delivery report for each.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import confluent_kafka as ck
import uvloop

from pharmaloop.production.v1 import events_pb2 as production
from services.kit.bus.kafka import KafkaProducer, client_config
from services.kit.bus.protocol import LARGEST_LETTER_BYTES
from services.kit.clock import load_clock
from services.kit.contracts import contract
from services.kit.envelope import Event, headers_of
from services.kit.facts import Fact, FactLog
from services.kit.ids import derived_id
from services.kit.settings import KafkaSettings, PlatformSettings, read_settings
from tests.bench.framework import facts
from tests.bench.framework.machine import tell

#: The largest request of the API, and how many a busy service has in work.
_CALL = 500
_AT_ONCE = 8


def _prepared(count: int) -> list[tuple[production.ReadingsRecorded, str]]:
    """The facts and their ids: making them is the source's work."""
    return [(facts.message(index), derived_id("bench", str(index))) for index in range(count)]


async def _kit(count: int) -> float:
    clock = load_clock(read_settings(PlatformSettings).state_dir)
    producer = KafkaProducer(read_settings(KafkaSettings), "bench")
    log = FactLog("production", producer, contract(), clock)
    prepared = _prepared(count)
    starts = iter(range(0, count, _CALL))

    async def worker() -> None:
        for start in starts:
            part = prepared[start : start + _CALL]

            def to_fact(index: int, message: production.ReadingsRecorded, start: int = start) -> Fact:
                return Fact(message, prepared[start + index][1], facts.time_of(start + index), message.lot)

            receipt = await log.record(
                (message for message, _ in part), to_fact, all_or_nothing=True, actor="bench", field="batches"
            )
            assert receipt.accepted == len(part)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))
    seconds = time.perf_counter() - began
    producer.close()
    return seconds


def _raw(count: int) -> float:
    producer = ck.Producer(
        {
            **client_config(read_settings(KafkaSettings), "bench-raw"),
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",
            "linger.ms": 2,
            "compression.type": "lz4",
            "delivery.timeout.ms": 120_000,
            "queue.buffering.max.messages": 1_000_000,
            "message.max.bytes": LARGEST_LETTER_BYTES,
        }
    )
    prepared = _prepared(count)
    message, id = prepared[0]
    event = Event(id, "/svc/production/fact", message.lot, facts.time_of(0), message, actor="bench")
    headers: Any = list(headers_of(event))
    delivered = 0

    def on_delivery(error: Any, _message: Any) -> None:
        nonlocal delivered
        delivered += error is None

    began = time.perf_counter()
    for index, (message, _) in enumerate(prepared):
        producer.produce(
            facts.TOPIC,
            key=message.lot,
            value=message.SerializeToString(),
            headers=headers,
            on_delivery=on_delivery,
        )
        if index % 500 == 0:
            producer.poll(0)
    producer.flush(60)
    seconds = time.perf_counter() - began
    assert delivered == count, f"{delivered} of {count} were delivered"
    return seconds


def main() -> None:
    way, count = sys.argv[1], int(sys.argv[2])
    if way == "raw":
        seconds = _raw(count)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            seconds = runner.run(_kit(count))
    tell("produced", count=count, seconds=seconds)


if __name__ == "__main__":
    main()
