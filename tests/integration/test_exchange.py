"""Studies of three sites on real engines: catalogue, request, approvals, a job over gRPC, the answer."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import numpy as np
import pytest
from grpc import aio

from pharmaloop.exchange.v1 import service_pb2 as api
from pharmaloop.exchange.v1 import service_pb2_grpc as api_grpc
from pharmaloop.loops.v1 import events_pb2 as loops
from services.exchange.evaluator.main import make_spec as make_evaluator
from services.exchange.main import make_spec
from services.exchange.site import valuing
from services.exchange.site.main import make_spec as make_agent
from services.exchange.site.session import Session
from services.exchange.views import EVALUATOR, EVALUATORS
from services.kit.app import App
from services.kit.contracts import contract
from services.kit.envelope import Event, to_record
from services.kit.ids import study_case
from services.kit.rpc.client import metadata
from services.kit.rpc.errors import reason_of
from services.kit.testing.engines import free_port
from services.kit.testing.service import running_service
from tests.integration import leaks
from tests.unit.exchange.hospitals import SITES, TERMS, Hospital, pooled, request

ANALYST = metadata("analyst")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the sites' keys are: the same in every test, for the topic of datasets is."""
    return tmp_path_factory.mktemp("exchange")


@dataclass
class Consortium:
    """The exchange and its sites, as people meet them."""

    app: App
    stub: api_grpc.ExchangeServiceAsyncStub
    hospitals: dict[str, Hospital]
    agents: dict[str, AsyncExitStack]

    async def request(self, sites: tuple[str, ...] = SITES, **changes: Any) -> str:
        asked = request(f"study-{uuid.uuid4().hex[:8]}", self.app.clock.now(), sites)
        for name, value in changes.items():
            setattr(asked, name, value)
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

    async def approve(self, study: str, sites: tuple[str, ...] = SITES, valuation: bool = False) -> None:
        for site in sites:
            asked = api.ApproveStudyRequest(
                request_id=str(uuid.uuid4()),
                study=study,
                site=site,
                meaning="our data may be asked this",
                valuation=valuation,
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
    backbone: str, mongo: str, folder: Path, sites: tuple[str, ...] = SITES, *, evaluator: bool = False
) -> AsyncIterator[Consortium]:
    """The exchange with an agent for each site, and an evaluator where asked, all in this process, each with
    its own database."""
    async with AsyncExitStack() as stack:
        port = free_port()
        app, line = await stack.enter_async_context(
            running_service(make_spec(), backbone, mongo, folder, grpc_port=str(port), pause_seconds="0.1")
        )
        hospitals = {site: Hospital(site) for site in sites}
        agents = {site: await stack.enter_async_context(AsyncExitStack()) for site in sites}
        for site, own in agents.items():
            spec = make_agent(lambda _, site=site: hospitals[site])  # type: ignore[misc]
            address = f"127.0.0.1:{port}"
            await own.enter_async_context(
                running_service(spec, backbone, mongo, folder, site=site, exchange=address)
            )
        if evaluator:
            spec, address = make_evaluator(), f"127.0.0.1:{port}"
            await stack.enter_async_context(running_service(spec, backbone, mongo, folder, exchange=address))
            async with asyncio.timeout(30):
                while await app.store.get(EVALUATORS, EVALUATOR) is None:
                    await asyncio.sleep(0.02)
        found = Consortium(app, api_grpc.ExchangeServiceStub(line), hospitals, agents)
        await _connected(found, sites)
        yield found


async def _connected(found: Consortium, sites: tuple[str, ...]) -> None:
    async with asyncio.timeout(30):
        while True:
            answer = await found.stub.ListDatasets(api.ListDatasetsRequest(), timeout=10, metadata=ANALYST)
            if {one.registered.site for one in answer.datasets if one.connected} >= set(sites):
                return
            await asyncio.sleep(0.05)


