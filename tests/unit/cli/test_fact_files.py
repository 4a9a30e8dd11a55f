"""Files that are none: a table where JSON is wanted, and a request without facts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.traceability.v1 import service_pb2 as trace
from tests.unit.cli.support import PACKED, SITE, Bench

CSV = f"order,lot,site,patient,at\nRX-1,{PACKED},{SITE},P-1,2026-03-12T09:30:00+08:00\n"


@pytest.mark.parametrize(
    ("verb", "noun"),
    [
        ("dispenses", "dispenses"),
        ("material", "materials"),
        ("readings", "readings"),
        ("test-results", "results"),
        ("subjects", "patients"),
    ],
)
@pytest.mark.parametrize("text", [CSV, CSV.replace(",", ";"), CSV.replace(",", "\t"), CSV.partition("\n")[0]])
def test_a_table_is_sent_to_feed(bench: Bench, tmp_path: Path, verb: str, noun: str, text: str) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(text, encoding="utf-8-sig")
    result = bench.run("fact", verb, str(file))
    assert result.exit_code == 2
    assert "what is wanted is one request as JSON" in result.stderr
    assert "Expecting value" not in result.stderr
    assert f"'pharmaloop feed {noun} {file}' takes CSV" in result.stderr.partition("next: ")[2]
    assert bench.fake.requests == []


def test_parquet_is_sent_to_feed_and_where_no_feed_is_all_are_shown(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    file.write_bytes(b"PAR1\x15\x04\xff")
    assert "takes CSV and Parquet" in bench.run("fact", "returns", str(file)).stderr
    assert "feed -h' tells who takes" in bench.run("fact", "returns", str(file)).stderr


@pytest.mark.parametrize("text", ["[1, 2]", '{"dispenses": [}', "", "nonsense"])
def test_what_is_no_table_and_no_request_is_told_as_before(bench: Bench, tmp_path: Path, text: str) -> None:
    file = tmp_path / "one.json"
    file.write_text(text)
    result = bench.run("fact", "dispenses", str(file))
    assert result.exit_code == 2
    assert "as JSON" in result.stderr
    assert "CSV" not in result.stderr


@pytest.mark.parametrize("told", [{}, {"dispenses": []}, {"request_id": "r-1"}])
def test_no_facts_are_told_as_none(bench: Bench, tmp_path: Path, told: dict[str, object]) -> None:
    file = tmp_path / "none.json"
    file.write_text(json.dumps(told))
    result = bench.run("fact", "dispenses", str(file))
    assert result.exit_code == 2
    assert "0 facts" in result.stderr
    assert "nothing was sent" in result.stderr
    assert bench.fake.requests == []


def test_what_has_facts_is_sent(bench: Bench, tmp_path: Path) -> None:
    bench.fake.answers["RecordDispense"] = lambda request: trace.RecordDispenseResponse()
    bench.fake.answers["RecordResponse"] = lambda request: clinical.RecordResponseResponse()
    file = tmp_path / "one.json"
    file.write_text(json.dumps({"dispenses": [{"order": "RX-1", "lot": PACKED, "site": SITE}]}))
    assert bench.run("fact", "dispenses", str(file)).exit_code == 0
    file.write_text(json.dumps({"site": SITE, "plan": "p-1"}))
    assert bench.run("plan", "answer", str(file)).exit_code == 0, (
        "an answer is one fact, with or without a list"
    )
