"""An earlier build of the platform, checked out beside this one: what an upgrade comes from."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: What is upgraded from while no version has been released: it lacks four event types of today's contract
#: and two kinds of events that other services read; a tag, once there is one, takes its place.
WITHOUT_A_TAG = "64ef91dd"
_LOCK = Path("requirements", "all.txt")
_LOCKED = re.compile(r"^([A-Za-z0-9_.-]+)==", re.MULTILINE)


@dataclass(frozen=True)
class Earlier:
    """A checkout at `root` of what `ref` names, its contract compiled."""

    ref: str
    root: Path

    @property
    def environment(self) -> dict[str, str]:
        """In which a process imports this build's code."""
        return {**os.environ, "PYTHONPATH": python_path(self.root)}

    @cached_property
    def says(self) -> dict[str, Any]:
        """What this build says of itself (`tests.earlier_says`)."""
        return says(self.root)


def python_path(root: Path) -> str:
    return os.pathsep.join(str(root / part) for part in (".", "proto/gen"))


def says(root: Path) -> dict[str, Any]:
    """What the build at `root` knows of events and stored states, as `tests.earlier_says` tells."""
    program = ROOT / "tests" / "earlier_says.py"
    # Without its folder on the path: it is this build's program over another build's code.
    command = [sys.executable, "-P", str(program)]
    environment = {**os.environ, "PYTHONPATH": python_path(root)}
    made = subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(made.stdout)
    return found


def named() -> str:
    """`FROM` of the environment, else the newest tag before this commit, else a commit of the history."""
    if given := os.environ.get("FROM"):
        return given
    tag = _git("describe", "--tags", "--abbrev=0", "HEAD^", check=False)
    return tag or WITHOUT_A_TAG


@contextmanager
def earlier(folder: Path) -> Iterator[Earlier]:
    """The earlier build in `folder`. A checkout without history fails: to leave the test out would read
    as if an upgrade had been tried."""
    ref = named()
    if not _git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", check=False):
        if "FROM" in os.environ:
            pytest.fail(f"FROM={ref} is no commit of this repository")
        pytest.fail(
            f"this checkout does not hold {ref}, the earlier build that this test begins with: it is "
            "shallow, or no clone. Bring the history (git fetch --unshallow --tags), or name one by FROM=ref"
        )
    root = folder / "earlier"
    _git("worktree", "prune")
    _git("worktree", "add", "--quiet", "--detach", str(root), ref)
    try:
        if missing := _packages(root) - _packages(ROOT):
            pytest.fail(f"{ref} needs packages that this build does not install: {sorted(missing)}")
        (root / ".venv").symlink_to(ROOT / ".venv")
        made = Earlier(ref, root)
        command = [sys.executable, "-m", "deploy.local.protos"]
        subprocess.run(command, cwd=root, env=made.environment, check=True, capture_output=True)
        yield made
    finally:
        _git("worktree", "remove", "--force", str(root))


def _packages(root: Path) -> set[str]:
    return {name.lower() for name in _LOCKED.findall((root / _LOCK).read_text())}


def _git(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=check, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""
