"""Does an installation keep what every caller is promised? Asked of each service, without changing anything.

The calls are one that only asks, and three that have to be refused: without a deadline,
without a request id, and by a name that the contract does not have. `helm test` runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc

from pharmaloop.common.v1 import operations_pb2 as operations
from pharmaloop.common.v1 import service_pb2 as common
from services.cli.asked import why
from services.cli.conformance.checks import NOT_SEEN, RIGHT, WRONG, Verdict
from services.cli.session import Session
from services.kit.rpc.client import metadata
from services.kit.rpc.errors import reason_of

#: Every check: its name and what a platform that passes does.
PLATFORM_CHECKS = {
    "ready": "every service answers, and says that it can do its work",
    "no deadline": "a call without a deadline is refused",
    "no request id": "a request that would change something is refused without an id",
    "unknown call": "a call that the contract does not have is refused, with the version that runs",
}
SECONDS = 5.0
#: A call that no version of the contract has.
NO_CALL = "/pharmaloop.conformance.v1.ConformanceService/NoSuchCall"
_NO_DOUBT = "look whether the address is this service's, and which version runs there"


@dataclass(frozen=True)
class Service:
    """A service that was asked, and a verdict for each check, in their order."""

    name: str
    verdicts: tuple[Verdict, ...]


def judge(session: Session) -> list[Service]:
    """A verdict for each check of each service that the endpoints name, by name."""
    names = sorted(session.endpoints.grpc)
    for name in names:
        session.channel(name)
    with ThreadPoolExecutor(len(names) or 1) as pool:
        return list(pool.map(lambda name: Service(name, tuple(_judged(session, name))), names))


def _judged(session: Session, name: str) -> list[Verdict]:
    who = metadata(session.actor)
    status, work = session.status_of(name), session.operations_of(name)
    ready = _ready(status, who, session.endpoints.grpc[name])
    if ready.outcome == NOT_SEEN:
        first, *others = PLATFORM_CHECKS
        silent = (Verdict(check, NOT_SEEN, "it does not answer") for check in others)
        return [Verdict(first, WRONG, ready.detail), *silent]
    # A view that nobody has: should the id not be asked for, there is nothing that would be given up.
    nameless = operations.CancelRebuildRequest(view="conformance")
    unknown = session.channel(name).unary_unary(NO_CALL, _as_it_is, _as_it_is)
    refused = {
        "no deadline": ("DEADLINE_REQUIRED", lambda: _patiently(status.GetStatus, who)),
        "no request id": (
            "REQUIRED",
            lambda: work.CancelRebuild(nameless, timeout=SECONDS, metadata=who),
        ),
        "unknown call": ("NO_SUCH_CALL", lambda: unknown(b"", timeout=SECONDS, metadata=who)),
    }
    return [ready, *(_refused(check, reason, call) for check, (reason, call) in refused.items())]


def _ready(status: Any, who: Any, address: str) -> Verdict:
    """Right or wrong by what the service says; not seen where it says nothing."""
    try:
        answer = status.GetStatus(common.GetStatusRequest(), timeout=SECONDS, metadata=who)
    except grpc.RpcError as error:
        silent = error.code() == grpc.StatusCode.UNAVAILABLE
        told = why(error.details(), address) if silent else "no answer"
        return Verdict("ready", NOT_SEEN, f"{address}: {told} ({error.code().name})")
    if answer.health == "serving":
        return Verdict("ready", RIGHT, f"version {answer.version}")
    return Verdict("ready", WRONG, "; ".join(answer.not_ready) or f"it is {answer.health}")


def _patiently(method: Any, who: Any) -> Any:
    """Call without a deadline, and yet do not wait for ever."""
    call = method.future(common.GetStatusRequest(), metadata=who)
    try:
        return call.result(timeout=SECONDS)
    except grpc.FutureTimeoutError:
        call.cancel()
        raise


def _refused(check: str, reason: str, call: Callable[[], Any]) -> Verdict:
    """Right where the call is refused for this reason."""
    try:
        call()
    except grpc.FutureTimeoutError:
        return Verdict(check, WRONG, f"no answer within {SECONDS:.0f} s: {_NO_DOUBT}")
    except grpc.RpcError as error:
        found = reason_of(error)[0] or error.code().name
        if found == reason:
            return Verdict(check, RIGHT)
        return Verdict(check, WRONG, f"it was refused with {found} instead of {reason}: {_NO_DOUBT}")
    return Verdict(check, WRONG, f"it was taken, and should have been refused with {reason}: {_NO_DOUBT}")


def _as_it_is(message: bytes) -> bytes:
    return message
