"""`pharmaloop world`, as the command line finds it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from services.cli.main import cli
from services.world.platform_api import NEEDED


def run(*arguments: str, state: Path | None = None, endpoints: str = "{}") -> Result:
    environment = {"PHARMALOOP_ENDPOINTS": endpoints, "PHARMALOOP_STATE_DIR": str(state or "/nowhere")}
    return CliRunner().invoke(cli, arguments, env=environment)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_one_seed_makes_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert run("world", "make", "--out", str(tmp_path / name), "--size", "small").exit_code == 0
    first = contents(tmp_path / "a")
    assert first == contents(tmp_path / "b")
    assert {"world/records.parquet", "truth/exposures.parquet", "truth/truth.json"} <= set(first)


@pytest.mark.parametrize("place", [0, 1, 6])
def test_json_is_one_document_wherever_it_is_asked_for(tmp_path: Path, place: int) -> None:
    words = ["world", "make", "--out", str(tmp_path), "--size", "small"]
    words.insert(place, "--json")
    document = json.loads(run(*words).stdout)
    assert document["files"]["truth/truth.json"] > 0


def test_a_platform_that_is_not_told_is_a_plain_sentence(tmp_path: Path) -> None:
    result = run("world", "incident", "drift", state=tmp_path)
    assert result.exit_code == 3
    assert (
        "does not say where production, traceability, clinical, loops, rnd, exchange listens" in result.output
    )
    assert not list(tmp_path.glob("world/**/*.parquet"))


def test_a_platform_without_research_and_exchange_is_no_platform_for_an_incident(tmp_path: Path) -> None:
    names = ("production", "traceability", "clinical", "loops")
    endpoints = json.dumps(dict.fromkeys(names, "127.0.0.1:1"))
    result = run("world", "incident", "drift", state=tmp_path, endpoints=endpoints)
    assert result.exit_code == 3
    assert "PHARMALOOP_ENDPOINTS does not say where rnd, exchange listens" in result.output
    assert not list(tmp_path.glob("world/**/*.parquet"))


def test_the_industry_needs_every_hospital(tmp_path: Path) -> None:
    names = (*NEEDED, "clinical.hospital-b")
    result = run("world", "replay", state=tmp_path, endpoints=json.dumps(dict.fromkeys(names, "127.0.0.1:1")))
    assert result.exit_code == 3
    assert "where clinical.hospital-c listens" in result.output


def test_an_unknown_incident_names_those_that_there_are(tmp_path: Path) -> None:
    result = run("world", "incident", "fire", state=tmp_path)
    assert result.exit_code == 2
    assert "'false-alarm'" in result.output
