"""A view made anew on a running service: complete, byte-equal, nothing emitted twice, nothing lost."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from pymongo import MongoClient

from pharmaloop.common.v1 import operations_pb2 as operations
from pharmaloop.common.v1 import operations_pb2_grpc as operations_grpc
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import service_pb2 as api
from pharmaloop.rnd.v1 import service_pb2_grpc as api_grpc
from services.kit.app import App
from services.kit.bus.kafka import KafkaBus
from services.kit.bus.protocol import Position
from services.kit.envelope import Event
from services.kit.facts import vector
from services.kit.rpc.errors import reason_of
from services.kit.settings import KafkaSettings
from services.kit.testing.service import running_service
from services.rnd.main import SPEC
from tests.suites.backbone import Backbone, new_name

CAPA_TOPIC, INSIGHT_TOPIC = "pharmaloop.production.capa.v1", "pharmaloop.rnd.insight.v1"
VIEW = "rnd.insights"
_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
Condition = Callable[[operations.View], bool]


def published(product: str, count: int) -> list[Event]:
    """Insights as production says them, one an aggregate."""
    return [
        Event(
            id=str(uuid.uuid4()),
            source="/svc/production/capa",
            subject=(insight := new_name("insight")),
            time=_NOON,
            message=production.InsightPublished(
                insight=insight, product=product, parameter="T", capa=insight
            ),
            key=insight,
            seq=1,
        )
        for _ in range(count)
    ]


@asynccontextmanager
async def running(backbone: str, mongo: str, folder: Path, database: str) -> AsyncIterator[Service]:
    async with running_service(SPEC, backbone, mongo, folder, database=database) as (app, channel):
        yield Service(app, channel, mongo, database)


class Service:
    """rnd, as an operator sees it."""

    def __init__(self, app: App, channel: aio.Channel, mongo: str, database: str) -> None:
        self.app = app
        self.operations: Any = operations_grpc.OperationsServiceStub(channel)
        self._rnd: Any = api_grpc.RndServiceStub(channel)
        self._mongo = mongo
        self._database = database

    async def insights(self, product: str, *at: Position) -> set[str]:
        request = api.ListInsightsRequest(product=product, page_size=1000, min_position=vector(at))
        answer = await self._rnd.ListInsights(request, timeout=10)
        return {insight.insight for insight in answer.insights}

    async def view(self) -> operations.View:
        answer = await self.operations.ListViews(operations.ListViewsRequest(), timeout=5)
        found: operations.View = next(view for view in answer.views if view.view == VIEW)
        return found

    async def rebuild(self) -> operations.View:
        request = operations.RebuildViewRequest(request_id=str(uuid.uuid4()), view=VIEW)
        begun: operations.View = (await self.operations.RebuildView(request, timeout=5)).view
        return begun

    async def until(self, condition: Condition, seconds: float = 40) -> operations.View:
        async with asyncio.timeout(seconds):
            while not condition(view := await self.view()):
                await asyncio.sleep(0.1)
        return view

    def rows(self, collection: str = "") -> list[dict[str, Any]]:
        """The live making of the view, whole."""
        generation = self.app.makings.generation(VIEW)
        name = collection or ("insight" if generation == 1 else f"insight~{generation}")
        with MongoClient[dict[str, Any]](self._mongo) as client:
            return list(client[self._database][name].find().sort("_id", 1))


async def test_a_rebuild_is_byte_equal_and_emits_nothing(backbone: str, mongo: str, tmp_path: Path) -> None:
    others = Backbone(KafkaBus(KafkaSettings(bootstrap_servers=backbone), "others"))
    product, database = new_name("product"), new_name("t")
    before, during = published(product, 300), published(product, 50)
    keys = [event.key for event in [*before, *during]]
    heard = await others.listen(INSIGHT_TOPIC, *keys)
    async with running(backbone, mongo, tmp_path, database) as service:
        stands = await others.say(CAPA_TOPIC, *before)
        assert len(await service.insights(product, *stands)) == 300
        rows = service.rows()
        begun = await service.rebuild()
        assert (begun.live, begun.building) == (1, 2)
        stands = await others.say(CAPA_TOPIC, *during)
        # A query during the rebuild is answered from the live making, whole.
        assert await service.insights(product, *stands) == set(keys)
        view = await service.until(lambda view: view.live == 2)
        assert await service.insights(product, *stands) == set(keys)
        after = service.rows()
        assert [row for row in after if row["_id"] in {old["_id"] for old in rows}] == rows
        assert view.total >= 350
        # What comes later has its effect once, by the new making alone.
        late = published(product, 20)
        stands = await others.say(CAPA_TOPIC, *late)
        assert len(await service.insights(product, *stands)) == 370
        await service.until(lambda view: not view.building)
        async with asyncio.timeout(20):
            while await asyncio.to_thread(service.rows, "insight"):
                await asyncio.sleep(0.2)
    told = await heard(350)
    assert len(told) == 350, "the rebuild emitted"
    assert len({dict(record.headers)["ce_id"] for record in told}) == 350


async def test_a_rebuild_goes_on_after_a_restart_and_can_be_given_up(
    backbone: str, mongo: str, tmp_path: Path
) -> None:
    others = Backbone(KafkaBus(KafkaSettings(bootstrap_servers=backbone), "others"))
    product, database = new_name("product"), new_name("t")
    stands = await others.say(CAPA_TOPIC, *published(product, 100))
    async with running(backbone, mongo, tmp_path, database) as service:
        assert len(await service.insights(product, *stands)) == 100
        await service.rebuild()
        with pytest.raises(grpc.RpcError) as refused:
            await service.rebuild()
        assert reason_of(refused.value)[0] == "REBUILD_RUNS"
    async with running(backbone, mongo, tmp_path, database) as service:
        await service.until(lambda view: view.live == 2)
        assert len(await service.insights(product, *stands)) == 100
        await service.until(lambda view: not view.building)
    async with running(backbone, mongo, tmp_path, database) as service:
        assert (await service.view()).live == 2
        assert len(await service.insights(product, *stands)) == 100


async def test_what_cannot_be_rebuilt_says_why(backbone: str, mongo: str, tmp_path: Path) -> None:
    async with running(backbone, mongo, tmp_path, new_name("t")) as service:
        request = operations.RebuildViewRequest(request_id="r", view="rnd.nothing")
        with pytest.raises(grpc.RpcError) as refused:
            await service.operations.RebuildView(request, timeout=5)
        assert reason_of(refused.value) == ("UNKNOWN_VIEW", "view")
        assert VIEW in str(refused.value.details())
        cancel = operations.CancelRebuildRequest(request_id="r", view=VIEW)
        with pytest.raises(grpc.RpcError) as refused:
            await service.operations.CancelRebuild(cancel, timeout=5)
        assert reason_of(refused.value)[0] == "NO_REBUILD"
