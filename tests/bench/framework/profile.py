"""Where the time goes: py-spy beside a process, its stacks as tables in docs/profiles.

py-spy reads the stacks from outside (`make bench T=... PROFILE=1`), so waiting
shows as waiting and the profiled code runs on. A sampler inside the process
was tried first and lied: it wakes where the interpreter's lock is given up,
so every system call looked like a hot spot.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.framework.rows import ROOT

FOLDER = ROOT / "docs" / "profiles"
_RATE = 100
_ROWS = 22
_THREADS = 2
_LINE = re.compile(r":\d+\)$")
_THREAD = re.compile(r"^thread \(?(?:0x[0-9A-Fa-f]+|\d+)?\)?:? ?")
#: A pool's thread that waits for work, which py-spy takes for busy.
_IDLE = "_worker (concurrent/futures/thread.py)"
#: Frames of the interpreter and of threads as such, which every stack has.
_FRAME_OF_ALL = re.compile(r"\((threading|runpy|asyncio/runners|<frozen runpy>)")


@dataclass
class Stacks:
    """Samples of one thread: by the function that ran, and by every function of ours below it."""

    samples: int = 0
    own: Counter[str] = field(default_factory=Counter)
    below: Counter[str] = field(default_factory=Counter)


class Profile:
    """py-spy at a process, from now until `end`."""

    def __init__(self, pid: int, name: str, raw: Path) -> None:
        self._name, self._raw = name, raw
        program = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
        if program is None:
            raise SystemExit("bench: PROFILE=1 needs py-spy; run 'make setup'")
        words = [
            "record",
            "--pid",
            str(pid),
            "--rate",
            str(_RATE),
            "--format",
            "raw",
            "--threads",
            "--nonblocking",
        ]
        self._process = subprocess.Popen(
            [program, *words, "--output", str(raw)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def end(self, title: str) -> None:
        """Stop sampling, and write the tables. The profiled process may have ended before."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        self._process.wait()
        found = stacks(self._raw.read_text().splitlines())
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{self._name}.md").write_text(page(title, self._name, found))


def stacks(lines: Iterable[str]) -> dict[str, Stacks]:
    """The samples by thread; threads of a pool are taken together."""
    found: dict[str, Stacks] = {}
    for line in lines:
        stack, _, count = line.rpartition(" ")
        first, *frames = [_LINE.sub(")", frame) for frame in stack.split(";")]
        thread = _THREAD.sub("", first).rstrip("0123456789_-") or first
        if frames and frames[-1].startswith(_IDLE):
            continue
        held = found.setdefault(thread, Stacks())
        frames = [frame for frame in frames if not _FRAME_OF_ALL.search(frame)] or ["(event loop)"]
        held.samples += int(count)
        held.own[frames[-1]] += int(count)
        for frame in set(frames):
            held.below[frame] += int(count)
    return found


def page(title: str, name: str, found: dict[str, Stacks]) -> str:
    parts = [f"# {title}\n", f"Samples of py-spy, {_RATE} a second, busy threads only. Profile `{name}`.\n"]
    for thread, held in sorted(found.items(), key=lambda item: -item[1].samples)[:_THREADS]:
        parts += [f"## Thread {thread}\n", f"{held.samples} samples.\n"]
        parts += [_table("with all it calls", held.below, held.samples)]
        parts += [_table("by itself", held.own, held.samples)]
    return "\n".join(parts)


def _table(head: str, counts: Counter[str], total: int) -> str:
    lines = [f"| {head} | share |", "|---|---|"]
    lines += [f"| `{frame}` | {count / total:.1%} |" for frame, count in counts.most_common(_ROWS)]
    return "\n".join([*lines, ""])
