"""Ask a service over gRPC whether it serves (grpc.health.v1, the server as a whole)."""

import http.client
import urllib.error
import urllib.request

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.kit.rpc.client import is_secured, sync_channel

NOT_ANSWERING = "not answering"


def health(address: str, timeout: float = 1.0) -> str:
    """SERVING, another status of the health protocol, or `not answering`."""
    with sync_channel(address) if is_secured() else grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=timeout
            )
        except grpc.RpcError:
            return NOT_ANSWERING
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def is_serving(address: str) -> bool:
    return health(address) == "SERVING"


def health_of_page(url: str, timeout: float = 1.0) -> str:
    """SERVING where a page comes from there, else `not answering`."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return "SERVING" if answer.status == 200 else NOT_ANSWERING
    except (urllib.error.URLError, http.client.HTTPException, OSError):
        return NOT_ANSWERING
