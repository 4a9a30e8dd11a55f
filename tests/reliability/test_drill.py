"""Three in the morning on a whole platform: a hospital's service is gone, and comes back by its runbook."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.plan import ROOT
from deploy.local.supervised import State
from tests.integration.test_stack import surroundings
from tests.loops.stack import running_stack

pytestmark = pytest.mark.faults

PROCESS = "clinical.hospital-b"


@pytest.mark.timeout(900)
def test_a_site_goes_down_and_comes_back_by_its_runbook(tmp_path: Path) -> None:
    """While the world plays, so that the hospital has something to miss."""
    with running_stack(tmp_path, "--seed", "7", "--size", "small", "--loops", "2", "--speed", "4") as stack:
        before: State = stack.process(PROCESS)
        done = subprocess.run(
            [sys.executable, "-m", "services.cli.main", "drill", "run", "site-down", "--json"],
            cwd=ROOT,
            env=surroundings(tmp_path),
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        told = json.loads(done.stdout)
        alert = told["alert"]
        assert (alert["name"], alert["labels"]["site"]) == ("ServiceGone", "hospital-b")
        shown = next(step for step in told["steps"] if step.get("command") == "pharmaloop status")
        assert shown["status"] == 1
        assert PROCESS in shown["output"]
        assert [check["what"] for check in told["checks"] if check["ok"] is False] == []
        after = stack.process(PROCESS)
        assert (after.state, after.pid != before.pid) == ("RUNNING", True)
        assert not (tmp_path / "drill" / "planted.json").exists()
