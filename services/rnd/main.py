"""Composition root of rnd."""

from __future__ import annotations

from typing import Any

from pharmaloop.rnd.v1 import service_pb2_grpc as api_grpc
from services.kit.app import App, ServiceSpec, main
from services.kit.runners.reactor import Reactor, projector
from services.rnd import handlers
from services.rnd.api import RndApi
from services.rnd.views import FINDINGS, INSIGHTS, KINDS, OUTCOMES, TRIAL_EVIDENCE


def _servicer(app: App, server: Any) -> None:
    api_grpc.add_RndServiceServicer_to_server(RndApi(app), server)


SPEC = ServiceSpec(
    name="rnd",
    rpc_names=("pharmaloop.rnd.v1.RndService",),
    servicer=_servicer,
    kinds=KINDS,
    reactors=(
        Reactor("insights", handlers.INSIGHTS, views=(INSIGHTS,)),
        Reactor("learning", handlers.LEARNING, views=(FINDINGS, TRIAL_EVIDENCE, OUTCOMES)),
        projector("lists", handlers.LISTS),
        projector("findings", handlers.FINDINGS),
    ),
    commands=handlers.COMMANDS,
)

if __name__ == "__main__":
    main(SPEC)
