"""Composition root of the exchange: the catalogue, studies, and the coordinator of their jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from pharmaloop.exchange.v1 import service_pb2_grpc as api_grpc
from services.exchange.api import ExchangeApi
from services.exchange.coordinator.conductor import Limits
from services.exchange.coordinator.desk import Desk
from services.exchange.coordinator.hub import Hub
from services.exchange.evaluator_api import EvaluatorApi
from services.exchange.handlers import COMMANDS, EVENTS, LISTS
from services.exchange.regain import REGAIN
from services.exchange.site_api import SiteApi
from services.exchange.steps import Jobs, Patience
from services.exchange.valuations import Valuations
from services.exchange.views import KINDS
from services.kit.app import App, ServiceSpec, main
from services.kit.runners.reactor import Reactor, projector
from services.kit.runners.step import StepFunction
from services.kit.settings import ServiceSettings


class ExchangeSettings(ServiceSettings):
    """How long sites are waited for, in wall seconds."""

    freeze_seconds: float = Field(default=60.0, gt=0, description="for a cohort, and for its confirmation")
    round_seconds: float = Field(default=20.0, gt=0, description="for what a round needs of a site")
    join_seconds: float = Field(default=5.0, ge=0, description="for agents that are not connected")
    pause_seconds: float = Field(
        default=5.0, ge=0, description="after a job without an answer; doubled with each"
    )
    valuation_seconds: float = Field(
        default=120.0, gt=0, description="for the evaluator to value the contributions of one job"
    )


def make_spec() -> ServiceSpec:
    """The service; agents that are connected are known to the steps and to the servicers alike."""
    hub = Hub()
    desk = Desk(hub, 20.0)

    def servicer(app: App, server: Any) -> None:
        api_grpc.add_ExchangeServiceServicer_to_server(ExchangeApi(app, hub), server)
        api_grpc.add_SiteServiceServicer_to_server(SiteApi(app, hub), server)
        api_grpc.add_EvaluatorServiceServicer_to_server(EvaluatorApi(app, desk), server)

    def steps(app: App) -> Mapping[str, StepFunction]:
        said = app.settings
        limits = Limits(said.freeze_seconds, said.round_seconds)
        desk.round_seconds = said.round_seconds
        valuations = Valuations(app, desk, said.join_seconds, said.valuation_seconds)
        return Jobs(app, hub, limits, Patience(said.join_seconds, said.pause_seconds), valuations).all()

    return ServiceSpec(
        name="exchange",
        alone=True,
        rpc_names=tuple(
            f"pharmaloop.exchange.v1.{name}"
            for name in ("ExchangeService", "SiteService", "EvaluatorService")
        ),
        servicer=servicer,
        kinds=KINDS,
        reactors=(Reactor("runs", EVENTS), projector("lists", LISTS)),
        commands=COMMANDS,
        steps=steps,
        settings=ExchangeSettings,
        regain=REGAIN,
    )


SPEC = make_spec()

if __name__ == "__main__":
    main(SPEC)
