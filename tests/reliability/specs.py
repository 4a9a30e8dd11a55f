"""The services whose states and events are compared and checked, as they describe themselves."""

from __future__ import annotations

from services.alerting.main import SPEC as ALERTING
from services.clinical.main import SPEC as CLINICAL
from services.kit.app import ServiceSpec
from services.kit.contracts import contract, event_type
from services.loops.main import SPEC as LOOPS
from services.production.main import SPEC as PRODUCTION
from services.rnd.main import SPEC as RND
from services.traceability.main import SPEC as TRACEABILITY

SITE = "hospital-a"
SPECS: dict[str, ServiceSpec] = {
    spec.name: spec for spec in (PRODUCTION, TRACEABILITY, CLINICAL, ALERTING, RND, LOOPS)
}
#: States that change by their own events only: their version counts these. As "service.kind".
AGGREGATES = {
    f"{name}.{kind.name}" for name, spec in SPECS.items() for kind in spec.kinds if kind.evolve is not None
}


def database_of(service: str) -> str:
    return f"pharmaloop_{service}_{SITE}" if service == "clinical" else f"pharmaloop_{service}"


def runners() -> dict[str, tuple[str, ...]]:
    """The topics of every reactor and projector, by its full name."""
    return {
        f"{name}.{reactor.name}": reactor.topics(contract(), SITE if name == "clinical" else "")
        for name, spec in SPECS.items()
        for reactor in spec.reactors
    }


def handled(runner: str) -> set[str]:
    """The event types that a reactor or projector does something with."""
    service, _, name = runner.partition(".")
    reactor = next(one for one in SPECS[service].reactors if one.name == name)
    return {event_type(cls) for cls in reactor.events}
