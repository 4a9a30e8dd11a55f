"""What `make status` says of a program, and how `make restart` starts one anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local import stack, startup
from deploy.local.plan import make_plan
from deploy.local.stack import shown
from deploy.local.supervised import State


@pytest.mark.parametrize(
    ("name", "state", "status", "word"),
    [
        ("world", "EXITED", 0, "done"),
        ("migrate", "EXITED", 0, "done"),
        ("world", "EXITED", 3, "EXITED (3)"),
        ("world", "EXITED", -1, "EXITED (-1)"),
        ("traceability", "EXITED", 0, "EXITED (0)"),
        ("world", "RUNNING", 0, "RUNNING"),
        ("world", "FATAL", 1, "FATAL"),
    ],
)
def test_a_story_that_is_over_is_told_apart_from_a_failure(
    name: str, state: str, status: int, word: str
) -> None:
    assert shown(State(name, state, 0, status, "")) == word


class Keeper:
    """A supervisor of one process, which keeps what it was told."""

    def __init__(self, *, up: bool = True) -> None:
        self.up = up
        self.told: list[str] = []

    def is_up(self) -> bool:
        return self.up

    def states(self) -> dict[str, State]:
        return {name: State(name, "EXITED", 0, 1, "") for name in ("rnd", "mongod")}

    def stop(self, name: str) -> None:
        self.told.append(f"stop {name}")

    def start(self, name: str) -> None:
        self.told.append(f"start {name}")


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Keeper:
    keeper = Keeper()
    monkeypatch.setenv("PHARMALOOP_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(startup, "Supervisor", lambda plan: keeper)
    monkeypatch.setattr(startup, "health", lambda address: "SERVING")
    return keeper


def test_a_process_is_started_anew_and_the_others_go_on(
    keeper: Keeper, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stack.restart(make_plan(), "rnd") == 0
    assert keeper.told == ["stop rnd", "start rnd"]
    assert capsys.readouterr().out.startswith("rnd: serving on 127.0.0.1:")
    assert stack.restart(make_plan(), "mongod") == 0
    assert keeper.told[2:] == ["stop mongod", "start mongod"]


def test_what_is_not_there_is_refused_with_what_there_is(
    keeper: Keeper, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stack.restart(make_plan(), "mongodb") == 2
    assert "no process 'mongodb' here; there are: rnd, mongod" in capsys.readouterr().err
    keeper.up = False
    assert stack.restart(make_plan(), "rnd") == 1
    assert "make up" in capsys.readouterr().err
    assert not keeper.told
