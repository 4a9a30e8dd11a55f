"""A stack that is not there: it remembers what a drill does to it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from deploy.drill.alarm import Alert
from deploy.drill.ground import Done, Ground
from deploy.drill.rules import Sample
from deploy.local.plan import Plan
from deploy.local.supervised import State, Supervisor


class FakeSupervisor:
    """Keeps what is said to run; `pids` may name real children of a test."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self.pids = dict(pids)
        self.running = set(pids)
        self.told: list[str] = []

    def state(self, name: str) -> State:
        runs = name in self.running
        return State(name, "RUNNING" if runs else "STOPPED", self.pids[name] if runs else 0, 0, "")

    def states(self) -> dict[str, State]:
        return {name: self.state(name) for name in self.pids}

    def start(self, name: str) -> None:
        self.told.append(f"start {name}")
        self.running.add(name)

    def stop(self, name: str) -> None:
        self.told.append(f"stop {name}")
        self.running.discard(name)


class FakeGround(Ground):
    """A stack in memory; commands answer what `answers` says of their first words."""

    def __init__(self, state: Path, pids: Mapping[str, int] | None = None) -> None:
        self.keeper = FakeSupervisor(pids or {"clinical.hospital-b": 1, "kafka": 2, "mongod": 3})
        plan = SimpleNamespace(bootstrap="127.0.0.1:1", log_file=lambda name: state / f"{name}.log")
        super().__init__(state, cast(Plan, plan), cast(Supervisor, self.keeper), {"grpc": {}, "metrics": {}})
        self.typed: list[str] = []
        self.samples: list[Sample] = []
        self.open: dict[str, dict[str, Any]] = {}

    def serving(self) -> dict[str, str]:
        return {"clinical.hospital-b": "SERVING"}

    def scrape(self) -> list[Sample]:
        return self.samples

    def run(self, line: str) -> Done:
        self.typed.append(line)
        words = shlex.split(line)
        if words[:3] == ["pharmaloop", "dlq", "discard"]:
            self.open.pop(words[3], None)
        return Done(line, "as the command prints it", 0)

    def ask(self, *words: str) -> Any:
        self.run(shlex.join(["pharmaloop", *words]))
        return {}

    def letters(self) -> dict[str, dict[str, Any]]:
        return dict(self.open)


class FakeAlarm:
    """Fires while the fault stands, if it is not deaf."""

    how = "a test"

    def __init__(self, ground: FakeGround, *, deaf: bool = False) -> None:
        self._ground = ground
        self._deaf = deaf

    def firing(self, name: str, labels: Mapping[str, str]) -> Alert | None:
        if self._deaf or not self._ground.planted.exists():
            return None
        notes = {"summary": "it is gone", "runbook_url": f"docs/runbooks/{name}.md"}
        return Alert(name, {**labels, "severity": "page"}, notes, ("pager", "site"))

    def asked(self, query: str) -> list[str]:
        return [f"answer to {query}"]