async def test_three_sites_answer_as_one_table_would(backbone: str, mongo: str, folder: Path) -> None:
    async with consortium(backbone, mongo, folder) as found:
        study = await found.request()
        await found.approve(study)
        answered = await found.until(study, api.STUDY_STATE_ANSWERED)
        beta, errors = pooled([found.hospitals[site].held for site in SITES])
        effects = {one.term: one for one in answered.insight.effects}
        names = ["intercept", *TERMS]
        estimates = np.array([effects[name].estimate.value for name in names])
        assert estimates == pytest.approx(beta, abs=1e-10)
        assert [effects[name].standard_error for name in names] == pytest.approx(errors, abs=1e-10)
        assert answered.insight.effects[0].term == "exposed"
        assert answered.insight.members == 900
        assert list(answered.insight.sites) == list(SITES)
        told = await asyncio.to_thread(_said, backbone, study)
        assert [kind for kind, _, _ in told] == [
            "StudyRequested",
            *["StudyApproved"] * 3,
            "JobOpened",
            *["CohortFrozen"] * 3,
            "JobAudited",
            "InsightPublished",
            *["ContributionMetered"] * 3,
        ]
        assert {case for _, case, _ in told} == {study_case(study)}
        assert {run for kind, _, run in told if kind == "InsightPublished"} == {f"run-{study}"}
        answered = await found.study(study)
        (job,) = answered.jobs
        assert len(job.rounds) == answered.insight.rounds
        assert [one.rounds for one in answered.contributions] == [len(job.rounds)] * 3
        assert all(one.compute_seconds > 0 for one in answered.contributions)
        listed = await found.stub.ListStudies(api.ListStudiesRequest(site="hospital-b"), timeout=10)
        assert study in [one.requested.study for one in listed.studies]
        left = await found.stub.ListDatasets(api.ListDatasetsRequest(), timeout=10, metadata=ANALYST)
        assert {one.queries_left for one in left.datasets if one.registered.site in SITES} == {99}


def _said(backbone: str, study: str) -> list[tuple[str, str, str]]:
    """What the topic tells of a study, in its order: type, case and run."""
    topic = contract().topic_of("pharmaloop.exchange.v1.StudyRequested").name
    config = {"bootstrap.servers": backbone, "group.id": f"test-{study}", "enable.auto.commit": False}
    consumer = ck.Consumer(config)
    numbers = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([ck.TopicPartition(topic, number, ck.OFFSET_BEGINNING) for number in numbers])
    told = []
    while (record := consumer.poll(2)) is not None:
        headers = {name: (value or b"").decode() for name, value in record.headers() or ()}
        if (record.key() or b"").decode() == study:
            told.append(
                (headers["ce_type"].rpartition(".")[2], headers["pl_case"], headers.get("pl_run", ""))
            )
    consumer.close()
    return told


