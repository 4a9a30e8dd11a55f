"""`make up` on a set-up machine: how long until everything serves, and the memory that it takes at rest.

The stack runs with its simulated world in a state folder of its own, with the
engines that the local plan chooses. RSS counts shared pages for each process
that maps them; PSS counts them once, so only PSS may be summed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from deploy.local.plan import SERVICES
from tests.bench.framework.local import LocalStack
from tests.bench.framework.machine import Machine, memory_of
from tests.bench.framework.rows import Row, Target, row
from tests.bench.framework.run import option

#: Start-up garbage is gone by then; the world waits for its services meanwhile.
REST_SECONDS = option("REST", 20)


@dataclass(frozen=True)
class Memory:
    """Megabytes of one process."""

    rss: float
    pss: float


def memories(stack: LocalStack) -> dict[str, Memory]:
    return {name: Memory(*memory_of(pid)) for name, pid in stack.pids().items()}


def run(machine: Machine) -> list[Row]:
    with LocalStack(machine.folder / "stack", "--loops", "1") as stack:
        stack.make("setup")
        seconds = stack.up("make", "up")
        assert set(stack.serving()) == set(SERVICES), f"only {stack.serving()} serve"
        time.sleep(REST_SECONDS)
        working = memories(stack)
        assert "world" in working, "the simulated world does not run"
    with LocalStack(machine.folder / "quiet", only=("kafka", "mongod", "migrate", *SERVICES)) as stack:
        stack.up()
        time.sleep(REST_SECONDS)
        resting = memories(stack)
    heaviest = max(SERVICES, key=lambda name: resting[name].rss)
    everything = sum(one.pss for one in working.values())
    each = ", ".join(f"{name} {one.rss:.0f}" for name, one in resting.items())
    return [
        row(
            "`make up` on a set-up machine, until everything serves",
            seconds,
            "s",
            target=Target(at_most=30),
            note="Kafka, MongoDB, topics, every service, the portal, the world",
        ),
        row(
            "idle memory, the heaviest service (RSS)",
            resting[heaviest].rss,
            "MB",
            target=Target(at_most=120),
            note=f"{heaviest}; RSS of each process in MB: {each}",
        ),
        row(
            "memory of everything of `make up` (PSS), at work",
            everything,
            "MB",
            target=Target(at_most=2_500),
            note=f"{len(working)} processes, the world at work among them",
        ),
    ]
