"""Machines whose clocks differ by minutes: nothing is lost, nothing is done twice, nothing waits for ever."""

from __future__ import annotations

import sys

import pytest

from tests.reliability.stand import Stand

pytestmark = pytest.mark.faults

#: Seconds that the clock of a process is off. Two relays compete for the lease of one service.
SKEWS = {"traceability": 600, "clinical": -600, "loops": 90, "production-relay": -45, "production-api": 30}


@pytest.mark.timeout(600)
def test_clocks_that_differ_change_moments_and_nothing_else(stand: Stand) -> None:
    """Each follows the database's clock; until it does, moments may be off, and they alone."""
    world = stand.rough
    before = {name: world.children[name].command for name in SKEWS}
    with stand.judged(moments=False):
        for name, seconds in SKEWS.items():
            service, _, role = name.partition("-")
            command = ["tests.reliability.skewed", str(seconds), service, role or "all"]
            world.again(name, [sys.executable, "-m", *command])
        world.wait_serving()
        stand.case().play(stand.caller)
        for name, command in before.items():
            world.again(name, command)
    # What was stamped by a wrong clock stays: a comparison of moments needs new worlds.
    stand.spoilt = True
