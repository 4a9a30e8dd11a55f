"""The gRPC server of a service: one interceptor says what every call must bring.

A deadline, a request id where the method changes something, a size within
the limit. It binds the log, measures, and turns errors into rich status.
Who the actor is comes from one replaceable function.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, cast

import grpc
import structlog
from google.protobuf.message import Message
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.kit import tracing
from services.kit.envelope import new_trace
from services.kit.errors import Invalid, Unserved
from services.kit.ids import new_id
from services.kit.log import get_logger
from services.kit.metrics import RPC_SECONDS, Metrics
from services.kit.rpc.context import Caller, bind
from services.kit.rpc.errors import code_of, status_of
from services.kit.settings import ServiceSettings, TlsSettings
from services.kit.tls.identity import identity, server_credentials
from services.kit.version import code_version

_log = get_logger("kit.rpc")
_PLATFORM_METHODS = ("/grpc.",)
_OWN_METHODS = ("/pharmaloop.",)
_HARD_LIMIT_BYTES = 64_000_000
#: How calls that are not in the contract are measured: their names are the callers', and without end.
_UNSERVED = "unserved"
#: Failures of ours, and not refusals: somebody has to look.
_TO_LOOK_AT = (grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS)

#: Says who calls, from the call's metadata. Replaced when identity arrives.
ActorOf = Callable[[dict[str, str]], str]


def actor_from_metadata(metadata: dict[str, str]) -> str:
    """Development rule: the caller says who it is."""
    return metadata.get("x-actor-bin") or metadata.get("x-actor", "anonymous")


def _text(value: str | bytes) -> str:
    """A value of the metadata; one under a `-bin` key is bytes, which are UTF-8 or not ours."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", _HARD_LIMIT_BYTES),
    ("grpc.so_reuseport", 0),
    # Clients ask every 30 seconds whether anybody is there, and so does the server.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
]


class Gate(aio.ServerInterceptor):
    """Checks, measures and translates every call."""

    def __init__(self, metrics: Metrics, settings: ServiceSettings, actor_of: ActorOf) -> None:
        self._metrics = metrics
        self._version = code_version()
        self._limit = settings.max_request_bytes
        self._actor_of = actor_of

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(details)
        method = details.method
        if handler is None and method.startswith(_OWN_METHODS):
            return self._unserved(method)
        if handler is None or method.startswith(_PLATFORM_METHODS):
            return handler
        codec = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(cast(Any, handler.unary_unary), method), **codec
            )
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(cast(Any, handler.unary_stream), method), **codec
            )
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(
                self._stream(cast(Any, handler.stream_stream), method), **codec
            )
        return handler

    def _unserved(self, method: str) -> grpc.RpcMethodHandler[Any, Any]:
        """Answers a call that is not in the contract: the caller's is older, or newer, than the platform."""
        said = (
            f"{method.removeprefix('/')} is no call of this service in version {self._version}, which runs: "
            "look whether the address is that of another service; if it is not, build your program with the "
            f"partner kit {self._version}, or have the platform upgraded if yours is newer"
        )
        error = Unserved("NO_SUCH_CALL", said)

        async def call(_requests: AsyncIterator[bytes], context: aio.ServicerContext[Any, Any]) -> Any:
            await self._refuse(context, _UNSERVED, time.perf_counter(), error)

        # A stream of bytes either way: whatever is sent is taken, and nothing of it is read.
        return grpc.stream_stream_rpc_method_handler(cast(Any, call))

    def _unary(self, inner: Callable[..., Awaitable[Any]], method: str) -> Callable[..., Awaitable[Any]]:
        async def call(request: Message, context: aio.ServicerContext[Any, Any]) -> Any:
            started = time.perf_counter()
            span = self._enter(context, method)
            try:
                _require_deadline(context)
                answer = await inner(self._checked(request), context)
            except asyncio.CancelledError:
                self._measure(method, "CANCELLED", started, span)
                raise
            except Exception as error:
                await self._refuse(context, method, started, error, span)
                raise AssertionError("abort raises") from error
            self._measure(method, "OK", started, span)
            return answer

        return call

    def _stream(
        self, inner: Callable[..., AsyncIterator[Any]], method: str
    ) -> Callable[..., AsyncIterator[Any]]:
        async def call(
            request: Message | AsyncIterator[Message], context: aio.ServicerContext[Any, Any]
        ) -> AsyncIterator[Any]:
            started = time.perf_counter()
            span = self._enter(context, method)
            try:
                _require_deadline(context)
                checked = self._checked(request) if isinstance(request, Message) else self._each(request)
                # Closed with the call: what a stream holds must not wait for a collector.
                async with aclosing(cast(Any, inner(checked, context))) as items:
                    async for item in items:
                        yield item
            except asyncio.CancelledError:
                self._measure(method, "CANCELLED", started, span)
                raise
            except Exception as error:  # noqa: BLE001 -- every failure becomes a status
                await self._refuse(context, method, started, error, span)
            self._measure(method, "OK", started, span)

        return call

    def _enter(self, context: aio.ServicerContext[Any, Any], method: str) -> tracing.Span:
        """Bind who calls, for whatever runs on behalf of the call; answers its span."""
        metadata = {key: _text(value) for key, value in context.invocation_metadata() or ()}
        call_id = metadata.get("x-request-id") or new_id()
        actor = self._actor_of(metadata)
        seconds = context.time_remaining()
        end = time.monotonic() + (seconds or 0.0)
        came = metadata.get("traceparent", "")
        span = tracing.serve(method, came)
        bind(Caller(actor, call_id, span.trace or came or new_trace(), end))
        structlog.contextvars.bind_contextvars(call=call_id, actor=actor)
        return span

    async def _each(self, requests: AsyncIterator[Message]) -> AsyncIterator[Message]:
        async for request in requests:
            yield self._checked(request)

    def _checked(self, request: Message) -> Message:
        size = request.ByteSize()
        if size > self._limit:
            raise Invalid(
                "REQUEST_TOO_LARGE",
                f"the request has {size} bytes, the limit is {self._limit}; send it in parts",
                "",
            )
        if "request_id" in request.DESCRIPTOR.fields_by_name and not request.request_id:  # type: ignore[attr-defined]
            raise Invalid(
                "REQUIRED", "give every request an id of its own; the same id has one effect", "request_id"
            )
        return request

    async def _refuse(
        self,
        context: aio.ServicerContext[Any, Any],
        method: str,
        started: float,
        error: Exception,
        span: tracing.Span = tracing.OFF,
    ) -> None:
        if isinstance(error, aio.AbortError):
            raise error
        code = code_of(error)
        self._measure(method, code.name, started, span)
        if code in _TO_LOOK_AT:
            _log.error("call failed", method=method, exc_info=error)
        status = status_of(error)
        await context.abort(status.code, status.details, tuple(status.trailing_metadata))

    def _measure(self, method: str, code: str, started: float, span: tracing.Span = tracing.OFF) -> None:
        tracing.end_call(span, code, served=True)
        seconds = time.perf_counter() - started
        self._metrics.observe(RPC_SECONDS, seconds, trace=span.trace, method=method, code=code)


