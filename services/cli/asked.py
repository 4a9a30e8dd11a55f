"""Whom a call asked, and where that address comes from: for what is told when nobody answers there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc

_NAME = "asked_of_whom"


@dataclass(frozen=True)
class Asked:
    """A service, its host:port, and what gave that address (an option, a variable, a file)."""

    service: str
    address: str
    source: str

    def __str__(self) -> str:
        return f"{self.service} at {self.address} (from {self.source})"


class Signpost(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Writes on each error of a channel whom it asked."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._marked(continuation(client_call_details, request))

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._marked(continuation(client_call_details, request))

    def _marked(self, call: Any) -> Any:
        """The call; where it fails it is itself what is raised."""
        if isinstance(call, grpc.RpcError):
            setattr(call, _NAME, self._asked)
        return call


def asked_of(error: grpc.RpcError) -> Asked | None:
    """Whom the call asked that failed; None of one that went by another way."""
    found = getattr(error, _NAME, None)
    return found if isinstance(found, Asked) else None


def why(details: str | None, address: str = "") -> str:
    """Why nobody answered, from what gRPC says of a connection that was not made.

    Where it may be a certificate, host:port is tried once more to see whose.
    """
    told = (details or "").lower()
    if any(word in told for word in ("dns", "name resolution", "resolving", "lookup")):
        return "the name of the host is not known"
    if "refused" in told:
        return "nobody listens there"
    if "unreachable" in told or "no route" in told:
        return "there is no way to that host"
    return (_secured(address) if address else "") or "there is no connection"


def _secured(address: str) -> str:
    from services.kit.tls import handshake  # noqa: PLC0415 -- the command starts sooner without it

    return handshake.of_grpc(address)
