"""A database restored from an old backup: nothing that was decided is lost, nothing happens twice."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.production.v1 import service_pb2 as api
from pharmaloop.production.v1 import service_pb2_grpc as api_grpc
from services.kit.bus.kafka import KafkaBus
from services.kit.bus.migrate import migrate
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record
from services.kit.errors import Poison
from services.kit.rpc.client import metadata
from services.kit.settings import KafkaSettings
from services.kit.testing.engines import KafkaEngine, free_port, running
from services.kit.testing.service import running_service
from services.production.main import SPEC
from tests.snapshots import dumped, set_back
from tests.suites.backbone import Backbone, new_name

LOT_TOPIC = "pharmaloop.production.lot.v1"
DRYER = "plant-1/dryer-1"


class Plant:
    """Sends commands, and the same command again."""

    def __init__(self, channel: aio.Channel) -> None:
        self._stub: Any = api_grpc.ProductionServiceStub(channel)

    async def send(self, request: Any) -> Any:
        method = type(request).__name__.removesuffix("Request")
        return await getattr(self._stub, method)(request, timeout=20, metadata=metadata("qa"))

    async def state(self, lot: str) -> str:
        answer = await self._stub.GetLot(api.GetLotRequest(lot=lot), timeout=10)
        return str(api.LotState.Name(answer.lot.state))


def equipment() -> api.RegisterEquipmentRequest:
    tag = production.Tag(name="JacketTemperature", unit="Cel")
    id = str(uuid.uuid4())
    return api.RegisterEquipmentRequest(request_id=id, equipment=DRYER, plant="plant-1", tags=[tag])


def start(lot: str) -> api.StartLotRequest:
    product = lot.rsplit("/", 1)[0]
    return api.StartLotRequest(request_id=str(uuid.uuid4()), lot=lot, product=product, equipment=DRYER)


def hold(lot: str) -> api.HoldLotRequest:
    return api.HoldLotRequest(request_id=str(uuid.uuid4()), lot=lot, reason="looked at")


def versions(records: list[Any], lots: set[str]) -> dict[str, list[tuple[int, str]]]:
    """Distinct (version, id) of each lot's events, in order."""
    found: dict[str, set[tuple[int, str]]] = {lot: set() for lot in lots}
    for record in records:
        try:
            event: Event = from_record(contract(), record)
        except Poison:
            continue
        if event.subject in lots and event.seq is not None:
            found[event.subject].add((event.seq, event.id))
    return {lot: sorted(events) for lot, events in found.items()}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Kafka of our own: a new database takes in all that its topics hold, and other tests invent events."""
    folder = tmp_path_factory.mktemp("restore-kafka")
    engine = KafkaEngine(folder / "data", free_port(), free_port())
    with running(engine, folder / "kafka.log"):
        migrate(KafkaSettings(bootstrap_servers=engine.bootstrap), ("hospital-a",))
        yield engine.bootstrap


@pytest.mark.faults
async def test_what_was_decided_after_the_backup_comes_back_and_is_not_decided_again(
    backbone: str, mongo: str, tmp_path: Path
) -> None:
    others = Backbone(KafkaBus(KafkaSettings(bootstrap_servers=backbone), "others"))
    product, database = f"maker/item/{uuid.uuid4().hex}", new_name("t")
    early, late, never = (f"{product}/{name}" for name in ("early", "late", "never"))
    heard = await others.listen(LOT_TOPIC, early, late, never)
    async with running_service(SPEC, backbone, mongo, tmp_path, database=database) as (_, channel):
        plant = Plant(channel)
        await plant.send(equipment())
        await plant.send(start(early))
        backup = dumped(mongo, database)
        lost = [hold(early), start(late), hold(late)]
        for request in lost:
            await plant.send(request)
    set_back(mongo, database, backup)
    async with running_service(SPEC, backbone, mongo, tmp_path, database=database) as (app, channel):
        plant = Plant(channel)
        assert app.restored is not None, "it did not see that the database is older than its topics"
        assert await plant.state(early) == "LOT_STATE_HELD"
        assert await plant.state(late) == "LOT_STATE_HELD"
        # Who did not hear the answer sends the same request again: refused by its rule, or without effect.
        for request in lost:
            with suppress(grpc.RpcError):
                await plant.send(request)
        await plant.send(start(never))
        assert await plant.state(never) == "LOT_STATE_STARTED"
        async with asyncio.timeout(30):  # the backup holds the lease of the process that ran then
            while await app.store.outbox_waiting():
                await asyncio.sleep(0.1)
    told = versions(await heard(9), {early, late, never})
    for lot, count in ((early, 2), (late, 2), (never, 1)):
        assert [version for version, _ in told[lot]] == list(range(1, count + 1)), told[lot]
        assert max(Counter(version for version, _ in told[lot]).values()) == 1, "two events of one version"


async def test_a_new_database_takes_its_aggregates_from_the_topics(
    backbone: str, mongo: str, tmp_path: Path
) -> None:
    product = f"maker/item/{uuid.uuid4().hex}"
    lot = f"{product}/one"
    async with running_service(SPEC, backbone, mongo, tmp_path) as (_, channel):
        for request in (equipment(), start(lot), hold(lot)):
            await Plant(channel).send(request)
    async with running_service(SPEC, backbone, mongo, tmp_path, database=new_name("t")) as (_, channel):
        plant = Plant(channel)
        assert await plant.state(lot) == "LOT_STATE_HELD"
        with pytest.raises(grpc.RpcError) as refused:
            await plant.send(start(lot))
        assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
