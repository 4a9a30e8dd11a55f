"""Composition root of loops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pharmaloop.loops.v1 import events_pb2 as events
from pharmaloop.loops.v1 import service_pb2_grpc as api_grpc
from services.kit.app import App, ServiceSpec, main
from services.kit.runners.reactor import Reactor, projector
from services.kit.runners.step import Again, StepFunction
from services.kit.work import Step
from services.loops.api import LoopsApi
from services.loops.handlers import COMMANDS, DEADLINE_EVENTS, PROJECTION, ROUTER
from services.loops.machine import Machine
from services.loops.views import KINDS, RUNS


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


async def _run_machine(app: App) -> None:
    folder = app.platform.state_dir / "loops" / app.settings.instance
    machine = Machine(app.kafka, folder, app.settings.instance, app.platform.group_prefix, app.metrics)
    app.loops.append(machine)
    await machine.run()


SPEC = ServiceSpec(
    name="loops",
    rpc_names=("pharmaloop.loops.v1.LoopsService",),
    servicer=_servicer,
    kinds=KINDS,
    reactors=(
        Reactor("router", ROUTER),
        projector("runs", PROJECTION, RUNS),
        Reactor("deadlines", DEADLINE_EVENTS),
    ),
    commands=COMMANDS,
    steps=_steps,
    background=_run_machine,
)

if __name__ == "__main__":
    main(SPEC)
