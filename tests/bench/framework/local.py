"""The local stack as a user runs it, in a state folder of its own, for benchmarks of the whole platform."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.health import is_serving
from deploy.local.plan import Plan, make_plan
from deploy.local.supervised import Supervisor
from services.kit.testing.service import environment
from tests.bench.framework.rows import ROOT

_UP_SECONDS = 180.0
_GIVEN = ("KAFKA_BOOTSTRAP_SERVERS", "MONGODB_URI")


class LocalStack:
    """A stack of `deploy.local.stack`; a context that takes it down. `options` are those of the world."""

    def __init__(
        self, state: Path, *options: str, only: Sequence[str] = (), settings: Mapping[str, str] | None = None
    ) -> None:
        self.state = state
        self._options = [*options, *(["--only", ",".join(only)] if only else [])]
        self._settings = {"PHARMALOOP_STATE_DIR": str(state), **(settings or {})}

    def __enter__(self) -> LocalStack:
        return self

    def __exit__(self, *_: object) -> None:
        self._run(sys.executable, "-m", "deploy.local.stack", "down")

    def up(self, *command: str) -> float:
        """Start it; answers the seconds it took. `make up` takes the world's options as variables."""
        words = command or (sys.executable, "-m", "deploy.local.stack", "up", *self._options)
        if command:
            pairs = zip(self._options[::2], self._options[1::2], strict=True)
            words = (*command, *(f"{name.lstrip('-').upper()}={value}" for name, value in pairs))
        began = time.monotonic()
        done = self._run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return time.monotonic() - began

    def make(self, target: str) -> None:
        done = self._run("make", target)
        assert done.returncode == 0, done.stdout + done.stderr

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if name not in _GIVEN}
        return subprocess.run(
            words,
            cwd=ROOT,
            env={**inherited, **self._settings},
            capture_output=True,
            text=True,
            check=False,
            timeout=_UP_SECONDS,
        )

    def _plan(self) -> Plan:
        with environment(self._settings):
            return make_plan()

    def endpoints(self) -> dict[str, str]:
        """gRPC address by service."""
        found: dict[str, str] = json.loads((self.state / "endpoints.json").read_text())["grpc"]
        return found

    @property
    def bootstrap(self) -> str:
        return str(json.loads((self.state / "endpoints.json").read_text())["kafka"])

    @property
    def mongodb(self) -> str:
        return str(json.loads((self.state / "endpoints.json").read_text())["mongodb"])

    def portal(self) -> str:
        """Address of the portal."""
        return str(json.loads((self.state / "endpoints.json").read_text())["portal"])

    def metrics(self) -> dict[str, str]:
        """Address of the metrics by process."""
        found: dict[str, str] = json.loads((self.state / "endpoints.json").read_text())["metrics"]
        return found

    def serving(self) -> list[str]:
        return [name for name, address in self.endpoints().items() if is_serving(address)]

    def pids(self) -> dict[str, int]:
        """Processes that run, the process runner itself among them."""
        supervisor = Supervisor(self._plan())
        found = {name: state.pid for name, state in supervisor.states().items() if state.state == "RUNNING"}
        pid = int((self.state / "supervisor" / "supervisord.pid").read_text())
        return {**found, "supervisor": pid}
