"""Where a drill may be, and where it may not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.drill.ground import Refused, alone, check_well, connected, refusal, unwell
from deploy.local.supervised import State
from tests.unit.deploy.drill.fakes import FakeGround

LOCAL = {
    "grpc": {"rnd": "127.0.0.1:20001"},
    "metrics": {"rnd": "127.0.0.1:20002"},
    "kafka": "127.0.0.1:20003",
    "mongodb": "mongodb://127.0.0.1:20004/?replicaSet=rs0",
}


def placed(folder: Path, endpoints: Mapping[str, Any]) -> Path:
    (folder / "endpoints.json").write_text(json.dumps(endpoints))
    return folder


def test_a_local_stack_may_be_drilled(tmp_path: Path) -> None:
    assert refusal(placed(tmp_path, LOCAL), {}) == ""


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"kafka": "kafka.example:9092"}, "kafka listens at kafka.example:9092"),
        ({"mongodb": "mongodb+srv://db.example/x"}, "mongodb listens at mongodb+srv://db.example/x"),
        ({"grpc": {"rnd": "10.0.0.7:20001"}}, "rnd listens at 10.0.0.7:20001"),
        ({"metrics": {"rnd": "0.0.0.0:1"}}, "rnd listens at 0.0.0.0:1"),
        ({"kafka": ""}, "kafka listens at an address that is not known"),
    ],
)
def test_what_listens_elsewhere_is_never_broken(tmp_path: Path, changed: dict[str, Any], named: str) -> None:
    assert refusal(placed(tmp_path, {**LOCAL, **changed}), {}).startswith(named)


@pytest.mark.parametrize("name", ["PHARMALOOP_ENDPOINTS", "KAFKA_BOOTSTRAP_SERVERS", "MONGODB_URI"])
def test_what_is_given_from_outside_is_never_broken(tmp_path: Path, name: str) -> None:
    assert refusal(placed(tmp_path, LOCAL), {name: "127.0.0.1:1"}).startswith(f"{name} is set")


def test_without_a_stack_it_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="make up"):
        connected({"PHARMALOOP_STATE_DIR": str(tmp_path)})


def test_a_stack_that_is_not_well_is_not_drilled() -> None:
    states = {
        "kafka": State("kafka", "RUNNING", 1, 0, ""),
        "loops": State("loops", "BACKOFF", 0, 1, ""),
        "world": State("world", "EXITED", 0, 0, ""),
    }
    assert unwell(states, {"rnd": "NOT_SERVING", "loops": "SERVING"}) == [
        "mongod does not run under it",
        "loops is BACKOFF",
        "rnd: NOT_SERVING",
    ]


def test_what_a_killed_drill_left_comes_first(tmp_path: Path) -> None:
    ground = FakeGround(tmp_path)
    ground.folder.mkdir()
    ground.planted.write_text("{}")
    with pytest.raises(Refused, match="drill undo"):
        check_well(ground)


def test_one_drill_at_a_time(tmp_path: Path) -> None:
    ground = FakeGround(tmp_path)
    with alone(ground), pytest.raises(Refused, match="another drill"), alone(ground):
        pass
    with alone(ground):
        assert ground.folder.is_dir()
