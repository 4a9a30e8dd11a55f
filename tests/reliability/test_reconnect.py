"""A service that was away is found again soon after its return, however long it was away."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services.kit.rpc.client import sync_channel
from services.kit.testing.engines import HOST, free_port

pytestmark = pytest.mark.faults
#: Left to itself gRPC has come to pauses of half a minute by then.
_AWAY_SECONDS, _FOUND_SECONDS = 45.0, 8.0


def _asks(stub: health_pb2_grpc.HealthStub) -> bool:
    try:
        stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
    except grpc.RpcError:
        return False
    return True


def test_a_service_that_was_away_for_long_is_found_within_seconds() -> None:
    address = f"{HOST}:{free_port()}"
    with sync_channel(address) as channel, ThreadPoolExecutor(4) as workers:
        stub = health_pb2_grpc.HealthStub(channel)
        end = time.monotonic() + _AWAY_SECONDS
        while time.monotonic() < end:
            assert not _asks(stub)
            time.sleep(0.5)
        server = grpc.server(workers)
        health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
        server.add_insecure_port(address)
        server.start()
        back = time.monotonic()
        while not _asks(stub):
            assert time.monotonic() < back + _FOUND_SECONDS, "nobody looks for it"
            time.sleep(0.1)
        server.stop(None)
