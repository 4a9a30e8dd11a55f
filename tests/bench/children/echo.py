"""The yardstick of gRPC: the same message there and back, by grpc.aio alone.

python -m tests.bench.children.echo PORT
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import uvloop
from grpc import aio

from pharmaloop.production.v1 import service_pb2 as api
from tests.bench.framework.machine import tell


async def _echo(request: api.RegisterEquipmentRequest, _context: Any) -> api.RegisterEquipmentResponse:
    response = api.RegisterEquipmentResponse()
    response.receipt.request_id = request.request_id
    return response


async def _serve(port: int) -> None:
    server = aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        _echo,
        request_deserializer=api.RegisterEquipmentRequest.FromString,
        response_serializer=api.RegisterEquipmentResponse.SerializeToString,
    )
    name = "pharmaloop.production.v1.ProductionService"
    server.add_registered_method_handlers(name, {"RegisterEquipment": handler})
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    tell("serving")
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1])))
