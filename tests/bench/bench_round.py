"""A round of a study: three sites, 20 coefficients, over gRPC under secure aggregation.

The exchange and the three agents are the real services, each in a process of
its own, on a real broker and database. Rounds are timed by the exchange itself,
from the first task to the sum, and stand on record in the study. Beside it
stands the same Newton step on all rows in one process. Then research is
started, and further answers are followed to the ranking that they bring about.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import confluent_kafka as ck
import numpy as np
import uvloop

from deploy.local.health import is_serving
from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from pharmaloop.exchange.v1 import service_pb2_grpc as api_grpc
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.rnd.v1 import events_pb2 as rnd_events
from pharmaloop.rnd.v1 import service_pb2 as rnd
from pharmaloop.rnd.v1 import service_pb2_grpc as rnd_grpc
from services.exchange.domain.stats.protocol import Vector
from services.kit.bus.kafka import client_config
from services.kit.clock import ensure_clock
from services.kit.contracts import contract
from services.kit.envelope import Event, headers_of
from services.kit.ids import study_case
from services.kit.rpc.client import channel, metadata
from services.kit.testing.engines import free_port
from tests.bench.framework import study
from tests.bench.framework.machine import Child, Machine, memory_of
from tests.bench.framework.rows import Row, Target, row
from tests.bench.framework.run import option
from tests.bench.framework.stats import p50, p95

STUDIES = option("COUNT", 40)
_WARM_UP = 3
_RANKED = max(1, STUDIES // 4)
_READY_SECONDS = 60.0


class Analyst:
    """Asks studies as a partner does, and plays the loops and the owners."""

    def __init__(self, address: str, producer: ck.Producer) -> None:
        self._channel = channel(address)
        self._stub: Any = api_grpc.ExchangeServiceStub(self._channel)
        self._producer = producer

    async def close(self) -> None:
        await self._channel.close()

    async def connected(self) -> None:
        async with asyncio.timeout(_READY_SECONDS):
            while True:
                answer = await self._stub.ListDatasets(api.ListDatasetsRequest(), timeout=10)
                if sum(one.connected for one in answer.datasets) == len(study.SITES):
                    return
                await asyncio.sleep(0.1)

    async def answered(self) -> tuple[api.Study, float]:
        """One study, and the seconds from its last round to its answer in the log."""
        asked = api.RequestStudyRequest(
            request_id=str(uuid.uuid4()),
            question="Do the exposed have the event more often?",
            purpose="to measure a round",
            datasets=[f"{site}/routine" for site in study.SITES],
            definition=study.definition(),
            model="logistic",
            specification=study.SPECIFICATION,
            ethics=events.EthicsApproval(board="bench", reference="1"),
        )
        asked.ethics.until.FromDatetime(datetime.now(UTC) + timedelta(days=36_500))
        name = (await self._stub.RequestStudy(asked, timeout=10, metadata=metadata("analyst"))).study
        self._open_run(name)
        for site in study.SITES:
            approved = api.ApproveStudyRequest(
                request_id=str(uuid.uuid4()), study=name, site=site, meaning="approved"
            )
            await self._stub.ApproveStudy(approved, timeout=10, metadata=metadata(f"owner of {site}"))
        async with asyncio.timeout(_READY_SECONDS):
            while True:
                found = (await self._stub.GetStudy(api.GetStudyRequest(study=name), timeout=10)).study
                if found.state == api.STUDY_STATE_ANSWERED:
                    return found, time.time()
                assert found.state != api.STUDY_STATE_FAILED, found.statement
                await asyncio.sleep(0.02)

    def _open_run(self, name: str) -> None:
        opened = loops.EvidenceRunOpened(run=f"run-{name}", case=study_case(name), study=name)
        topic, key = contract().route(opened)
        event = Event(
            id=str(uuid.uuid4()),
            source="/svc/loops/bench",
            subject=opened.run,
            time=datetime.now(UTC),
            message=opened,
            key=key,
            seq=1,
            case=opened.case,
            run=opened.run,
        )
        self._producer.produce(
            topic, opened.SerializeToString(), key.encode(), headers=list(headers_of(event))
        )
        self._producer.flush(10)


def _start(machine: Machine, name: str, port: int, **variables: str) -> Child:
    prefix = {"site_agent": "PHARMALOOP_AGENT_"}.get(name, f"PHARMALOOP_{name.upper()}_")
    own = {f"{prefix}{key.upper()}": value for key, value in variables.items()}
    own |= {f"{prefix}GRPC_PORT": str(port), "PHARMALOOP_SITES": json.dumps(study.SITES)}
    child = machine.child(name, on={**machine.surroundings(), **own})
    end = time.monotonic() + _READY_SECONDS
    while not is_serving(f"127.0.0.1:{port}"):
        assert child.process.poll() is None, f"{name} ended"
        assert time.monotonic() < end, f"{name} does not serve"
        time.sleep(0.05)
    return child


async def answered(address: str, producer: ck.Producer, count: int) -> list[api.Study]:
    """So many studies, one after the other."""
    analyst = Analyst(address, producer)
    try:
        await analyst.connected()
        return [(await analyst.answered())[0] for _ in range(count)]
    finally:
        await analyst.close()


async def know_the_product(address: str) -> None:
    """Research has the product with its molecule, so that what is found of it ranks candidates."""
    async with channel(address) as line:
        stub: Any = rnd_grpc.RndServiceStub(line)
        for method, request in (
            ("RegisterTarget", rnd.RegisterTargetRequest(target="T", name="target", provenance="a bench")),
            (
                "RegisterMolecule",
                rnd.RegisterMoleculeRequest(
                    molecule="M", name="molecule", smiles="CCO", provenance="a bench", target="T"
                ),
            ),
            (
                "RegisterProduct",
                rnd.RegisterProductRequest(
                    product=study.PRODUCT, name="product", molecule="M", indication="thrombosis"
                ),
            ),
        ):
            request.request_id = str(uuid.uuid4())
            await getattr(stub, method)(request, timeout=10, metadata=metadata("ann"))


def _times(machine: Machine, kind: Any, about: Callable[[Any], str], wanted: set[str]) -> dict[str, int]:
    """When the event about each of the wanted came into the log, by the broker's own time, ms."""
    topic = contract().topic_of(kind.DESCRIPTOR.full_name).name
    consumer = ck.Consumer({**client_config(machine.kafka, "bench-round"), "group.id": "bench-round"})
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([ck.TopicPartition(topic, number, ck.OFFSET_BEGINNING) for number in partitions])
    times = dict[str, int]()
    while not wanted <= times.keys():
        record = consumer.poll(10)
        assert record is not None, f"of {len(wanted)} {kind.DESCRIPTOR.name} {len(times)} are in the log"
        if dict(record.headers() or ())["ce_type"] == kind.DESCRIPTOR.full_name.encode():
            times.setdefault(about(kind.FromString(record.value())), record.timestamp()[1])
    consumer.close()
    return times


