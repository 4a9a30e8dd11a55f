"""Producing facts with all headers through the FactLog, beside the raw producer."""

from __future__ import annotations

import confluent_kafka as ck

from services.kit.bus.kafka import KafkaLog, client_config
from services.kit.bus.protocol import Record
from services.kit.contracts import contract
from services.kit.envelope import from_record
from tests.bench.framework import facts
from tests.bench.framework.machine import Machine
from tests.bench.framework.rows import Row, Target, row
from tests.bench.framework.run import option

COUNT = option("COUNT", 300_000)
_HEADERS = {
    "ce_specversion",
    "ce_id",
    "ce_type",
    "ce_source",
    "ce_time",
    "ce_subject",
    "traceparent",
    "pl_actor",
    "content-type",
}


def _check_last(machine: Machine) -> None:
    """What stands at the end of a partition decodes and has every header."""
    config = {**client_config(machine.kafka, "bench-check"), "group.id": "bench-check"}
    consumer = ck.Consumer(config)
    _, high = consumer.get_watermark_offsets(ck.TopicPartition(facts.TOPIC, 0), timeout=10)
    consumer.assign([ck.TopicPartition(facts.TOPIC, 0, high - 1)])
    found = consumer.poll(10)
    consumer.close()
    assert found is not None
    assert found.error() is None
    headers = tuple((name, value or b"") for name, value in found.headers() or ())
    assert {name for name, _ in headers} == _HEADERS, sorted(name for name, _ in headers)
    record = Record(facts.TOPIC, 0, high - 1, None, found.value(), headers, found.timestamp()[1])
    assert from_record(contract(), record).actor == "bench"


def run(machine: Machine) -> list[Row]:
    log, rates = KafkaLog(machine.kafka, "bench"), dict[str, float]()
    for turn, way in enumerate(("raw", "kit"), start=1):
        child = machine.child("fact_log", way, str(COUNT))
        machine.profiled(child, f"facts-{way}", f"Producing facts: {way}")
        done = child.told("produced")
        child.stop()
        rates[way] = COUNT / done["seconds"]
        ends = sum(log.ends([facts.TOPIC]).values())
        assert ends == COUNT * turn, f"{ends} records stand in the log after {COUNT * turn}"
    _check_last(machine)
    return [
        row(
            "producing facts with all headers",
            rates["kit"],
            "facts/s",
            yardstick=("raw producer, same settings", rates["raw"]),
            target=Target(ratio_at_least=0.5),
            note="500 facts a call, 8 calls in work, 9 headers, a delivery report for each fact",
        )
    ]
