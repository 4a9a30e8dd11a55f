"""Composition root of loops."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pharmaloop.loops.v1 import events_pb2 as events
from pharmaloop.loops.v1 import service_pb2_grpc as api_grpc
from services.kit.app import App, ServiceSpec, main
from services.kit.runners.loop import Loop
from services.kit.runners.loop_letters import LoopLetters
from services.kit.runners.reactor import Reactor, projector
from services.kit.runners.step import Again, StepFunction
from services.kit.work import Step
from services.loops.api import LoopsApi
from services.loops.handlers import CASE_TOPIC, COMMANDS, DEADLINE_EVENTS, JOURNAL_EVENTS, PROJECTION, ROUTER
from services.loops.machine import CASES, Machine
from services.loops.tallies import tally
from services.loops.views import JOURNALS, KINDS, RUNS, SCOPES

_LEAVE_SECONDS = 15.0


def _servicer(app: App, server: Any) -> None:
    api_grpc.add_LoopsServiceServicer_to_server(LoopsApi(app), server)


def _steps(app: App) -> Mapping[str, StepFunction]:
    async def deadline(step: Step) -> Again | None:
        passed = events.DeadlinePassed(**step.payload)
        await app.decider.submit(
            "PassDeadline", passed, request_id=f"{step.key}|{step.due}", actor="platform"
        )
        return None

    return {"deadline": deadline}


async def run_machine(app: App, loop: Loop[Any] = CASES, source: str = CASE_TOPIC) -> None:
    """The loop on its case topic, and beside it what settles its dead letters, until cancelled."""
    folder, prefix = app.platform.state_dir / "loops" / app.settings.instance, app.platform.group_prefix
    machine = Machine(app.kafka, folder, app.settings.instance, prefix, app.metrics, loop=loop, source=source)
    letters = LoopLetters(
        machine.name, source, app.bus, app.batch_store, app.producer, app.metrics, machine.positions
    )
    app.loops += [machine, letters]
    letters.start()
    try:
        await machine.run()
    finally:
        letters.stop()
        await asyncio.to_thread(letters.join, _LEAVE_SECONDS)


SPEC = ServiceSpec(
    name="loops",
    rpc_names=("pharmaloop.loops.v1.LoopsService",),
    servicer=_servicer,
    kinds=KINDS,
    reactors=(
        Reactor("router", ROUTER),
        projector("runs", PROJECTION, RUNS, SCOPES),
        projector("journals", JOURNAL_EVENTS, JOURNALS),
        Reactor("deadlines", DEADLINE_EVENTS),
    ),
    loops=(CASES.name,),
    commands=COMMANDS,
    steps=_steps,
    background=run_machine,
    tally=tally,
)

if __name__ == "__main__":
    main(SPEC)
