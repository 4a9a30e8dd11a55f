"""A service whose roles are processes of their own: a command is decided by one, published by another, and
folded by a third; and the relay, whom no commit of its own process wakes, hears of it."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
import uuid
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest

from pharmaloop.common.v1 import service_pb2 as common
from pharmaloop.common.v1 import service_pb2_grpc as common_grpc
from pharmaloop.rnd.v1 import service_pb2 as api
from pharmaloop.rnd.v1 import service_pb2_grpc as api_grpc
from services.kit.app import App
from services.kit.bus.kafka import KafkaBus
from services.kit.rpc.client import metadata
from services.kit.settings import KafkaSettings, MongoSettings
from services.kit.store.elsewhere import Elsewhere
from services.kit.store.kinds import Plan
from services.kit.store.mongo import MongoStore
from services.kit.testing.service import running_service
from services.rnd.main import SPEC
from tests.integration.test_kit_runners import CAPA_TOPIC, insights, published
from tests.suites.backbone import Backbone, new_name
from tests.suites.stores import row

_COMMANDS = 20
#: A relay that only looks now and then is a quarter of a second late on average.
_LATE_SECONDS = 0.2
_ADA = metadata("ada")


def test_rows_that_any_process_writes_are_heard_of(mongo: str) -> None:
    database = f"t{uuid.uuid4().hex[:12]}"
    stores = [MongoStore(MongoSettings(uri=mongo), database) for _ in range(2)]
    heard = threading.Semaphore(0)
    ears = Elsewhere(stores[0].outbox_stream, heard.release)
    try:
        stores[1].prepare(())
        ears.start()
        assert heard.acquire(timeout=5), "it looks for what was written before"
        for number in range(5):
            assert not heard.acquire(timeout=0.02), "nothing is written, nobody is woken"
            written = (row(f"{number}"),)
            stores[1].transact(lambda txn, written=written: txn.write(Plan((), written)))  # type: ignore[misc]
            assert heard.acquire(timeout=2)
        time.sleep(1.2)  # the server answers meanwhile that there is nothing
        stores[1].transact(lambda txn: txn.write(Plan((), (row("late"),))))
        assert heard.acquire(timeout=2)
    finally:
        ears.stop()
        ears.join()
        stores[1]._client.drop_database(database)
        for store in stores:
            store.close()


async def test_roles_in_processes_of_their_own(backbone: str, mongo: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:

        async def start(role: str, database: str = "") -> tuple[App, grpc.aio.Channel]:
            running = running_service(SPEC, backbone, mongo, tmp_path, role=role, database=database)
            return await stack.enter_async_context(running)

        worker, line = await start("worker")
        database = worker.settings.database
        await start("relay", database)
        _, channel = await start("api", database)
        rnd, took = api_grpc.RndServiceStub(channel), []
        for number in range(_COMMANDS):
            name = f"{database}-{number}"
            asked = api.RegisterTargetRequest(request_id=name, target=name, name="T", provenance="a paper")
            began = time.monotonic()
            answer = await rnd.RegisterTarget(asked, metadata=_ADA, timeout=10)
            took.append(time.monotonic() - began)
            assert not answer.receipt.pending, "it was published before the answer"
            await asyncio.sleep(0.03)
        median = statistics.median(took)
        print(f"command to published: median {median * 1000:.0f} ms, longest {max(took) * 1000:.0f} ms")
        assert median < _LATE_SECONDS

        product = new_name("product")
        said = published(product)
        others = Backbone(KafkaBus(KafkaSettings(bootstrap_servers=backbone), "others"))
        stands = await others.say(CAPA_TOPIC, said)
        assert await insights(channel, product, *stands) == [said.subject], "the worker folds it"

        status = common_grpc.StatusServiceStub(channel)
        told = await status.GetStatus(common.GetStatusRequest(), timeout=5)
        assert {runner.state for runner in told.runners} == {"elsewhere"}
        assert told.positions.positions
        silent = api_grpc.RndServiceStub(line)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await silent.ListTargets(api.ListTargetsRequest(), metadata=_ADA, timeout=5)
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED, "a worker answers no calls"
