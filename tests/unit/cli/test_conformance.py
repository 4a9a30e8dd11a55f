"""The sandbox passes the example of the kit, and names what a careless program does wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.production.v1 import service_pb2_grpc as production_grpc
from pharmaloop.traceability.v1 import events_pb2 as events
from pharmaloop.traceability.v1 import service_pb2 as traceability
from pharmaloop.traceability.v1 import service_pb2_grpc as traceability_grpc
from services.cli.conformance.checks import (
    NOT_SEEN,
    QUIET_SECONDS,
    RIGHT,
    SEND_CHECKS,
    WATCH_CHECKS,
    WRONG,
    Call,
    Verdict,
    judge_send,
)
from services.cli.conformance.sandbox import Sandbox
from services.cli.main import cli

PROGRAM = Path(__file__).parents[3] / "examples" / "python" / "partner.py"
LOT = "maker-1/gtin/06901234500547/A-0001"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox(quiet_seconds=0)
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
    now = datetime.now(timezone(timedelta(hours=8))).isoformat(timespec="seconds")
    rows = [f"RX-{n},{LOT},hospital-a,P-{n},{now},28,{{tablet}}" for n in range(6)]
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


def sent(number: int, outcome: str, record: events.DispenseRecorded | None, **more: Any) -> Call:
    """A call as the sandbox saw it; `number` makes its id and its content."""
    payload = f"request {number}".encode()
    records = [record] if record is not None else []
    return Call(f"id-{number}", payload, records, float(number), True, "pharmacy-1", outcome, **more)


def of(moment: datetime | None) -> events.DispenseRecorded:
    record = events.DispenseRecorded(order="RX-1", lot=LOT)
    if moment:
        record.at.at.FromDatetime(moment)
    return record


def verdict(calls: list[Call], check: str, now: datetime) -> Verdict:
    return next(one for one in judge_send(calls, now) if one.check == check)


def test_a_clock_is_judged_by_what_happened_just_now() -> None:
    now = datetime.now(UTC)
    for old in (now - timedelta(days=1), None):
        found = verdict([sent(1, "OK", of(old))], "clock", now)
        assert found.outcome == NOT_SEEN
        assert "of the last hour" in found.detail
    assert verdict([sent(1, "OK", None)], "clock", now).outcome == NOT_SEEN
    recent = [sent(1, "OK", of(now - timedelta(days=1))), sent(2, "OK", of(now - timedelta(minutes=1)))]
    assert verdict(recent, "clock", now).outcome == RIGHT
    assert verdict([sent(1, "OK", of(now + timedelta(minutes=9)))], "clock", now).outcome == WRONG


def test_what_gives_no_evidence_is_not_seen() -> None:
    now = datetime.now(UTC)
    one = of(now)
    refused = frozenset({one.SerializeToString()})
    assert verdict([sent(1, "OK", one)], "request id", now).outcome == NOT_SEEN
    assert verdict([sent(1, "OK", one), sent(2, "OK", one)], "request id", now).outcome == RIGHT
    assert verdict([sent(1, "OK", None)], "data", now).outcome == NOT_SEEN
    assert verdict([sent(1, "OK", one, refused=refused)], "refusals", now).outcome == NOT_SEEN
    went_on = [sent(1, "OK", one, refused=refused), sent(2, "OK", of(now - timedelta(1)))]
    assert verdict(went_on, "refusals", now).outcome == RIGHT


def watching(port: int, *asked: dict[str, Any]) -> list[production.WatchLotsResponse]:
    """Subscribe so often; a request that names nothing goes on after what was told last."""
    last = common.PositionVector()
    told = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = production_grpc.ProductionServiceStub(channel)
        for one in asked:
            request = production.WatchLotsRequest(**(one or {"after": last}))
            with suppress(grpc.RpcError):
                for answer in stub.WatchLots(request, timeout=5, metadata=(("x-actor", "pharmacy-1"),)):
                    last.CopyFrom(answer.position)
                    told.append(answer)
    return told


def watched(sandbox: Sandbox) -> dict[str, Verdict]:
    return {one.check: one for one in sandbox.verdicts(send=False)}


START: dict[str, Any] = {"from_start": True}
RESUME: dict[str, Any] = {}


def test_who_begins_anew_after_a_lost_position_resumes_rightly(sandbox: Sandbox) -> None:
    port = sandbox.start("127.0.0.1:0")
    told = watching(port, START, RESUME, RESUME, START, RESUME, RESUME)
    assert [one for one in sandbox.verdicts(send=False) if one.outcome != RIGHT] == []
    # What begins anew is told something, and goes on after it.
    assert len({one.position.SerializeToString() for one in told}) == 5
    assert [one.outcome for one in sandbox.watches] == ["CUT", "CUT", "OUT_OF_RANGE", "CUT", "CUT", "CUT"]


def test_who_begins_anew_and_then_forgets_its_place_is_told(sandbox: Sandbox) -> None:
    port = sandbox.start("127.0.0.1:0")
    watching(port, START, RESUME, RESUME, START, START)
    found = watched(sandbox)
    assert found["begin anew"].outcome == RIGHT
    assert found["resumption"].outcome == WRONG


def test_who_goes_on_from_now_after_a_lost_position_is_told(sandbox: Sandbox) -> None:
    port = sandbox.start("127.0.0.1:0")
    watching(port, START, RESUME, RESUME, {"from_start": False})
    found = watched(sandbox)
    assert found["begin anew"].outcome == WRONG
    assert "from_start" in found["begin anew"].detail
    assert found["resumption"].outcome == RIGHT


def test_who_asks_for_a_lost_position_again_is_told(sandbox: Sandbox) -> None:
    port = sandbox.start("127.0.0.1:0")
    watching(port, START, RESUME, RESUME, RESUME)
    assert watched(sandbox)["begin anew"].outcome == WRONG
    assert [one.outcome for one in sandbox.watches] == ["CUT", "CUT", "OUT_OF_RANGE", "OUT_OF_RANGE"]


def test_that_a_program_stopped_is_known_after_a_silence_only() -> None:
    now = [100.0]
    made = Sandbox(clock=lambda: now[0])
    try:
        watching(made.start("127.0.0.1:0"), START, RESUME, RESUME)
        assert watched(made)["begin anew"].outcome == NOT_SEEN
        now[0] += QUIET_SECONDS
        assert watched(made)["begin anew"].outcome == RIGHT
    finally:
        made.stop()
