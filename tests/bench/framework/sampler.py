"""A sampling profiler: where the wall time of each thread goes, by function.

A thread wakes every few milliseconds and notes every other thread's stack. So
waiting for the broker or the database shows as what waits, which a
deterministic profiler hides, and the sampled code runs at nearly full speed.
Started in a child when PHARMALOOP_BENCH_PROFILE names a file.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from tests.bench.framework.machine import PROFILE

_EVERY_SECONDS = 0.004
_ROOT = str(Path(__file__).resolve().parents[3])


class Sampler:
    """Counts stacks until it is stopped."""

    def __init__(self) -> None:
        self._own: dict[str, Counter[str]] = {}
        self._below: dict[str, Counter[str]] = {}
        self._samples: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(1.0)

    def clear(self) -> None:
        """Forget what was before: warm-up and start."""
        self._own, self._below, self._samples = {}, {}, Counter()

    def _run(self) -> None:
        me = threading.get_ident()
        while not self._stopping.is_set():
            names = {thread.ident: thread.name for thread in threading.enumerate()}
            for ident, frame in sys._current_frames().items():
                if ident != me:
                    self._note(names.get(ident, "?"), frame)
            time.sleep(_EVERY_SECONDS)

    def _note(self, thread: str, frame: FrameType) -> None:
        # Pools number their threads; together they are one place of work.
        name = thread.rstrip("0123456789_-") or thread
        self._samples[name] += 1
        self._own.setdefault(name, Counter())[place(frame)] += 1
        below = self._below.setdefault(name, Counter())
        seen: set[str] = set()
        at: FrameType | None = frame
        while at is not None:
            if at.f_code.co_filename.startswith(_ROOT) and ".venv" not in at.f_code.co_filename:
                seen.add(place(at))
            at = at.f_back
        below.update(seen)

    def report(self) -> dict[str, Any]:
        return {
            name: {
                "samples": count,
                "own": self._own[name].most_common(25),
                "below": self._below[name].most_common(40),
            }
            for name, count in self._samples.most_common(6)
        }


def place(frame: FrameType) -> str:
    """File and function, short enough to read in a table."""
    path = frame.f_code.co_filename
    for cut in (f"{_ROOT}/.venv/lib/", f"{_ROOT}/", "/lib/"):
        if cut in path:
            path = path.split(cut, 1)[1]
            break
    path = path.split("site-packages/", 1)[-1]
    return f"{path}:{frame.f_code.co_qualname}"


def start_from_environment() -> Sampler | None:
    """In a child: profile the whole life of the process where a file is named."""
    file = os.environ.get(PROFILE)
    if not file:
        return None
    sampler = Sampler()
    sampler.start()

    def write() -> None:
        sampler.stop()
        Path(file).write_text(json.dumps(sampler.report()))

    atexit.register(write)
    return sampler


def table(report: dict[str, Any], thread: str, rows: int = 14) -> str:
    """Two Markdown tables of one thread: functions of ours with all they call, and leaves."""
    found = report[thread]
    total = found["samples"]
    lines = [f"Thread `{thread}`, {total} samples.", "", "| with all it calls | share |", "|---|---|"]
    lines += [f"| `{name}` | {count / total:.0%} |" for name, count in found["below"][:rows]]
    lines += ["", "| by itself | share |", "|---|---|"]
    lines += [f"| `{name}` | {count / total:.0%} |" for name, count in found["own"][:rows]]
    return "\n".join(lines)
