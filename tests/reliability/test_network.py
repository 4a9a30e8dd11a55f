"""The network between the services and both engines is slow, broken or deaf while a case runs."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass

import pytest

from tests.reliability.proxy import Faults
from tests.reliability.stand import Stand, Trouble
from tests.reliability.world import World

pytestmark = pytest.mark.faults

_RESETS = 10


def always(kafka: Faults, mongo: Faults) -> Trouble:
    """The whole case long."""

    def cause(world: World, ended: threading.Event) -> None:
        world.kafka_proxy.set(kafka)
        world.mongo_proxy.set(mongo)
        ended.wait()

    return cause


def resets(world: World, ended: threading.Event) -> None:
    """Every open connection is broken, again and again, at times that nobody can get used to."""
    broken, pauses = 0, random.Random(11)
    for _ in range(_RESETS):
        ended.wait(pauses.uniform(0.3, 2.5))
        broken += world.kafka_proxy.reset_peer() + world.mongo_proxy.reset_peer()
    assert broken > _RESETS


def forgotten(world: World, ended: threading.Event) -> None:
    """A firewall on the way forgets every open connection: nobody is told, and new ones work."""
    ended.wait(1.0)
    assert world.kafka_proxy.lose() > 0
    assert world.mongo_proxy.lose() > 0


@dataclass(frozen=True)
class Away:
    """First the broker cannot be reached for a while, then the database."""

    seconds: float
    deaf: bool

    def __call__(self, world: World, ended: threading.Event) -> None:
        for proxy in (world.kafka_proxy, world.mongo_proxy):
            ended.wait(1.0)
            proxy.set(Faults(timeout=True)) if self.deaf else proxy.down()
            threading.Event().wait(self.seconds)
            proxy.heal()


TROUBLES: dict[str, Trouble] = {
    "slow": always(Faults(latency=0.015, jitter=0.015), Faults(latency=0.003, jitter=0.003)),
    "in pieces, and narrow": always(Faults(slicer=1_000, bandwidth=2_000_000), Faults(slicer=700)),
    "cut after so many bytes": always(Faults(limit_data=60_000), Faults(limit_data=200_000)),
    "reset": resets,
    "away": Away(3.0, deaf=False),
    # Longer than the session of a consumer group: its members are thrown out meanwhile.
    "deaf": Away(11.0, deaf=True),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", TROUBLES)
def test_a_bad_network_changes_nothing(stand: Stand, name: str) -> None:
    stand.play(TROUBLES[name])


@pytest.mark.timeout(600)
def test_connections_that_a_firewall_forgets_are_given_up_and_made_anew(stand: Stand) -> None:
    """That takes so long that stages are late, and it is said of them: the two worlds are not compared."""
    stand.spoilt = True
    with stand.trouble(forgotten):
        stand.case().play(stand.caller)
    stand.rests()
