"""Drills on a whole platform: a hospital's service goes and comes back by its runbook; a backup is tried."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from deploy.local.plan import ROOT
from deploy.local.supervised import State
from tests.integration.test_stack import surroundings
from tests.loops.stack import running_stack
from tests.platforms import WORLD_SECONDS

pytestmark = pytest.mark.faults

PROCESS = "clinical.hospital-b"
#: So many things are judged of a stack that was restored.
_CHECKS = 8


def drilled(state: Path, name: str) -> dict[str, Any]:
    """Run a drill on the stack, which has to pass; its document."""
    done = subprocess.run(
        [sys.executable, "-m", "services.cli.main", "drill", "run", name, "--json"],
        cwd=ROOT,
        env=surroundings(state),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def running_in(folder: Path) -> list[str]:
    """The processes whose command names the folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [command for command in found if str(folder) in command]


@pytest.mark.timeout(900)
def test_a_site_goes_down_and_comes_back_by_its_runbook(tmp_path: Path) -> None:
    """While the world plays, so that the hospital has something to miss."""
    with running_stack(tmp_path, "--seed", "7", "--size", "small", "--loops", "2", "--speed", "4") as stack:
        before: State = stack.process(PROCESS)
        told = drilled(tmp_path, "site-down")
        alert = told["alert"]
        assert (alert["name"], alert["labels"]["site"]) == ("ServiceGone", "hospital-b")
        shown = next(step for step in told["steps"] if step.get("command") == "pharmaloop status")
        assert shown["status"] == 1
        assert PROCESS in shown["output"]
        assert [check["what"] for check in told["checks"] if check["ok"] is False] == []
        after = stack.process(PROCESS)
        assert (after.state, after.pid != before.pid) == ("RUNNING", True)
        assert not (tmp_path / "drill" / "planted.json").exists()


@pytest.mark.timeout(1200)
def test_a_backup_of_the_running_stack_is_as_good_as_the_stack(tmp_path: Path) -> None:
    """Once the world's story is told: then both stacks can be asked for every patient."""
    options = ("--seed", "7", "--size", "small-safety", "--loops", "2", "--speed", "4")
    with running_stack(tmp_path, *options) as stack:
        stack.until_world_is_done(WORLD_SECONDS)
        told = drilled(tmp_path, "restore")
        print(json.dumps(told["measured"]), *told["checks"], sep="\n")
        judged = {check["what"]: check["ok"] for check in told["checks"]}
        assert judged["`pharmaloop verify` finds every patient, as before"] is True
        assert False not in judged.values()
        assert len(judged) == _CHECKS
        assert told["measured"]["rto_seconds"] > told["measured"]["restore_seconds"] > 0
        assert not (tmp_path / "drill" / "restore").exists()
        assert running_in(tmp_path / "drill") == []
