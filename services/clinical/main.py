"""Composition root of clinical: one process is one site."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2_grpc as api_grpc
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.clinical.api import ClinicalApi
from services.clinical.handlers import Here, commands, events
from services.clinical.keys import digest_keys
from services.clinical.steps import Steps
from services.clinical.tallies import going, tally_of
from services.clinical.views import KINDS
from services.kit.app import App, ServiceSpec, main
from services.kit.ids import new_id
from services.kit.log import get_logger
from services.kit.runners.reactor import Reactor
from services.kit.settings import ServiceSettings

_log = get_logger("clinical.main")


class ClinicalSettings(ServiceSettings):
    """What a site needs to know of itself."""

    site: str = Field(default="hospital-a", pattern=r"^[a-z0-9][a-z0-9-]*$", description="id of the site")
    site_name: str = Field(default="Hospital A", min_length=1, description="its name for people")


def _servicer(app: App, server: Any) -> None:
    api_grpc.add_ClinicalServiceServicer_to_server(ClinicalApi(app), server)


async def _register(app: App) -> None:
    """The site takes part from its first start on; a later start says nothing new."""
    site = clinical.SiteRegistered(site=app.site, name=app.settings.site_name)
    request_id = f"register/{site.site}/{site.name}"
    await app.decider.submit("RegisterSite", site, request_id=request_id, actor="platform")


async def open_again(app: App, here: Here) -> None:
    """Digest keys that did not open, for the site's own key was not there: it may have been brought back."""
    for holding in await going(app.store, here):
        if holding.sealed:
            kept = traceability.ExposureOpened(run=holding.run, site=app.site)
            # Each start is a try of its own.
            await app.decider.submit("OpenAgain", kept, request_id=f"open/{new_id()}", actor="platform")


def make_spec() -> ServiceSpec:
    """The service; its handlers are connected to the site before any of them is called."""
    here = Here()

    def connect(app: App) -> None:
        if not app.sealer.has(f"exposure/{app.site}"):
            _log.warning(
                "this site has no key: no run can be acknowledged before it has the same as traceability",
                key=f"exposure/{app.site}",
                folder=str(app.platform.state_dir / "keys"),
                next_step="mount the same key at both, or give both one folder: the first run makes it",
            )
        here.connect(app.site, digest_keys(app.sealer), app.clock)

    async def begin(app: App) -> None:
        await _register(app)
        await open_again(app, here)

    return ServiceSpec(
        name="clinical",
        rpc_names=("pharmaloop.clinical.v1.ClinicalService",),
        connect=connect,
        servicer=_servicer,
        kinds=KINDS,
        reactors=(Reactor("exposure", events(here)),),
        commands=commands(here),
        steps=lambda app: Steps(app).all(),
        settings=ClinicalSettings,
        on_start=begin,
        tally=tally_of(here),
    )


SPEC = make_spec()

if __name__ == "__main__":
    main(SPEC)
