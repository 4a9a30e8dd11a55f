"""Does a process still turn? For an exec probe: exit code 0 or 1, and one line why.

    python -m services.kit.alive [FILE] --older-than SECONDS

Without FILE it looks at every heartbeat in `alive/` of PHARMALOOP_STATE_DIR.
Only the standard library is imported: a probe runs every few seconds. Ages are
taken from the machine's stopwatch, so that a clock that is set does not kill.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = "alive"
DEFAULT_SECONDS = 120.0


class Heartbeat:
    """Writes how long ago each loop of the process has turned; the file is as old as the slowest."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self._name = name

    def write(self, ages: Mapping[str, float], trouble: str = "") -> None:
        """`ages`: seconds since each loop has turned. OSError when the file cannot be written."""
        slowest, age = max(ages.items(), key=lambda item: item[1], default=("", 0.0))
        state = {
            "name": self._name,
            "pid": os.getpid(),
            "written": time.monotonic(),
            "slowest": slowest,
            "age": round(age, 3),
            "trouble": trouble,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        draft.write_text(json.dumps(state))
        turned = time.time() - age
        os.utime(draft, (turned, turned))
        draft.replace(self.path)

    def remove(self) -> None:
        """The process ends as it should: there is nothing to watch any more."""
        with contextlib.suppress(OSError):
            self.path.unlink()


def judge(path: Path, limit: float) -> tuple[bool, str]:
    """Whether the process of a heartbeat file is alive, and why."""
    try:
        state: dict[str, Any] = json.loads(path.read_text())
        name, silent = str(state["name"]), time.monotonic() - float(state["written"])
        age, slowest = float(state["age"]), str(state["slowest"])
    except FileNotFoundError:
        return False, f"{path}: no heartbeat: the process has not started, or PHARMALOOP_STATE_DIR is another"
    except (OSError, ValueError, KeyError, TypeError):
        return False, f"{path}: this is not a heartbeat file"
    who = f"{name} (pid {state.get('pid')})"
    if silent < 0:
        return False, f"{who}: its heartbeat is of an earlier start of this machine"
    if silent > limit:
        return False, f"{who}: dead or frozen, the last heartbeat is {silent:.0f} s old (limit {limit:.0f} s)"
    if silent + age > limit:
        return False, f"{who}: {slowest} has not turned for {silent + age:.0f} s (limit {limit:.0f} s)"
    return True, f"{who}: alive, the slowest loop turned {silent + age:.1f} s ago" + (
        f"; not ready: {state['trouble']}" if state.get("trouble") else ""
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m services.kit.alive", description=__doc__.split("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, help="heartbeat file of the process")
    parser.add_argument("--older-than", type=float, default=DEFAULT_SECONDS, metavar="SECONDS")
    given = parser.parse_args(arguments)
    folder = Path(os.environ.get("PHARMALOOP_STATE_DIR", ".state")) / FOLDER
    files = [given.file] if given.file else sorted(folder.glob("*.json"))
    if not files:
        print(f"no heartbeat in {folder}: no service runs, or PHARMALOOP_STATE_DIR is another")
        return 1
    verdicts = [judge(file, given.older_than) for file in files]
    for alive, why in verdicts:
        print(why if alive or len(verdicts) == 1 else f"DEAD {why}")
    return 0 if all(alive for alive, _ in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
