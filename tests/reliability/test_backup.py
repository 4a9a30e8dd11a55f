"""A platform is lost, and comes back from its backup: nothing that was acknowledged before is missing."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from grpc import aio
from pymongo import MongoClient

from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.production.v1 import service_pb2 as api
from pharmaloop.production.v1 import service_pb2_grpc as api_grpc
from services.cli.backup import dumps, segments, work
from services.cli.backup.manifest import Broken, Manifest
from services.cli.backup.segments import Kept
from services.cli.backup.target import NotEmpty
from services.cli.backup.topics import Backbone
from services.cli.session import Failure
from services.kit.bus.kafka import KafkaBus
from services.kit.bus.migrate import UNFINISHED, migrate
from services.kit.errors import Integrity
from services.kit.rpc.client import metadata
from services.kit.settings import KafkaSettings, MongoSettings
from services.kit.testing.engines import KafkaEngine, free_port, running
from services.kit.testing.service import running_service
from services.production.main import SPEC
from tests.suites.backbone import new_name

DISPENSES, LOTS = "pharmaloop.traceability.dispense.v1", "pharmaloop.production.lot.v1"
CHANGELOG = "pharmaloop-loops-cases-changelog"
DRYER, SITES = "plant-1/dryer-1", ("hospital-a",)


@contextmanager
def kafka(folder: Path, sites: tuple[str, ...] | None = SITES) -> Iterator[KafkaSettings]:
    """A Kafka of our own, with the platform's topics or none."""
    engine = KafkaEngine(folder / "data", free_port(), free_port())
    with running(engine, folder / "kafka.log", grace=1):
        settings = KafkaSettings(bootstrap_servers=engine.bootstrap)
        if sites is not None:
            migrate(settings, sites)
        yield settings


class Plant:
    """Sends commands to production."""

    def __init__(self, channel: aio.Channel) -> None:
        self._stub: Any = api_grpc.ProductionServiceStub(channel)
        self.acknowledged: list[str] = []

    async def register(self) -> None:
        tag = production.Tag(name="JacketTemperature", unit="Cel")
        await self._send(
            api.RegisterEquipmentRequest(
                request_id=str(uuid.uuid4()), equipment=DRYER, plant="plant-1", tags=[tag]
            )
        )

    async def start(self, lot: str) -> None:
        await self._send(
            api.StartLotRequest(request_id=lot, lot=lot, product=lot.rpartition("/")[0], equipment=DRYER)
        )
        self.acknowledged.append(lot)

    async def hold(self, lot: str) -> None:
        await self._send(api.HoldLotRequest(request_id=f"hold {lot}", lot=lot, reason="looked at"))

    async def _send(self, request: Any) -> None:
        method = type(request).__name__.removesuffix("Request")
        await getattr(self._stub, method)(request, timeout=20, metadata=metadata("qa"))

    async def state(self, lot: str) -> str:
        answer = await self._stub.GetLot(api.GetLotRequest(lot=lot), timeout=10)
        return str(api.LotState.Name(answer.lot.state)).removeprefix("LOT_STATE_")


def produce(settings: KafkaSettings, topic: str, values: list[bytes | None]) -> None:
    """Records of one key on partition 0, of long ago; a header occurs twice, once without a value."""
    producer = ck.Producer({"bootstrap.servers": settings.bootstrap_servers})
    headers: Any = [("h", None), ("h", b"2")]
    for n, value in enumerate(values):
        at = 1_600_000_000_000 + n
        producer.produce(topic, value, b"key", 0, timestamp=at, headers=headers)
    assert producer.flush(10) == 0


def lose_the_begin(settings: KafkaSettings, topic: str, before: int) -> None:
    """As retention does it."""
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    for future in admin.delete_records([ck.TopicPartition(topic, 0, before)]).values():
        future.result(10)


def with_holes(settings: KafkaSettings, topic: str) -> None:
    """Three transactions, the second broken off: of the offsets 0 to 5, only 0 and 4 are records."""
    producer = ck.Producer({"bootstrap.servers": settings.bootstrap_servers, "transactional.id": "holes"})
    producer.init_transactions(30)
    for value, keep in ((b"one", True), (b"never", False), (b"two", True)):
        producer.begin_transaction()
        producer.produce(topic, value, b"case", 0)
        producer.flush(10)
        (producer.commit_transaction if keep else producer.abort_transaction)(10)


