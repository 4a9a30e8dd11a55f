"""A whole small service on real Kafka and MongoDB: events in, rows and events out, and nothing twice."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pharmaloop.common.v1 import service_pb2 as common
from pharmaloop.common.v1 import service_pb2_grpc as common_grpc
from pharmaloop.common.v1 import types_pb2 as types
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from pharmaloop.rnd.v1 import service_pb2 as api
from pharmaloop.rnd.v1 import service_pb2_grpc as api_grpc
from services.kit.app import App, ServiceSpec
from services.kit.bus.kafka import KafkaBus
from services.kit.bus.protocol import Headers, Outgoing, Partition, Position, Record
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record, headers_of
from services.kit.errors import Integrity
from services.kit.facts import vector
from services.kit.rpc.errors import reason_of
from services.kit.runners.reactor import Reactor
from services.kit.settings import KafkaSettings
from services.kit.testing.service import running_service
from services.kit.work import Work
from services.rnd.main import SPEC as RND
from services.rnd.views import RECORDS
from tests.suites.backbone import Backbone, new_name

#: The service with its first runner alone, which records insights.
SPEC = replace(RND, reactors=RND.reactors[:1])
CAPA_TOPIC, INSIGHT_TOPIC = "pharmaloop.production.capa.v1", "pharmaloop.rnd.insight.v1"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def published(product: str, seq: int = 1) -> Event:
    """An insight as production says it."""
    insight = new_name("insight")
    message = production.InsightPublished(insight=insight, product=product, parameter="T", capa=insight)
    return Event(
        id=str(uuid.uuid4()),
        source="/svc/production/capa",
        subject=insight,
        time=NOON,
        message=message,
        key=insight,
        seq=seq,
        case="m/item/G/1",
        run="run-1",
        trace=TRACE,
    )


@pytest.fixture
def others(backbone: str) -> Backbone:
    return Backbone(KafkaBus(KafkaSettings(bootstrap_servers=backbone), "others"))


Start = Callable[..., Any]


@pytest.fixture
def start(backbone: str, mongo: str, tmp_path: Path) -> Start:
    """Starts rnd; with the name of a database it goes on with what is stored there."""

    def start(database: str = "", spec: ServiceSpec = SPEC) -> Any:
        return running_service(spec, backbone, mongo, tmp_path, database=database)

    return start


async def insights(channel: aio.Channel, product: str, *folded: Position, seconds: float = 10) -> list[str]:
    request = api.ListInsightsRequest(product=product)
    if folded:
        request.min_position.CopyFrom(vector(folded))
    answer = await api_grpc.RndServiceStub(channel).ListInsights(request, timeout=seconds)
    return [insight.insight for insight in answer.insights]


async def status(channel: aio.Channel) -> common.GetStatusResponse:
    answer: common.GetStatusResponse = await common_grpc.StatusServiceStub(channel).GetStatus(
        common.GetStatusRequest(), timeout=5
    )
    return answer


def events(records: list[Record]) -> list[Event]:
    return [from_record(contract(), record) for record in records]


async def test_an_event_becomes_a_row_and_an_event(others: Backbone, start: Start) -> None:
    product = new_name("product")
    said = published(product)
    async with start() as (_, channel):
        heard = await others.listen(INSIGHT_TOPIC, said.key)
        stands = await others.say(CAPA_TOPIC, said)
        assert await insights(channel, product, *stands) == [said.subject], "its own write was not read"
        (record,) = await heard(1)
    event = from_record(contract(), record)
    assert event.message == rnd.InsightRecorded(insight=said.subject, product=product, parameter="T")
    assert (event.cause, event.case, event.run) == (said.id, "m/item/G/1", "run-1")
    assert (event.seq, event.key, event.subject) == (1, said.subject, said.subject)
    assert (event.source, event.actor, event.trace) == ("/svc/rnd/insight_record", "service:rnd", TRACE)
    assert event.time == NOON, "domain time; the record's own time is the wall's"
    assert abs((event.created - datetime.now(UTC)).total_seconds()) < 60
    assert dict(record.headers)["content-type"] == b"application/protobuf"


async def test_a_query_waits_for_its_place_or_says_that_it_cannot(
    others: Backbone, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.kit.positions._WAIT_SECONDS", 0.05)
    async with start() as (_, channel):
        with pytest.raises(aio.AioRpcError) as caught:
            await insights(channel, "p", Position("pharmaloop.production.lot.v1", 0, 0))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert reason_of(caught.value) == ("WRONG_TOPIC", "min_position")
        with pytest.raises(aio.AioRpcError) as caught:
            await insights(channel, "p", Position(CAPA_TOPIC, 0, 10**9))
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_restarted_service_goes_on_where_it_was(others: Backbone, start: Start) -> None:
    product, database = new_name("product"), new_name("t")
    first, second = published(product), published(product)
    heard = await others.listen(INSIGHT_TOPIC, first.key, second.key)
    async with start(database) as (_, channel):
        stands = await others.say(CAPA_TOPIC, first)
        assert await insights(channel, product, *stands) == [first.subject]
        assert len(await heard(1)) == 1
    # While it is down, production's relay repeats the first, at a new offset, and goes on.
    stands = await others.say(CAPA_TOPIC, first, second)
    async with start(database) as (app, channel):
        assert sorted(await insights(channel, product, *stands)) == sorted([first.subject, second.subject])
        async with asyncio.timeout(10):
            while app.runners[0].status.records < 2:  # counted a moment after they can be read
                await asyncio.sleep(0.02)
        assert app.runners[0].status.records == 2, "it read the topic from the beginning"
        told = events(await heard(2))
        assert sorted(event.cause for event in told) == sorted([first.id, second.id]), "a second effect"
        assert (await status(channel)).outbox_waiting == 0


GARBAGE: dict[str, tuple[bytes, Headers]] = {
    "UNDECODABLE": (b"\xff\xfe no protobuf", headers_of(published("p"))),
    "UNKNOWN_TYPE": (b"\x0a\x01x", tuple({**dict(headers_of(published("p"))), "ce_type": b"a.b.C"}.items())),
    "NO_HEADER": (b"\x00\x01", (("some-system", b"1"),)),
}


async def test_garbage_is_dead_lettered_whole_and_the_service_stays_up(
    others: Backbone, start: Start
) -> None:
    product, key = new_name("product"), new_name("garbage")
    good = published(product)
    async with start() as (_, channel):
        letters = await others.listen(f"{CAPA_TOPIC}.dlq", key)
        stands = await others.send(
            *(Outgoing(CAPA_TOPIC, key.encode(), body, headers) for body, headers in GARBAGE.values())
        )
        stands += await others.say(CAPA_TOPIC, good)
        assert await insights(channel, product, *stands) == [good.subject]
        found = {dict(record.headers)["dlq_reason"].decode(): record for record in await letters(3)}
        told = await status(channel)
        (runner,) = told.runners
    assert set(found) == set(GARBAGE)
    for (reason, (body, headers)), at in zip(GARBAGE.items(), stands, strict=False):
        letter = found[reason]
        assert letter.value == body, "the original bytes"
        assert letter.key == key.encode()
        assert letter.headers[: len(headers)] == headers
        place = {name: value.decode() for name, value in letter.headers}
        assert (place["dlq_topic"], int(place["dlq_partition"]), int(place["dlq_offset"])) == at
        assert place["dlq_runner"] == "rnd.insights"
    assert (runner.state, runner.dead_letters) == ("running", 3)
    assert told.health == "serving"


async def test_a_large_record_goes_the_whole_way(others: Backbone, start: Start) -> None:
    # A record that the outbox cannot publish would be tried for ever, and everything behind it would wait.
    product, key, garbage = new_name("product"), new_name("garbage"), random.randbytes(2_000_000)
    large = published(product)
    large.message.MergeFrom(production.InsightPublished(statement=random.randbytes(600_000).hex()))
    async with start() as (_, channel):
        letters = await others.listen(f"{CAPA_TOPIC}.dlq", key)
        heard = await others.listen(INSIGHT_TOPIC, large.key)
        await others.send(Outgoing(CAPA_TOPIC, key.encode(), garbage, headers_of(published("p"))))
        stands = await others.say(CAPA_TOPIC, large)
        assert await insights(channel, product, *stands) == [large.subject]
        (letter,) = await letters(1)
        assert len(await heard(1)) == 1
    assert letter.value == garbage


async def test_status_tells_where_the_service_stands(others: Backbone, start: Start) -> None:
    product = new_name("product")
    async with start() as (app, channel):
        (at,) = await others.say(CAPA_TOPIC, published(product))
        await insights(channel, product, at)
        told = await status(channel)
        async with asyncio.timeout(60):
            while (told := await status(channel)).runners[0].lag or told.outbox_waiting:
                await asyncio.sleep(0.05)
        assert Partition(CAPA_TOPIC, at.partition) in app.runners[0].positions()
    assert (told.service, told.health, told.runners[0].name) == ("rnd", "serving", "rnd.insights")
    assert {Position(p.topic, p.partition, p.offset) for p in told.positions.positions} >= {at}
    assert 10 < told.memory_mb < 2000


async def test_a_runner_that_stops_is_seen_from_outside(others: Backbone, start: Start) -> None:
    def alarmed(work: Work, event: Event) -> None:
        if event.key == said.key:
            raise Integrity("two states contradict each other")

    said = published(new_name("product"))
    spec = replace(SPEC, reactors=(Reactor("insights", {production.InsightPublished: alarmed}),))
    async with start(spec=spec) as (app, channel):
        assert (await status(channel)).health == "serving"
        await others.say(CAPA_TOPIC, said)
        async with asyncio.timeout(60):
            while app.ready:
                await asyncio.sleep(0.02)
        told = await status(channel)
        health = health_pb2_grpc.HealthStub(channel)
        seen = (await health.Check(health_pb2.HealthCheckRequest())).status
    assert (told.health, told.runners[0].state) == ("not serving", "failed")
    assert "contradict" in told.runners[0].detail
    assert seen == health_pb2.HealthCheckResponse.ServingStatus.NOT_SERVING


def record_insight(work: Work, request: rnd.InsightRecorded) -> Message:
    work.apply(RECORDS, request.insight, request)
    return types.LotKey(lot=request.insight)


@pytest.fixture
async def commanded(start: Start) -> AsyncIterator[App]:
    """A service with a command, which rnd itself has none of."""
    spec = replace(SPEC, reactors=(), commands={"RecordInsight": record_insight})
    async with start(spec=spec) as (app, _):
        yield app


async def test_commands_are_decided_once_and_answered_with_their_places(
    others: Backbone, commanded: App
) -> None:
    names = [new_name("i") for _ in range(100)]
    heard = await others.listen(INSIGHT_TOPIC, *names)

    async def record(name: str) -> Any:
        message = rnd.InsightRecorded(insight=name)
        return await commanded.decider.submit("RecordInsight", message, request_id=name, actor="ann")

    decisions = await asyncio.gather(*(record(name) for name in names))
    assert not any(decision.pending for decision in decisions)
    again = await asyncio.gather(*(record(name) for name in names))
    assert again == decisions, "the same request was decided anew"
    told = events(await heard(100))
    assert sorted(event.subject for event in told) == sorted(names)
    where = {event.id: Position(event.topic, event.partition, event.offset) for event in told}
    for decision in decisions:
        assert [where[id] for id in decision.event_ids] == list(decision.positions)
    assert {(event.seq, event.actor) for event in told} == {(1, "ann")}
