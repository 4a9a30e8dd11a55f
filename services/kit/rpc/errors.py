"""Errors as gRPC status: code, machine-readable reason, field. One table, both ways."""

from __future__ import annotations

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.kit.errors import (
    Exhausted,
    Forbidden,
    Integrity,
    Invalid,
    OutOfRange,
    PharmaLoopError,
    Rejected,
    Retryable,
    Unknown,
    Unserved,
)

#: First match wins: subclasses stand before their base.
_CODES: tuple[tuple[type[PharmaLoopError], grpc.StatusCode], ...] = (
    (Invalid, grpc.StatusCode.INVALID_ARGUMENT),
    (Unknown, grpc.StatusCode.NOT_FOUND),
    (OutOfRange, grpc.StatusCode.OUT_OF_RANGE),
    (Exhausted, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Unserved, grpc.StatusCode.UNIMPLEMENTED),
    (Rejected, grpc.StatusCode.FAILED_PRECONDITION),
    (Forbidden, grpc.StatusCode.PERMISSION_DENIED),
    (Retryable, grpc.StatusCode.UNAVAILABLE),
    (Integrity, grpc.StatusCode.DATA_LOSS),
)
#: Statuses after which the same request, sent again, has one effect and may succeed. Partners are told the
#: same in docs/partners/errors.md, and the examples hold to it.
AGAIN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
    }
)
#: Statuses after which a subscription goes on from its position: it changes nothing, it may always ask again.
GO_ON = AGAIN | {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
_DOMAIN = "pharmaloop"
#: A status travels in the call's trailers, which are 8 KiB at most.
_MOST_OTHERS = 15


def code_of(error: BaseException) -> grpc.StatusCode:
    """Status code of an error; INTERNAL for one that is not of the tree."""
    for cls, code in _CODES:
        if isinstance(error, cls):
            return code
    return grpc.StatusCode.INTERNAL


def status_of(error: BaseException) -> grpc.Status:
    """The rich status of an error. What is not in the table says nothing of itself."""
    code = code_of(error)
    status = status_pb2.Status(code=code.value[0])
    reason, field = "INTERNAL", ""
    status.message = "the service failed; its log has the cause under the request's id"
    if isinstance(error, PharmaLoopError) and code is not grpc.StatusCode.INTERNAL:
        status.message = str(error)
        reason = code.name
    if isinstance(error, Rejected):
        status.message, reason, field = error.description, error.reason, error.field
        status.message += _others(error.others)
    info = error_details_pb2.ErrorInfo(reason=reason, domain=_DOMAIN)
    if isinstance(error, Rejected) and field:
        info.metadata["field"] = field
        _attach(status, _bad_request(error))
    if isinstance(error, Retryable):
        _attach(status, error_details_pb2.RetryInfo(retry_delay=Duration(nanos=200_000_000)))
    _attach(status, info)
    rich: grpc.Status = rpc_status.to_status(status)
    return rich


def _others(others: tuple[Rejected, ...]) -> str:
    """Further broken rules, to stand behind the first one's sentence."""
    told = "".join(f"; {one.field}: {one.description} ({one.reason})" for one in others[:_MOST_OTHERS])
    left = len(others) - _MOST_OTHERS
    return f"{told}; and {left} more" if left > 0 else told


def _bad_request(error: Rejected) -> error_details_pb2.BadRequest:
    """Every field at fault."""
    told = error_details_pb2.BadRequest()
    for one in (error, *error.others[:_MOST_OTHERS]):
        told.field_violations.add(field=one.field, description=one.description, reason=one.reason)
    return told


def _attach(status: status_pb2.Status, detail: error_details_pb2.ErrorInfo | object) -> None:
    packed = AnyMessage()
    packed.Pack(detail)  # type: ignore[arg-type]
    status.details.append(packed)


def reason_of(error: grpc.RpcError) -> tuple[str, str]:
    """(reason, field) of a refused call, as a client reads them; empty where absent."""
    status = rpc_status.from_call(error)
    if status is None:
        return "", ""
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
            return info.reason, info.metadata.get("field", "")
    return "", ""


def violations_of(error: grpc.RpcError) -> tuple[tuple[str, str, str], ...]:
    """(field, description, reason) of every field at fault in a refused call, as a client reads them."""
    status = rpc_status.from_call(error)
    told = error_details_pb2.BadRequest()
    for detail in status.details if status else ():
        if detail.Is(told.DESCRIPTOR):
            detail.Unpack(told)
            return tuple((one.field, one.description, one.reason) for one in told.field_violations)
    return ()
