"""Composition root of production."""

from __future__ import annotations

from typing import Any

from pharmaloop.production.v1 import service_pb2 as api
from pharmaloop.production.v1 import service_pb2_grpc as api_grpc
from services.kit.app import App, ServiceSpec, main
from services.kit.offload import Offload
from services.kit.runners.reactor import Reactor, projector
from services.kit.sealing import LocalKeys
from services.production import handlers
from services.production.api import ProductionApi
from services.production.domain.samples import Samples
from services.production.payloads import Payloads
from services.production.regain import REGAIN
from services.production.steps import steps
from services.production.twins.following import Basis, follow_lot
from services.production.views import KINDS, PARAMETERS, PRODUCTS, WATCHES

#: A run under watch is written whole, so many batches of it in one transaction cost what one does.
_READINGS_BYTES = 2 * 1024 * 1024


def _servicer(app: App, server: Any) -> None:
    # Not a child of the steps: who looks at a lot does not wait until advice is worked out.
    following = Offload("the live twin")
    app.leaving.append(following.close)

    async def follow(lot: str, samples: Samples, basis: Basis) -> api.GetTwinResponse:
        return await following.run(follow_lot, lot, samples, basis)

    served = ProductionApi(app, _payloads(app), follow)
    api_grpc.add_ProductionServiceServicer_to_server(served, server)


def _payloads(app: App) -> Payloads:
    return Payloads(LocalKeys(app.platform.state_dir / "keys"))


SPEC = ServiceSpec(
    name="production",
    rpc_names=("pharmaloop.production.v1.ProductionService",),
    servicer=_servicer,
    kinds=KINDS,
    reactors=(
        Reactor(
            "detector",
            handlers.DETECTOR,
            views=(WATCHES, PRODUCTS, PARAMETERS),
            most_bytes=_READINGS_BYTES,
        ),
        Reactor("quality", handlers.QUALITY),
        Reactor("laboratory", handlers.LABORATORY),
        Reactor("transfers", handlers.TRANSFERS),
        projector("history", handlers.HISTORY),
        projector("lists", handlers.LISTS),
    ),
    commands=handlers.COMMANDS,
    steps=lambda app: steps(app, _payloads(app)),
    regain=REGAIN,
)

if __name__ == "__main__":
    main(SPEC)
