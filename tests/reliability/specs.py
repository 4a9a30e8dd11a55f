"""The services whose states and events are compared and checked, as they describe themselves."""

from __future__ import annotations

from services.alerting.main import SPEC as ALERTING
from services.clinical.main import SPEC as CLINICAL
from services.exchange.evaluator.main import SPEC as EVALUATOR
from services.exchange.main import SPEC as EXCHANGE
from services.exchange.site.main import SPEC as AGENT
from services.kit.app import ServiceSpec
from services.kit.contracts import contract, event_type
from services.loops.main import SPEC as LOOPS
from services.production.main import SPEC as PRODUCTION
from services.rnd.main import SPEC as RND
from services.traceability.main import SPEC as TRACEABILITY
from tests.unit.exchange.hospitals import SITES

SITE = "hospital-a"
#: What connects to the exchange from outside: the agent of each site that answers studies, by its process.
AGENTS = {f"agent.{site}": site for site in SITES}
SPECS: dict[str, ServiceSpec] = {
    **{spec.name: spec for spec in (PRODUCTION, TRACEABILITY, CLINICAL, ALERTING, RND, LOOPS)},
    **{spec.name: spec for spec in (EXCHANGE, EVALUATOR)},
    **dict.fromkeys(AGENTS, AGENT),
}
#: States that change by their own events only: their version counts these. As "service.kind".
AGGREGATES = {
    f"{name}.{kind.name}" for name, spec in SPECS.items() for kind in spec.kinds if kind.evolve is not None
}


def database_of(service: str) -> str:
    site = site_of(service)
    return f"pharmaloop_{SPECS[service].name}_{site}" if site else f"pharmaloop_{service}"


def site_of(service: str) -> str:
    return SITE if service == "clinical" else AGENTS.get(service, "")


def runners() -> dict[str, tuple[str, ...]]:
    """The topics of every reactor and projector, by its full name."""
    return {
        f"{name}.{reactor.name}": reactor.topics(contract(), site_of(name))
        for name, spec in SPECS.items()
        for reactor in spec.reactors
    }


def handled(runner: str) -> set[str]:
    """The event types that a reactor or projector does something with."""
    service, _, name = runner.rpartition(".")
    reactor = next(one for one in SPECS[service].reactors if one.name == name)
    return {event_type(cls) for cls in reactor.events}