def _waited(machine: Machine, found: list[api.Study], kind: Any, about: Callable[[Any], str]) -> list[float]:
    """Milliseconds from a job's rounds on record to the event about its answer."""
    wanted = {one.requested.study for one in found}
    audited = _times(machine, events.JobAudited, lambda told: told.study, wanted)
    named = {about(one.insight): one.requested.study for one in found}
    reached = _times(machine, kind, about, set(named))
    return [float(reached[name] - audited[of]) for name, of in named.items()]


def _check(found: list[api.Study], beta: Vector) -> float:
    """Every answer is the pooled one; answers the largest difference."""
    worst = 0.0
    for one in found:
        effects = {effect.term: effect.estimate.value for effect in one.insight.effects}
        told = np.array([effects[name] for name in ("intercept", *study.TERMS)])
        worst = max(worst, float(np.abs(told - beta).max()))
    assert worst < 1e-10, f"an answer is {worst:g} from the pooled one"
    return worst


def run(machine: Machine) -> list[Row]:
    ensure_clock(machine.folder / "state", 1.0)
    producer = ck.Producer({**client_config(machine.kafka, "bench-round"), "acks": "all"})
    port = free_port()
    exchange = _start(machine, "exchange", port)
    address = f"127.0.0.1:{port}"
    agents = [_start(machine, "site_agent", free_port(), site=site, exchange=address) for site in study.SITES]
    with (
        machine.profiling({"exchange": exchange.pid, "agent": agents[0].pid}, "round", "A round"),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        found = runner.run(answered(address, producer, _WARM_UP + STUDIES))[_WARM_UP:]
        memory = max(memory_of(agent.pid)[0] for agent in agents)
        research = free_port()
        _start(machine, "rnd", research)
        runner.run(know_the_product(f"127.0.0.1:{research}"))
        followed = runner.run(answered(address, producer, _RANKED))
    in_one_place = study.pooled()
    worst = _check(found, in_one_place.beta)
    rounds = [1000 * record.seconds for one in found for record in one.jobs[0].rounds if record.numbers > 200]
    released = _waited(machine, found, events.InsightPublished, lambda told: told.insight)
    ranked = _waited(machine, followed, rnd_events.CandidatesRanked, lambda told: told.insight)
    return [
        row(
            "exact federated round, 3 sites, 20 coefficients, p50",
            p50(rounds),
            "ms",
            target=Target(at_most=10.0),
            yardstick=("the same Newton step in one process", 1000 * p50(in_one_place.seconds)),
            note=f"{len(rounds)} rounds of {len(found)} jobs over gRPC under secure aggregation, 3,000 rows, "
            f"p95 {p95(rounds):.1f} ms; every answer within {worst:.0e} of the fit of all rows in one place",
        ),
        row(
            "rounds on record -> answer published, p50",
            p50(released),
            "ms",
            note=f"by the broker's time of JobAudited and InsightPublished, p95 {p95(released):.0f} ms",
        ),
        row(
            "rounds on record -> candidates ranked anew, the longest",
            max(ranked),
            "ms",
            target=Target(at_most=5000.0),
            note=f"by the broker's time of JobAudited and CandidatesRanked, {len(ranked)} answers, "
            f"p50 {p50(ranked):.0f} ms",
        ),
        row(
            "memory of a site's agent",
            memory,
            "MB",
            target=Target(at_most=150.0),
            note="resident, the largest of three, after all jobs",
        ),
    ]
