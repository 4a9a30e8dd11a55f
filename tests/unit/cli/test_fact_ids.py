"""A fact that is sent again from its file counts once: the request's id is made of what the file says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.kit.errors import Retryable
from tests.unit.cli.support import PACKED, Bench


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "returns.json"
    made.write_text(json.dumps({"returns": [{"lot": PACKED}]}))
    return made


def ids(bench: Bench, method: str = "RecordReturns") -> list[str]:
    return [request.request_id for request in bench.fake.of(method)]


def taken(_request: Any) -> trace.RecordReturnsResponse:
    return trace.RecordReturnsResponse(receipt=common.FactReceipt(accepted=1))


def test_the_same_file_after_a_lost_answer_is_the_same_request(bench: Bench, file: Path) -> None:
    def lost(_request: Any) -> Any:
        raise Retryable("the log did not answer in time; send the same call again")

    bench.fake.answers["RecordReturns"] = lost
    assert bench.run("fact", "returns", str(file), "--actor", "store-1").exit_code == 3
    bench.fake.answers["RecordReturns"] = taken
    # Another name and other blanks say nothing else.
    again = file.with_name("again.json")
    again.write_text(json.dumps(json.loads(file.read_text()), indent=4))
    assert bench.run("fact", "returns", str(again), "--actor", "store-1").exit_code == 0
    assert len(ids(bench)) >= 2
    assert len(set(ids(bench))) == 1


def test_other_words_or_another_actor_make_another_request(bench: Bench, file: Path) -> None:
    bench.fake.answers["RecordReturns"] = taken
    bench.run("fact", "returns", str(file), "--actor", "store-1")
    bench.run("fact", "returns", str(file), "--actor", "store-2")
    file.write_text(json.dumps({"returns": [{"lot": PACKED}, {"lot": PACKED}]}))
    bench.run("fact", "returns", str(file), "--actor", "store-1")
    assert len(set(ids(bench))) == 3


def test_the_id_may_be_given(bench: Bench, file: Path) -> None:
    bench.fake.answers["RecordReturns"] = taken
    bench.run("fact", "returns", str(file), "--request-id", "second-pallet")
    file.write_text(json.dumps({"requestId": "of-the-file", "returns": [{"lot": PACKED}]}))
    bench.run("fact", "returns", str(file))
    assert ids(bench) == ["second-pallet", "of-the-file"]

    done = bench.run("fact", "returns", str(file), "--request-id", "second-pallet")
    assert done.exit_code == 2
    assert "leave one of them out" in done.stderr
    assert len(ids(bench)) == 2


def test_a_command_is_another_request_each_time(bench: Bench, tmp_path: Path) -> None:
    """Its refusal would stay the answer to the id, though what was missing is there now."""
    file = tmp_path / "lot.json"
    file.write_text(json.dumps({"lot": PACKED}))
    for _ in range(2):
        bench.run("lot", "complete", str(file))
    assert len(set(ids(bench, "CompleteLot"))) == 2
    for _ in range(2):
        bench.run("lot", "complete", str(file), "--request-id", "done-1")
    assert ids(bench, "CompleteLot")[-2:] == ["done-1", "done-1"]
