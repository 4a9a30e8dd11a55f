"""The course of a drill: undone whatever happens, and judged by what was there before."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from deploy.drill import course as subject
from deploy.drill import judging
from deploy.drill.alarm import Alert
from deploy.drill.course import Course, undo
from deploy.drill.drills import DRILLS, Drill, site_down
from deploy.drill.faults import GARBAGE_KEY
from deploy.drill.ground import Ground
from tests.unit.deploy.drill.fakes import FakeAlarm, FakeGround

PROCESS = "clinical.hospital-b"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Kafka and no waiting; signals stay as they are."""
    monkeypatch.setattr(judging, "ends", lambda bootstrap: {("a", 0): 3})
    monkeypatch.setattr(subject, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(subject, "shipped", list)
    monkeypatch.setattr(Course, "_patience", lambda self: 0.0)
    monkeypatch.setattr(judging, "_CALM_SECONDS", 0.0)
    for name in ("ignore_signals", "stop_on_signals"):
        monkeypatch.setattr(subject, name, lambda: None)


@pytest.fixture
def ground(tmp_path: Path) -> FakeGround:
    return FakeGround(tmp_path)


def test_a_site_goes_down_somebody_hears_of_it_and_it_comes_back(ground: FakeGround) -> None:
    said: list[str] = []
    told = Course(ground, site_down("hospital-b"), said.append).run(FakeAlarm(ground))
    assert told.ok
    assert ground.keeper.told == [f"stop {PROCESS}", f"start {PROCESS}"]
    assert "  told to: pager, site" in said
    assert [line for line in said if line.startswith("  $ ")] == [
        "  $ pharmaloop status",
        "  $ .venv/bin/python -m services.kit.alive",
        "  $ pharmaloop run list --state stalled --stuck-first",
        f"  $ tail -n 3 {ground.state / f'{PROCESS}.log'}",
        f"  $ .venv/bin/python -m deploy.local.stack restart {PROCESS}",
        "  $ pharmaloop status",
        "  $ pharmaloop run list --state stalled --stuck-first",
    ]
    assert 'up{job="pharmaloop"} == 0' in [step.get("query") for step in told.steps]
    assert not ground.planted.exists()
    document = json.loads(json.dumps(told.document()))
    assert (document["ok"], document["alert"]["name"]) == (True, "ServiceGone")
    unjudged = [check["what"] for check in document["checks"] if check["ok"] is None]
    assert unjudged == ["`pharmaloop verify` finds every patient, as before"]


def test_a_fault_that_no_alert_tells_of_fails_and_is_undone(ground: FakeGround) -> None:
    said: list[str] = []
    told = Course(ground, site_down("hospital-b"), said.append).run(FakeAlarm(ground, deaf=True))
    assert not told.ok
    assert PROCESS in ground.keeper.running
    assert said[-1] == "drill site-down: FAILED"


class Interrupted(FakeAlarm):
    """Somebody types Ctrl-C while the alert is waited for."""

    def firing(self, name: str, labels: object) -> Alert | None:
        assert self._ground.planted.exists(), "it is written down before anything is broken"
        raise KeyboardInterrupt


def test_ctrl_c_undoes_the_fault(ground: FakeGround) -> None:
    with pytest.raises(KeyboardInterrupt):
        Course(ground, site_down("hospital-b"), print).run(Interrupted(ground))
    assert PROCESS in ground.keeper.running
    assert not ground.planted.exists()


@dataclass(frozen=True)
class HalfPlanted:
    """Breaks something, and fails before it is done."""

    process: str

    def plant(self, ground: Ground) -> str:
        ground.supervisor.stop(self.process)
        raise RuntimeError("Kafka did not take the record")

    def undo(self, ground: Ground) -> str:
        ground.supervisor.start(self.process)
        return "started"


def test_what_was_planted_by_half_is_undone(ground: FakeGround) -> None:
    drill = replace(site_down("hospital-b"), fault=HalfPlanted(PROCESS))
    with pytest.raises(RuntimeError, match="Kafka"):
        Course(ground, drill, print).run(FakeAlarm(ground))
    assert PROCESS in ground.keeper.running
    assert not ground.planted.exists()


class CannotUndo(HalfPlanted):
    def plant(self, ground: Ground) -> str:
        return "planted"

    def undo(self, ground: Ground) -> str:
        raise OSError("the process runner does not answer")


def test_what_could_not_be_undone_stays_on_record(ground: FakeGround) -> None:
    drill = replace(site_down("hospital-b"), fault=CannotUndo(PROCESS))
    with pytest.raises(OSError, match="process runner"):
        Course(ground, drill, print).run(FakeAlarm(ground))
    assert json.loads(ground.planted.read_text()) == {"drill": "site-down", "site": "hospital-b"}


def test_what_a_killed_drill_left_is_undone_later(ground: FakeGround) -> None:
    assert not undo(ground, print, "hospital-a")
    ground.folder.mkdir()
    ground.planted.write_text(json.dumps({"drill": "site-down", "site": "hospital-b"}))
    ground.keeper.running.discard(PROCESS)
    assert undo(ground, print, "hospital-a")
    assert PROCESS in ground.keeper.running
    assert not ground.planted.exists()


@dataclass(frozen=True)
class Thrown:
    """Garbage without a Kafka: two readers bury it."""

    def plant(self, ground: Ground) -> str:
        assert isinstance(ground, FakeGround)
        ground.open |= {f"traceability.{who}|t|0|7": {"key": GARBAGE_KEY} for who in ("fold", "lineage")}
        return "thrown in"

    def undo(self, ground: Ground) -> str:
        return "nothing"


def poison() -> Drill:
    return replace(DRILLS["poison"]("hospital-b"), fault=Thrown())


def test_poison_is_settled_by_the_runbook(ground: FakeGround) -> None:
    ground.open = {"rnd.insights|t|0|1": {"key": "capa-1"}}
    told = Course(ground, poison(), print).run(FakeAlarm(ground))
    assert told.ok, "a letter from before is no fault of the drill"
    assert list(ground.open) == ["rnd.insights|t|0|1"]
    typed = [line for line in ground.typed if "discard" in line]
    assert typed == [
        f"pharmaloop dlq discard '{letter}' --reason \"{GARBAGE_KEY}\" --yes"
        for letter in ("traceability.fold|t|0|7", "traceability.lineage|t|0|7")
    ]


def test_a_letter_that_is_left_fails_the_drill(ground: FakeGround) -> None:
    told = Course(ground, replace(poison(), mend=()), print).run(FakeAlarm(ground))
    assert [check.what for check in told.checks if check.ok is False] == ["no dead letter is left by it"]
    assert not told.ok
