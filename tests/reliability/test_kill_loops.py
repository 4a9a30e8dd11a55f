"""A service of the transfer or the evidence loop dies in the middle: its loop closes, with each effect once.

On real engines, with real processes that die by SIGKILL; the rules that the
topics are held to afterwards are those of the simulated worlds.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from pharmaloop.loops.v1 import events_pb2 as loops
from services.kit.ids import study_case, transfer_case
from services.kit.points import VARIABLE
from tests.reliability.loops_people import PLANT, People, Told, start
from tests.reliability.part_child import ROUND
from tests.reliability.sim import loop_invariants as rules
from tests.reliability.world import World, until

pytestmark = pytest.mark.timeout(600)
#: At which point who dies, after the n-th time that it passes it; what is not said here is the first.
TRANSFERS: dict[str, dict[str, str]] = {
    "the twin has answered": {"production": "step.ran", "rnd": "relay.published", "loops": "loop.sent"},
    "the lot is tested": {"production": "batch.written", "rnd": "batch.committed", "loops": "loop.stored"},
}
STUDIES: dict[str, dict[str, str]] = {
    "a site in a round": {"agent-hospital-c": f"{ROUND}=2"},
    "the coordinator in a round": {"exchange": f"{ROUND}=2"},
    "who takes it up": {"exchange": f"{VARIABLE}=relay.published", "rnd": f"{VARIABLE}=batch.written"},
}
_RULES = (rules.one_run, rules.ended_rightly, rules.told_once, rules.stages_sum, rules.answers_on_record)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = start(tmp_path_factory.mktemp("loops"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def people(world: World) -> Iterator[People]:
    made = People(world)
    made.furnish()
    yield made
    made.close()


def _arm(world: World, name: str, once: dict[str, str]) -> None:
    world.deaths = [death for death in world.deaths if death.name != name]
    world.again(name, once=once)


def _died(world: World, names: list[str]) -> None:
    """Everybody died where they were to die."""
    killed = lambda name: [d for d in world.deaths if d.name == name and d.code == -signal.SIGKILL]  # noqa: E731
    until(f"{names} died", lambda: all(killed(name) for name in names), 20)


def _each_effect_once(world: World) -> None:
    told: Any = Told(world)
    wrong = [said for rule in _RULES for said in rule(told)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("when", TRANSFERS)
def test_a_transfer_closes_whoever_dies(world: World, people: People, when: str) -> None:
    set, armed = f"set: {when}", TRANSFERS[when]
    tested = when == "the lot is tested"
    if not tested:
        for name, point in armed.items():
            _arm(world, name, {VARIABLE: point})
        world.wait_serving()
    people.release(set)
    if tested:
        until(f"{set} is proposed", lambda: (one := people.transfer(set)) and one.HasField("proposed"))
        for name, point in armed.items():
            _arm(world, name, {VARIABLE: point})
        world.wait_serving()
    people.sign(set)
    assert people.closed(transfer_case(set, PLANT)).outcome == loops.RUN_OUTCOME_CLOSED
    _died(world, list(armed))
    _each_effect_once(world)


@pytest.mark.parametrize("when", STUDIES)
def test_a_study_is_answered_once_whoever_dies(world: World, people: People, when: str) -> None:
    study, armed = f"study: {when}", STUDIES[when]
    for name, said in armed.items():
        variable, _, value = said.partition("=")
        _arm(world, name, {variable: value})
    world.wait_serving()
    people.study(study)
    assert people.closed(study_case(study)).outcome == loops.RUN_OUTCOME_CLOSED
    _died(world, list(armed))
    _each_effect_once(world)
