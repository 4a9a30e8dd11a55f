"""A worker that is frozen past its session, replaced, and revived does nothing a second time."""

from __future__ import annotations

import threading

import pytest

from tests.reliability.specs import database_of
from tests.reliability.stand import Stand
from tests.reliability.world import World, until

pytestmark = pytest.mark.faults

_SESSION_SECONDS = 10.0


@pytest.mark.timeout(600)
def test_a_revived_worker_is_fenced(stand: Stand) -> None:
    """The second worker takes over and folds a whole case before the first one wakes."""
    world, frozen = stand.rough, "production-worker"

    def folded_by_the_other() -> int:
        marks = world.database[database_of("production")]["_mark"].find()
        return sum(doc["s"]["next"] for doc in marks)

    with stand.judged():
        second = world.add("production", "worker", name="production-worker-2", instance="1")
        world.wait_serving()
        world.freeze(frozen)
        before = folded_by_the_other()
        stand.case().play(stand.caller)
        assert folded_by_the_other() > before
        world.thaw(frozen)
        stand.case().play(stand.caller)
        world.remove(second)


@pytest.mark.timeout(600)
def test_a_relay_frozen_past_its_lease_does_not_interleave(stand: Stand) -> None:
    """Another relay publishes meanwhile; what the first one still had in its hands changes no order."""
    world, frozen = stand.rough, "production-relay"

    def freeze(world: World, ended: threading.Event) -> None:
        world.freeze(frozen)
        until("the lease passes on", lambda: holder() != first, 60)
        world.thaw(frozen)

    def holder() -> str:
        doc = world.database[database_of("production")]["_lease"].find_one({"_id": "relay"})
        return str(doc["s"]["holder"]) if doc else ""

    with stand.judged():
        second = world.add("production", "relay", name="production-relay-2", instance="1")
        world.wait_serving()
        until("somebody leads", holder)
        first = holder()
        # Which of the two leads is chance: the one that does is frozen.
        frozen = "production-relay" if "/production-0-" in first else second
        with stand.trouble(freeze):
            stand.case().play(stand.caller)
        world.remove(second)
