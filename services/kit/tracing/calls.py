"""Interceptors of channels that make a span of every call and say it in the call's metadata."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from grpc import aio

from services.kit import tracing

_ending: set[asyncio.Task[None]] = set()


def _told(details: aio.ClientCallDetails, span: tracing.Span) -> aio.ClientCallDetails:
    """The call with the span in its metadata; what the caller put there by itself stands."""
    metadata = aio.Metadata(*(details.metadata or ()))
    if "traceparent" not in set(metadata.keys()):
        metadata.add("traceparent", span.trace)
    return cast(aio.ClientCallDetails, cast(Any, details)._replace(metadata=metadata))


class _Unary(aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Callable[..., Awaitable[Any]], client_call_details: Any, request: Any
    ) -> Any:
        span = tracing.call(_text(client_call_details.method))
        try:
            answered = await continuation(_told(client_call_details, span), request)
            code = await answered.code()
        except BaseException as error:
            tracing.end_call(span, _code_of(error), served=False)
            raise
        tracing.end_call(span, code.name, served=False)
        return answered


class _Stream(aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self, continuation: Callable[..., Awaitable[Any]], client_call_details: Any, request: Any
    ) -> Any:
        span = tracing.call(_text(client_call_details.method))
        try:
            stream = await continuation(_told(client_call_details, span), request)
        except BaseException as error:
            tracing.end_call(span, _code_of(error), served=False)
            raise
        stream.add_done_callback(lambda done: _end_later(done, span))
        return stream


def _end_later(done: Any, span: tracing.Span) -> None:
    async def end() -> None:
        tracing.end_call(span, (await done.code()).name, served=False)

    task = asyncio.ensure_future(end())
    _ending.add(task)  # a task that nobody holds may be collected before it is done
    task.add_done_callback(_ending.discard)


def _text(method: str | bytes) -> str:
    return method.decode() if isinstance(method, bytes) else method


def _code_of(error: BaseException) -> str:
    if isinstance(error, aio.AioRpcError):
        return error.code().name
    return "CANCELLED" if isinstance(error, asyncio.CancelledError) else "UNKNOWN"


def interceptors() -> list[aio.ClientInterceptor] | None:
    """What a channel is made with; None where no spans are made."""
    return [_Unary(), _Stream()] if tracing.on() else None
