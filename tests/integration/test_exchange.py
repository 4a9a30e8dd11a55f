"""Studies of three sites on real engines: catalogue, request, approvals, a job over gRPC, the answer."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from pharmaloop.exchange.v1 import service_pb2 as api
from pharmaloop.exchange.v1 import service_pb2_grpc as api_grpc
from pharmaloop.loops.v1 import events_pb2 as loops
from services.exchange.main import make_spec
from services.exchange.site.main import make_spec as make_agent
from services.kit.app import App
from services.kit.contracts import contract
from services.kit.envelope import Event, to_record
from services.kit.ids import study_case
from services.kit.rpc.client import metadata
from services.kit.testing.engines import free_port
from services.kit.testing.service import running_service
from tests.unit.exchange.hospitals import SITES, TERMS, Hospital, pooled, request

ANALYST = metadata("analyst")


@dataclass
class Consortium:
    """The exchange and its sites, as people meet them."""

    app: App
    stub: api_grpc.ExchangeServiceAsyncStub
    hospitals: dict[str, Hospital]

    async def request(self, sites: tuple[str, ...] = SITES) -> str:
        asked = request(f"study-{uuid.uuid4().hex[:8]}", self.app.clock.now(), sites)
        answer = await self.stub.RequestStudy(asked, timeout=10, metadata=ANALYST)
        await self.run_opened(answer.study)
        return str(answer.study)

    async def run_opened(self, study: str) -> None:
        """What the loops say when they have heard of a study."""
        run = f"run-{study}"
        opened = loops.EvidenceRunOpened(run=run, case=study_case(study), study=study)
        topic, key = contract().route(opened)
        event = Event(
            id=str(uuid.uuid4()),
            source="/svc/loops/test",
            subject=run,
            time=datetime.now(UTC),
            message=opened,
            key=key,
            seq=1,
            case=study_case(study),
            run=run,
        )
        await asyncio.wrap_future(self.app.producer.publish([to_record(event, topic)]))

    async def approve(self, study: str, sites: tuple[str, ...] = SITES) -> None:
        for site in sites:
            asked = api.ApproveStudyRequest(
                request_id=str(uuid.uuid4()), study=study, site=site, meaning="our data may be asked this"
            )
            await self.stub.ApproveStudy(asked, timeout=10, metadata=metadata(f"owner-of-{site}"))

    async def study(self, study: str) -> api.Study:
        answer = await self.stub.GetStudy(api.GetStudyRequest(study=study), timeout=10)
        return answer.study

    async def until(self, study: str, *states: int) -> api.Study:
        async with asyncio.timeout(30):
            while (found := await self.study(study)).state not in states:
                await asyncio.sleep(0.02)
        return found


@asynccontextmanager
async def consortium(
    backbone: str, mongo: str, folder: Path, sites: tuple[str, ...] = SITES
) -> AsyncIterator[Consortium]:
    """The exchange with an agent for each site, all in this process and each with its own database."""
    async with AsyncExitStack() as stack:
        port = free_port()
        app, line = await stack.enter_async_context(
            running_service(make_spec(), backbone, mongo, folder, grpc_port=str(port), pause_seconds="0.1")
        )
        hospitals = {site: Hospital(site) for site in sites}
        for site in sites:
            spec = make_agent(lambda _, site=site: hospitals[site])  # type: ignore[misc]
            await stack.enter_async_context(
                running_service(spec, backbone, mongo, folder, site=site, exchange=f"127.0.0.1:{port}")
            )
        found = Consortium(app, api_grpc.ExchangeServiceStub(line), hospitals)
        await _connected(found, sites)
        yield found


async def _connected(found: Consortium, sites: tuple[str, ...]) -> None:
    async with asyncio.timeout(30):
        while True:
            answer = await found.stub.ListDatasets(api.ListDatasetsRequest(), timeout=10, metadata=ANALYST)
            if {one.registered.site for one in answer.datasets if one.connected} >= set(sites):
                return
            await asyncio.sleep(0.05)


async def test_three_sites_answer_as_one_table_would(backbone: str, mongo: str, tmp_path: Path) -> None:
    async with consortium(backbone, mongo, tmp_path) as found:
        study = await found.request()
        await found.approve(study)
        answered = await found.until(study, api.STUDY_STATE_ANSWERED)
        beta, errors = pooled([found.hospitals[site].held for site in SITES])
        effects = {one.term: one for one in answered.insight.effects}
        names = ["intercept", *TERMS]
        told = np.array([effects[name].estimate.value for name in names])
        assert told == pytest.approx(beta, abs=1e-10)
        assert [effects[name].standard_error for name in names] == pytest.approx(errors, abs=1e-10)
        assert answered.insight.effects[0].term == "exposed"
        assert answered.insight.members == 900
        assert list(answered.insight.sites) == list(SITES)
