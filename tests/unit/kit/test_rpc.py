"""The gate of every server, on a real one: what a call must bring, and what a refusal tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from pharmaloop.alerting.v1 import service_pb2 as alerting
from pharmaloop.alerting.v1 import service_pb2_grpc as alerting_grpc
from pharmaloop.common.v1 import service_pb2 as common
from pharmaloop.common.v1 import service_pb2_grpc as common_grpc
from pharmaloop.exchange.v1 import service_pb2 as exchange
from pharmaloop.exchange.v1 import service_pb2_grpc as exchange_grpc
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.loops.v1 import service_pb2_grpc as loops_grpc
from services.kit.bus.protocol import Partition
from services.kit.clock import ManualClock
from services.kit.errors import (
    Forbidden,
    Integrity,
    Invalid,
    PharmaLoopError,
    Poison,
    Rejected,
    Retryable,
    Unknown,
)
from services.kit.metrics import RPC_SECONDS, Metrics
from services.kit.rpc.client import channel, metadata, sync_channel
from services.kit.rpc.context import Caller, caller
from services.kit.rpc.errors import reason_of, violations_of
from services.kit.rpc.server import RpcServer
from services.kit.rpc.status import StatusServicer
from services.kit.runners.batch import RunnerState
from services.kit.settings import ServiceSettings
from services.kit.store.memory import AsyncMemoryStore, MemoryDatabase
from services.kit.version import code_version

SECRET = "subject/hospital-a/P-1 has the number 4711"
ACKNOWLEDGE = "/pharmaloop.alerting.v1.AlertingService/AcknowledgeAlert"


class Alerting(alerting_grpc.AlertingServiceServicer):
    """Answers, or fails as it is told; remembers who called."""

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        self.callers: list[Caller] = []
        self.slow: asyncio.Event | None = None
        self.cancelled = False

    async def ListAlerts(self, request: Any, context: Any) -> alerting.ListAlertsResponse:
        raise NotImplementedError

    async def GetAlert(self, request: Any, context: Any) -> alerting.GetAlertResponse:
        raise NotImplementedError

    async def AcknowledgeAlert(
        self, request: alerting.AcknowledgeAlertRequest, context: Any
    ) -> alerting.AcknowledgeAlertResponse:
        self.callers.append(caller())
        if self.slow is not None:
            try:
                await self.slow.wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        if self.failures:
            raise self.failures.pop(0)
        return alerting.AcknowledgeAlertResponse()

    async def WatchAlerts(
        self, request: alerting.WatchAlertsRequest, context: Any
    ) -> AsyncIterator[alerting.WatchAlertsResponse]:
        answers: list[alerting.WatchAlertsResponse] = []
        for answer in answers:
            yield answer


class Loops(loops_grpc.LoopsServiceServicer):
    """Streams, and fails in the middle when it is told to."""

    failure: BaseException | None = None

    async def ListRuns(self, request: Any, context: Any) -> loops.ListRunsResponse:
        raise NotImplementedError

    async def CountRuns(self, request: Any, context: Any) -> loops.CountRunsResponse:
        raise NotImplementedError

    async def GetRun(self, request: Any, context: Any) -> loops.GetRunResponse:
        raise NotImplementedError

    async def CancelRun(self, request: Any, context: Any) -> loops.CancelRunResponse:
        raise NotImplementedError

    async def WatchRuns(
        self, request: loops.WatchRunsRequest, context: Any
    ) -> AsyncIterator[loops.WatchRunsResponse]:
        for n in range(3):
            if n == 2 and self.failure:
                raise self.failure
            yield loops.WatchRunsResponse(run=loops.Run(run=str(n)))


class Sites(exchange_grpc.SiteServiceServicer):
    """Answers every message of a call with a task that bears its job."""

    async def Work(
        self, said: AsyncIterator[exchange.WorkRequest], context: Any
    ) -> AsyncIterator[exchange.WorkResponse]:
        assert caller().actor == "agent/a"
        async for one in said:
            yield exchange.WorkResponse(over=exchange.OverTask(job=one.opening.job))


class Server:
    """A server on a free port, with a channel to it."""

    def __init__(self, **settings: Any) -> None:
        self.metrics = Metrics("test")
        self.rpc = RpcServer(ServiceSettings(**settings), self.metrics)
        self.alerting, self.loops = Alerting(), Loops()
        alerting_grpc.add_AlertingServiceServicer_to_server(self.alerting, self.rpc.server)
        loops_grpc.add_LoopsServiceServicer_to_server(self.loops, self.rpc.server)
        exchange_grpc.add_SiteServiceServicer_to_server(Sites(), self.rpc.server)  # type: ignore[abstract]

    async def start(self) -> None:
        self.port = await self.rpc.start(["pharmaloop.alerting.v1.AlertingService"])
        self.channel = channel(f"127.0.0.1:{self.port}")

    async def stop(self) -> None:
        await self.channel.close()
        await self.rpc.stop()

    async def acknowledge(self, *, id: str = "r-1", note: str = "", **call: Any) -> Any:
        call.setdefault("timeout", 60)
        stub = alerting_grpc.AlertingServiceStub(self.channel)
        request = alerting.AcknowledgeAlertRequest(request_id=id, alert="a", note=note)
        return await stub.AcknowledgeAlert(request, **call)

    def counted(self, code: str) -> float:
        labels = {"service": "test", "method": ACKNOWLEDGE, "code": code}
        return self.metrics.registry.get_sample_value(f"{RPC_SECONDS.name}_count", labels) or 0


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server(max_request_bytes=10_000)
    await server.start()
    yield server
    await server.stop()


async def refused(call: Any) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_a_good_call_is_answered_and_measured(server: Server) -> None:
    assert await server.acknowledge() == alerting.AcknowledgeAlertResponse()
    assert server.counted("OK") == 1


async def test_a_call_without_a_deadline_is_refused(server: Server) -> None:
    error = await refused(server.acknowledge(timeout=None))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(error) == ("DEADLINE_REQUIRED", "deadline")
    assert server.alerting.callers == [], "it was not let through"


async def test_a_change_without_a_request_id_is_refused(server: Server) -> None:
    error = await refused(server.acknowledge(id=""))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(error) == ("REQUIRED", "request_id")


@pytest.mark.parametrize("size", [10_100, 5_000_000], ids=["just over", "over gRPC's own limit"])
async def test_a_request_over_the_limit_is_refused_with_the_limit(server: Server, size: int) -> None:
    error = await refused(server.acknowledge(note="x" * size))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(error)[0] == "REQUEST_TOO_LARGE"
    assert "10000" in (error.details() or "")
    await server.acknowledge(note="x" * 9_000)


async def raw(server: Server, path: str, request: bytes, *, streams: bool = False) -> bytes:
    """A call as a client of another contract makes it: by its path, in bytes."""
    to: Any = server.channel  # its stubs do not know calls in bytes
    if streams:
        stream = to.unary_stream(path)(request, timeout=60, metadata=metadata("old"))
        return b"".join([answer async for answer in stream])
    answer: bytes = await to.unary_unary(path)(request, timeout=60, metadata=metadata("old"))
    return answer


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    "path",
    [
        "/pharmaloop.alerting.v1.AlertingService/Removed",
        "/pharmaloop.alerting.v0.AlertingService/ListAlerts",
        "/pharmaloop.production.v1.ProductionService/WatchLots",
    ],
)
async def test_a_call_that_is_not_in_the_contract_is_told_which_version_runs(
    server: Server, path: str, streams: bool
) -> None:
    error = await refused(raw(server, path, b"", streams=streams))
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED
    assert reason_of(error) == ("NO_SUCH_CALL", "")
    said = error.details() or ""
    assert said.startswith(path.removeprefix("/"))
    assert f"partner kit {code_version()}" in said
    assert "upgraded" in said


async def test_fields_that_nobody_here_knows_do_no_harm(server: Server) -> None:
    request = alerting.AcknowledgeAlertRequest(request_id="r-1", alert="a").SerializeToString()
    unknown = bytes.fromhex("e2c209026869")  # field 19,500 with two bytes
    assert await raw(server, ACKNOWLEDGE, request + unknown) == b""
    assert len(server.alerting.callers) == 1


REFUSALS: list[tuple[PharmaLoopError, grpc.StatusCode, tuple[str, str]]] = [
    (
        Invalid("NOT_FINITE", "no NaN", "values[3]"),
        grpc.StatusCode.INVALID_ARGUMENT,
        ("NOT_FINITE", "values[3]"),
    ),
    (Unknown("NO_LOT", "start it first", "lot"), grpc.StatusCode.NOT_FOUND, ("NO_LOT", "lot")),
    (Rejected("HELD", "release it first", "lot"), grpc.StatusCode.FAILED_PRECONDITION, ("HELD", "lot")),
    (Rejected("CLOSED", "it is closed"), grpc.StatusCode.FAILED_PRECONDITION, ("CLOSED", "")),
    (Forbidden("not yours"), grpc.StatusCode.PERMISSION_DENIED, ("PERMISSION_DENIED", "")),
    (Integrity("digests differ"), grpc.StatusCode.DATA_LOSS, ("DATA_LOSS", "")),
]


@pytest.mark.parametrize(("error", "code", "told"), REFUSALS, ids=[type(e).__name__ for e, _, _ in REFUSALS])
async def test_a_refusal_is_a_status_with_reason_and_field(
    server: Server, error: PharmaLoopError, code: grpc.StatusCode, told: tuple[str, str]
) -> None:
    server.alerting.failures = [error]
    caught = await refused(server.acknowledge())
    assert caught.code() == code
    assert reason_of(caught) == told
    description = error.description if isinstance(error, Rejected) else str(error)
    assert caught.details() == description
    assert server.counted(code.name) == 1
    assert server.counted("OK") == 0


async def test_a_client_reads_every_field_at_fault_with_its_sentence(server: Server) -> None:
    second = Invalid("REQUIRED", "name it", "values[5].name")
    server.alerting.failures = [Invalid("NOT_FINITE", "no NaN", "values[3]", (second,))]
    caught = await refused(server.acknowledge())
    assert violations_of(caught) == (
        ("values[3]", "no NaN", "NOT_FINITE"),
        ("values[5].name", "name it", "REQUIRED"),
    )
    server.alerting.failures = [Rejected("HELD", "release it first")]
    assert violations_of(await refused(server.acknowledge())) == ()


async def test_a_field_at_fault_is_told_as_google_apis_tell_it(server: Server) -> None:
    server.alerting.failures = [Invalid("NOT_FINITE", "no NaN", "values[3]")]
    status: Any = rpc_status.from_call(await refused(server.acknowledge()))
    kinds = {detail.type_url.rsplit(".", 1)[1] for detail in status.details}
    assert kinds == {"BadRequest", "ErrorInfo"}


@pytest.mark.parametrize("bug", [KeyError(SECRET), ValueError(SECRET), Poison("BAD", SECRET)])
async def test_a_fault_inside_tells_nothing_of_itself(server: Server, bug: Exception) -> None:
    server.alerting.failures = [bug]
    caught = await refused(server.acknowledge())
    assert caught.code() == grpc.StatusCode.INTERNAL
    assert SECRET not in (caught.details() or "")
    trailing = caught.trailing_metadata() or ()
    assert all(b"4711" not in (v if isinstance(v, bytes) else v.encode()) for _, v in trailing)
    assert reason_of(caught) == ("INTERNAL", "")


async def test_what_may_succeed_later_is_tried_again_by_the_channel(server: Server) -> None:
    server.alerting.failures = [Retryable("no primary"), Retryable("no primary")]
    await server.acknowledge()
    assert len(server.alerting.callers) == 3
    assert server.counted("UNAVAILABLE") == 2
    server.alerting.failures = [Retryable("no primary")] * 9
    caught = await refused(server.acknowledge())
    assert caught.code() == grpc.StatusCode.UNAVAILABLE
    assert len(server.alerting.failures) >= 5, "a storm of retries"


async def test_work_ends_with_its_deadline_and_is_seen(server: Server) -> None:
    server.alerting.slow = asyncio.Event()
    # A busy machine may be over the deadline before the work has begun: then with a longer one.
    for seconds in (0.1, 1.0, 10.0):
        caught = await refused(server.acknowledge(timeout=seconds))
        assert caught.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        if server.alerting.callers:
            break
    async with asyncio.timeout(60):
        while not (server.alerting.cancelled and server.counted("CANCELLED")):
            await asyncio.sleep(0.005)


async def test_what_was_refused_is_not_tried_again(server: Server) -> None:
    server.alerting.failures = [Rejected("HELD", "release it first")]
    await refused(server.acknowledge())
    assert len(server.alerting.callers) == 1


async def test_whoever_calls_is_known_inside(server: Server) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    call = (*metadata("person:ann"), ("x-request-id", "call-7"), ("traceparent", trace))
    await server.acknowledge(metadata=call)
    await server.acknowledge()
    named, nameless = server.alerting.callers
    assert named == Caller("person:ann", "call-7", trace)
    assert nameless.actor == "anonymous"
    assert nameless.call_id != named.call_id, "the caller of another call"
    assert nameless.trace.startswith("00-")


@pytest.mark.parametrize("name", ["王芳", "مريم الخطيب", "Zoë 🧪", "two\nlines"])
async def test_a_name_in_any_script_arrives_as_it_is(server: Server, name: str) -> None:
    await server.acknowledge(metadata=metadata(name))
    assert server.alerting.callers[0].actor == name


async def test_calls_at_once_do_not_mix_their_callers(server: Server) -> None:
    names = [f"person:{n}" for n in range(20)]
    await asyncio.gather(*(server.acknowledge(metadata=metadata(name)) for name in names))
    assert sorted(one.actor for one in server.alerting.callers) == sorted(names)


async def test_a_stream_has_the_same_gate(server: Server) -> None:
    stub = loops_grpc.LoopsServiceStub(server.channel)

    async def runs(**call: Any) -> list[str]:
        return [item.run.run async for item in stub.WatchRuns(loops.WatchRunsRequest(), **call)]

    assert await runs(timeout=60) == ["0", "1", "2"]
    assert reason_of(await refused(runs()))[0] == "DEADLINE_REQUIRED"
    server.loops.failure = Unknown("NO_RUN", "no such run", "run")
    error = await refused(runs(timeout=60))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.NOT_FOUND, ("NO_RUN", "run"))
    server.loops.failure = KeyError(SECRET)
    error = await refused(runs(timeout=60))
    assert error.code() == grpc.StatusCode.INTERNAL
    assert SECRET not in (error.details() or "")


async def test_a_call_of_both_sides_has_the_same_gate_for_each_message(server: Server) -> None:
    stub = exchange_grpc.SiteServiceStub(server.channel)

    async def said(*sizes: int) -> AsyncIterator[exchange.WorkRequest]:
        for n, size in enumerate(sizes):
            yield exchange.WorkRequest(opening=exchange.RoundOpening(job=str(n), seed=bytes(size)))

    async def told(*sizes: int, **call: Any) -> list[str]:
        return [task.over.job async for task in stub.Work(said(*sizes), metadata=metadata("agent/a"), **call)]

    assert await told(1, 1, 1, timeout=60) == ["0", "1", "2"]
    assert reason_of(await refused(told(1)))[0] == "DEADLINE_REQUIRED"
    error = await refused(told(1, 10_100, timeout=60))
    assert reason_of(error)[0] == "REQUEST_TOO_LARGE"


async def test_a_blocking_client_reads_the_reason_too(server: Server) -> None:
    def call() -> tuple[str, str]:
        with sync_channel(f"127.0.0.1:{server.port}") as plain:
            stub = alerting_grpc.AlertingServiceStub(plain)
            with pytest.raises(grpc.RpcError) as caught:
                stub.AcknowledgeAlert(alerting.AcknowledgeAlertRequest(alert="a"), timeout=60)
            return reason_of(caught.value)

    assert await asyncio.to_thread(call) == ("REQUIRED", "request_id")


async def test_a_failure_without_details_has_no_reason() -> None:
    nowhere = channel("127.0.0.1:1")
    stub = alerting_grpc.AlertingServiceStub(nowhere)
    error = await refused(stub.AcknowledgeAlert(alerting.AcknowledgeAlertRequest(), timeout=0.05))
    assert reason_of(error) == ("", "")
    await nowhere.close()


async def test_health_is_told_without_ceremony(server: Server) -> None:
    health = health_pb2_grpc.HealthStub(server.channel)
    states = []
    for serving in (True, False):
        await server.rpc.set_serving(serving)
        states.append((await health.Check(health_pb2.HealthCheckRequest())).status)
    status = health_pb2.HealthCheckResponse.ServingStatus
    assert states == [status.SERVING, status.NOT_SERVING]


async def test_reflection_names_the_services(server: Server) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(server.channel)
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    (answer,) = [answer async for answer in call]
    names = {service.name for service in answer.list_services_response.service}
    assert {"pharmaloop.alerting.v1.AlertingService", "grpc.health.v1.Health"} <= names


async def test_a_port_in_use_is_named(server: Server) -> None:
    other = Server(grpc_port=server.port)
    with pytest.raises(Invalid) as caught:
        await other.rpc.start([])
    assert caught.value.reason == "PORT_IN_USE"
    assert str(server.port) in caught.value.description


async def test_status_says_how_the_process_is(server: Server) -> None:
    state = RunnerState("rnd.insights", "running", lag=3, records=9, dead_letters=1, parked=2)
    places_now = {Partition("t", 1): 5, Partition("t", 0): 0}
    runner = SimpleNamespace(status=state, generation=2, positions=lambda: places_now)
    app: Any = SimpleNamespace(
        spec=SimpleNamespace(name="rnd"),
        version="1.2",
        ready=True,
        started=datetime(2026, 1, 1, tzinfo=UTC),
        clock=ManualClock(),
        watched=[runner],
        elsewhere=[],
        store=AsyncMemoryStore(MemoryDatabase()),
        readiness=SimpleNamespace(reasons=lambda: ["kafka: no Kafka answers"]),
        contract_digest="0123456789ab",
    )
    answer = await StatusServicer(app).GetStatus(common.GetStatusRequest(), None)
    assert (answer.service, answer.version, answer.health) == ("rnd", "1.2", "serving")
    assert 1 < answer.memory_mb < 4000
    (told,) = answer.runners
    assert (told.name, told.state, told.lag, told.parked_keys) == ("rnd.insights", "running", 3, 2)
    assert (told.records, told.dead_letters, told.generation) == (9, 1, 2)
    places = [(p.topic, p.partition, p.offset) for p in answer.positions.positions]
    assert places == [("t", 1, 4)], "the last offset that was folded"
    assert list(answer.not_ready) == ["kafka: no Kafka answers"]
    assert answer.contract == "0123456789ab"
    assert common_grpc.StatusServiceServicer in StatusServicer.__mro__

    class Silent:
        async def outbox_waiting(self) -> int:
            raise Retryable("MongoDB did not answer")

    app.store = Silent()
    answer = await StatusServicer(app).GetStatus(common.GetStatusRequest(), None)
    assert answer.not_ready, "just when the database is silent, the status has to answer"
