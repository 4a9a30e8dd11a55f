"""How far a backup keeps the log: to its ends, or further, as far as the databases know it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson.raw_bson import RawBSONDocument
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic
from pymongo import MongoClient, UpdateMany

from services.cli.backup import databases
from services.cli.backup.topics import Backbone
from services.kit.bus.protocol import Position
from services.kit.runners.notes import MARKS, Mark
from services.kit.settings import KafkaSettings
from services.kit.store.kinds import Kind
from services.kit.store.mongo import OUTBOX, published_updates
from services.traceability.domain.run import Place, Run
from services.traceability.views import RUNS
from tests.suites.backbone import new_name

NOW = datetime.now(UTC)


def _kept(kind: Kind[Any], id: str, state: Any) -> dict[str, Any]:
    return kind.to_doc(id, 1, state)


@pytest.mark.parametrize("published", [True, False])
def test_the_log_is_known_as_far_as_anything_in_a_database_tells(mongo: str, published: bool) -> None:
    name = new_name("known")
    with MongoClient[RawBSONDocument](mongo, document_class=RawBSONDocument) as client:
        stored: Any = client[name]
        stored[MARKS.name].insert_many(
            [
                _kept(MARKS, "a", Mark("view.fold", 1, "lots", 0, 7)),
                _kept(MARKS, "b", Mark("other.fold", 1, "lots", 0, 5)),
            ]
        )
        cut = (Place("lots", 1, 12), Place("packs", 0, 3))
        stored[RUNS.name].insert_one(_kept(RUNS, "R", Run("R", "C", "L", "", "", (), cut=cut)))
        stored[OUTBOX].insert_one({"_id": "event", "open": True})
        if published:
            updates = published_updates({"event": Position("lots", 1, 20)})
            stored[OUTBOX].bulk_write([UpdateMany(*update) for update in updates])
        with client.start_session(snapshot=True) as session:
            asked = [(name, one) for one in (MARKS.name, RUNS.name, OUTBOX)]
            known = databases.known(client, asked, NOW + timedelta(minutes=1), session)
        client.drop_database(name)
    assert known == {("lots", 0): 7, ("lots", 1): 21 if published else 12, ("packs", 0): 3}


def test_the_log_is_kept_to_its_ends_or_as_far_as_a_database_knows_it(kafka: str) -> None:
    topic = new_name("pharmaloop.known")
    backbone = Backbone(KafkaSettings(bootstrap_servers=kafka))
    backbone.admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(10)
    _produce(kafka, topic, 3)
    ends = backbone.ends()
    _produce(kafka, topic, 4)
    place, other = (topic, 0), (topic, 1)
    assert backbone.cut(ends, {}).of(topic) == {0: (0, 3), 1: (0, 0)}
    assert backbone.cut(ends, {place: 2, other: 0}).of(topic) == {0: (0, 3), 1: (0, 0)}
    assert backbone.cut(ends, {place: 5}).of(topic) == {0: (0, 5), 1: (0, 0)}
    assert backbone.cut(ends, {place: 99}).of(topic) == {0: (0, 7), 1: (0, 0)}


def _produce(bootstrap: str, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for _ in range(count):
        producer.produce(topic, b"x", b"key", 0)
    assert producer.flush(10) == 0
