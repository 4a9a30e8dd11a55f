"""The drill `restore`: when it refuses, and what it throws away."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.drill import judging
from deploy.drill import restoring as subject
from deploy.drill.__main__ import main
from deploy.drill.ground import Done, Refused
from deploy.drill.restoring import Restoring, check_room
from tests.unit.deploy.drill.fakes import FakeGround

Usage = namedtuple("Usage", "free")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Kafka; signals stay as they are."""
    monkeypatch.setattr(judging, "ends", lambda bootstrap: {("a", 0): 3})
    for name in ("ignore_signals", "stop_on_signals"):
        monkeypatch.setattr(subject, name, lambda: None)


def test_without_room_for_a_second_stack_it_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kafka").mkdir()
    (tmp_path / "kafka" / "log").write_bytes(b"x" * 100_000)
    free = (2 << 30) + 200_000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(free + 50_000))
    check_room(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(free - 50_000))
    with pytest.raises(Refused, match="no room for a second stack"):
        check_room(tmp_path)


class Failing(FakeGround):
    """A command of it fails."""

    fails = "pharmaloop backup verify"

    def run(self, line: str) -> Done:
        done = super().run(line)
        return replace(done, status=1) if line.startswith(self.fails) else done


def test_a_backup_that_is_not_whole_fails_and_leaves_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    ground = Failing(tmp_path)
    left = tmp_path / "drill" / "restore" / "of a drill that was killed"
    left.mkdir(parents=True)
    told = Restoring(ground, said.append).run()
    assert not told.ok
    assert [check.ok for check in told.checks] == [False, True]
    assert said[-1] == "drill restore: FAILED"
    assert not left.parent.exists()
    assert ground.keeper.told == [], "the running stack is only read"


def test_a_running_stack_that_changed_meanwhile_is_told(tmp_path: Path) -> None:
    class Restarted(Failing):
        def run(self, line: str) -> Done:
            self.keeper.pids["kafka"] = 99
            return super().run(line)

    told = Restoring(Restarted(tmp_path), lambda text: None).run()
    assert (told.checks[-1].ok, told.checks[-1].told) == (False, "kafka")


def test_it_is_listed_with_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    drills = json.loads(capsys.readouterr().out)["drills"]
    assert drills[-1] == {"name": "restore", "story": subject.STORY, "alert": ""}
