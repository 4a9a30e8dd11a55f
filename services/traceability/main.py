"""Composition root of traceability."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pharmaloop.traceability.v1 import service_pb2_grpc as api_grpc
from services.kit.app import App, ServiceSpec, main
from services.kit.contracts import event_type
from services.kit.runners.reactor import Reactor, projector
from services.kit.runners.step import StepFunction
from services.kit.sealing import LocalKeys
from services.traceability.api import TraceabilityApi
from services.traceability.dossier_rows import ROWS
from services.traceability.finder import THING_ROWS
from services.traceability.fold import CUT_STEP
from services.traceability.handlers import CUT_EVENTS, commands, fold_events
from services.traceability.lineages import HOP_ROWS
from services.traceability.outside import Outside
from services.traceability.regain import REGAIN
from services.traceability.steps import cut_step
from services.traceability.tallies import tally
from services.traceability.views import KINDS


def _servicer(app: App, server: Any) -> None:
    api_grpc.add_TraceabilityServiceServicer_to_server(TraceabilityApi(app), server)


def make_spec() -> ServiceSpec:
    """The service; its handlers are connected to keys and clock before any of them is called."""
    outside = Outside()

    def connect(app: App) -> None:
        for site in app.platform.sites:
            app.sealer.has(f"exposure/{site}")
        outside.connect(LocalKeys(app.platform.state_dir / "keys"), app.clock)

    def steps(app: App) -> Mapping[str, StepFunction]:
        topics = app.contract.names_for([event_type(cls) for cls in CUT_EVENTS])
        return {CUT_STEP: cut_step(app, topics)}

    return ServiceSpec(
        name="traceability",
        rpc_names=("pharmaloop.traceability.v1.TraceabilityService",),
        connect=connect,
        servicer=_servicer,
        kinds=KINDS,
        reactors=(
            Reactor("fold", fold_events(outside)),
            projector("dossier", ROWS),
            projector("lineage", HOP_ROWS),
            projector("things", THING_ROWS),
        ),
        commands=commands(outside),
        steps=steps,
        tally=tally,
        regain=REGAIN,
    )


SPEC = make_spec()

if __name__ == "__main__":
    main(SPEC)
