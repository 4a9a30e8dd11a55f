"""Faults: what they break is broken, and undone however often it is asked."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.drill import faults
from deploy.drill.faults import GARBAGE_KEY, Frozen, Garbage, Killed, NoSpace, Stopped
from tests.unit.deploy.drill.fakes import FakeGround

_WRITER = """
import pathlib, sys, time
while True:
    try:
        pathlib.Path(sys.argv[1]).write_text("beat")
        print("written", flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
    time.sleep(0.02)
"""


@pytest.fixture
def child(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that writes its heartbeat again and again, and says whether it could."""
    command = [sys.executable, "-c", _WRITER, str(tmp_path / "beat")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def says(child: subprocess.Popen[str], word: str) -> bool:
    """Whether it comes to say a word, among what it has said before."""
    assert child.stdout is not None
    return any(child.stdout.readline().strip() == word for _ in range(500))


def stands(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def until_stands(pid: int, *states: str) -> bool:
    end = time.monotonic() + 5
    while stands(pid) not in states and time.monotonic() < end:
        time.sleep(0.01)
    return stands(pid) in states


def test_a_stopped_process_is_started_once(tmp_path: Path) -> None:
    ground, fault = FakeGround(tmp_path), Stopped("clinical.hospital-b")
    fault.plant(ground)
    assert "clinical.hospital-b" not in ground.keeper.running
    fault.undo(ground)
    assert fault.undo(ground) == "clinical.hospital-b runs already"
    assert ground.keeper.told == ["stop clinical.hospital-b", "start clinical.hospital-b"]


def test_a_killed_process_stays_away_until_it_is_undone(tmp_path: Path, child: subprocess.Popen[str]) -> None:
    ground, fault = FakeGround(tmp_path, {"kafka": child.pid}), Killed("kafka")
    fault.plant(ground)
    assert child.wait(5) == -9
    assert ground.keeper.running == set()
    fault.undo(ground)
    assert ground.keeper.running == {"kafka"}


def test_a_frozen_process_stands_still_and_goes_on(
    tmp_path: Path, child: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "_send_again", lambda bootstrap, topic: 12)
    ground, fault = FakeGround(tmp_path, {"traceability": child.pid}), Frozen("traceability", "a.topic")
    assert "12 records of a.topic" in fault.plant(ground)
    assert until_stands(child.pid, "T")
    for _ in range(2):
        fault.undo(ground)
        assert until_stands(child.pid, "S", "R")


def test_without_space_nothing_is_written_until_it_is_undone(
    tmp_path: Path, child: subprocess.Popen[str]
) -> None:
    ground, fault = FakeGround(tmp_path, {"rnd": child.pid}), NoSpace("rnd")
    assert says(child, "written")
    fault.plant(ground)
    assert says(child, "OSError")
    fault.undo(ground)
    assert says(child, "written")


def test_only_the_letters_of_drills_are_discarded(tmp_path: Path) -> None:
    ground = FakeGround(tmp_path)
    ground.open = {"fold|t|0|1": {"key": "lot-7"}, "fold|t|0|2": {"key": GARBAGE_KEY}}
    fault = Garbage("a.topic", "an.Event")
    assert fault.undo(ground).endswith("discarded: 1")
    assert list(ground.open) == ["fold|t|0|1"]
    assert fault.undo(ground).endswith("discarded: 0")
