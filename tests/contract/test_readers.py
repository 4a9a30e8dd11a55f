"""Who reads which topic: what is private only its owner, what is of a site only that site and its owner."""

from __future__ import annotations

import pytest

from services.alerting.main import SPEC as ALERTING
from services.clinical.main import SPEC as CLINICAL
from services.kit.app import ServiceSpec
from services.kit.contracts import Topic, contract
from services.loops.main import SPEC as LOOPS
from services.production.main import SPEC as PRODUCTION
from services.rnd.main import SPEC as RND
from services.traceability.main import SPEC as TRACEABILITY

SPECS = (ALERTING, CLINICAL, LOOPS, PRODUCTION, RND, TRACEABILITY)
SITE = "hospital-a"
TOPICS = dict(contract().names((SITE,)))


def _readers(name: str) -> set[str]:
    return {spec.name for spec in SPECS if name in _read_by(spec)}


def _read_by(spec: ServiceSpec) -> set[str]:
    return {topic for reactor in spec.reactors for topic in reactor.topics(contract(), SITE)}


@pytest.mark.parametrize("name", [name for name, topic in TOPICS.items() if topic.scope != "shared"])
def test_what_is_not_shared_is_read_by_its_owner_and_at_its_site_alone(name: str) -> None:
    topic: Topic = TOPICS[name]
    at_site = {"clinical"} if topic.scope == "site" else set()
    assert _readers(name) <= {topic.owner} | at_site


def test_dispenses_are_read_by_the_trace_alone() -> None:
    """They name patients by pseudonym; the sites write them, and read what is entered for them."""
    name = contract().topic_of("pharmaloop.traceability.v1.DispenseRecorded").name
    assert _readers(name) == {"traceability"}
    assert _readers(f"pharmaloop.traceability.{SITE}.exposure.v1") == {"clinical"}
