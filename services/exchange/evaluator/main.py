"""Composition root of the evaluator. Its key is its own; it reads studies and keys from the topics."""

from __future__ import annotations

import asyncio

from pydantic import Field

from pharmaloop.exchange.v1 import service_pb2_grpc as api_grpc
from services.exchange.evaluator.agent import Evaluator
from services.exchange.site.seen import SEEN, SEEN_DATASETS, SEEN_STUDIES, SeenStudy, seen_datasets
from services.kit.app import App, ServiceSpec, main
from services.kit.errors import Invalid
from services.kit.rpc.client import channel
from services.kit.runners.reactor import projector
from services.kit.sealing import LocalKeys
from services.kit.settings import ServiceSettings
from services.refusals import Refusal

#: How long a job waits for the topics to have told of its study.
_SEEN_SECONDS, _LOOK_SECONDS = 5.0, 0.02


class EvaluatorSettings(ServiceSettings):
    """What an evaluator is called, and where it connects to."""

    evaluator: str = Field(
        default="evaluator", pattern=r"^[a-z0-9][a-z0-9-]*$", description="name of the organisation"
    )
    exchange: str = Field(default="", description="address of the exchange; PHARMALOOP_ENDPOINTS if empty")


def _address(app: App) -> str:
    found: str = app.settings.exchange or app.platform.endpoints.get("exchange", "")
    if not found:
        variable = "PHARMALOOP_EVALUATOR_EXCHANGE"
        raise Invalid("BAD_SETTING", f"{variable}: say where the exchange listens, host:port", variable)
    return found


async def _study(app: App, id: str) -> SeenStudy:
    """The study as its topic tells it; waits a little until the topic has told of every approval."""
    loop = asyncio.get_running_loop()
    end = loop.time() + _SEEN_SECONDS
    while True:
        found = await app.store.get(SEEN_STUDIES, id)
        seen = found.state if found is not None else SeenStudy(id)
        if seen.requested and set(seen.approved) >= set(seen.message().sites):
            return seen
        if loop.time() > end:
            said = "the topic of studies does not tell that every owner approved this one"
            raise Refusal("NOT_APPROVED_HERE", said, "study")
        await asyncio.sleep(_LOOK_SECONDS)


def make_spec() -> ServiceSpec:
    """The evaluator: it serves nothing, and calls the exchange."""

    def connect(app: App) -> None:
        _address(app)

    async def run(app: App) -> None:
        name = app.settings.evaluator
        key = LocalKeys(app.platform.state_dir / "keys").make(f"exchange/{name}/evaluator")

        async with channel(_address(app)) as line:
            stub = api_grpc.EvaluatorServiceStub(line)
            await Evaluator(
                name, key, stub, lambda id: _study(app, id), lambda: seen_datasets(app.store)
            ).run()

    return ServiceSpec(
        name="evaluator",
        alone=True,
        connect=connect,
        kinds=(SEEN_STUDIES, SEEN_DATASETS),
        reactors=(projector("seen", SEEN),),
        settings=EvaluatorSettings,
        background=run,
    )


SPEC = make_spec()

if __name__ == "__main__":
    main(SPEC)
