"""Channels to services: one function connects, with retries for what may be repeated.

Where PHARMALOOP_TLS_CERT, _KEY and _CA are set, both ends prove who they are.
"""

from __future__ import annotations

import json
import os
from typing import Any

import grpc
from grpc import aio

from services.kit.tracing.calls import interceptors

_TLS = "PHARMALOOP_TLS_"
_SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    }
)
_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.enable_retries", 1),
    ("grpc.max_receive_message_length", 64_000_000),
    # While calls stand open, ask whether anybody is there: a connection may be forgotten on the way.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Who was away for long is found soon after its return; gRPC's own pause grows to two minutes.
    ("grpc.max_reconnect_backoff_ms", 5_000),
]


def is_secured() -> bool:
    """Whether this process proves who it is, and asks others to."""
    return any(value for name, value in os.environ.items() if name.startswith(_TLS))


def channel(target: str) -> aio.Channel:
    """An asynchronous channel. Every mutating call carries a request id, so a retry has one effect."""
    if not is_secured():
        return aio.insecure_channel(target, options=_OPTIONS, interceptors=interceptors())
    from services.kit.rpc.renewing import renewing_channel  # noqa: PLC0415 -- for the start of the command

    return renewing_channel(target, _OPTIONS)


def sync_channel(target: str) -> grpc.Channel:
    """A blocking channel, for the command line: with the certificates of its beginning."""
    if not is_secured():
        return grpc.insecure_channel(target, options=_OPTIONS)
    from services.kit.rpc.renewing import blocking_channel  # noqa: PLC0415

    return blocking_channel(target, _OPTIONS)


def metadata(actor: str) -> tuple[tuple[str, str | bytes], ...]:
    """What a call says about its caller. A name beyond ASCII travels as UTF-8 under a key of its own."""
    if actor.isascii() and actor.isprintable():
        return (("x-actor", actor),)
    return (("x-actor-bin", actor.encode()),)