def standing(settings: KafkaSettings, *topics: str) -> dict[tuple[str, int], list[Kept]]:
    """All records of the topics, as they stand there."""
    ends = KafkaBus(settings, "looks").log().ends(topics)
    reader = ck.Consumer(
        {
            "bootstrap.servers": settings.bootstrap_servers,
            "group.id": "looks",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    reader.assign([ck.TopicPartition(*place, ck.OFFSET_BEGINNING) for place in ends])
    found: dict[tuple[str, int], list[Kept]] = {tuple(place): [] for place in ends}  # type: ignore[misc]
    left = len(found)
    while left:
        message: Any = reader.poll(10)
        assert message is not None
        if message.error() is not None:
            assert message.error().code() == ck.KafkaError._PARTITION_EOF, message.error()
            left -= 1
            continue
        headers = tuple((name, value) for name, value in message.headers() or ())
        record = Kept(message.offset(), message.timestamp()[1], message.key(), message.value(), headers)
        found[(message.topic(), message.partition())].append(record)
    reader.close()
    return found


def indexes(uri: str, database: str) -> dict[str, Any]:
    """Of all collections."""
    with MongoClient[dict[str, Any]](uri) as client:
        own = client[database]
        return {name: own[name].index_information() for name in own.list_collection_names()}


def drop(uri: str, database: str) -> None:
    with MongoClient[dict[str, Any]](uri) as client:
        client.drop_database(database)


@pytest.mark.faults
async def test_a_service_goes_on_from_a_backup_that_was_made_while_it_worked(
    mongo: str, tmp_path: Path
) -> None:
    database, product = new_name("t"), f"maker/item/{uuid.uuid4().hex}"
    backup = tmp_path / "backup"
    with kafka(tmp_path / "a") as first:
        produce(first, DISPENSES, [b"gone", b"gone too", b"", None])
        lose_the_begin(first, DISPENSES, 2)
        with_holes(first, CHANGELOG)
        old = work.Engines(first, MongoSettings(uri=mongo), prefix=database)
        servers = first.bootstrap_servers
        async with running_service(SPEC, servers, mongo, tmp_path / "s", database=database) as (_, channel):
            plant = Plant(channel)
            await plant.register()
            for n in range(5):
                await plant.start(f"{product}/{n}")
            before = list(plant.acknowledged)
            making = asyncio.create_task(asyncio.to_thread(work.make, old, backup))
            while not making.done():
                await plant.start(f"{product}/{len(plant.acknowledged)}")
            made = await making
        assert await asyncio.to_thread(work.verify, backup) == made
        nothing_is_ahead(backup, made, database)
        stood, indexed = standing(first, DISPENSES, CHANGELOG, LOTS), indexes(mongo, database)
    with kafka(tmp_path / "b", sites=None) as second:
        new = work.Engines(second, MongoSettings(uri=mongo), prefix=database)
        with pytest.raises(NotEmpty, match=f"MongoDB is not empty: {database}"):
            work.restore(new, backup)
        drop(mongo, database)
        refuse_what_is_broken(new, backup)
        await asyncio.to_thread(work.restore, new, backup)
        look_alike(second, made, stood)
        assert indexes(mongo, database) == indexed
        servers = second.bootstrap_servers
        async with running_service(SPEC, servers, mongo, tmp_path / "n", database=database) as (_, channel):
            plant = Plant(channel)
            assert {await plant.state(lot) for lot in before} == {"STARTED"}
            await plant.start(before[0])  # the same request once more gets the answer that was given then
            await plant.hold(before[0])
            assert await plant.state(before[0]) == "HELD"
        with pytest.raises(NotEmpty, match=r"Kafka at .* is not empty: pharmaloop"):
            work.restore(new, backup)
        refuse_an_unfinished_restore(new, tmp_path)


def refuse_what_is_broken(engines: work.Engines, backup: Path) -> None:
    """A file that is cut short is named, and nothing was written."""
    file = max(backup.glob(f"topics/{LOTS}/*/*"))
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(Broken) as refused:
        work.restore(engines, backup)
    assert str(file) in refused.value.message
    assert Backbone(engines.kafka).partitions(everything=True) == {}
    file.write_bytes(content)


def nothing_is_ahead(backup: Path, made: Manifest, database: str) -> None:
    """The log of a backup tells of no lot that its database lacks, and lacks none that this published."""
    rows = list(dumps.read(backup / f"databases/{database}/_outbox.bson.gz"))
    parts = next(topic.partitions for topic in made.topics if topic.name == LOTS)
    told = {
        (dict(record.headers)["ce_id"] or b"").decode()
        for part in parts
        for file in part.files
        for record in segments.read(backup / file)
    }
    assert told
    assert told <= {row["_id"] for row in rows}
    assert {row["_id"] for row in rows if not row["open"] and row["topic"] == LOTS} <= told


def look_alike(settings: KafkaSettings, made: Manifest, stood: dict[tuple[str, int], list[Kept]]) -> None:
    """The topics are what they were, up to the cut: records with offsets, begins, ends, settings, groups."""
    backbone = Backbone(settings)
    parts = {(topic.name, part.number): part for topic in made.topics for part in topic.partitions}
    cut = backbone.cut(backbone.ends(), {})
    assert {place: end for place, (_, end) in cut.ranges.items()} == {
        place: part.end for place, part in parts.items()
    }
    found = standing(settings, *{topic for topic, _ in stood})
    for place, records in stood.items():
        wanted = [record for record in records if record.offset < parts[place].end]
        at = {record.offset: record for record in found[place]}
        assert [at.get(record.offset) for record in wanted] == wanted
        holes = [record for record in found[place] if record.offset not in {one.offset for one in wanted}]
        assert {record._replace(offset=0) for record in holes} <= {one._replace(offset=0) for one in wanted}
    assert [record.offset for record in found[(DISPENSES, 0)]] == [2, 3]
    assert [record.value for record in found[(CHANGELOG, 0)]] == [b"one", *[b"two"] * 5]
    assert backbone.settings_of(cut.topics) == {topic.name: topic.settings for topic in made.topics}
    assert made.groups
    assert backbone.groups() == made.groups


def refuse_an_unfinished_restore(engines: work.Engines, folder: Path) -> None:
    """What a restore that was broken off leaves is not started on, not backed up, and not restored into."""
    admin = AdminClient({"bootstrap.servers": engines.kafka.bootstrap_servers})
    admin.create_topics([NewTopic(UNFINISHED, 1, 1)])[UNFINISHED].result(10)
    while UNFINISHED not in admin.list_topics(timeout=10).topics:
        time.sleep(0.1)
    with pytest.raises(Integrity, match="broken off"):
        migrate(engines.kafka, SITES)
    with pytest.raises(Failure, match="did not end"):
        work.make(engines, folder / "another")
    with pytest.raises(Failure, match="did not end"):
        work.restore(engines, folder / "backup")
