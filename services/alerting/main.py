"""Composition root of alerting."""

from __future__ import annotations

from typing import Any

from pharmaloop.alerting.v1 import service_pb2_grpc as api_grpc
from services.alerting.api import AlertingApi
from services.alerting.handlers import COMMANDS, EVENTS
from services.alerting.steps import steps
from services.alerting.views import KINDS, RUNS, TRIGGERS
from services.kit.app import App, ServiceSpec, main
from services.kit.runners.reactor import Reactor


def _servicer(app: App, server: Any) -> None:
    api_grpc.add_AlertingServiceServicer_to_server(AlertingApi(app), server)


SPEC = ServiceSpec(
    name="alerting",
    rpc_names=("pharmaloop.alerting.v1.AlertingService",),
    servicer=_servicer,
    kinds=KINDS,
    reactors=(Reactor("alerts", EVENTS, views=(TRIGGERS, RUNS)),),
    commands=COMMANDS,
    steps=steps,
)

if __name__ == "__main__":
    main(SPEC)
