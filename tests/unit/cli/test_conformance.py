"""The sandbox passes the example of the kit, and names what a careless program does wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner

from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.production.v1 import service_pb2_grpc as production_grpc
from pharmaloop.traceability.v1 import events_pb2 as events
from pharmaloop.traceability.v1 import service_pb2 as traceability
from pharmaloop.traceability.v1 import service_pb2_grpc as traceability_grpc
from services.cli.conformance.checks import NOT_SEEN, RIGHT, SEND_CHECKS, WATCH_CHECKS, WRONG
from services.cli.conformance.sandbox import Sandbox
from services.cli.main import cli

PROGRAM = Path(__file__).parents[3] / "examples" / "python" / "partner.py"
LOT = "maker-1/gtin/06901234500547/A-0001"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox()
    yield made
    made.stop()


def outcomes(sandbox: Sandbox) -> dict[str, str]:
    return {verdict.check: verdict.outcome for verdict in sandbox.verdicts()}


def program(folder: Path, *arguments: str) -> int:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROGRAM.parents[2] / "proto" / "gen")},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode


def test_the_example_of_the_kit_conforms(sandbox: Sandbox, tmp_path: Path) -> None:
    address = f"127.0.0.1:{sandbox.start('127.0.0.1:0')}"
    rows = [f"RX-{n},{LOT},hospital-a,P-{n},2026-03-12T09:30:00+08:00,28,{{tablet}}" for n in range(6)]
    head = "order,lot,site,pseudonym,at,quantity,unit"
    (tmp_path / "rows.csv").write_text("\n".join([head, *rows]) + "\n")
    assert program(tmp_path, "send", "rows.csv", "--to", address, "--batch", "2") == 1  # one row is refused
    assert program(tmp_path, "watch", "--to", address) == 2  # it says that its position is gone
    assert [v for v in sandbox.verdicts() if v.outcome != RIGHT] == []


def test_a_careless_sender_is_told_what_it_does_wrong(sandbox: Sandbox) -> None:
    port = sandbox.start("127.0.0.1:0")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = traceability_grpc.TraceabilityServiceStub(channel)
        record = events.DispenseRecorded(order="RX-1", lot="A-0001", pseudonym="Zhang San")
        # Local time of China, sent as if it were UTC.
        record.at.at.FromDatetime(datetime.now(UTC) + timedelta(hours=8))
        for _ in range(8):
            request = traceability.RecordDispenseRequest(request_id=str(uuid.uuid4()), dispenses=[record])
            with suppress(grpc.RpcError):
                stub.RecordDispense(request)
    found = {verdict.check: verdict for verdict in sandbox.verdicts(watch=False)}
    wrong = {check for check, verdict in found.items() if verdict.outcome == WRONG}
    assert wrong >= {"deadline", "actor", "retry", "lost answer", "clock", "data"}
    assert "another id" in found["retry"].detail
    assert "UTC+8 h" in found["clock"].detail
    assert "NOT_CANONICAL at lot" in found["data"].detail


def test_a_refused_record_that_comes_again_is_seen(sandbox: Sandbox) -> None:
    port = sandbox.start("127.0.0.1:0")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = traceability_grpc.TraceabilityServiceStub(channel)
        records = []
        for number in range(2):
            record = events.DispenseRecorded(order=f"RX-{number}", lot=LOT)
            record.at.at.FromDatetime(datetime(2026, 3, 12, tzinfo=UTC))
            records.append(record)
        request = traceability.RecordDispenseRequest(request_id="same", dispenses=records)
        for _ in range(7):
            with suppress(grpc.RpcError):
                stub.RecordDispense(request, timeout=5, metadata=(("x-actor", "pharmacy-1"),))
    found = {verdict.check: verdict.outcome for verdict in sandbox.verdicts(watch=False)}
    assert found["refusals"] == WRONG
    assert found["retry"] == found["lost answer"] == found["data"] == RIGHT


def test_a_watcher_that_forgets_its_place_is_told(sandbox: Sandbox) -> None:
    port = sandbox.start("127.0.0.1:0")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = production_grpc.ProductionServiceStub(channel)
        for _ in range(4):
            with suppress(grpc.RpcError):
                list(stub.WatchLots(production.WatchLotsRequest(from_start=True), timeout=5))
    found = {verdict.check: verdict for verdict in sandbox.verdicts(send=False)}
    assert found["resumption"].outcome == WRONG
    assert "without a position" in found["resumption"].detail
    assert found["watch deadline"].outcome == WRONG  # it does not say who calls


def test_what_was_not_seen_is_not_called_right(sandbox: Sandbox) -> None:
    assert set(outcomes(sandbox).values()) == {NOT_SEEN}
    done = CliRunner().invoke(
        cli, ["--json", "conformance", "run", "--listen", "127.0.0.1:0", "--seconds", "0"]
    )
    assert done.exit_code == 1
    assert '"outcome": "not seen"' in done.output


def test_every_check_is_explained() -> None:
    done = CliRunner().invoke(cli, ["conformance", "list"])
    assert done.exit_code == 0
    assert all(check in done.output for check in SEND_CHECKS | WATCH_CHECKS)
