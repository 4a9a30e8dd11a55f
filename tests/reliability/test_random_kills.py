"""Thirty times kill -9, of services, agents, the evaluator, the relay, Kafka and MongoDB, while cases run."""

from __future__ import annotations

import random
import threading
from collections import Counter

import pytest

from tests.reliability.stand import Stand
from tests.reliability.world import World, until

pytestmark = pytest.mark.faults

#: A seed by which nobody is left out.
SEED, KILLS = 20260321, 30
#: Engines take longest to come back: some of the kills are theirs, most are the services'.
ENGINES = {4: "mongod", 9: "kafka", 14: "mongod", 19: "kafka", 24: "mongod", 28: "kafka"}


def victims(names: list[str]) -> list[str]:
    """Who is killed, in order; the same for the same seed."""
    chosen = random.Random(SEED)
    return [ENGINES.get(n) or chosen.choice(names) for n in range(KILLS)]


@pytest.mark.timeout(900)
def test_thirty_kills_leave_no_trace(stand: Stand) -> None:
    killed: Counter[str] = Counter()
    pauses = random.Random(SEED)

    def kill(world: World, ended: threading.Event) -> None:
        for name in victims(sorted(world.names)):
            until(f"{name} lives", lambda name=name: world.children[name].is_alive)  # type: ignore[misc]
            world.kill(name)
            killed[name] += 1
            threading.Event().wait(pauses.uniform(0.3, 1.7))

    with stand.judged(), stand.trouble(kill) as over:
        while not over.is_set():
            stand.case().play(stand.caller)
    assert killed.total() == KILLS
    assert killed["kafka"] >= 3
    assert killed["mongod"] >= 3
    assert set(killed) >= set(stand.rough.names)
