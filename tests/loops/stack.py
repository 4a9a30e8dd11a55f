"""The whole platform on this machine, for tests: started, watched and asked as an operator would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.plan import Plan, make_plan
from deploy.local.supervised import State, Supervisor
from services.kit.testing.service import environment

_UP_SECONDS = 300


@dataclass
class Stack:
    """A running stack with a state folder of its own."""

    state_dir: Path

    @property
    def _environment(self) -> dict[str, str]:
        # A broker that lives for minutes costs less where its code is compiled lightly.
        java = {"JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1"}
        return {**os.environ, **java, "PHARMALOOP_STATE_DIR": str(self.state_dir)}

    def _run(self, *command: str, seconds: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *command],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def up(self, *options: str) -> None:
        done = self._run("deploy.local.stack", "up", *options, seconds=_UP_SECONDS)
        assert done.returncode == 0, done.stdout + done.stderr

    def down(self) -> None:
        self._run("deploy.local.stack", "down", seconds=60)

    def pharmaloop(self, *arguments: str) -> tuple[int, Any]:
        """Exit code and JSON document of a command of the operator's tool."""
        done = self._run("services.cli.main", *arguments, "--json", seconds=120)
        return done.returncode, json.loads(done.stdout or "null")

    def panels_without_data(self) -> list[str]:
        """Panels of dashboards that always have a number and find no series here; each says which."""
        done = self._run("deploy.grafana.check", seconds=120)
        assert done.returncode in (0, 1), done.stdout + done.stderr
        return [line for line in done.stdout.splitlines()[:-1] if ": no data: " in line]

    def _plan(self) -> Plan:
        with environment({"PHARMALOOP_STATE_DIR": str(self.state_dir)}):
            return make_plan()

    def process(self, name: str) -> State:
        return Supervisor(self._plan()).state(name)

    def log(self, name: str, lines: int = 40) -> str:
        path = self._plan().log_file(name)
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def until_world_is_done(self, seconds: float) -> None:
        """Wait for the simulated world to end; fails with its log when it does not, or fails."""
        deadline = time.monotonic() + seconds
        while not (world := self.process("world")).has_ended:
            assert time.monotonic() < deadline, f"the world did not end:\n{self.log('world')}"
            time.sleep(0.5)
        assert world.has_succeeded, f"the world failed:\n{self.log('world')}"


@contextmanager
def running_stack(state_dir: Path, *options: str) -> Iterator[Stack]:
    """A stack that is up, with its simulated world; stopped at the end."""
    stack = Stack(state_dir)
    try:
        stack.up(*options)
        yield stack
    finally:
        stack.down()
