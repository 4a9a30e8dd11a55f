"""Fake services for the command line, over real gRPC in this process, and a hand-made world."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import grpc
import pyarrow
from click.testing import CliRunner, Result
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from pyarrow import parquet

from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.common.v1 import service_pb2 as common
from pharmaloop.loops.v1 import events_pb2 as loops_events
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production_events
from pharmaloop.production.v1 import service_pb2 as production
from services.cli.main import cli
from services.kit.errors import PharmaLoopError
from services.kit.rpc.errors import status_of

ROOT = "maker-1/item/granulate/G-0001"
PACKED = "maker-1/gtin/06901234500547/A-0001"
SITE = "hospital-a"
Answer = Callable[[Any], Any]


class Fake(grpc.GenericRpcHandler):
    """Answers every method by its short name; an error of the kit becomes its rich status."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, Any]] = []
        self.actors: list[str] = []

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        package, _, method = details.method.rpartition("/")
        module = _module(package)
        request = getattr(module, f"{method}Request", None)
        if request is None:
            return None
        streams = method in ("TraceLot", "WatchRuns")
        make = grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
        run = self._stream if streams else self._unary
        return make(
            lambda message, context: run(method, message, context),
            request_deserializer=request.FromString,
            response_serializer=lambda answer: answer.SerializeToString(),
        )

    def _unary(self, method: str, request: Message, context: Any) -> Any:
        self.requests.append((method, request))
        self.actors.append(str(dict(context.invocation_metadata()).get("x-actor", "")))
        assert context.time_remaining() is not None
        try:
            if method not in self.answers:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, f"no answer for {method}")
            return self.answers[method](request)
        except PharmaLoopError as error:
            status = status_of(error)
            context.set_trailing_metadata(tuple(status.trailing_metadata))
            return context.abort(status.code, status.details)

    def _stream(self, method: str, request: Message, context: Any) -> Iterator[Any]:
        yield from self._unary(method, request, context)

    def of(self, method: str) -> list[Any]:
        return [request for name, request in self.requests if name == method]


def _modules() -> dict[str, Any]:
    from pharmaloop.alerting.v1 import service_pb2 as alerting
    from pharmaloop.exchange.v1 import service_pb2 as exchange
    from pharmaloop.rnd.v1 import service_pb2 as rnd
    from pharmaloop.traceability.v1 import service_pb2 as traceability

    return {
        "alerting": alerting,
        "clinical": clinical,
        "common": common,
        "exchange": exchange,
        "loops": loops,
        "production": production,
        "rnd": rnd,
        "traceability": traceability,
    }


def _module(package: str) -> Any:
    from pharmaloop.common.v1 import operations_pb2 as operations

    return operations if package.endswith("OperationsService") else _modules()[package.split(".")[1]]


def message_of(name: str) -> Any:
    """A message of some service, by its short name."""
    return next(getattr(module, name) for module in _modules().values() if hasattr(module, name))


@dataclass
class Bench:
    """The fakes, a state folder, and a way to run the command."""

    fake: Fake
    address: str
    state: Path
    services: tuple[str, ...] = (
        *("alerting", "clinical", "exchange", "loops", "production", "rnd", "traceability"),
    )
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, typed: str = "") -> Result:
        environment = {
            "PHARMALOOP_ENDPOINTS": json.dumps(dict.fromkeys(self.services, self.address)),
            "PHARMALOOP_STATE_DIR": str(self.state),
            "KAFKA_BOOTSTRAP_SERVERS": "",
            "MONGODB_URI": "",
            **self.environment,
        }
        return CliRunner().invoke(cli, arguments, typed, env=environment, catch_exceptions=False)

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def write_truth(self, members: list[list[str]], name: str = "", **more: Any) -> None:
        """Members of ROOT and PACKED: site, pseudonym, dispense, and what became of it."""
        folder = self.state / "world" / name / "truth"
        folder.mkdir(parents=True, exist_ok=True)
        summary = {
            "sites": [SITE],
            "planted": [planted(ROOT)],
            "live": [ROOT],
            "complaint_otherwise": 0.08,
            **more,
        }
        (folder / "truth.json").write_text(json.dumps(summary))
        rows = [[lot, *row, "", ""][:6] for lot in (ROOT, PACKED) for row in members]
        columns = ("lot", "site", "pseudonym", "dispense", "disposition", "certainty")
        table = {
            column: pyarrow.array([row[place] for row in rows], pyarrow.string())
            for place, column in enumerate(columns)
        }
        parquet.write_table(pyarrow.table(table), folder / "exposures.parquet")
        parquet.write_table(pyarrow.table({"lot": [ROOT, PACKED]}), folder / "lots.parquet")
        parquet.write_table(pyarrow.table({"lot": [ROOT, ROOT]}), folder / "effects.parquet")
        people = {"site": [SITE] * 3, "pseudonym": ["P-1", "P-2", "C-1"]}
        ways = {"answers": [True, False, True], "reminders": [1, 0, 0]}
        parquet.write_table(pyarrow.table({**people, **ways}), folder / "people.parquet")


@contextmanager
def bench(state: Path) -> Iterator[Bench]:
    from concurrent.futures import ThreadPoolExecutor

    fake = Fake()
    server = grpc.server(ThreadPoolExecutor(8), handlers=[fake])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield Bench(fake, f"127.0.0.1:{port}", state)
    finally:
        server.stop(None).wait()


# -- answers of a platform that ran one loop ------------------------------


ONSET = 1_767_600_000


def planted(lot: str, *tags: str) -> dict[str, Any]:
    """A fault as the world's truth tells it: from ONSET on, a sample a minute."""
    onset = datetime.fromtimestamp(ONSET, UTC).isoformat()
    return {
        "lot": lot,
        "kind": "step",
        "tags": list(tags) or ["DryerTemp"],
        "onset_at": onset,
        "sample_seconds": 60.0,
        "effect": "DryerTemp",
        "risk": 0.4,
        "labs": {"1742-6": 1.6},
    }


def deviation(
    lot: str = ROOT, state: int = production.DEVIATION_STATE_CONFIRMED, after: int = 120
) -> production.Deviation:
    detected = production_events.DeviationDetected(
        deviation="d-1",
        lot=lot,
        tag="DryerTemp",
        magnitude=9,
        limit=5,
        detected=Timestamp(seconds=ONSET + after),
    )
    return production.Deviation(detected=detected, state=cast(Any, state))


def run(name: str = "run-1", lot: str = ROOT, closed: bool = True) -> loops.Run:
    found = loops.Run(
        run=name,
        loop="safety",
        case=lot,
        opened=loops_events.SafetyRunOpened(run=name, lot=lot),
        state=loops.RUN_STATE_CLOSED if closed else loops.RUN_STATE_OPEN,
        stages=[loops.Stage(name="trace", seconds=0.5), loops.Stage(name="seal", seconds=1.5)],
        seconds=2.0,
    )
    if closed:
        found.closed.CopyFrom(loops_events.LoopClosed(run=name, patients=2))
    return found


def exposure(pseudonym: str, dispense: str, disposition: str = "") -> clinical.Exposure:
    return clinical.Exposure(dispense=dispense, pseudonym=pseudonym, lot=PACKED, disposition=disposition)
