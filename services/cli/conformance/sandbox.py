"""The sandbox: a gRPC server that answers a partner's program, badly on purpose, and notes what it does.

It keeps nothing and knows no platform. RecordDispense: the first three calls fail with UNAVAILABLE,
the first request that gets through takes effect and its answer is lost, then records are taken, but
for one that is refused. WatchLots: each stream tells something and is cut; the position that the third
or a later one gives is refused, until one begins without a position.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import grpc

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.production.v1 import service_pb2_grpc as production_grpc
from pharmaloop.traceability.v1 import service_pb2 as traceability
from pharmaloop.traceability.v1 import service_pb2_grpc as traceability_grpc
from services.cli.conformance.checks import (
    QUIET_SECONDS,
    Call,
    Verdict,
    Watch,
    judge_send,
    judge_watch,
    problem_of_form,
)
from services.kit.errors import Invalid, OutOfRange, PharmaLoopError, Retryable
from services.kit.rpc.errors import status_of

_FAILURES = 3
_LOT = "sandbox/item/sandbox/"
_UNKNOWN_STATE = 99
#: A stream that the program is about to leave shows it within so many seconds.
_LINGER_SECONDS = 0.5
#: So many streams are told something before a position is refused.
_TOLD = 2
_NEVER_SECONDS = 10 * 365 * 86_400.0


class Sandbox:
    """Serves on a port, remembers every call, judges them."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, quiet_seconds: float = QUIET_SECONDS
    ) -> None:
        self._clock, self._quiet = clock, quiet_seconds
        self._lock = threading.Lock()
        self.calls: list[Call] = []
        self.watches: list[Watch] = []
        self._server = grpc.server(ThreadPoolExecutor(8))
        # What the sandbox does not serve is answered with UNIMPLEMENTED.
        trace, plant = _Trace(self), _Plant(self)  # type: ignore[abstract]
        traceability_grpc.add_TraceabilityServiceServicer_to_server(trace, self._server)
        production_grpc.add_ProductionServiceServicer_to_server(plant, self._server)

    def start(self, address: str) -> int:
        """Listen; answers the port. RuntimeError when it is taken."""
        port: int = self._server.add_insecure_port(address)
        self._server.start()
        return port

    def stop(self) -> None:
        self._server.stop(0.2).wait()

    def verdicts(self, *, send: bool = True, watch: bool = True) -> list[Verdict]:
        with self._lock:
            calls, watches = list(self.calls), list(self.watches)
        sending = judge_send(calls, datetime.now(UTC)) if send else []
        return sending + (judge_watch(watches, self._clock(), self._quiet) if watch else [])

    def note(self, request: traceability.RecordDispenseRequest, context: Any) -> Call:
        """How this call is to be answered, noted."""
        refused: set[bytes] = set()
        with self._lock:
            outcome = self._next()
            if outcome == "OK":
                wrong = [one for one in request.dispenses if problem_of_form(one)[0]]
                if not any(call.refused for call in self.calls) and len(request.dispenses) > 1:
                    wrong.append(request.dispenses[0])
                refused = {one.SerializeToString() for one in wrong}
            self.calls.append(
                Call(
                    request.request_id,
                    request.SerializeToString(deterministic=True),
                    tuple(request.dispenses),
                    self._clock(),
                    _has_deadline(context),
                    _actor(context),
                    outcome,
                    frozenset(refused),
                )
            )
            return self.calls[-1]

    def _next(self) -> str:
        if len(self.calls) < _FAILURES:
            return "UNAVAILABLE"
        return "OK" if any(call.outcome == "LOST" for call in self.calls) else "LOST"

    def begin(self, request: production.WatchLotsRequest, context: Any) -> int:
        """Note a stream; answers its number from 0."""
        with self._lock:
            number = len(self.watches)
            after = request.after.SerializeToString(deterministic=True) if request.HasField("after") else b""
            told = [n for n, one in enumerate(self.watches) if one.outcome == "CUT"]
            self.watches.append(
                Watch(
                    after,
                    position(told[-1]).SerializeToString(deterministic=True) if told else b"",
                    _has_deadline(context),
                    _actor(context),
                    "OUT_OF_RANGE" if after and self._refuses(after) else "CUT",
                    from_start=request.from_start,
                    seconds=self._clock(),
                )
            )
            return number

    def _refuses(self, after: bytes) -> bool:
        """Is this position refused? The first that comes after two streams, and then that same one."""
        refused = [one.after for one in self.watches if one.outcome == "OUT_OF_RANGE"]
        return after in refused if refused else len(self.watches) >= _TOLD

    def held(self, number: int) -> None:
        """The program was there until the stream was ended here."""
        with self._lock:
            one = self.watches[number]
            self.watches[number] = replace(one, held=True)