@pytest.mark.req("G3a")
async def test_no_number_of_one_site_comes_to_a_topic_or_the_coordinators_database(
    backbone: str, mongo: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors: list[np.ndarray[Any, np.dtype[np.float64]]] = []
    computed = Session._computed

    def noted(self: Session, *arguments: Any) -> Any:
        vector, context = computed(self, *arguments)
        vectors.append(vector)
        return vector, context

    monkeypatch.setattr(Session, "_computed", noted)
    async with consortium(backbone, mongo, folder) as found:
        study = await found.request()
        await found.approve(study)
        await found.until(study, api.STUDY_STATE_ANSWERED)
        places = [*leaks.topics(backbone), *leaks.databases(mongo, {"exchange": found.app})]
    numbers = {float(number) for vector in vectors for number in vector if number != round(number)}
    marks = [mark for number in numbers for mark in (np.float64(number).tobytes(), repr(number).encode())]
    assert len(marks) > 100
    assert any(study.encode() in place.content for place in places)
    assert not [place.name for place in places for mark in marks if mark in place.content]


@pytest.mark.req("G3a")
async def test_a_noised_table_comes_with_its_epsilon_and_takes_it_from_the_budget(
    backbone: str, mongo: str, folder: Path
) -> None:
    by = [{"column": name, "levels": ["0", "1"]} for name in ("exposed", "event")]
    noised: dict[str, Any] = {
        "model": "counts",
        "specification": json.dumps({"by": by}),
        "epsilon": 2.0,
        "delta": 1e-6,
    }
    async with consortium(backbone, mongo, folder) as found:
        before = await _left(found)
        study = await found.request(**noised)
        await found.approve(study)
        insight = (await found.until(study, api.STUDY_STATE_ANSWERED)).insight
        after = await _left(found)
        with pytest.raises(aio.AioRpcError) as refused:
            await found.request(**{**noised, "epsilon": 3.5})
    told = json.loads(insight.tables)
    held = [hospital.held.columns for hospital in found.hospitals.values()]
    for cell in told["cells"]:
        exposed, event = map(float, cell["levels"])
        exact = sum(int(((one["exposed"] == exposed) & (one["event"] == event)).sum()) for one in held)
        assert 0 < abs(cell["count"] - exact) < 6 * told["noise"]["standard_deviation"]
    assert (insight.epsilon, told["noise"]["epsilon"], told["noise"]["accountant"]) == (2.0, 2.0, "PLD")
    assert insight.rounds == 1
    for site in SITES:
        queries, rounds, epsilon = (one - other for one, other in zip(before[site], after[site], strict=True))
        assert (queries, rounds, epsilon) == (1, 1, 2.0)
    assert reason_of(refused.value) == ("EPSILON_SPENT", "epsilon")


async def _left(found: Consortium) -> dict[str, tuple[int, int, float]]:
    """What is left of the analyst's budget, by site."""
    answer = await found.stub.ListDatasets(api.ListDatasetsRequest(), timeout=10, metadata=ANALYST)
    return {
        one.registered.site: (one.queries_left, one.rounds_left, one.epsilon_left) for one in answer.datasets
    }


@pytest.mark.req("H3")
async def test_contributions_are_valued_after_the_answer_and_no_sealed_number_is_open_anywhere(
    backbone: str, mongo: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors: list[np.ndarray[Any, np.dtype[np.float64]]] = []
    seal = valuing.sealed

    def noted(task: Any, vector: Any, *more: Any) -> Any:
        vectors.append(vector)
        return seal(task, vector, *more)

    # A number of ours may be one of others, a temperature of a plant's reading.
    before = {place.content for place in leaks.topics(backbone)}
    monkeypatch.setattr(valuing, "sealed", noted)
    async with consortium(backbone, mongo, folder, evaluator=True) as found:
        study = await found.request(valued=True)
        await found.approve(study, valuation=True)
        await found.until(study, api.STUDY_STATE_ANSWERED)
        async with asyncio.timeout(30):
            while not (metered := (await found.study(study)).contributions):
                await asyncio.sleep(0.02)
        assert sorted(one.site for one in metered) == sorted(SITES)
        assert [one.not_valued for one in metered] == [""] * 3
        assert all(one.valued and 0 < one.share < 1 for one in metered)
        assert sum(one.share for one in metered) == pytest.approx(1.0)
        places = [*leaks.topics(backbone), *leaks.databases(mongo, {"exchange": found.app})]
    numbers = {float(number) for vector in vectors for number in vector if number != round(number)}
    marks = [mark for number in numbers for mark in (np.float64(number).tobytes(), repr(number).encode())]
    assert len(marks) > 100
    told = [place for place in places if place.content not in before]
    assert not [place.name for place in told for mark in marks if mark in place.content]


async def test_a_site_that_goes_away_is_waited_for_and_a_request_that_lacks_something_is_refused(
    backbone: str, mongo: str, folder: Path
) -> None:
    async with consortium(backbone, mongo, folder) as found:
        lacks = request("s", found.app.clock.now())
        lacks.purpose = ""
        with pytest.raises(aio.AioRpcError) as told:
            await found.stub.RequestStudy(lacks, timeout=10, metadata=ANALYST)
        assert reason_of(told.value) == ("REQUIRED", "purpose")
        await found.agents["hospital-c"].aclose()
        study = await found.request()
        await found.approve(study)
        async with asyncio.timeout(30):
            while "hospital-c" not in (await found.study(study)).statement:
                await asyncio.sleep(0.05)
        waiting = await found.study(study)
        assert (waiting.state, list(waiting.jobs)) == (api.STUDY_STATE_APPROVED, [])
        asked = api.StopStudyRequest(request_id="stop", study=study, reason="the third site left")
        await found.stub.StopStudy(asked, timeout=10, metadata=ANALYST)
        assert (await found.study(study)).state == api.STUDY_STATE_STOPPED
