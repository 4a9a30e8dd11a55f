"""Composition root of a site's agent: one process is one site."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from pydantic import Field

from pharmaloop.exchange.v1 import service_pb2_grpc as api_grpc
from services.exchange.domain.disclosure.budget import USUAL_EPSILON, USUAL_ROUNDS, Grant
from services.exchange.domain.disclosure.limits import Profile
from services.exchange.site.agent import Agent
from services.exchange.site.seen import SEEN, SEEN_DATASETS, SEEN_STUDIES, SeenStudy, seen_identities
from services.exchange.site.session import Site
from services.exchange.site.source import ClinicalSource, CohortSource
from services.exchange.site.stored import COHORTS, Cohorts, site_keys
from services.kit.app import App, ServiceSpec, main
from services.kit.errors import Invalid
from services.kit.rpc.client import channel
from services.kit.runners.reactor import projector
from services.kit.sealing import LocalKeys
from services.kit.settings import ServiceSettings
from services.refusals import Refusal

#: How long a task waits for the topics to have told of its study.
_SEEN_SECONDS, _LOOK_SECONDS = 5.0, 0.02
_ALL = "PHARMALOOP_ENDPOINTS"


class AgentSettings(ServiceSettings):
    """What an agent needs to know of its site, and where it connects to."""

    site: str = Field(default="hospital-a", pattern=r"^[a-z0-9][a-z0-9-]*$", description="id of the site")
    site_name: str = Field(default="Hospital A", min_length=1, description="its name for people")
    dataset: str = Field(
        default="routine", pattern=r"^[a-z0-9][a-z0-9-]*$", description="name of its dataset"
    )
    queries_per_analyst: int = Field(default=100, gt=0, description="queries that one analyst may put to it")
    rounds_per_analyst: int = Field(
        default=USUAL_ROUNDS, gt=0, description="rounds that one analyst may ask of it, over all jobs"
    )
    epsilon_per_analyst: float = Field(
        default=USUAL_EPSILON, ge=0, description="epsilon that one analyst may spend on it, over all jobs"
    )
    profile: Literal["protected", "public-data"] = Field(
        default="protected", description="public-data only for data that everybody has"
    )
    exchange: str = Field(default="", description="address of the exchange; PHARMALOOP_ENDPOINTS if empty")
    clinical: str = Field(default="", description="address of the hospital's clinical service; likewise")
    evaluator_key: str = Field(
        default="",
        pattern=r"^([0-9a-f]{64})?$",
        description="the evaluator's public key in hex, as its owner told it; any if empty",
    )


#: Makes the source of cohorts of a running agent.
MakeSource = Callable[[App], CohortSource]


def exchange_of(app: App) -> str:
    """Where the exchange listens: the setting, else the installation's endpoints."""
    found: str = app.settings.exchange or app.platform.endpoints.get("exchange", "")
    if not found:
        variable = "PHARMALOOP_AGENT_EXCHANGE"
        why = f"it is not said where the exchange listens, which the agent of {app.site} speaks with"
        raise Invalid(
            "BAD_SETTING", f"{variable}: {why}: set it to host:port, or name exchange in {_ALL}", variable
        )
    return found


def clinical_of(app: App) -> str:
    """Where the clinical service of this very site listens: another hospital's patients are none of its own.

    The first site's is called clinical alone.
    """
    told, own = app.platform.endpoints, f"clinical.{app.site}"
    first = next(iter(app.platform.sites), "")
    found: str = app.settings.clinical or told.get(own, "")
    if not found and app.site == first:
        found = told.get("clinical", "")
    if not found:
        variable = "PHARMALOOP_AGENT_CLINICAL"
        other = f" ({_ALL} has clinical alone, which is that of {first})" if "clinical" in told else ""
        why = f"it is not said where the clinical service of site {app.site} listens{other}"
        step = f"set it to host:port, or name {own} in {_ALL}"
        raise Invalid("BAD_SETTING", f"{variable}: {why}: {step}", variable)
    return found


def _from_clinical(app: App) -> CohortSource:
    return ClinicalSource(channel(clinical_of(app)), app.site)


def make_spec(source: MakeSource = _from_clinical) -> ServiceSpec:
    """The agent; `source` says where its cohorts come from."""

    def connect(app: App) -> None:
        exchange_of(app)
        if source is _from_clinical:
            clinical_of(app)

    async def run(app: App) -> None:
        settings = app.settings
        site = Site(
            name=app.site,
            keys=site_keys(LocalKeys(app.platform.state_dir / "keys"), app.site),
            profile=Profile(settings.profile),
            source=source(app),
            kept=Cohorts(app.store),
            study=lambda study: _seen(app, study),
            identities=lambda: seen_identities(app.store),
            now=app.clock.now,
            dataset=f"{app.site}/{settings.dataset}",
            grant=Grant(
                settings.queries_per_analyst, settings.rounds_per_analyst, settings.epsilon_per_analyst
            ),
            evaluator_key=bytes.fromhex(settings.evaluator_key),
        )
        async with channel(exchange_of(app)) as line:
            await Agent(
                site,
                api_grpc.ExchangeServiceStub(line),
                api_grpc.SiteServiceStub(line),
                settings.site_name,
            ).run()

    return ServiceSpec(
        name="agent",
        alone=True,
        connect=connect,
        kinds=(*COHORTS, SEEN_STUDIES, SEEN_DATASETS),
        reactors=(projector("seen", SEEN),),
        settings=AgentSettings,
        background=run,
    )


async def _seen(app: App, study: str) -> SeenStudy:
    """The study as its topic tells it; waits until the topic has told that the site's owner approved it."""
    loop = asyncio.get_running_loop()
    end = loop.time() + _SEEN_SECONDS
    while True:
        found = await app.store.get(SEEN_STUDIES, study)
        if found is not None and found.state.requested and app.site in found.state.approved:
            return found.state
        if loop.time() > end:
            said = "the topic of studies tells of no such study that this site's owner approved"
            raise Refusal("NOT_APPROVED_HERE", said, "study")
        await asyncio.sleep(_LOOK_SECONDS)


SPEC = make_spec()

if __name__ == "__main__":
    main(SPEC)
