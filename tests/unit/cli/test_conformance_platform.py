"""A platform keeps its promises to callers, and one that does not is told, service by service."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner, Result
from grpc import aio

from pharmaloop.common.v1 import operations_pb2 as operations
from pharmaloop.common.v1 import operations_pb2_grpc as operations_grpc
from pharmaloop.common.v1 import service_pb2 as common
from pharmaloop.common.v1 import service_pb2_grpc as common_grpc
from services.cli.conformance import platform
from services.cli.main import cli
from services.kit.metrics import Metrics
from services.kit.rpc.server import RpcServer
from services.kit.settings import ServiceSettings


class Status(common_grpc.StatusServiceServicer):
    def __init__(self, *not_ready: str) -> None:
        self._not_ready = not_ready

    async def GetStatus(self, request: Any, context: Any) -> common.GetStatusResponse:
        health = "not serving" if self._not_ready else "serving"
        return common.GetStatusResponse(version="1.2.3", health=health, not_ready=self._not_ready)


class Operations(operations_grpc.OperationsServiceServicer):
    """Notes what reaches it."""

    def __init__(self) -> None:
        self.reached: list[Any] = []

    async def CancelRebuild(self, request: Any, context: Any) -> operations.CancelRebuildResponse:
        self.reached.append(request)
        return operations.CancelRebuildResponse()


def operations_of_kit() -> Operations:
    return Operations()  # type: ignore[abstract]


@contextmanager
def served(status: Status, work: Operations, gate: bool = True) -> Iterator[str]:
    """host:port of a service with the kit's gate, or of a server that takes everything."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> tuple[Any, int]:
        rpc = RpcServer(ServiceSettings(), Metrics("test"))
        server = rpc.server if gate else aio.server()
        common_grpc.add_StatusServiceServicer_to_server(status, server)
        operations_grpc.add_OperationsServiceServicer_to_server(work, server)
        if gate:
            return rpc, await rpc.start([])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    stopped, port = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(stopped.stop(*(() if gate else (None,))), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def asked(*words: str, **services: str) -> Result:
    told = ["--endpoints", json.dumps(services)]
    return CliRunner().invoke(cli, [*told, *words, "conformance", "platform"])


def outcomes(result: Result) -> dict[tuple[str, str], tuple[str, str]]:
    rows = json.loads(result.output)["checks"]
    return {(row["service"], row["check"]): (row["outcome"], row["detail"]) for row in rows}


def test_a_service_of_the_kit_keeps_every_promise_and_nothing_reaches_it() -> None:
    work = operations_of_kit()
    with served(Status(), work) as address:
        found = asked("--json", loops=address, rnd=address)
    assert found.exit_code == 0
    assert {outcome for outcome, _ in outcomes(found).values()} == {"right"}
    assert [check for name, check in outcomes(found) if name == "rnd"] == list(platform.PLATFORM_CHECKS)
    assert work.reached == []


def test_a_service_that_is_not_ready_says_why() -> None:
    with served(Status("kafka: no Kafka answers"), operations_of_kit()) as address:
        found = asked(loops=address)
    assert found.exit_code == 1
    assert "ready: kafka: no Kafka answers" in found.output


def test_a_server_that_refuses_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "SECONDS", 2.0)
    with served(Status(), operations_of_kit(), gate=False) as address:
        found = asked("--json", loops=address)
    assert found.exit_code == 1
    told = outcomes(found)
    assert told["loops", "ready"] == ("right", "version 1.2.3")
    assert "should have been refused with DEADLINE_REQUIRED" in told["loops", "no deadline"][1]
    assert "should have been refused with REQUIRED" in told["loops", "no request id"][1]
    assert "UNIMPLEMENTED instead of NO_SUCH_CALL" in told["loops", "unknown call"][1]


def test_one_that_does_not_answer_leaves_the_others_judged() -> None:
    with served(Status(), operations_of_kit()) as address:
        found = asked("--json", loops=address, rnd="127.0.0.1:1")
    told = outcomes(found)
    assert found.exit_code == 1
    assert told["rnd", "ready"][0] == "wrong"
    assert "nobody listens there" in told["rnd", "ready"][1]
    assert told["rnd", "unknown call"] == ("not seen", "it does not answer")
    assert {outcome for (name, _), (outcome, _) in told.items() if name == "loops"} == {"right"}