def position(number: int) -> common.PositionVector:
    """The position that stream `number`, from 0, tells last."""
    offset = 10 * (number + 1)
    return common.PositionVector(
        positions=[
            common.LogPosition(topic="sandbox.lot.v1", partition=part, offset=offset) for part in (0, 1)
        ]
    )


def _actor(context: Any) -> str:
    return str(dict(context.invocation_metadata()).get("x-actor", ""))


def _has_deadline(context: Any) -> bool:
    """A call without one is said to have centuries left."""
    left = context.time_remaining()
    return left is not None and left < _NEVER_SECONDS


def _end(context: Any, error: PharmaLoopError) -> None:
    """End a call as the platform ends one, with its details."""
    context.abort_with_status(status_of(error))


class _Trace(traceability_grpc.TraceabilityServiceServicer):
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def RecordDispense(
        self, request: traceability.RecordDispenseRequest, context: Any
    ) -> traceability.RecordDispenseResponse:
        call = self._sandbox.note(request, context)
        if not call.deadline:
            _end(
                context, Invalid("DEADLINE_REQUIRED", "give every call a deadline (timeout=...)", "deadline")
            )
        if call.outcome != "OK":
            _end(context, Retryable("the sandbox is away for a moment; send the same call again"))
        receipt = common.FactReceipt(positions=position(0))
        for index, record in enumerate(request.dispenses):
            if record.SerializeToString() not in call.refused:
                receipt.accepted += 1
                continue
            reason, field, told = problem_of_form(record)
            if not reason:
                reason, field, told = (
                    "UNKNOWN_SITE",
                    "site",
                    "the sandbox refuses this one, to see what you do",
                )
            path = f"dispenses[{index}].{field}"
            receipt.refused.add(index=index, reason=reason, field=path, description=told)
        return traceability.RecordDispenseResponse(receipt=receipt)


class _Plant(production_grpc.ProductionServiceServicer):
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def WatchLots(
        self, request: production.WatchLotsRequest, context: Any
    ) -> Iterator[production.WatchLotsResponse]:
        number = self._sandbox.begin(request, context)
        if self._sandbox.watches[number].outcome == "OUT_OF_RANGE":
            _end(context, OutOfRange("NOT_KEPT", "the log does not reach back so far; begin anew", "after"))
        first = [_change(f"{number}-1"), _change(f"{number}-2")]
        if number:  # at least once: what was told before comes again, and a state that nobody knows
            first = [_change("0-2"), _change("1-1", _UNKNOWN_STATE)]
        yield production.WatchLotsResponse(changes=first, position=position(number), lag=0)
        yield production.WatchLotsResponse(position=position(number), lag=0)
        time.sleep(_LINGER_SECONDS)
        if context.is_active():
            self._sandbox.held(number)
        _end(context, Retryable("the sandbox cut the stream; go on from the last position"))


def _change(name: str, state: int = production.LOT_STATE_HELD) -> production.LotChange:
    made = production.LotChange(
        event=f"sandbox-{name}", lot=f"{_LOT}L-{name}", reason="a test of the sandbox"
    )
    made.state = state  # type: ignore[assignment]
    made.at.GetCurrentTime()
    return made