def _require_deadline(context: aio.ServicerContext[Any, Any]) -> None:
    if context.time_remaining() is None:
        raise Invalid("DEADLINE_REQUIRED", "give every call a deadline (timeout=...)", "deadline")


class RpcServer:
    """The server with health and reflection.

    With TLS its port takes nobody who does not prove who they are. Kubernetes' probes cannot: for them there
    may be a port that answers health, the same and nothing else, in plain text.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        metrics: Metrics,
        actor_of: ActorOf = actor_from_metadata,
        tls: TlsSettings | None = None,
    ) -> None:
        self._settings = settings
        self._tls = tls
        self.server = aio.server(interceptors=[Gate(metrics, settings, actor_of)], options=_OPTIONS)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)
        self._for_probes: aio.Server | None = None
        self.port = 0

    async def start(self, names: list[str]) -> int:
        """Listen; answers the port. Invalid when the port is taken."""
        if self._settings.reflection:
            known = [*names, health.SERVICE_NAME, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(known, self.server)
        credentials = server_credentials(identity(self._tls)) if self._tls and self._tls.on else None
        self.port = self._listen(self.server, self._settings.grpc_port, "grpc_port", credentials)
        if self._settings.health_port:
            self._for_probes = aio.server(options=_OPTIONS)
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._for_probes)
            self._listen(self._for_probes, self._settings.health_port, "health_port", None)
        await self.set_serving(False)
        await self.server.start()
        if self._for_probes:
            await self._for_probes.start()
        return self.port

    def _listen(
        self, server: aio.Server, port: int, setting: str, credentials: grpc.ServerCredentials | None
    ) -> int:
        address = f"{self._settings.grpc_host}:{port}"
        try:
            if credentials is None:
                found = server.add_insecure_port(address)
            else:
                found = server.add_secure_port(address, credentials)
        except RuntimeError:
            found = 0
        if not found:
            raise Invalid(
                "PORT_IN_USE",
                f"cannot listen on {address}: stop the program that holds the port, or set "
                f"PHARMALOOP_<SERVICE>_{setting.upper()} to another",
                setting,
            )
        return found

    async def set_serving(self, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse.ServingStatus
        await self._health.set("", status.SERVING if serving else status.NOT_SERVING)

    async def stop(self) -> None:
        await self._health.enter_graceful_shutdown()
        await self.server.stop(2.0)
        if self._for_probes:
            await self._for_probes.stop(0)
