"""The process runner, as a person uses it: up, a crash, down, with nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.plan import ROOT


def surroundings(state: Path, **more: str) -> dict[str, str]:
    """Our environment, with a state directory of its own and no engines that are given."""
    given = ("KAFKA_BOOTSTRAP_SERVERS", "MONGODB_URI")
    inherited = {name: value for name, value in os.environ.items() if name not in given}
    return {**inherited, "PHARMALOOP_STATE_DIR": str(state), **more}


def stack(state: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.local.stack", *arguments],
        cwd=ROOT,
        env=surroundings(state, **environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def mongod_pid(state: Path) -> int:
    """The process that holds the database, as it says itself; 0 while there is none."""
    return int((state / "mongod" / "mongod.lock").read_text().strip() or 0)


def processes_of(state: Path) -> str:
    return subprocess.run(["pgrep", "-fa", str(state)], capture_output=True, text=True, check=False).stdout


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stack(tmp_path, "down")


def test_up_restarts_what_crashes_and_down_leaves_nothing(state: Path) -> None:
    started = stack(state, "up", "--only", "mongod")
    assert started.returncode == 0, started.stdout + started.stderr
    first = mongod_pid(state)
    os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while mongod_pid(state) in (0, first):
        assert time.monotonic() < deadline, "mongod was not started again"
        time.sleep(0.1)

    again = stack(state, "up", "--only", "mongod")
    assert (again.returncode, again.stdout) == (0, "up: the stack is already up; 'make down' stops it\n")
    assert "RUNNING" in stack(state, "status").stdout
    assert json.loads((state / "endpoints.json").read_text())["mongodb"].startswith("mongodb://127.0.0.1:")

    assert stack(state, "down").stdout == "down: everything is stopped\n"
    assert processes_of(state) == ""
    assert stack(state, "down").stdout == "down: nothing is running\n"


def test_run_stops_everything_when_it_is_told_to(state: Path) -> None:
    command = [sys.executable, "-m", "deploy.local.stack", "run", "--only", "mongod"]
    run = subprocess.Popen(command, cwd=ROOT, env=surroundings(state), stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    with run.stdout as lines:
        assert any("ready after" in line for line in lines)
        run.send_signal(signal.SIGTERM)
        assert "stopped" in lines.read()
    assert run.wait(timeout=30) == 0
    assert processes_of(state) == ""


def test_up_with_engines_that_do_not_answer_says_which(state: Path) -> None:
    refused = stack(
        state, "up", "--only", "rnd", MONGODB_URI="mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=1"
    )
    assert refused.returncode == 1
    assert refused.stderr == "up: MONGODB_URI: no MongoDB answers there that takes these credentials\n"
