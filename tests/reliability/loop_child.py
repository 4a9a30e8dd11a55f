"""A loop worker as a process of its own, for tests that kill it: `python -m tests.reliability.loop_child`.

Prints its status as a JSON line whenever it changes. Its loop is small and
answers every event with two effects, so that a lost or doubled one shows.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pharmaloop.loops.v1 import events_pb2 as loops
from services.kit import log, points
from services.kit.envelope import Event
from services.kit.errors import PharmaLoopError
from services.kit.metrics import Metrics
from services.kit.runners.loop import Effect, Loop
from services.kit.runners.loop_driver import LoopDriver
from services.kit.settings import KafkaSettings
from services.loops.machine import Machine


@dataclass(frozen=True)
class Heard:
    """Which events a case has heard, in order."""

    ids: tuple[str, ...] = ()


def react(state: Heard | None, event: Event) -> tuple[Heard, list[Effect]]:
    if event.actor == "sleepy":
        print(json.dumps({"state": "asleep", "records": 0, "detail": event.id}), flush=True)
        time.sleep(float(os.environ.get("LOOP_CHILD_SLEEPS", "0")))
    after = Heard((*(state or Heard()).ids, event.id))
    n, run = len(after.ids), f"run/{event.case}"
    stage = loops.StageCompleted(run=run, stage=f"stage-{n}", case=event.case)
    return after, [Effect(stage, run, 2 * n - 1), Effect(loops.SealRequested(run=run, version=n), run, 2 * n)]


HEARD: Loop[Heard] = Loop("heard", Heard, react)


def machine(kafka: str, data_dir: Path, instance: str, prefix: str, source: str, **options: Any) -> Machine:
    """The machine of these tests; call it inside a running event loop."""
    settings = KafkaSettings(bootstrap_servers=kafka)
    metrics = Metrics("loops")
    return Machine(settings, data_dir, instance, prefix, metrics, loop=HEARD, source=source, **options)


async def _run(arguments: list[str]) -> None:
    kafka, data_dir, instance, prefix, source = arguments
    running = machine(kafka, Path(data_dir), instance, prefix, source)
    task = asyncio.ensure_future(running.run())
    said = ""
    while not task.done():
        status = running.status
        now = {"state": status.state, "records": status.records, "detail": status.detail}
        if (line := json.dumps(now)) != said:
            said = line
            print(line, flush=True)
        await asyncio.wait({task}, timeout=0.05)
    task.result()


async def _die(*_: Any) -> None:
    """The table is read, nothing is said again yet."""
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    if os.environ.get("LOOP_CHILD_DIES_SETTLING"):
        LoopDriver._settle = _die  # type: ignore[method-assign, assignment]
    log.configure("loop-child", "WARNING")
    points.arm_from(os.environ)
    try:
        asyncio.run(_run(sys.argv[1:]))
    except PharmaLoopError as error:
        print(json.dumps({"state": "ended", "records": 0, "detail": str(error)}), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
