"""The yardstick of the projector: the raw clients doing the same, with nothing between.

    python -m tests.bench.children.raw_projector COUNT BATCH

Consume a batch, decode it, fold it to the last state of each key, read the
versions that are known, insert the new rows and replace the known ones, and
set the watermarks by compare-and-set: one transaction a batch.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import confluent_kafka as ck
from pymongo import InsertOne, MongoClient, ReplaceOne
from pymongo.client_session import ClientSession
from pymongo.database import Database

from pharmaloop.production.v1 import events_pb2 as production
from services.kit.bus.kafka import client_config
from services.kit.settings import KafkaSettings, MongoSettings, read_settings
from services.kit.store.mongo import MAJORITY, SNAPSHOT, client_options
from tests.bench.framework import facts
from tests.bench.framework.machine import tell

Doc = dict[str, Any]


def _consumer() -> ck.Consumer:
    group = f"raw-{os.getpid()}"
    consumer = ck.Consumer(
        {
            **client_config(read_settings(KafkaSettings), group),
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe([facts.TOPIC])
    return consumer


def _folded(messages: list[Any]) -> tuple[dict[str, Doc], dict[int, tuple[int, int]]]:
    """The last state of each key, and (first, after last) offset of each partition."""
    last: dict[str, Doc] = {}
    spans: dict[int, tuple[int, int]] = {}
    for message in messages:
        fact = production.ReadingsRecorded.FromString(message.value())
        at_ms = fact.start.at.seconds * 1000 + fact.start.at.nanos // 1_000_000 + fact.offsets_ms[-1]
        held = last.get(fact.lot)
        if held is None or held["at_ms"] <= at_ms:
            reading = fact.tags[0]
            last[fact.lot] = {
                "equipment": fact.equipment,
                "tag": reading.tag,
                "value": reading.values[-1],
                "at_ms": at_ms,
            }
        offset, partition = message.offset(), message.partition()
        first, _ = spans.get(partition, (offset, 0))
        spans[partition] = (first, offset + 1)
    return last, spans


def _write(
    database: Database[Doc], session: ClientSession, last: dict[str, Doc], spans: dict[int, tuple[int, int]]
) -> None:
    rows, marks = database["latest"], database["mark"]
    found = rows.find({"_id": {"$in": list(last)}}, {"v": 1, "s.at_ms": 1}, session=session)
    known = {doc["_id"]: (doc["v"], doc["s"]["at_ms"]) for doc in found}
    fresh = [{"_id": key, "v": 1, "s": state} for key, state in last.items() if key not in known]
    newer = [
        ReplaceOne({"_id": key}, {"_id": key, "v": known[key][0] + 1, "s": state})
        for key, state in last.items()
        if key in known and known[key][1] <= state["at_ms"]
    ]
    if fresh:
        rows.insert_many(fresh, ordered=False, session=session)
    if newer:
        rows.bulk_write(newer, ordered=False, session=session)
    for partition, (first, end) in spans.items():
        if first == 0:
            marks.bulk_write([InsertOne({"_id": partition, "next": end})], session=session)
        else:
            held = {"_id": partition, "next": first}
            done = marks.update_one(held, {"$set": {"next": end}}, session=session)
            assert done.matched_count == 1, "somebody else moved the watermark"


def main() -> None:
    count, size = int(sys.argv[1]), int(sys.argv[2])
    mongo = read_settings(MongoSettings)
    client: MongoClient[Doc] = MongoClient(mongo.uri, **client_options(mongo))
    database, consumer, folded = client[f"raw_{os.getpid()}"], _consumer(), 0
    while folded < count:
        messages = [message for message in consumer.consume(size, 0.5) if message.error() is None]
        if not messages:
            continue
        last, spans = _folded(messages)
        with (
            client.start_session() as session,
            session.start_transaction(read_concern=SNAPSHOT, write_concern=MAJORITY),
        ):
            _write(database, session, last, spans)
        folded += len(messages)
        tell("folded", records=folded, at=time.time(), cpu=time.process_time())
    tell("done", database=database.name)
    consumer.close()


if __name__ == "__main__":
    main()
